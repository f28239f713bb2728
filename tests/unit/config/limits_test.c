/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"

/* The numbers on their way from the options to who asks for them: every row of the table, by
 * itself, so that a new one needs no line here. */

static const struct {
    const char *key;
    size_t place; /* in struct options */
    limit_reader *read;
    enum option_holds holds;
} rows[] = {
#define ROW(field, key, holds) {key, offsetof(struct options, field), field, HOLDS_##holds},
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    LIMIT_OF_##type(ROW(field, key, holds))
#include "base/options.def"
#undef OPTION
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* Another number for each row. */
static void set_all(struct options *options, uint64_t first)
{
    for (size_t i = 0; i < ROWS; i++)
        *(uint64_t *)((char *)options + rows[i].place) = first + i;
}

static void expect(const struct limits *limits, size_t row, uint64_t wanted)
{
    if (rows[row].read(limits) != wanted)
        fail_msg("%s is not what it was set to", rows[row].key);
}

static void what_is_live_follows_and_nothing_else(void **state)
{
    (void)state;
    struct limits limits = {0};
    struct options options = {0};
    size_t live = 0;
    set_all(&options, 1000);
    limits_fill(&limits, &options);
    for (size_t i = 0; i < ROWS; i++)
        expect(&limits, i, 1000 + i);
    set_all(&options, 5000);
    limits_follow(&limits, &options);
    for (size_t i = 0; i < ROWS; i++)
        expect(&limits, i, (rows[i].holds == HOLDS_LIVE ? 5000 : 1000) + i);
    for (size_t i = 0; i < ROWS; i++)
        live += rows[i].holds == HOLDS_LIVE;
    assert_true(live > 0 && live < ROWS);
}

/* A frame that others send always has room, with something beside it. */
static void the_room_for_output(void **state)
{
    (void)state;
    struct limits limits = {
        .limits_output_bytes = 4096, .limits_frame_bytes = 3072, .limits_output_soft_bytes = 2048};
    assert_int_equal(output_max(&limits), 4096);
    assert_int_equal(output_window(&limits), 2048);
    limits.limits_frame_bytes = 3073;
    assert_int_equal(output_max(&limits), 4097);
    limits.limits_output_soft_bytes = 2049;
    assert_int_equal(output_window(&limits), 2048);
    limits.limits_output_soft_bytes = 100;
    assert_int_equal(output_window(&limits), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_live_follows_and_nothing_else),
        cmocka_unit_test(the_room_for_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
