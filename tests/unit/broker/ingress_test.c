/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/broker_fixture.h"

/* What an I/O thread does at the end of a batch. */

static bool end_batch(struct glue *glue)
{
    const struct net_events *events = &glue->net_events;
    return events->on_batch_end(events->context, &glue->broker.threads[0]);
}

static void post(struct glue *glue, actor_handle to)
{
    struct message *message = message_create(1, sizeof(*message));
    assert_non_null(message);
    assert_true(scheduler_post(glue->broker.scheduler, own_runner(glue), to, message) == 0);
}

/* Or it would never sleep again. */
static void with_nothing_left_it_waits_for_its_sockets(void **state)
{
    struct glue *glue = *state;
    struct probe *probe = hall_probe(&glue->hall, "one");
    assert_false(end_batch(glue));
    post(glue, probe->self);
    assert_false(end_batch(glue));
    assert_int_equal(probe_count(probe), 1);
}

/* It looks at its sockets first, and comes back at once. */
static void it_runs_n_turns_of_one_batch(void **state)
{
    enum { TURNS = 4096 }; /* BATCH_TURNS_MAX */
    static struct probe *probes[TURNS + 1];
    struct glue *glue = *state;
    for (unsigned i = 0; i <= TURNS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "probe%u", i);
        probes[i] = hall_probe(&glue->hall, name);
        post(glue, probes[i]->self);
    }
    assert_true(end_batch(glue));
    unsigned count = 0;
    for (unsigned i = 0; i <= TURNS; i++)
        count += probe_count(probes[i]);
    assert_int_equal(count, TURNS);
    assert_false(end_batch(glue));
    for (unsigned i = 0; i <= TURNS; i++)
        assert_int_equal(probe_count(probes[i]), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(with_nothing_left_it_waits_for_its_sockets),
        TEST(it_runs_n_turns_of_one_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
