/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/access.h"

#include "base/hash.h"
#include "base/secret.h"

/* A Fetch and a Submit bring the number of their link and nothing else, so that number is what
 * gives the right to read a service's mail and to push and kick in its name. It must be as hard to
 * guess as a token, fit into 53 bits, and lead to its actor without a table and a lock on the path
 * of a call.
 *
 * So it is the actor's slot and the serial of the link, 52 bits in all, sealed: a permutation of
 * all numbers of 52 bits, by a key that is drawn at each start. It is a Feistel network of four
 * rounds whose round function is SipHash. Whoever has seen no number can do no better than to try
 * one of 2^52 after the other, each try a request that is refused, counted and logged. To open a
 * wrong one gives some slot, whose actor compares the whole number with its own. */

enum { HALF_BITS = LINK_NUMBER_BITS / 2, HALF_MASK = (1 << HALF_BITS) - 1, ROUNDS = 4 };

static uint32_t scramble(const uint64_t key[2], uint32_t round, uint32_t half)
{
    const uint32_t data[2] = {round, half};
    return (uint32_t)hash_keyed(key, data, sizeof(data)) & HALF_MASK;
}

uint64_t access_seal(const uint64_t key[2], uint64_t serial, uint32_t slot)
{
    uint64_t plain = (serial & ((UINT64_C(1) << LINK_SERIAL_BITS) - 1)) << LINK_SLOT_BITS |
                     (slot & ((UINT64_C(1) << LINK_SLOT_BITS) - 1));
    uint32_t left = (uint32_t)(plain >> HALF_BITS);
    uint32_t right = (uint32_t)plain & HALF_MASK;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t next = left ^ scramble(key, round, right);
        left = right;
        right = next;
    }
    return (uint64_t)left << HALF_BITS | right;
}

bool access_slot(const uint64_t key[2], uint64_t number, uint32_t *slot)
{
    if (number == 0 || number >> LINK_NUMBER_BITS != 0)
        return false;
    uint32_t left = (uint32_t)(number >> HALF_BITS);
    uint32_t right = (uint32_t)number & HALF_MASK;
    for (uint32_t round = ROUNDS; round-- > 0;) {
        uint32_t before = right ^ scramble(key, round, left);
        right = left;
        left = before;
    }
    *slot = (uint32_t)((uint64_t)left << HALF_BITS | right) & ((1 << LINK_SLOT_BITS) - 1);
    return true;
}

bool access_token_is_right(const struct settings *settings, struct bytes token)
{
    const struct link_token *wanted = settings->link_token;
    return wanted == NULL || secret_equal(wanted->bytes, wanted->size, token.data, token.size);
}
