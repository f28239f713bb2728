/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/allowance.h"
#include "broken.h"

/* n and n + 1, how it comes back, and a clock that stands or lags. */

enum { MINUTE_US = 60000000 };

static uint32_t take(struct allowance *allowance, struct allowance_terms terms, uint64_t now_ms)
{
    uint32_t wait_ms = allowance_wait_ms(allowance, terms, now_ms);
    if (wait_ms == 0)
        allowance_spend(allowance, terms, now_ms);
    return wait_ms;
}

static void n_at_once_and_no_more(void **state)
{
    for (uint32_t count = 1; count < 40; count++) {
        struct allowance allowance = {0};
        struct allowance_terms terms = allowance_over(count, MINUTE_US);
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(take(&allowance, terms, 5000), 0);
        uint32_t wait_ms = take(&allowance, terms, 5000);
        assert_in_range(wait_ms, MINUTE_US / 1000 / count, MINUTE_US / 1000 / count + 1);
        assert_int_not_equal(take(&allowance, terms, 5000 + wait_ms - 1), 0);
        assert_int_equal(take(&allowance, terms, 5000 + wait_ms), 0);
        assert_int_not_equal(take(&allowance, terms, 5000 + wait_ms), 0);
    }
}

static void whole_again_after_the_period(void **state)
{
    struct allowance allowance = {0};
    struct allowance_terms terms = allowance_over(30, MINUTE_US);
    assert_true(allowance_is_whole(&allowance, 0));
    for (unsigned i = 0; i < 30; i++)
        allowance_spend(&allowance, terms, 1000);
    assert_false(allowance_is_whole(&allowance, 60999));
    assert_true(allowance_is_whole(&allowance, 61000));
}

static void spending_above_ones_means_costs_no_more(void **state)
{
    struct allowance allowance = {0};
    struct allowance_terms terms = allowance_over(10, MINUTE_US);
    for (unsigned i = 0; i < 1000; i++)
        allowance_spend(&allowance, terms, 1000);
    assert_int_equal(allowance_wait_ms(&allowance, terms, 1000), 6000);
    assert_int_equal(allowance_wait_ms(&allowance, terms, 7000), 0);
}

static void a_clock_that_stands_or_lags_gives_nothing_back(void **state)
{
    struct allowance allowance = {0};
    struct allowance_terms terms = allowance_over(1, MINUTE_US);
    assert_int_equal(take(&allowance, terms, 9000), 0);
    assert_int_equal(take(&allowance, terms, 8000), 60000);
    assert_int_equal(take(&allowance, terms, 9001), 59999);
}

/* What comes back in a second is what was asked for, also where an interval is no whole
 * microsecond. */
static void many_in_a_second(void **state)
{
    static const uint32_t counts[] = {499999, 500001, 600000, 999999, 1000000, 9999999, 10000000};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct allowance_terms terms = allowance_over(counts[i], MINUTE_US / 60);
        struct allowance allowance = {0};
        while (allowance_wait_ms(&allowance, terms, 5000) == 0)
            allowance_spend(&allowance, terms, 5000);
        uint32_t back = 0;
        for (uint64_t now_ms = 5001; now_ms <= 6000; now_ms++)
            for (; allowance_wait_ms(&allowance, terms, now_ms) == 0; back++)
                allowance_spend(&allowance, terms, now_ms);
        assert_in_range(back, counts[i] - counts[i] / 100, counts[i]);
    }
}

static void spend(void *argument)
{
    struct allowance allowance = {0};
    allowance_spend(&allowance, *(struct allowance_terms *)argument, 5000);
}

/* Nothing would be spent, or never come back. */
static void terms_of_nothing_are_a_broken_promise(void **state)
{
    struct allowance_terms none = {.interval_ns = 1}, at_once = {.burst = 1};
    assert_true(is_broken(spend, &none, "terms.burst > 0"));
    assert_true(is_broken(spend, &at_once, "terms.interval_ns > 0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(n_at_once_and_no_more),
        cmocka_unit_test(whole_again_after_the_period),
        cmocka_unit_test(spending_above_ones_means_costs_no_more),
        cmocka_unit_test(many_in_a_second),
        cmocka_unit_test(a_clock_that_stands_or_lags_gives_nothing_back),
        cmocka_unit_test(terms_of_nothing_are_a_broken_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
