/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/senders.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/check.h"

/* A table of counters for all mailboxes together, because one in each actor would cost every idle
 * user what only crowded ones need. A pair has a counter by its hash and none of its own: only
 * pairs with messages under way count, which are few at any moment, and whom two of them meet has
 * less and not nothing. Counters are relaxed: they are limits, as the length of a mailbox is. */

enum { SHARES = 16384 };

struct senders {
    _Atomic uint32_t counts[SHARES];
};

struct senders *senders_create(void)
{
    return calloc(1, sizeof(struct senders));
}

void senders_destroy(struct senders *senders)
{
    free(senders);
}

static bool is_share(uint16_t share)
{
    return share > SENDERS_NOBODY && share < SHARES;
}

uint16_t senders_share(uint64_t hash)
{
    return (uint16_t)(SENDERS_NOBODY + 1 + hash % (SHARES - SENDERS_NOBODY - 1));
}

uint32_t senders_count(const struct senders *senders, uint16_t share)
{
    CHECK(is_share(share));
    return atomic_load_explicit(&senders->counts[share], memory_order_relaxed);
}

void senders_add(struct senders *senders, uint16_t share)
{
    CHECK(is_share(share));
    atomic_fetch_add_explicit(&senders->counts[share], 1, memory_order_relaxed);
}

void senders_remove(struct senders *senders, uint16_t share)
{
    CHECK(is_share(share));
    CHECK(atomic_fetch_sub_explicit(&senders->counts[share], 1, memory_order_relaxed) > 0);
}
