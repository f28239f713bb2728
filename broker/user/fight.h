/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_FIGHT_H
#define USHER_USER_FIGHT_H

/* How often connections of one user throw each other out, by where they come from. Owned by the
 * user's turn; costs nothing until a live connection is taken over. */

#include <stdint.h>

#include "actors/spent.h"
#include "proto/bytes.h"

struct fight;

/* Whose fights they are, and where what does not fit into them is remembered (NULL: nowhere). */
struct fight_owner {
    struct bytes name;
    struct spent *spent;
};

/* One more takeover by a connection from `address` ("host:port"): 0, and it is counted; or, when
 * its source (base/source.h) has taken over more than `per_minute` times lately, or a wider one
 * more than that may, the ms after which it may. Addresses of no kind that we know share one
 * allowance. per_minute 0: always 0, nothing is counted. Without memory nothing is counted either.
 */
uint32_t fight_takeover(struct fight **fight, struct fight_owner owner, struct bytes address,
                        uint32_t per_minute, uint64_t now_ms);

/* The session of the owner ends: what its fights have spent is remembered. */
void fight_remember(const struct fight *fight, struct fight_owner owner);

void fight_destroy(struct fight *fight);

#endif
