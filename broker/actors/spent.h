/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_SPENT_H
#define USHER_ACTORS_SPENT_H

/* What was spent of an allowance (base/allowance.h) by somebody who is gone, for when he comes
 * back: a limit that is forgotten with a session is none for who logs out and in again.
 *
 * Takes a fixed amount of memory. Any thread; each call takes a short lock. */

#include <stdint.h>

#include "base/allowance.h"
#include "base/env.h"
#include "proto/bytes.h"

struct spent;

struct spent *spent_create(const struct env *env); /* NULL without memory */
void spent_destroy(struct spent *spent);           /* NULL is fine, here and below */

/* Whoever has that name goes, and his allowance with him. */
void spent_put(struct spent *spent, struct bytes name, struct allowance allowance);

/* He is back, and has what was put last; whole, when nothing is known of him. */
struct allowance spent_take(struct spent *spent, struct bytes name);

/* All that is not whole again, for another process, and the key of its numbers; and there, when
 * nothing is in it yet. */
void spent_move_out(struct spent *spent, uint64_t now_ns, uint64_t key[2], allowance_each *each,
                    void *context);
void spent_move_key(struct spent *spent, const uint64_t key[2]);
void spent_move_in(struct spent *spent, uint64_t number, struct allowance allowance);

#endif
