/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_TABLE_H
#define USHER_BASE_TABLE_H

/* A hash table as the smallest thing that its users share: an array of rows of a size of their own,
 * a power of two of them, each of which begins with its key, a uint64_t. Key 0: the row is free.
 *
 * Open addressing: a row stands at the place that its key's hash gives (its home) or, when that
 * was taken, at one behind, with no free place between. Freeing a place moves up the rows that
 * would be cut off from their homes by it, so there are no tombstones and a table may run for ever.
 *
 * Memory, counts and limits are the user's, and so is the lock, if it needs one. A struct table is
 * made where it is used, in the registers: everything here is inlined into a user whose `hash` and
 * `row_bytes` are constants, and costs what a loop of his own would.
 *
 * A table always has a free place; looking for something ends there. Pure. */

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

/* `seed`: what the user's table was made with. Its low bits are the place, so they have to differ.
 */
typedef uint32_t table_hash(uint64_t key, const uint64_t *seed);

struct table {
    void *rows;
    uint32_t size; /* power of two */
    uint32_t row_bytes;
    table_hash *hash;
    const uint64_t *seed;
};

/* At the top of a user's file: its rows are rows. */
#define TABLE_ROW(type, member)                                                                   \
    static_assert(offsetof(type, member) == 0 && sizeof(((type *)0)->member) == sizeof(uint64_t), \
                  "a row begins with its key")

#define TABLE_INLINE static inline __attribute__((always_inline))

/* Whether another row would make it fuller than three quarters: time for one of twice the size. */
TABLE_INLINE bool table_is_full(uint32_t count, uint32_t size)
{
    return (uint64_t)count * 4 >= (uint64_t)size * 3;
}

TABLE_INLINE uint64_t *table_row(const struct table *table, uint32_t at)
{
    return (uint64_t *)((uint8_t *)table->rows + (size_t)at * table->row_bytes);
}

TABLE_INLINE uint32_t table_home(const struct table *table, uint64_t key)
{
    return table->hash(key, table->seed) & (table->size - 1);
}

/* The place of the row with that key, or the free one where it belongs. */
TABLE_INLINE uint32_t table_find(const struct table *table, uint64_t key)
{
    uint32_t at = table_home(table, key);
    for (;; at = (at + 1) & (table->size - 1)) {
        uint64_t have = *table_row(table, at);
        if (have == 0 || have == key)
            return at;
    }
}

/* All rows of one go into another that has none of them, and more places than there are rows. */
TABLE_INLINE void table_move(const struct table *to, const struct table *from)
{
    for (uint32_t i = 0; i < from->size; i++) {
        const uint64_t *row = table_row(from, i);
        if (*row != 0)
            memcpy(table_row(to, table_find(to, *row)), row, from->row_bytes);
    }
}

/* Frees a place that is taken; another row may stand there afterwards. Gives the place that is
 * free now, whose row is zeroed. */
TABLE_INLINE uint32_t table_free(const struct table *table, uint32_t at)
{
    const uint32_t mask = table->size - 1;
    CHECK(*table_row(table, at) != 0);
    for (uint32_t next = (at + 1) & mask; *table_row(table, next) != 0; next = (next + 1) & mask) {
        uint32_t from_home = (next - table_home(table, *table_row(table, next))) & mask;
        if (from_home < ((next - at) & mask))
            continue; /* its home is behind the gap */
        memcpy(table_row(table, at), table_row(table, next), table->row_bytes);
        at = next;
    }
    memset(table_row(table, at), 0, table->row_bytes);
    return at;
}

#endif
