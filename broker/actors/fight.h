/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_FIGHT_H
#define USHER_ACTORS_FIGHT_H

/* How often connections of one user throw each other out, by where they come from. Owned by the
 * user's turn; costs nothing until a live connection is taken over. */

#include <stdint.h>

#include "actors/spent.h"
#include "proto/bytes.h"

struct fight;

/* One more takeover by a connection from `address` ("host:port"): 0, and it is counted; or, when
 * its source (base/source.h) has taken over more than `per_minute` times lately, the ms after which
 * it may. Addresses of no kind that we know share one allowance.
 * per_minute 0: always 0, nothing is counted. Without memory nothing is counted either. */
uint32_t fight_takeover(struct fight **fight, struct bytes address, uint32_t per_minute,
                        uint64_t now_ms);

/* The session of the user of that name ends: its fights are remembered in `spent`, and what is known
 * there of one source comes back. */
void fight_remember(const struct fight *fight, struct spent *spent, struct bytes name);
void fight_recall(struct fight **fight, struct bytes address, struct spent *spent,
                  struct bytes name);

void fight_destroy(struct fight *fight);

#endif
