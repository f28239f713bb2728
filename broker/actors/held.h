/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_HELD_H
#define USHER_ACTORS_HELD_H

/* Buffers that outlive the turn which fills them (answers that wait for a resume, results of a
 * Submit) and so stand in the book of memory (base/memory.h) with what they take. A buffer that is
 * filled by these functions is only emptied by them. */

#include "proto/bytes.h"

/* As buffer_reserve and buffer_append. */
uint8_t *held_reserve(struct buffer *held, size_t extra);
int held_append(struct buffer *held, const void *data, size_t size);

/* What `from` has becomes what `held` has, in place of what was there; `from` is empty then. */
void held_take(struct buffer *held, struct buffer *from);

/* Frees the bytes; the buffer is empty and usable afterwards. */
void held_fini(struct buffer *held);

#endif
