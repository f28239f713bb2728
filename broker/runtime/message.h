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

/* Only the header is set. NULL without memory. `size` counts the header. */
void *message_create(uint16_t kind, size_t size);
void message_destroy(struct message *message);

#endif
