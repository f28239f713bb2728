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
    memory_account(MEMORY_OF_OWN, back);
    memory_account(MEMORY_OF_OWN, bytes - held - back);
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

/* Of the gauges, which stand behind each other. */
static int64_t gauge_of(struct metrics *metrics, enum memory_part part)
{
    return (int64_t)metrics_read(metrics, METRIC_memory_messages_bytes + part);
}

static int64_t sum_of_parts(struct metrics *metrics)
{
    int64_t sum = 0;
    for (int part = 0; part < MEMORY_PARTS; part++)
        sum += gauge_of(metrics, part);
    return sum;
}

/* Each part says what was held for it, and together they are what is held, up to what threads have
 * not summed yet: also when one of them takes what another gives back. */
static void the_parts_are_the_sum(void **state)
{
    struct metrics *metrics = *state;
    enum { MUCH = 256 << 20 }; /* so that none comes below zero */
    int64_t mine[MEMORY_PARTS], all = 0;
    uint32_t random = 12345;
    for (int part = 0; part < MEMORY_PARTS; part++)
        memory_account(part, mine[part] = MUCH);
    assert_int_equal(METRIC_memory_own_bytes - METRIC_memory_messages_bytes + 1, MEMORY_PARTS);
    for (int i = 0; i < 200000; i++) {
        random = random * 1664525 + 1013904223;
        enum memory_part from = random % MEMORY_PARTS, to = random / 64 % MEMORY_PARTS;
        int64_t bytes = random >> 16;
        mine[from] -= bytes;
        mine[to] += bytes;
        memory_account(from, -bytes);
        memory_account(to, bytes + i % 7);
        mine[to] += i % 7;
        all += i % 7;
        if (i % 1000 != 0)
            continue;
        int64_t told = (int64_t)metrics_read(metrics, METRIC_memory_held_bytes);
        int64_t rest = told - sum_of_parts(metrics);
        assert_in_range(rest + MEMORY_PARTS * STEP, 1, 2 * MEMORY_PARTS * STEP - 1);
        for (int part = 0; part < MEMORY_PARTS; part++)
            assert_in_range(gauge_of(metrics, part) - mine[part] + STEP, 1, 2 * STEP - 1);
    }
    memory_account(MEMORY_OF_OWN, 2 * STEP); /* all is summed */
    assert_int_equal(metrics_read(metrics, METRIC_memory_held_bytes),
                     (int64_t)MEMORY_PARTS * MUCH + all + 2 * STEP);
    assert_int_equal(sum_of_parts(metrics), metrics_read(metrics, METRIC_memory_held_bytes));
    memory_account(MEMORY_OF_OWN, -2 * STEP);
    for (int part = 0; part < MEMORY_PARTS; part++)
        memory_account(part, -mine[part]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(levels_begin_and_end_at_n),
        TEST(the_excess_is_what_has_to_go),
        TEST(another_budget_holds_at_once),
        TEST(the_parts_are_the_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
