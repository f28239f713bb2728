/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_MESSAGE_H
#define USHER_RUNTIME_MESSAGE_H

/* What actors get: a header and, behind it, whatever its kind says, in one allocation.
 *
 * A message has one owner: whoever made it, then the mailbox that took it, then the turn that
 * received it. It is flat (no pointers to other allocations), so dropping one is one free. */

#include <stddef.h>
#include <stdint.h>

struct message {
    struct message *next; /* of the queue that owns it */
    uint32_t generation;  /* of the actor it was posted to; see actor.h */
    uint16_t kind;        /* numbers are the behaviours' (actors/messages.h) */
    uint16_t flags;
    uint32_t size; /* of the whole allocation */
};

/* Events are small and go between the parts of the broker: nobody can be refused for them. */
enum { MESSAGE_SMALL_BYTES = 512 };

/* Only the header is set. NULL without memory, but never for MESSAGE_SMALL_BYTES or less (see
 * MEMORY_MUST). `size` counts the header. Counts as held (base/memory.h) until it is destroyed. */
void *message_create(uint16_t kind, size_t size);
void message_destroy(struct message *message);

#endif
