/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "usher-bench/histogram.h"

static int setup(void **state)
{
    *state = calloc(1, sizeof(struct histogram));
    return *state == NULL;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void test_empty(void **state)
{
    const struct histogram *histogram = *state;

    assert_int_equal(histogram_quantile(histogram, 0.5), 0);
    assert_int_equal(histogram_quantile(histogram, 1), 0);
}

/* 1 to 100: the p-th percentile is p, to the unit. */
static void test_small_values_are_exact(void **state)
{
    struct histogram *histogram = *state;

    for (uint64_t value = 100; value >= 1; value--)
        histogram_add(histogram, value);
    for (unsigned percent = 1; percent <= 100; percent++)
        assert_int_equal(histogram_quantile(histogram, percent / 100.0), percent);
    assert_int_equal(histogram_quantile(histogram, 0), 1);
    assert_int_equal(histogram->total, 100);
}

/* Each value alone: what comes back is not less and at most 1/64 more, at every border. */
static void test_one_sixty_fourth(void **state)
{
    struct histogram *histogram = *state;

    for (unsigned bit = 0; bit < 64; bit++) {
        for (int64_t around = -2; around <= 2; around++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)around;
            uint64_t beside = value > UINT64_MAX / 4 ? UINT64_MAX : value * 2 + 200;

            *histogram = (struct histogram){.total = 0};
            histogram_add(histogram, value);
            histogram_add(histogram, beside);
            uint64_t seen = histogram_quantile(histogram, 0.5);
            assert_true(seen >= value);
            assert_true(seen - value <= value / 64);
        }
    }
}

/* A quantile is never above what was really seen. */
static void test_largest(void **state)
{
    struct histogram *histogram = *state;

    histogram_add(histogram, 1000001);
    assert_int_equal(histogram_quantile(histogram, 0.5), 1000001);
    histogram_add(histogram, UINT64_MAX);
    assert_true(histogram_quantile(histogram, 1) == UINT64_MAX);
    assert_true(histogram->largest == UINT64_MAX);
}

/* One in a thousand is slow: p99 does not show it, p99.9 neither, the end does. */
static void test_tail(void **state)
{
    struct histogram *histogram = *state;

    for (unsigned i = 0; i < 999; i++)
        histogram_add(histogram, 10);
    histogram_add(histogram, 64000);
    assert_int_equal(histogram_quantile(histogram, 0.99), 10);
    assert_int_equal(histogram_quantile(histogram, 0.999), 10);
    assert_int_equal(histogram_quantile(histogram, 0.9991), 64000);
}

static void test_merge(void **state)
{
    struct histogram *histogram = *state;
    struct histogram *other = calloc(1, sizeof(*other));

    assert_non_null(other);
    for (uint64_t value = 1; value <= 50; value++)
        histogram_add(histogram, value);
    for (uint64_t value = 51; value <= 100; value++)
        histogram_add(other, value);
    histogram_merge(histogram, other);
    assert_int_equal(histogram->total, 100);
    assert_int_equal(histogram->largest, 100);
    assert_int_equal(histogram_quantile(histogram, 0.25), 25);
    assert_int_equal(histogram_quantile(histogram, 0.75), 75);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_values_are_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_sixty_fourth, setup, teardown),
        cmocka_unit_test_setup_teardown(test_largest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tail, setup, teardown),
        cmocka_unit_test_setup_teardown(test_merge, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
