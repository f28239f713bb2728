/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/hall.h"

#include "runtime/clock.h"

/* Ticks: all of them, none early, the earliest first. */

enum { MANY = 1000, ACTORS = 4096, TICK = 9 };

struct stand {
    struct hall hall;
    struct clock *clock;
};

static struct stand *make(bool own_clock)
{
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    hall_open(&stand->hall, ACTORS, own_clock);
    const struct clock_options options = {.registry = stand->hall.registry,
                                          .scheduler = stand->hall.scheduler,
                                          .env = stand->hall.env,
                                          .metrics = stand->hall.metrics,
                                          .tick = TICK};
    assert_int_equal(clock_open(&stand->clock, &options), 0);
    return stand;
}

static int set_up(void **state)
{
    *state = make(false);
    return 0;
}

static int set_up_own_clock(void **state)
{
    *state = make(true);
    return 0;
}

static int tear_down(void **state)
{
    struct stand *stand = *state;
    if (stand->clock != NULL)
        clock_close(stand->clock);
    hall_close(&stand->hall);
    free(stand);
    return 0;
}

static void set_time(struct stand *stand, uint64_t now_ms)
{
    atomic_store(&stand->hall.now_ms, now_ms);
    clock_step(stand->clock);
    hall_run(&stand->hall);
}

static struct probe *numbered_probe(struct stand *stand, unsigned number)
{
    char name[16];
    snprintf(name, sizeof(name), "!%u", number);
    return hall_probe(&stand->hall, name);
}

static void a_tick_is_not_early(void **state)
{
    struct stand *stand = *state;
    struct probe *probe = hall_probe(&stand->hall, "!a");
    clock_set(stand->clock, probe->self, 5000);
    set_time(stand, 4999);
    assert_int_equal(probe_count(probe), 0);
    set_time(stand, 5000);
    assert_int_equal(probe_count(probe), 1);
    struct message *tick = probe_take(probe);
    assert_int_equal(tick->kind, TICK);
    message_destroy(tick);
    set_time(stand, 50000);
    assert_int_equal(probe_count(probe), 1);  /* once */
    clock_set(stand->clock, probe->self, 10); /* in the past: now */
    set_time(stand, 50000);
    assert_int_equal(probe_count(probe), 2);
}

static void the_earliest_comes_first(void **state)
{
    struct stand *stand = *state;
    struct probe *probes[100];
    for (unsigned i = 0; i < 100; i++) {
        probes[i] = numbered_probe(stand, i);
        clock_set(stand->clock, probes[i]->self, 2000 + i * 61 % 100);
    }
    set_time(stand, 3000);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(probe_count(probes[i]), 1);
        assert_int_equal(probes[i]->place, i * 61 % 100);
    }
}

/* More than one batch, all due at once. */
static void many_at_once(void **state)
{
    struct stand *stand = *state;
    struct probe *probes[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        probes[i] = numbered_probe(stand, i);
        clock_set(stand->clock, probes[i]->self, 2000 + i % 2);
    }
    set_time(stand, 2000);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_count(probes[i]), 1 - i % 2);
    set_time(stand, 2001);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_count(probes[i]), 1);
}

/* Somebody who asks for ever earlier ticks takes no timer from anybody, and gets one of his own. */
static void an_actor_has_one_timer(void **state)
{
    struct stand *stand = *state;
    struct probe *greedy = hall_probe(&stand->hall, "!greedy");
    for (uint64_t due_ms = 100000; due_ms > 2000; due_ms--)
        clock_set(stand->clock, greedy->self, due_ms);
    struct probe *probes[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        probes[i] = numbered_probe(stand, i);
        clock_set(stand->clock, probes[i]->self, 3000);
    }
    set_time(stand, 2001);
    assert_int_equal(probe_count(greedy), 1);
    set_time(stand, 200000);
    assert_int_equal(probe_count(greedy), 1);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probe_count(probes[i]), 1);
}

static void a_tick_for_nobody_is_dropped(void **state)
{
    struct stand *stand = *state;
    struct probe *probe = hall_probe(&stand->hall, "!a");
    clock_set(stand->clock, probe->self + (UINT64_C(2) << 32), 2000);
    clock_set(stand->clock, 0, 2000);
    set_time(stand, 2000);
    assert_int_equal(probe_count(probe), 0);
}

/* --- the thread ------------------------------------------------------------------------------- */

static void the_thread_ticks_in_time(void **state)
{
    struct stand *stand = *state;
    hall_start_workers(&stand->hall);
    assert_int_equal(clock_start(stand->clock), 0);
    struct probe *far = hall_probe(&stand->hall, "!far");
    struct probe *near = hall_probe(&stand->hall, "!near");
    struct probe *past = hall_probe(&stand->hall, "!past");
    uint64_t begin_ms = clock_ms();
    clock_set(stand->clock, far->self, begin_ms + 3600000);
    nap_ms(30); /* it sleeps until then; an earlier one must wake it */
    clock_set(stand->clock, near->self, begin_ms + 150);
    WAIT_FOR(probe_count(near) == 1);
    assert_in_range(near->first_ms - begin_ms, 150, 5000);
    nap_ms(30);
    uint64_t beats = clock_beats(stand->clock);
    clock_set(stand->clock, past->self, 1);
    WAIT_FOR(probe_count(past) == 1);
    WAIT_FOR(clock_beats(stand->clock) > beats); /* who looks whether it lives sees it */
    assert_int_equal(probe_count(far), 0);
    /* It ends at once, whatever waits. */
    begin_ms = clock_ms();
    clock_close(stand->clock);
    stand->clock = NULL;
    assert_true(clock_ms() - begin_ms < 5000);
}

static _Atomic unsigned at_the_time;

static uint64_t slow_monotonic_ns(void *context)
{
    atomic_fetch_add(&at_the_time, 1);
    nap_ms(200);
    atomic_fetch_sub(&at_the_time, 1);
    return hall_monotonic_ns(context);
}

/* Nothing that the thread uses goes before it has ended. */
static void close_waits_for_the_thread(void **state)
{
    struct stand *stand = *state;
    stand->hall.own_env.monotonic_ns = slow_monotonic_ns;
    assert_int_equal(clock_start(stand->clock), 0);
    WAIT_FOR(atomic_load(&at_the_time) > 0);
    clock_close(stand->clock);
    stand->clock = NULL;
    assert_int_equal(atomic_load(&at_the_time), 0);
    stand->hall.own_env.monotonic_ns = hall_monotonic_ns;
}

enum { ADDERS = 3, EACH = 200 };

struct adder {
    struct stand *stand;
    struct probe **probes;
    uint64_t *dues_ms;
};

static void *add_some(void *argument)
{
    struct adder *adder = argument;
    for (unsigned i = 0; i < EACH; i++) {
        adder->dues_ms[i] = clock_ms() + i * 7919 % 120;
        clock_set(adder->stand->clock, adder->probes[i]->self, adder->dues_ms[i]);
        if (i % 20 == 0)
            nap_ms(3);
    }
    return NULL;
}

static void many_from_many_threads(void **state)
{
    struct stand *stand = *state;
    struct probe *probes[ADDERS * EACH];
    uint64_t dues_ms[ADDERS * EACH];
    struct adder adders[ADDERS];
    pthread_t threads[ADDERS];
    for (unsigned i = 0; i < ADDERS * EACH; i++)
        probes[i] = numbered_probe(stand, i);
    hall_start_workers(&stand->hall);
    assert_int_equal(clock_start(stand->clock), 0);
    for (unsigned i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){stand, probes + i * EACH, dues_ms + i * EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, add_some, &adders[i]), 0);
    }
    for (unsigned i = 0; i < ADDERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < ADDERS * EACH; i++)
        WAIT_FOR(probe_count(probes[i]) == 1);
    for (unsigned i = 0; i < ADDERS * EACH; i++)
        assert_in_range(probes[i]->first_ms - dues_ms[i], 0, 10000);
}

static void asleep_it_costs_nothing(void **state)
{
    struct stand *stand = *state;
    struct timespec before;
    struct timespec after;
    assert_int_equal(clock_start(stand->clock), 0);
    struct probe *probe = hall_probe(&stand->hall, "!a");
    clock_set(stand->clock, probe->self, clock_ms() + 3600000);
    nap_ms(20);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nap_ms(300);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    int64_t spent_ns =
        (after.tv_sec - before.tv_sec) * INT64_C(1000000000) + after.tv_nsec - before.tv_nsec;
    assert_true(spent_ns < 100 * 1000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
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
