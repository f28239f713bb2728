/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "user/rate.h"

/* How many requests pass, and who is told to go. */

static void a_second_at_once_and_no_more(void **state)
{
    for (uint32_t rate = 1; rate <= 1000; rate = rate * 3 + 1) {
        struct rate bucket = {0};
        for (uint32_t i = 0; i < rate; i++)
            assert_int_equal(rate_take(&bucket, rate, 5000), 0);
        assert_int_not_equal(rate_take(&bucket, rate, 5000), 0);
    }
}

/* Who waits for as long as he was told gets through, and not a millisecond earlier. */
static void the_wait_is_exact(void **state)
{
    struct rate bucket = {0};
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(rate_take(&bucket, 40, 1000), 0);
    uint32_t wait_ms = rate_take(&bucket, 40, 1000);
    assert_int_equal(wait_ms, 25);
    assert_int_not_equal(rate_take(&bucket, 40, 1000 + wait_ms - 1), 0);
    assert_int_equal(rate_take(&bucket, 40, 1000 + wait_ms), 0);
    assert_int_not_equal(rate_take(&bucket, 40, 1000 + wait_ms), 0);
}

static void the_rate_over_a_long_time(void **state)
{
    struct rate bucket = {0};
    unsigned passed = 0;
    for (uint64_t now = 0; now < 10000; now++)
        for (unsigned i = 0; i < 3; i++)
            passed += rate_take(&bucket, 300, now) == 0;
    assert_in_range(passed, 300 * 10, 300 * 11);
}

static void within_the_rate_nothing_is_refused(void **state)
{
    struct rate bucket = {0};
    for (uint64_t now = 0; now < 100000; now += 10)
        assert_int_equal(rate_take(&bucket, 100, now), 0);
    assert_false(rate_is_hopeless(&bucket, 100));
}

static void it_goes_on(void **state)
{
    enum { RATE = 20 };
    struct rate bucket = {0};
    for (unsigned i = 0; i < 2 * RATE; i++) {
        assert_false(rate_is_hopeless(&bucket, RATE));
        rate_take(&bucket, RATE, 1000);
    }
    assert_true(rate_is_hopeless(&bucket, RATE));
    /* A pause long enough to give all back makes good. */
    assert_int_equal(rate_take(&bucket, RATE, 2000), 0);
    assert_false(rate_is_hopeless(&bucket, RATE));
}

static void no_limit(void **state)
{
    struct rate bucket = {0};
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(rate_take(&bucket, 0, 1), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_second_at_once_and_no_more),
        cmocka_unit_test(the_wait_is_exact),
        cmocka_unit_test(the_rate_over_a_long_time),
        cmocka_unit_test(within_the_rate_nothing_is_refused),
        cmocka_unit_test(it_goes_on),
        cmocka_unit_test(no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
