/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/awake.h"

/* A machine whose clock the test moves. */

enum { START_MS = 5000000 };

static _Atomic uint64_t machine_ms;

static uint64_t machine_monotonic(void *context)
{
    return atomic_load(&machine_ms) * 1000000;
}

static const struct env machine = {.monotonic_ns = machine_monotonic};

static int set_up(void **state)
{
    struct awake *awake = calloc(1, sizeof(*awake));
    atomic_store(&machine_ms, START_MS);
    awake_init(awake, &machine);
    *state = awake;
    return 0;
}

static int tear_down(void **state)
{
    awake_fini(*state);
    free(*state);
    return 0;
}

static uint64_t shown(const struct awake *awake)
{
    return env_monotonic_ms(&awake->env) - START_MS;
}

static void without_beats_it_is_the_machines(void **state)
{
    struct awake *awake = *state;
    atomic_fetch_add(&machine_ms, 3600000);
    assert_int_equal(shown(awake), 3600000);
    assert_int_equal(awake_beat(awake), 0);
    atomic_fetch_add(&machine_ms, AWAKE_BEAT_MS);
    awake_rest(awake);
    atomic_fetch_add(&machine_ms, 10000);
    assert_int_equal(shown(awake), 3600000 + AWAKE_BEAT_MS + 10000);
}

/* So long a beat may be missing, and one ms longer. */
static void a_pause_is_left_out(void **state)
{
    struct awake *awake = *state;
    awake_beat(awake);
    atomic_fetch_add(&machine_ms, AWAKE_STALL_MS);
    assert_int_equal(shown(awake), AWAKE_STALL_MS);
    assert_int_equal(awake_beat(awake), 0);
    atomic_fetch_add(&machine_ms, AWAKE_STALL_MS + 1);
    assert_int_equal(shown(awake), 2 * AWAKE_STALL_MS);
    assert_int_equal(awake_beat(awake), 1);
    assert_int_equal(awake_beat(awake), 0); /* told once */
    atomic_fetch_add(&machine_ms, 3600000);
    assert_int_equal(awake_beat(awake),
                     3600000 - AWAKE_STALL_MS); /* nobody has read it meanwhile */
    assert_int_equal(shown(awake), 3 * AWAKE_STALL_MS);
    atomic_fetch_add(&machine_ms, 7);
    assert_int_equal(shown(awake), 3 * AWAKE_STALL_MS + 7);
}

static void it_never_goes_back(void **state)
{
    struct awake *awake = *state;
    uint64_t before = shown(awake);
    awake_beat(awake);
    for (unsigned i = 1; i < 3000; i++) {
        atomic_fetch_add(&machine_ms, i * 7919 % 1300);
        uint64_t now = shown(awake);
        assert_true(now >= before);
        assert_true(now - before <= AWAKE_STALL_MS + AWAKE_BEAT_MS + 1300);
        before = now;
        if (i % 3 == 0)
            awake_beat(awake);
        assert_true(shown(awake) >= before);
    }
}

/* Readers, one who beats, and a clock that jumps: under the thread sanitizer, too. */
static _Atomic bool over;

static void *read_on(void *argument)
{
    const struct awake *awake = argument;
    uint64_t before = 0;
    while (!atomic_load(&over)) {
        uint64_t now = env_monotonic_ns(&awake->env);
        if (now < before)
            return argument;
        before = now;
    }
    return NULL;
}

static void readers_agree_that_it_never_goes_back(void **state)
{
    struct awake *awake = *state;
    pthread_t readers[2];
    atomic_store(&over, false);
    awake_beat(awake);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_on, awake), 0);
    for (unsigned i = 0; i < 100000; i++) {
        atomic_fetch_add(&machine_ms, i % 16 == 0 ? 2000 : 100);
        if (i % 2 == 0)
            awake_beat(awake);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < 2; i++) {
        void *wrong;
        pthread_join(readers[i], &wrong);
        assert_null(wrong);
    }
}

static void who_waits_wakes_in_time(void **state)
{
    struct awake *awake = *state;
    uint64_t now_ms = env_monotonic_ms(env_system());
    struct timespec until = env_until(&awake->env, START_MS + 700);
    uint64_t until_ms = (uint64_t)until.tv_sec * 1000 + (uint64_t)until.tv_nsec / 1000000;
    assert_in_range(until_ms - now_ms, 700, 5000);
    until = env_until(&awake->env, 1); /* long ago */
    until_ms = (uint64_t)until.tv_sec * 1000 + (uint64_t)until.tv_nsec / 1000000;
    assert_in_range(until_ms - now_ms, 0, 5000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_beats_it_is_the_machines),
        TEST(a_pause_is_left_out),
        TEST(it_never_goes_back),
        TEST(readers_agree_that_it_never_goes_back),
        TEST(who_waits_wakes_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
