/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/broker/broker_fixture.h"

/* Ticks: all of them, none early, the earliest first. */

enum { MANY = 1000 };

static void set_time(struct glue *glue, uint64_t now_ms)
{
    atomic_store(&glue->now_ms, now_ms);
    clock_step(glue->broker.clock);
    run_turns(glue);
}

static struct probe *numbered_probe(struct glue *glue, unsigned number)
{
    char name[16];
    snprintf(name, sizeof(name), "!%u", number);
    return new_probe(glue, name);
}

static void a_tick_is_not_early(void **state)
{
    struct glue *glue = *state;
    struct probe *probe = new_probe(glue, "!a");
    clock_set(glue->broker.clock, probe->self, 5000);
    set_time(glue, 4999);
    assert_int_equal(probe_count(glue, probe), 0);
    set_time(glue, 5000);
    assert_int_equal(probe_count(glue, probe), 1);
    struct message *tick = probe_take(glue, probe);
    assert_int_equal(tick->kind, MESSAGE_TICK);
    message_destroy(tick);
    set_time(glue, 50000);
    assert_int_equal(probe_count(glue, probe), 1);  /* once */
    clock_set(glue->broker.clock, probe->self, 10); /* in the past: now */
    set_time(glue, 50000);
    assert_int_equal(probe_count(glue, probe), 2);
}

static void the_earliest_comes_first(void **state)
{
    struct glue *glue = *state;
    struct probe *probes[100];
    for (unsigned i = 0; i < 100; i++) {
        probes[i] = numbered_probe(glue, i);
        clock_set(glue->broker.clock, probes[i]->self, 2000 + i * 61 % 100);
    }
    set_time(glue, 3000);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(probe_count(glue, probes[i]), 1);
        assert_int_equal(probes[i]->place, i * 61 % 100);
    }
}

/* More than one batch, all due at once. */
static void many_at_once(void **state)
{
    struct glue *glue = *state;
    struct probe *probes[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        probes[i] = numbered_probe(glue, i);
        clock_set(glue->broker.clock, probes[i]->self, 2000 + i % 2);
    }
    set_time(glue, 2000);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_count(glue, probes[i]), 1 - i % 2);
    set_time(glue, 2001);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_count(glue, probes[i]), 1);
}

/* Somebody who asks for ever earlier ticks takes no timer from anybody, and gets one of his own. */
static void an_actor_has_one_timer(void **state)
{
    struct glue *glue = *state;
    struct probe *greedy = new_probe(glue, "!greedy");
    for (uint64_t due_ms = 100000; due_ms > 2000; due_ms--)
        clock_set(glue->broker.clock, greedy->self, due_ms);
    struct probe *probes[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        probes[i] = numbered_probe(glue, i);
        clock_set(glue->broker.clock, probes[i]->self, 3000);
    }
    set_time(glue, 2001);
    assert_int_equal(probe_count(glue, greedy), 1);
    set_time(glue, 200000);
    assert_int_equal(probe_count(glue, greedy), 1);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_count(glue, probes[i]), 1);
}

static void a_tick_for_nobody_is_dropped(void **state)
{
    struct glue *glue = *state;
    struct probe *probe = new_probe(glue, "!a");
    clock_set(glue->broker.clock, probe->self + (UINT64_C(2) << 32), 2000);
    clock_set(glue->broker.clock, 0, 2000);
    set_time(glue, 2000);
    assert_int_equal(probe_count(glue, probe), 0);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void the_thread_ticks_in_time(void **state)
{
    struct glue *glue = *state;
    start_workers(glue);
    assert_int_equal(clock_start(glue->broker.clock), 0);
    struct probe *far = new_probe(glue, "!far");
    struct probe *near = new_probe(glue, "!near");
    struct probe *past = new_probe(glue, "!past");
    uint64_t begin_ms = clock_ms();
    clock_set(glue->broker.clock, far->self, begin_ms + 3600000);
    nap_ms(30); /* it sleeps until then; an earlier one must wake it */
    clock_set(glue->broker.clock, near->self, begin_ms + 150);
    WAIT_FOR(probe_count(glue, near) == 1);
    assert_in_range(near->first_ms - begin_ms, 150, 5000);
    nap_ms(30);
    uint64_t beats = clock_beats(glue->broker.clock);
    clock_set(glue->broker.clock, past->self, 1);
    WAIT_FOR(probe_count(glue, past) == 1);
    WAIT_FOR(clock_beats(glue->broker.clock) > beats); /* who looks whether it lives sees it */
    assert_int_equal(probe_count(glue, far), 0);
    /* It ends at once, whatever waits. */
    begin_ms = clock_ms();
    clock_close(glue->broker.clock);
    glue->broker.clock = NULL;
    assert_true(clock_ms() - begin_ms < 5000);
}

static _Atomic unsigned at_the_time;

static uint64_t slow_monotonic_ns(void *context)
{
    atomic_fetch_add(&at_the_time, 1);
    nap_ms(200);
    atomic_fetch_sub(&at_the_time, 1);
    return glue_monotonic_ns(context);
}

/* Nothing that the thread uses goes before it has ended. */
static void close_waits_for_the_thread(void **state)
{
    struct glue *glue = *state;
    glue->env.monotonic_ns = slow_monotonic_ns;
    assert_int_equal(clock_start(glue->broker.clock), 0);
    WAIT_FOR(atomic_load(&at_the_time) > 0);
    clock_close(glue->broker.clock);
    glue->broker.clock = NULL;
    assert_int_equal(atomic_load(&at_the_time), 0);
    glue->env.monotonic_ns = glue_monotonic_ns;
}

enum { ADDERS = 3, EACH = 200 };

struct adder {
    struct glue *glue;
    struct probe **probes;
    uint64_t *dues_ms;
};

static void *add_some(void *argument)
{
    struct adder *adder = argument;
    for (unsigned i = 0; i < EACH; i++) {
        adder->dues_ms[i] = clock_ms() + i * 7919 % 120;
        clock_set(adder->glue->broker.clock, adder->probes[i]->self, adder->dues_ms[i]);
        if (i % 20 == 0)
            nap_ms(3);
    }
    return NULL;
}

static void many_from_many_threads(void **state)
{
    struct glue *glue = *state;
    struct probe *probes[ADDERS * EACH];
    uint64_t dues_ms[ADDERS * EACH];
    struct adder adders[ADDERS];
    pthread_t threads[ADDERS];
    for (unsigned i = 0; i < ADDERS * EACH; i++)
        probes[i] = numbered_probe(glue, i);
    start_workers(glue);
    assert_int_equal(clock_start(glue->broker.clock), 0);
    for (unsigned i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){glue, probes + i * EACH, dues_ms + i * EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, add_some, &adders[i]), 0);
    }
    for (unsigned i = 0; i < ADDERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < ADDERS * EACH; i++)
        WAIT_FOR(probe_count(glue, probes[i]) == 1);
    for (unsigned i = 0; i < ADDERS * EACH; i++)
        assert_in_range(probes[i]->first_ms - dues_ms[i], 0, 10000);
}

static void asleep_it_costs_nothing(void **state)
{
    struct glue *glue = *state;
    struct timespec before;
    struct timespec after;
    assert_int_equal(clock_start(glue->broker.clock), 0);
    struct probe *probe = new_probe(glue, "!a");
    clock_set(glue->broker.clock, probe->self, clock_ms() + 3600000);
    nap_ms(20);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nap_ms(300);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    int64_t spent_ns =
        (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + after.tv_nsec - before.tv_nsec;
    assert_true(spent_ns < 100 * 1000000);
}

#define TEST_OWN_CLOCK(name) cmocka_unit_test_setup_teardown(name, set_up_own_clock, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OWN_CLOCK(a_tick_is_not_early),
        TEST_OWN_CLOCK(the_earliest_comes_first),
        TEST_OWN_CLOCK(many_at_once),
        TEST_OWN_CLOCK(an_actor_has_one_timer),
        TEST_OWN_CLOCK(a_tick_for_nobody_is_dropped),
        TEST(the_thread_ticks_in_time),
        TEST_OWN_CLOCK(close_waits_for_the_thread),
        TEST(many_from_many_threads),
        TEST(asleep_it_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
