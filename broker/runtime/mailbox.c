/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/mailbox.h"

#include <stddef.h>

#include "base/check.h"

/* A stack that producers push onto and the consumer takes whole and turns round. So the order is
 * the order of the successful pushes, which keeps the order of each producer, and no node has to
 * stay behind in an empty queue: an idle actor holds no message.
 *
 * No push is lost between "I saw it empty" and "I mark it idle": both are compare-and-swap or
 * exchange on the same word, so one of them comes first and the other one sees it.
 *
 * The lengths are counters of limits, not part of that argument: they may be stale by a few. */

enum { IDLE = 1 }; /* no message has an odd address */

void mailbox_init(struct mailbox *mailbox)
{
    atomic_init(&mailbox->head, IDLE);
    atomic_init(&mailbox->length, 0);
    atomic_init(&mailbox->shared, 0);
}

bool mailbox_push(struct mailbox *mailbox, struct message *message)
{
    atomic_fetch_add_explicit(&mailbox->length, 1, memory_order_relaxed);
    if (message->share != 0)
        atomic_fetch_add_explicit(&mailbox->shared, 1, memory_order_relaxed);
    uintptr_t head = atomic_load_explicit(&mailbox->head, memory_order_relaxed);
    do {
        CHECK((uintptr_t)message != head); /* it would wait for itself */
        message->next = head == IDLE ? NULL : (struct message *)head;
        /* Release pairs with the acquire in mailbox_take: the message is visible. On the edge
         * from IDLE, acquire pairs with the release in mailbox_mark_idle: what the turn before
         * left in the actor is visible to the turn that this push causes, through the run
         * queue's own release and acquire. */
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->head, &head, (uintptr_t)message,
                                                    memory_order_acq_rel, memory_order_relaxed));
    return head == IDLE;
}

bool mailbox_is_idle(struct mailbox *mailbox)
{
    /* Relaxed: what was pushed is acquired by the take. */
    return atomic_load_explicit(&mailbox->head, memory_order_relaxed) == IDLE;
}

struct message *mailbox_take(struct mailbox *mailbox)
{
    struct message *newest = (struct message *)atomic_exchange_explicit(
        &mailbox->head, (uintptr_t)NULL, memory_order_acquire);
    struct message *oldest = NULL;
    uint32_t count = 0, shared = 0;
    while (newest != NULL) {
        struct message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
        count++;
        shared += oldest->share != 0;
    }
    /* Whoever pushes counts first, so there are never more in it than were counted. */
    if (count > 0)
        CHECK(atomic_fetch_sub_explicit(&mailbox->length, count, memory_order_relaxed) >= count);
    if (shared > 0)
        CHECK(atomic_fetch_sub_explicit(&mailbox->shared, shared, memory_order_relaxed) >= shared);
    return oldest;
}

bool mailbox_mark_idle(struct mailbox *mailbox)
{
    uintptr_t empty = (uintptr_t)NULL;
    /* Release: the next turn sees what this one left (pairs with mailbox_push). */
    return atomic_compare_exchange_strong_explicit(&mailbox->head, &empty, IDLE,
                                                   memory_order_release, memory_order_relaxed);
}
