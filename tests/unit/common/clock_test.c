/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

/* The ends of waits, as poll takes them. */

static void what_has_no_end_is_waited_for_without_one(void **state)
{
    assert_true(clock_end_ms(-1) == UINT64_MAX);
    assert_int_equal(clock_left_ms(UINT64_MAX), -1);
}

static void what_is_left_gets_less_and_not_below_nothing(void **state)
{
    uint64_t end_ms = clock_end_ms(10000);
    assert_in_range(clock_left_ms(end_ms), 1, 10000);
    assert_int_equal(clock_left_ms(clock_ms()), 0);
    assert_int_equal(clock_left_ms(0), 0);
}

static void what_is_too_long_for_poll_is_cut(void **state)
{
    assert_int_equal(clock_left_ms(UINT64_MAX - 1), INT32_MAX);
}

static void a_time_in_two_parts(void **state)
{
    struct timespec time = clock_timespec(UINT64_C(7000000012));
    assert_int_equal(time.tv_sec, 7);
    assert_int_equal(time.tv_nsec, 12);
    time = clock_timespec(999999999);
    assert_int_equal(time.tv_sec, 0);
    assert_int_equal(time.tv_nsec, 999999999);
}

static void a_pause_is_as_long_as_it_says(void **state)
{
    uint64_t begun_ns = clock_ns();
    clock_pause_ms(3);
    assert_true(clock_ns() - begun_ns >= UINT64_C(3000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_has_no_end_is_waited_for_without_one),
        cmocka_unit_test(what_is_left_gets_less_and_not_below_nothing),
        cmocka_unit_test(what_is_too_long_for_poll_is_cut),
        cmocka_unit_test(a_time_in_two_parts),
        cmocka_unit_test(a_pause_is_as_long_as_it_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
