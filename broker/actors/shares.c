/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/shares.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/memory.h"

/* Open addressing with backward-shift deletion, as in calls.c. */

enum { SIZE_MIN = 16 };

static uint32_t find(const struct shares *shares, uint64_t key)
{
    uint32_t at = (uint32_t)key & (shares->size - 1);
    while (shares->slots[at].count != 0 && shares->slots[at].key != key)
        at = (at + 1) & (shares->size - 1);
    return at;
}

static int grow(struct shares *shares)
{
    if (shares->count * 4 < shares->size * 3)
        return 0;
    struct shares bigger = {.size = shares->size > 0 ? shares->size * 2 : SIZE_MIN,
                            .count = shares->count};
    bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < shares->size; i++)
        if (shares->slots[i].count != 0)
            bigger.slots[find(&bigger, shares->slots[i].key)] = shares->slots[i];
    memory_account((int64_t)(bigger.size - shares->size) * (int64_t)sizeof(struct share));
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
    struct share *share = &shares->slots[find(shares, key)];
    shares->count += share->count == 0;
    share->key = key;
    share->count++;
    share->bytes += bytes;
    return 0;
}

static void remove_at(struct shares *shares, uint32_t at)
{
    uint32_t mask = shares->size - 1;
    for (uint32_t next = (at + 1) & mask; shares->slots[next].count != 0;
         next = (next + 1) & mask) {
        uint32_t wanted = (uint32_t)shares->slots[next].key & mask;
        if (((next - wanted) & mask) >= ((next - at) & mask)) {
            shares->slots[at] = shares->slots[next];
            at = next;
        }
    }
    shares->slots[at] = (struct share){0};
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
    if (shares->slots[at].count > 1) {
        shares->slots[at].count--;
        shares->slots[at].bytes -= bytes;
    } else if (--shares->count == 0) {
        shares_fini(shares);
    } else {
        remove_at(shares, at);
    }
}

void shares_fini(struct shares *shares)
{
    memory_account(-(int64_t)shares->size * (int64_t)sizeof(struct share));
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
