/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/env.h"
#include "base/wait.h"

static void a_time_is_seconds_and_the_rest(void **state)
{
    static const struct {
        uint64_t ms;
        time_t seconds;
        long ns;
    } cases[] = {
        {0, 0, 0},    {1, 0, 1000000},    {999, 0, 999000000},
        {1000, 1, 0}, {1001, 1, 1000000}, {UINT64_C(1) << 32, 4294967, 296000000},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct timespec time = wait_time(cases[i].ms);
        assert_int_equal(time.tv_sec, cases[i].seconds);
        assert_int_equal(time.tv_nsec, cases[i].ns);
    }
}

static uint64_t now_ms(void)
{
    return env_monotonic_ms(env_system());
}

/* By the wall clock that point would be long over, or decades ahead. */
static void a_wait_ends_at_its_point_of_the_monotonic_clock(void **state)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition;
    wait_condition_init(&condition);
    uint64_t until_ms = now_ms() + 30;
    struct timespec until = wait_time(until_ms);
    int error = 0;
    pthread_mutex_lock(&lock);
    while (error == 0)
        error = pthread_cond_timedwait(&condition, &lock, &until);
    pthread_mutex_unlock(&lock);
    assert_int_equal(error, ETIMEDOUT);
    assert_true(now_ms() >= until_ms);
    pthread_cond_destroy(&condition);
}

static void a_nap_is_not_shorter_than_it_was_asked_for(void **state)
{
    static const unsigned naps_ms[] = {0, 1, 20, 1001};
    for (size_t i = 0; i < sizeof(naps_ms) / sizeof(naps_ms[0]); i++) {
        uint64_t begin_ns = env_monotonic_ns(env_system());
        wait_nap(naps_ms[i]);
        assert_true(env_monotonic_ns(env_system()) - begin_ns >= naps_ms[i] * UINT64_C(1000000));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_time_is_seconds_and_the_rest),
        cmocka_unit_test(a_wait_ends_at_its_point_of_the_monotonic_clock),
        cmocka_unit_test(a_nap_is_not_shorter_than_it_was_asked_for),
    };
    return cmocka_run_group_tests_name("wait", tests, NULL, NULL);
}
