/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/broker_fixture.h"

/* One of nng's threads runs turns: which, when, and what is left to the workers. */

static bool post(struct glue *glue, struct runner *runner, actor_handle to)
{
    struct message *message = message_create(1, sizeof(*message));
    assert_non_null(message);
    return scheduler_post(glue->broker.scheduler, runner, to, message) == 0;
}

static uint64_t turns(struct glue *glue)
{
    return metrics_read(glue->broker.metrics, METRIC_turns);
}

static void what_is_posted_is_run_at_the_end(void **state)
{
    struct glue *glue = glue_make(NULL, 10, false);
    struct probe *probe = hall_probe(&glue->hall, "one");
    link_turns_set_open(&glue->broker, true);
    struct runner *runner = link_turns_begin(&glue->broker);
    assert_non_null(runner);
    assert_true(runner->drains && runner->now_ms != 0 && runner->wall_ms != 0);
    assert_true(post(glue, runner, probe->self));
    assert_int_equal(turns(glue), 0);
    link_turns_end(&glue->broker, runner);
    assert_int_equal(turns(glue), 1);
    link_turns_set_open(&glue->broker, false);
    glue_free(glue);
}

static void there_is_one_place(void **state)
{
    struct glue *glue = glue_make(NULL, 10, false);
    link_turns_set_open(&glue->broker, true);
    struct runner *runner = link_turns_begin(&glue->broker);
    assert_null(link_turns_begin(&glue->broker));
    link_turns_end(&glue->broker, NULL); /* whoever found none ends none */
    assert_null(link_turns_begin(&glue->broker));
    link_turns_end(&glue->broker, runner);
    runner = link_turns_begin(&glue->broker);
    assert_non_null(runner);
    link_turns_end(&glue->broker, runner);
    link_turns_set_open(&glue->broker, false);
    glue_free(glue);
}

static void closed_it_runs_nothing(void **state)
{
    struct glue *glue = glue_make(NULL, 10, false);
    assert_null(link_turns_begin(&glue->broker)); /* at first */
    link_turns_set_open(&glue->broker, true);
    link_turns_set_open(&glue->broker, false);
    assert_null(link_turns_begin(&glue->broker));
    glue_free(glue);
}

static void post_to_all(struct glue *glue, struct probe **probes, unsigned count)
{
    struct runner *runner = link_turns_begin(&glue->broker);
    for (unsigned i = 0; i < count; i++)
        assert_true(post(glue, runner, probes[i]->self));
    link_turns_end(&glue->broker, runner);
}

/* More than one thread may run at once is left, and found by a worker. */
static void the_rest_is_the_workers(void **state)
{
    enum { ACTORS = 30 };
    struct glue *glue = glue_make(NULL, 10, false);
    struct probe *probes[ACTORS];
    for (unsigned i = 0; i < ACTORS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%u", i);
        probes[i] = hall_probe(&glue->hall, name);
    }
    link_turns_set_open(&glue->broker, true);
    post_to_all(glue, probes, ACTORS);
    assert_int_equal(turns(glue), 8);
    start_workers(glue);
    WAIT_FOR(turns(glue) == ACTORS);
    nap_ms(20); /* asleep by now, most likely: they have to be woken */
    post_to_all(glue, probes, ACTORS);
    WAIT_FOR(turns(glue) == 2 * ACTORS);
    link_turns_set_open(&glue->broker, false);
    glue_free(glue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_posted_is_run_at_the_end),
        cmocka_unit_test(there_is_one_place),
        cmocka_unit_test(closed_it_runs_nothing),
        cmocka_unit_test(the_rest_is_the_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
