/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_MESSAGE_H
#define USHER_RUNTIME_MESSAGE_H

/* What actors get: a header and, behind it, whatever its kind says, in one allocation.
 *
 * A message has one owner: whoever made it, then the mailbox that took it, then the turn that
 * received it. It is flat (no pointers to other allocations), so dropping one is one free.
 *
 * The exception is what many are told at once. They hold one *shared* run of bytes, counted
 * (shared.h), and are made by the hundred in a *block*, which is freed with its last message. For
 * their owners they are messages like any other; only message_shared tells them apart. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/memory.h"
#include "runtime/shared.h"

struct message {
    struct message *next; /* of the queue that owns it */
    uint32_t generation;  /* of the actor it was posted to; see actor.h */
    uint16_t kind;        /* numbers are the behaviours' (actors/messages.h) */
    uint16_t flags;       /* message.c's own: where it lives */
    uint32_t size;        /* of the whole message */
    uint16_t share; /* the scheduler's: whose share of a mailbox it has (senders.h); 0: none */
    uint8_t part;   /* message.c's own: of the book, enum memory_part */
};

/* Events are small and go between the parts of the broker: nobody can be refused for them. */
enum { MESSAGE_SMALL_BYTES = 512 };

/* Only the header is set. NULL without memory, but never for MESSAGE_SMALL_BYTES or less (see
 * MEMORY_MUST). `size` counts the header. Counts as held (base/memory.h) until it is destroyed. */
void *message_create(uint16_t kind, size_t size);

/* It is held for that, and not as a message like others. Of one that is plain. */
void message_count_as(struct message *message, enum memory_part part);

/* Any thread. NULL is nothing. */
void message_destroy(struct message *message);

/* --- several in their order ------------------------------------------------------------------- */

/* Those of one owner, oldest first, linked by `next`. All zero: none. One thread at a time. */
struct message_list {
    struct message *first, *last;
};

static inline void message_append(struct message_list *list, struct message *message)
{
    CHECK((list->first == NULL) == (list->last == NULL) && message != list->last);
    message->next = NULL;
    if (list->last != NULL)
        list->last->next = message;
    else
        list->first = message;
    list->last = message;
}

/* Takes out the one behind `before`, which is of the list, or the first. NULL: there is none. */
static inline struct message *message_take_behind(struct message_list *list, struct message *before)
{
    struct message **place = before != NULL ? &before->next : &list->first;
    struct message *taken = *place;
    if (taken == NULL)
        return NULL;
    *place = taken->next;
    if (list->last == taken)
        list->last = before;
    CHECK((list->first == NULL) == (list->last == NULL));
    taken->next = NULL;
    return taken;
}

/* The oldest; NULL: there is none. */
static inline struct message *message_take(struct message_list *list)
{
    return message_take_behind(list, NULL);
}

/* --- bytes that many messages hold ------------------------------------------------------------ */

/* A message of its own that holds `shared` as well. NULL without memory. */
void *message_create_holding(uint16_t kind, size_t size, struct shared *shared);

/* The usual message: an allocation of its own that holds nothing. */
static inline bool message_is_plain(const struct message *message)
{
    return message->flags == 0;
}

/* What the message holds, as long as it lives; NULL: nothing. */
struct shared *message_shared(const struct message *message);

/* A message of its own that holds each of them (NULL is nothing) as well. NULL without memory. */
void *message_create_holding_many(uint16_t kind, size_t size, struct shared *const *held,
                                  uint32_t count);

/* Of such a message that one of them. */
struct shared *message_held(const struct message *message, uint32_t index);

/* --- many messages at once -------------------------------------------------------------------- */

enum { MESSAGE_BLOCK_MAX = 256 };

/* Room for `count` messages (at most MESSAGE_BLOCK_MAX) of `size` bytes, a multiple of 8, which
 * hold `shared`. NULL without memory. One thread makes them; each may go to another. */
struct message_block *message_block_create(uint32_t count, size_t size, struct shared *shared);

/* The next one, as from message_create; NULL when all are made. */
void *message_block_next(struct message_block *block, uint16_t kind);

bool message_is_of_block(const struct message *message);

/* No more will be made. The block is freed with the last message. NULL is nothing. */
void message_block_close(struct message_block *block);

#endif
