/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/table.h"

/* Against an array that is searched from end to end. The hash is one that the tests choose. */

enum { SIZE = 16, KEYS = 40 };

struct row {
    uint64_t key;
    uint32_t value;
};

TABLE_ROW(struct row, key);

/* Keys that are alike in their low byte have one home. */
static uint32_t low(uint64_t key, const uint64_t *seed)
{
    return (uint32_t)((key & 0xff) + (seed != NULL ? *seed : 0));
}

static struct table table_of(struct row *rows, uint32_t size, const uint64_t *seed)
{
    return (struct table){rows, size, sizeof(*rows), low, seed};
}

static void put(const struct table *table, uint64_t key, uint32_t value)
{
    struct row *row = (struct row *)table->rows + table_find(table, key);
    assert_int_equal(row->key, 0);
    *row = (struct row){key, value};
}

static uint64_t at(const struct table *table, uint32_t place)
{
    return ((struct row *)table->rows)[place].key;
}

static void it_is_full_beyond_three_quarters(void **state)
{
    assert_true(table_is_full(0, 0));
    assert_false(table_is_full(11, 16));
    assert_true(table_is_full(12, 16));
    assert_false(table_is_full((3u << 29) - 1, 1u << 31));
    assert_true(table_is_full(3u << 29, 1u << 31));
}

static void a_row_stands_at_home_or_behind_and_beyond_the_end_at_the_beginning(void **state)
{
    struct row rows[4] = {0};
    const uint64_t seed = 1;
    const struct table table = table_of(rows, 4, &seed);
    put(&table, 0x102, 1); /* home 3 */
    put(&table, 0x202, 2);
    put(&table, 0x302, 3);
    assert_int_equal(at(&table, 3), 0x102);
    assert_int_equal(at(&table, 0), 0x202);
    assert_int_equal(at(&table, 1), 0x302);
    assert_int_equal(table_find(&table, 0x302), 1);
    assert_int_equal(table_find(&table, 0x402), 2); /* free */
}

/* In the run are rows of two homes: one that is at home may not move up, those behind it may. */
static void the_gap_is_closed_by_those_whom_it_would_cut_off(void **state)
{
    struct row rows[8] = {0};
    const struct table table = table_of(rows, 8, NULL);
    put(&table, 0x106, 1);
    put(&table, 0x206, 2); /* at 7 */
    put(&table, 0x100, 3); /* at 0, its home */
    put(&table, 0x306, 4); /* at 1 */
    put(&table, 0x102, 5); /* at 2, its home */
    assert_int_equal(table_free(&table, table_find(&table, 0x206)), 1);
    assert_int_equal(at(&table, 6), 0x106);
    assert_int_equal(at(&table, 7), 0x306);
    assert_int_equal(at(&table, 0), 0x100);
    assert_int_equal(at(&table, 1), 0);
    assert_int_equal(rows[1].value, 0);
    assert_int_equal(at(&table, 2), 0x102);
    assert_int_equal(rows[7].value, 4);
}

static void moving_takes_every_row_along(void **state)
{
    struct row rows[8] = {0};
    struct row more[16] = {0};
    const struct table from = table_of(rows, 8, NULL);
    const struct table to = table_of(more, 16, NULL);
    for (uint32_t i = 1; i <= 7; i++)
        put(&from, i << 8 | 7, i);
    table_move(&to, &from);
    for (uint32_t i = 1; i <= 7; i++)
        assert_int_equal(more[table_find(&to, i << 8 | 7)].value, i);
    assert_int_equal(at(&to, 7), 0x207); /* in the order of the places: the first had wrapped */
}

static void after_any_history_what_was_put_is_found(void **state)
{
    struct row rows[SIZE] = {0};
    uint32_t values[KEYS] = {0}; /* 0: not in it */
    uint32_t count = 0;
    const struct table table = table_of(rows, SIZE, NULL);
    srand(1);
    for (uint32_t round = 1; round < 200000; round++) {
        uint32_t i = (uint32_t)rand() % KEYS;
        uint64_t key = (uint64_t)(i + 1) << 8 | (i * i) % 7 * 3;
        if (values[i] != 0) {
            assert_int_equal(rows[table_find(&table, key)].value, values[i]);
            table_free(&table, table_find(&table, key));
            values[i] = 0;
            count--;
        } else if (count < SIZE - 1) {
            put(&table, key, round);
            values[i] = round;
            count++;
        }
        for (uint32_t k = 0; k < KEYS; k++) {
            uint64_t other = (uint64_t)(k + 1) << 8 | (k * k) % 7 * 3;
            assert_int_equal(rows[table_find(&table, other)].value, values[k]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_full_beyond_three_quarters),
        cmocka_unit_test(a_row_stands_at_home_or_behind_and_beyond_the_end_at_the_beginning),
        cmocka_unit_test(the_gap_is_closed_by_those_whom_it_would_cut_off),
        cmocka_unit_test(moving_takes_every_row_along),
        cmocka_unit_test(after_any_history_what_was_put_is_found),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
