/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_SHARES_H
#define USHER_ACTORS_SHARES_H

/* How many messages of each sender something holds, so that none of them takes all of it. Owned by
 * one turn; a zeroed struct is empty. Keys are hashes that the senders cannot choose. What it takes
 * counts as held (base/memory.h). */

#include <stdbool.h>
#include <stdint.h>

struct share {
    uint64_t key;
    uint32_t count; /* 0: an empty slot */
    uint32_t bytes; /* of those that were added with their bytes */
};

struct shares {
    struct share *slots;
    uint32_t size; /* power of two, or 0 */
    uint32_t count;
};

/* One more of this sender: 0; or nothing is changed: -ENOSPC, there are `max`; -ENOMEM. */
int shares_take(struct shares *shares, uint64_t key, uint32_t max);

/* One less, of one that was taken. Frees everything with the last. */
void shares_give(struct shares *shares, uint64_t key);

/* The same for who looks at the limits himself; 0 or -ENOMEM. */
int shares_add(struct shares *shares, uint64_t key, uint32_t bytes);
void shares_remove(struct shares *shares, uint64_t key, uint32_t bytes);

/* All are given back. */
void shares_fini(struct shares *shares);

/* Zeroes when he has none. */
struct share shares_look(const struct shares *shares, uint64_t key);

uint32_t shares_of(const struct shares *shares, uint64_t key);

#endif
