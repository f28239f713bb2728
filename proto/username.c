/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/username.h"

/* The set has nothing that would need quoting in a log line, a topic (`presence/<user>`), a path
 * or a terminal, and one spelling only per name: no Unicode, hence no look-alikes from
 * normalisation. It is kept as 256 bits, one per byte value. */

#define BIT(character) (UINT64_C(1) << ((character)&63))
/* All bits from that of `first` to that of `last`; both in the same word, last not the 63rd. */
#define BITS(first, last) ((BIT(last) << 1) - BIT(first))

static const uint64_t allowed[4] = {
    BIT('+') | BIT('-') | BIT('.') | BITS('0', '9') | BIT(':'),
    BIT('@') | BITS('A', 'Z') | BIT('_') | BITS('a', 'z'),
    0,
    0,
};

bool username_valid(struct bytes name)
{
    if (name.size == 0 || name.size > USERNAME_BYTES_MAX)
        return false;
    uint64_t all = 1; /* no branch per byte: nearly every name is valid, and each Send has one */
    for (size_t i = 0; i < name.size; i++)
        all &= allowed[name.data[i] / 64] >> (name.data[i] & 63);
    return all != 0;
}
