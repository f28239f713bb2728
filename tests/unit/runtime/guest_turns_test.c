/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/hall.h"

#include "runtime/guest_turns.h"

/* One of nng's threads runs turns: which, when, and what is left to the workers. */

struct stand {
    struct hall hall;
    struct runner guest;
    struct guest_turns guest_turns;
};

static struct stand *stand_make(void)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, 64, false);
    stand->guest = (struct runner){.index = 3, .drains = true};
    guest_turns_init(&stand->guest_turns, stand->hall.scheduler, stand->hall.env, &stand->guest);
    return stand;
}

static void stand_free(struct stand *stand)
{
    guest_turns_fini(&stand->guest_turns);
    hall_close(&stand->hall);
    free(stand);
}

static bool post(struct stand *stand, struct runner *runner, actor_handle to)
{
    struct message *message = message_create(1, sizeof(*message));
    assert_non_null(message);
    return scheduler_post(stand->hall.scheduler, runner, to, message) == 0;
}

static uint64_t turns(struct stand *stand)
{
    return metrics_read(stand->hall.metrics, METRIC_turns);
}

static void what_is_posted_is_run_at_the_end(void **state)
{
    struct stand *stand = stand_make();
    struct probe *probe = hall_probe(&stand->hall, "one");
    guest_turns_set_open(&stand->guest_turns, true);
    struct runner *runner = guest_turns_begin(&stand->guest_turns);
    assert_non_null(runner);
    assert_true(runner->drains && runner->now_ms != 0 && runner->wall_ms != 0);
    assert_true(post(stand, runner, probe->self));
    assert_int_equal(turns(stand), 0);
    guest_turns_end(&stand->guest_turns, runner);
    assert_int_equal(turns(stand), 1);
    guest_turns_set_open(&stand->guest_turns, false);
    stand_free(stand);
}

static void there_is_one_place(void **state)
{
    struct stand *stand = stand_make();
    guest_turns_set_open(&stand->guest_turns, true);
    struct runner *runner = guest_turns_begin(&stand->guest_turns);
    assert_null(guest_turns_begin(&stand->guest_turns));
    guest_turns_end(&stand->guest_turns, NULL); /* whoever found none ends none */
    assert_null(guest_turns_begin(&stand->guest_turns));
    guest_turns_end(&stand->guest_turns, runner);
    runner = guest_turns_begin(&stand->guest_turns);
    assert_non_null(runner);
    guest_turns_end(&stand->guest_turns, runner);
    guest_turns_set_open(&stand->guest_turns, false);
    stand_free(stand);
}

static void closed_it_runs_nothing(void **state)
{
    struct stand *stand = stand_make();
    assert_null(guest_turns_begin(&stand->guest_turns)); /* at first */
    guest_turns_set_open(&stand->guest_turns, true);
    guest_turns_set_open(&stand->guest_turns, false);
    assert_null(guest_turns_begin(&stand->guest_turns));
    stand_free(stand);
}

static void post_to_all(struct stand *stand, struct probe **probes, unsigned count)
{
    struct runner *runner = guest_turns_begin(&stand->guest_turns);
    for (unsigned i = 0; i < count; i++)
        assert_true(post(stand, runner, probes[i]->self));
    guest_turns_end(&stand->guest_turns, runner);
}

/* More than one thread may run at once is left, and found by a worker. */
static void the_rest_is_the_workers(void **state)
{
    enum { ACTORS = 30 };
    struct stand *stand = stand_make();
    struct probe *probes[ACTORS];
    for (unsigned i = 0; i < ACTORS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "p%u", i);
        probes[i] = hall_probe(&stand->hall, name);
    }
    guest_turns_set_open(&stand->guest_turns, true);
    post_to_all(stand, probes, ACTORS);
    assert_int_equal(turns(stand), 8);
    hall_start_workers(&stand->hall);
    WAIT_FOR(turns(stand) == ACTORS);
    nap_ms(20); /* asleep by now, most likely: they have to be woken */
    post_to_all(stand, probes, ACTORS);
    WAIT_FOR(turns(stand) == 2 * ACTORS);
    guest_turns_set_open(&stand->guest_turns, false);
    stand_free(stand);
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
