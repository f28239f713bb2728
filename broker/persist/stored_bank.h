/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_STORED_BANK_H
#define USHER_PERSIST_STORED_BANK_H

/* Rows by a key, however many: a table (base/table.h) in shards, each of which grows and shrinks
 * alone, so that nobody waits while a million rows are moved. Its memory is in the book and cannot
 * be refused. One thread at a time; blocks on nothing. */

#include <stdint.h>

enum { BANK_SHARDS = 64 };

struct bank_shard {
    void *rows;
    uint32_t size, count;
};

/* Zeroed but for row_bytes: an empty one. */
struct bank {
    uint32_t row_bytes; /* each row begins with its key, which is not 0 */
    uint64_t count;
    struct bank_shard shards[BANK_SHARDS];
};

/* A place to go on from; zeroed: from the beginning. */
struct bank_place {
    uint32_t shard, at;
};

/* NULL: there is none. Good until another one comes or goes. */
void *bank_find(const struct bank *bank, uint64_t key);

/* That key's row, made with zeros behind the key when there was none. */
void *bank_take(struct bank *bank, uint64_t key);

void bank_remove(struct bank *bank, void *row);

/* The next row of a walk that goes round, by a part of it at a time; one place is looked at for
 * each of *looks, which is lowered. NULL: none was found in so many. A row that comes or goes
 * meanwhile may be missed, or met again. */
void *bank_walk(const struct bank *bank, struct bank_place *place, uint32_t *looks);

void bank_empty(struct bank *bank);

#endif
