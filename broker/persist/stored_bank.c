/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/stored_bank.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/table.h"

/* The keys are hashes with a random key of ours, or numbers of ours; a multiplication spreads the
 * latter too. Its highest bits say the shard, those below them the place. */

enum { SIZE_MIN = 8 };

static uint64_t spread(uint64_t key)
{
    return key * UINT64_C(0x9E3779B97F4A7C15);
}

static uint32_t place_of(uint64_t key, const uint64_t *seed)
{
    return (uint32_t)(spread(key) >> 26);
}

static struct table table_of(const struct bank *bank, const struct bank_shard *shard)
{
    return (struct table){shard->rows, shard->size, bank->row_bytes, place_of, NULL};
}

static struct bank_shard *shard_of(const struct bank *bank, uint64_t key)
{
    return (struct bank_shard *)&bank->shards[spread(key) >> 58];
}

static void resize(struct bank *bank, struct bank_shard *shard, uint32_t size)
{
    struct bank_shard other = {.size = size, .count = shard->count};
    struct table from = table_of(bank, shard);
    CHECK(size > shard->count || (size == 0 && shard->count == 0));
    if (size > 0)
        MEMORY_MUST((other.rows = calloc(size, bank->row_bytes)) != NULL, "a table");
    struct table to = table_of(bank, &other);
    if (shard->count > 0)
        table_move(&to, &from);
    memory_account(MEMORY_OF_STORED, ((int64_t)size - shard->size) * bank->row_bytes);
    free(shard->rows);
    *shard = other;
}

void *bank_find(const struct bank *bank, uint64_t key)
{
    const struct bank_shard *shard = shard_of(bank, key);
    if (shard->count == 0)
        return NULL;
    struct table table = table_of(bank, shard);
    uint64_t *row = table_row(&table, table_find(&table, key));
    return *row != 0 ? row : NULL;
}

void *bank_take(struct bank *bank, uint64_t key)
{
    struct bank_shard *shard = shard_of(bank, key);
    CHECK(key != 0);
    void *present = bank_find(bank, key);
    if (present != NULL)
        return present;
    if (table_is_full(shard->count, shard->size))
        resize(bank, shard, shard->size > 0 ? 2 * shard->size : SIZE_MIN);
    struct table table = table_of(bank, shard);
    uint64_t *row = table_row(&table, table_find(&table, key));
    *row = key;
    shard->count++;
    bank->count++;
    return row;
}

void bank_remove(struct bank *bank, void *row)
{
    struct bank_shard *shard = shard_of(bank, *(uint64_t *)row);
    struct table table = table_of(bank, shard);
    table_free(&table,
               (uint32_t)((size_t)((uint8_t *)row - (uint8_t *)shard->rows) / bank->row_bytes));
    shard->count--;
    bank->count--;
    if (shard->count == 0)
        resize(bank, shard, 0);
    else if (shard->size > SIZE_MIN && shard->count < shard->size / 8)
        resize(bank, shard, shard->size / 2);
}

void *bank_walk(const struct bank *bank, struct bank_place *place, uint32_t *looks)
{
    while (*looks > 0) {
        const struct bank_shard *shard = &bank->shards[place->shard];
        --*looks;
        if (place->at >= shard->size) {
            place->shard = (place->shard + 1) % BANK_SHARDS;
            place->at = 0;
            continue;
        }
        struct table table = table_of(bank, shard);
        uint64_t *row = table_row(&table, place->at++);
        if (*row != 0)
            return row;
    }
    return NULL;
}

void bank_empty(struct bank *bank)
{
    for (unsigned i = 0; i < BANK_SHARDS; i++) {
        bank->shards[i].count = 0;
        resize(bank, &bank->shards[i], 0);
    }
    bank->count = 0;
}
