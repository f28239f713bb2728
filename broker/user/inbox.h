/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_INBOX_H
#define USHER_USER_INBOX_H

/* The messages of one user that are not done with: unacknowledged, or waiting for a connection.
 * In order of seq. Owned by the user's turn; belongs to the user, not to a connection.
 *
 * What it takes for itself counts as held (base/memory.h) and cannot be refused (MEMORY_MUST). */

#include "actors/messages.h"
#include "actors/shares.h"

/* Where a reader stands; zeroed: before the oldest. Good until the inbox changes. */
struct inbox_place {
    const struct inbox_run *run;
    uint32_t at;
};

/* Zeroed memory is an empty one; it holds nothing else when it is empty. */
struct inbox {
    struct inbox_run *first, *last; /* inbox.c's own */
    uint32_t count;
    uint32_t bytes;          /* names, payloads and traceparents */
    uint32_t waiting;        /* the newest so many were not handed to the present connection */
    uint32_t unseen;         /* the newest so many never to any, under the numbers that they have */
    struct inbox_place next; /* the oldest of `waiting`; inbox.c's own */
    uint32_t service_count, service_bytes; /* of these, pushed by services */
    struct shares shares;      /* of players, while somebody could have too much; inbox.c's own */
    const uint64_t *share_key; /* NULL: nobody could, and nothing is counted */
};

/* What one sender may have in it, and all services together; all players together twice that. */
struct inbox_limits {
    uint32_t messages_max, bytes_max;
    const uint64_t *key; /* random, and stays where it is as long as the inbox */
};

enum inbox_room {
    INBOX_HAS_ROOM,
    INBOX_HAS_NO_ROOM,
    INBOX_HAS_OTHER_SENDERS, /* this one has had his share */
};

/* A look at one message; its runs of bytes are good until the inbox changes. */
struct kept_message {
    uint64_t seq, arrived_ms, time_ms; /* as of deliver_message */
    uint64_t mid;                      /* of a stored one, whose arrived_ms is 0; 0: it is none */
    bool from_service, redelivered, sent;
    struct bytes name, payload, traceparent;
    const struct deliver_message *held; /* the message itself, where it is held; NULL: it is not */
};

/* Whether it takes one more. Services have a part that nobody else can fill. Of the players' part
 * each sender may have as much as is still free then, and always one. */
enum inbox_room inbox_room_for(struct inbox *inbox, const struct deliver_message *message,
                               const struct inbox_limits *limits);

uint32_t inbox_bytes_of(const struct deliver_message *message);

/* Takes the message, which waits unless it was `sent` and nothing else waits. */
void inbox_push(struct inbox *inbox, struct deliver_message *message);

/* Gives the oldest, or NULL. What nobody waits for may be another allocation than was pushed. */
struct deliver_message *inbox_pop(struct inbox *inbox);

/* Drops the oldest ones up to `seq` until it comes to one that has to be popped, because its sender
 * may wait to hear of it. Gives the highest mid of those that it dropped; 0: none had one. */
uint64_t inbox_forget(struct inbox *inbox, uint64_t seq);

/* False: there is none. */
bool inbox_oldest(const struct inbox *inbox, struct kept_message *kept);

/* The next one of a reader; false: no more. */
bool inbox_read(const struct inbox *inbox, struct inbox_place *place, struct kept_message *kept);

/* A look at the oldest one that waits; false: none does. */
bool inbox_next(const struct inbox *inbox, struct kept_message *kept);

/* That one was handed out, and stays. Gives the message that is held for it, borrowed, or NULL. */
struct deliver_message *inbox_sent(struct inbox *inbox);

/* Of those that wait only the newest so many were never handed to any connection. For one that was
 * filled from another process. */
void inbox_seen(struct inbox *inbox, uint32_t unseen);

/* There is another connection: all wait for it. */
void inbox_rewind(struct inbox *inbox);

/* All get new numbers from `first` on, as redelivered ones that nobody has seen, and wait. */
void inbox_renumber(struct inbox *inbox, uint64_t first);

#endif
