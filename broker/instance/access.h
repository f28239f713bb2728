/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_INSTANCE_ACCESS_H
#define USHER_INSTANCE_ACCESS_H

/* Who may do something on the backend link: whoever shows the token of link.token_file, and from
 * then on whoever knows the number of a link, which is told to the peer that said Hello and to
 * nobody else. Pure; any thread. */

#include "actors/turn.h"

/* A number of 52 bits, so that it is exact as a double too, which is all that some languages have.
 */
enum {
    LINK_SLOT_BITS = 24,
    LINK_SERIAL_BITS = 28,
    LINK_NUMBER_BITS = LINK_SLOT_BITS + LINK_SERIAL_BITS
};

/* Whether these bytes are what link.token_file asks for, if it asks. The time that it takes does
 * not tell how many of them are right. */
bool access_token_is_right(const struct settings *settings, struct bytes token);

/* The number for a link: nobody who does not have the key can tell it from one drawn at random, or
 * knows it from the serial. Both parts are cut to their bits. May be 0, once in 2^52. */
uint64_t access_seal(const uint64_t key[2], uint64_t serial, uint32_t slot);

/* The slot of the actor whose link may have this number; whether it has, only the actor knows.
 * False: it is the number of no link. */
bool access_slot(const uint64_t key[2], uint64_t number, uint32_t *slot);

#endif
