/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/shares.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/table.h"

/* A table as in base/table.h, of keys that are hashes already. */

TABLE_ROW(struct share, key);

enum { SIZE_MIN = 16 };

static uint32_t itself(uint64_t key, const uint64_t *seed)
{
    return (uint32_t)key;
}

static struct table table_of(const struct shares *shares)
{
    return (struct table){shares->slots, shares->size, sizeof(*shares->slots), itself, NULL};
}

/* Chance may give somebody 0, which is no key. */
static uint64_t key_of(uint64_t key)
{
    return key != 0 ? key : 1;
}

static uint32_t find(const struct shares *shares, uint64_t key)
{
    const struct table table = table_of(shares);
    return table_find(&table, key_of(key));
}

/* As many senders as are counted. */
static bool is_whole(const struct shares *shares)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < shares->size; i++)
        count += shares->slots[i].count != 0;
    return count == shares->count;
}

static int grow(struct shares *shares)
{
    if (!table_is_full(shares->count, shares->size))
        return 0;
    struct shares bigger = {.size = shares->size > 0 ? shares->size * 2 : SIZE_MIN,
                            .count = shares->count};
    bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return -ENOMEM;
    const struct table from = table_of(shares);
    const struct table to = table_of(&bigger);
    table_move(&to, &from);
    memory_account(MEMORY_OF_REQUESTS,
                   (int64_t)(bigger.size - shares->size) * (int64_t)sizeof(struct share));
    free(shares->slots);
    *shares = bigger;
    return 0;
}

int shares_take(struct shares *shares, uint64_t key, uint32_t max)
{
    return shares_of(shares, key) >= max ? -ENOSPC : shares_add(shares, key, 0);
}

int shares_add(struct shares *shares, uint64_t key, uint32_t bytes)
{
    if (grow(shares) != 0)
        return -ENOMEM;
    CHECK(shares->count < shares->size); /* or a search would not end */
    struct share *share = &shares->slots[find(shares, key)];
    CHECK(share->count < UINT32_MAX && share->bytes <= UINT32_MAX - bytes);
    shares->count += share->count == 0;
    share->key = key_of(key);
    share->count++;
    share->bytes += bytes;
    return 0;
}

void shares_give(struct shares *shares, uint64_t key)
{
    shares_remove(shares, key, 0);
}

void shares_remove(struct shares *shares, uint64_t key, uint32_t bytes)
{
    CHECK(shares_of(shares, key) > 0);
    uint32_t at = find(shares, key);
    CHECK(shares->slots[at].bytes >= bytes);
    CHECK(shares->slots[at].count > 1 || shares->slots[at].bytes == bytes);
    if (shares->slots[at].count > 1) {
        shares->slots[at].count--;
        shares->slots[at].bytes -= bytes;
    } else if (--shares->count == 0) {
        shares_fini(shares);
    } else {
        const struct table table = table_of(shares);
        table_free(&table, at);
        CHECK_SLOW(is_whole(shares));
    }
}

void shares_fini(struct shares *shares)
{
    memory_account(MEMORY_OF_REQUESTS, -(int64_t)shares->size * (int64_t)sizeof(struct share));
    free(shares->slots);
    *shares = (struct shares){0};
}

struct share shares_look(const struct shares *shares, uint64_t key)
{
    return shares->count > 0 ? shares->slots[find(shares, key)] : (struct share){0};
}

uint32_t shares_of(const struct shares *shares, uint64_t key)
{
    return shares->count > 0 ? shares->slots[find(shares, key)].count : 0;
}
