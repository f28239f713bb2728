/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_STORES_H
#define USHER_PERSIST_STORES_H

/* Changes that store messages for users, among those that the committer has taken. Pure. */

#include "actors/turn.h"

/* Bytes of the messages of all changes of the list; they keep that size. */
uint64_t stores_bytes(const struct change *list);

/* Those of the change that are above `max`, beside what waits, are BUSY; one always may wait. Gives
 * the bytes of all of them: what is refused takes memory too until its turn goes on. */
uint64_t stores_limit(struct change *change, uint64_t waiting_bytes, uint64_t max);

/* Takes out of the list those that store, in their order, as many as one transaction takes. Gives
 * the rest of them. */
struct change *stores_part(struct change **list, struct change **stores);

#endif
