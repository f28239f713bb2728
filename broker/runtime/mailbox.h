/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_MAILBOX_H
#define USHER_RUNTIME_MAILBOX_H

/* The queue of one actor: many producers, one consumer (the running turn), and the only
 * scheduling state there is. Nothing here blocks or allocates.
 *
 * The head word is IDLE, or a list of messages, newest first (NULL: none). IDLE means that the
 * actor is neither listed in the run queue nor running nor held. Whoever pushes onto IDLE has
 * made it runnable, and lists it: exactly one producer sees that edge. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/message.h"

struct mailbox {
    _Atomic(uintptr_t) head;
    _Atomic uint32_t length; /* messages pushed and not yet taken */
    _Atomic uint32_t shared; /* of those the ones that have somebody's share */
};

void mailbox_init(struct mailbox *mailbox);

/* Any thread. Takes the message. True: it was idle, and the caller must list the actor. */
bool mailbox_push(struct mailbox *mailbox, struct message *message);

/* Consumer that nobody lists, but that looks from time to time. True: there is nothing to take;
 * false stays so until it marks the mailbox idle. */
bool mailbox_is_idle(struct mailbox *mailbox);

/* Consumer, when it is not idle. Everything that is in it, oldest first; NULL when empty. */
struct message *mailbox_take(struct mailbox *mailbox);

/* Consumer, when it has nothing left. True: the mailbox is idle and the caller must not touch
 * the actor again. False: somebody pushed meanwhile. */
bool mailbox_mark_idle(struct mailbox *mailbox);

static inline uint32_t mailbox_length(struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->length, memory_order_relaxed);
}

static inline uint32_t mailbox_shared(struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->shared, memory_order_relaxed);
}

#endif
