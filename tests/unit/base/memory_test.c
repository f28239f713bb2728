/* SPDX-License-Identifier: Apache-2.0 */
#include "base/limits.h"
#include "base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/metrics.h"

/* Where the levels begin and end, to the byte. */

enum { BUDGET = 64 << 20, STEP = 64 * 1024 };

static int64_t held; /* as far as it is summed */

/* So many bytes are held, and summed: what is less than a step goes back before it goes on. */
static void hold(int64_t bytes)
{
    int64_t back = 0;
    if (bytes - held > -STEP && bytes - held < STEP)
        back = bytes > held ? -2 * STEP : 2 * STEP;
    memory_account(back);
    memory_account(bytes - held - back);
    held = bytes;
}

static struct limits limits;

static int set_up(void **state)
{
    struct metrics *metrics = metrics_create(1);
    *state = metrics;
    limits.limits_memory_bytes = BUDGET;
    memory_open(&limits, NULL, metrics);
    return metrics == NULL;
}

static int tear_down(void **state)
{
    hold(0);
    memory_close();
    metrics_destroy(*state);
    return 0;
}

static void expect_level(int64_t bytes, enum memory_level level)
{
    hold(bytes);
    assert_int_equal(memory_level(), level);
}

/* From 3/4 and 7/8 on; and 1/16 below it ends. */
static void levels_begin_and_end_at_n(void **state)
{
    const int64_t part = BUDGET / 16;
    expect_level(12 * part - 1, MEMORY_AMPLE);
    expect_level(12 * part, MEMORY_TIGHT);
    expect_level(11 * part, MEMORY_TIGHT);
    expect_level(11 * part - 1, MEMORY_AMPLE);
    expect_level(12 * part - 1, MEMORY_AMPLE);
    expect_level(14 * part - 1, MEMORY_TIGHT);
    expect_level(14 * part, MEMORY_FULL);
    expect_level(13 * part, MEMORY_FULL);
    expect_level(13 * part - 1, MEMORY_TIGHT);
    expect_level(14 * part, MEMORY_FULL);
    expect_level(11 * part - 1, MEMORY_AMPLE);
    assert_int_equal(metrics_read(*state, METRIC_memory_tight), 2);
    assert_int_equal(metrics_read(*state, METRIC_memory_full), 2);
}

static void the_excess_is_what_has_to_go(void **state)
{
    const int64_t part = BUDGET / 16;
    hold(13 * part + 5);
    assert_int_equal(memory_excess(MEMORY_FULL), 0); /* it is not full */
    assert_int_equal(memory_excess(MEMORY_TIGHT), 2 * part + 6);
    hold(14 * part + 5);
    assert_int_equal(memory_excess(MEMORY_FULL), part + 6);
    hold(13 * part);
    expect_level(13 * part, MEMORY_FULL); /* still */
    assert_int_equal(memory_excess(MEMORY_FULL), 1);
    expect_level(13 * part - 1, MEMORY_TIGHT);
    assert_int_equal(memory_excess(MEMORY_FULL), 0);
    expect_level(11 * part - 1, MEMORY_AMPLE);
    assert_int_equal(memory_excess(MEMORY_TIGHT), 0);
}

static void another_budget_holds_at_once(void **state)
{
    hold(BUDGET / 2);
    limits.limits_memory_bytes = BUDGET / 2;
    memory_review();
    assert_int_equal(memory_level(), MEMORY_FULL);
    limits.limits_memory_bytes = 0; /* no limit */
    memory_review();
    assert_int_equal(memory_level(), MEMORY_AMPLE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(levels_begin_and_end_at_n),
        TEST(the_excess_is_what_has_to_go),
        TEST(another_budget_holds_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
