/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_PUSH_H
#define USHER_ACTORS_PUSH_H

/* Payloads of a service for many users: encoded once, held by all of their messages. */

#include "actors/messages.h"

/* What the receivers of one push share: the end of their Message frames. */
struct push_body {
    const uint8_t *tail; /* in the bundle */
    uint32_t tail_size;
    uint32_t name_at, payload_at; /* in the tail */
    uint32_t payload_size;
    uint8_t name_size;
    bool traced; /* a traceparent ends the tail */
};

enum { PUSH_BUNDLE_MAX = 16, PUSH_BUNDLE_BYTES_MAX = 16 * 1024 };

/* Pushes with the same receivers, one after the other. Not written to once it is made. */
struct push_bundle {
    struct shared shared;
    uint32_t count;
    uint32_t payload_bytes_max; /* of the largest one, its traceparent counted */
    bool transient;             /* all of them */
    uint64_t time_ms, arrived_ms;
    struct push_body bodies[];
};

/* NULL: the message has name and payload itself. */
static inline const struct push_body *push_body_of(const struct deliver_message *message)
{
    const struct push_bundle *bundle =
        message_is_plain(&message->header)
            ? NULL
            : (const struct push_bundle *)message_shared(&message->header);
    return bundle != NULL ? &bundle->bodies[message->push_index] : NULL;
}

static inline const struct push_bundle *push_bundle_of(const struct bundle_message *message)
{
    return (const struct push_bundle *)message_shared(&message->header);
}

/* For a user, and never to be kept for him. */
static inline bool message_is_transient(const struct message *message)
{
    return (message->kind == MESSAGE_DELIVER &&
            ((const struct deliver_message *)message)->transient) ||
           (message->kind == MESSAGE_BUNDLE &&
            push_bundle_of((const struct bundle_message *)message)->transient);
}

/* Borrowed. */
struct push {
    struct bytes service, payload;
    bool transient;
    struct bytes traceparent; /* valid, or empty */
};

/* Makes the messages of one push, or of some to the same users. Any thread, one at a time. */
struct push_run {
    struct push alone;          /* without a bundle */
    struct push_bundle *bundle; /* NULL: one receiver, who shares with nobody */
    struct message_block *block;
    uint32_t left; /* receivers that are expected */
    struct deliver_message model;
};

/* For about `receivers` users; more are no error. The push is borrowed until push_end.
 * 0 or -ENOMEM, and then there is nothing to end. */
int push_begin(struct push_run *run, struct push push, uint64_t time_ms, uint64_t arrived_ms,
               uint32_t receivers);

/* All of them are to be stored. */
void push_store(struct push_run *run, uint32_t keep_s, uint64_t tag);

/* The message for one more user, whom the caller takes it to; NULL without memory. */
struct deliver_message *push_next(struct push_run *run);

/* So many at once, at most PUSH_BUNDLE_MAX, all of them transient or none: each user gets one
 * bundle_message. Nothing is borrowed. 0 or -ENOMEM. */
int push_begin_bundle(struct push_run *run, const struct push *pushes, uint32_t count,
                      uint64_t time_ms, uint64_t arrived_ms, uint32_t receivers);
struct bundle_message *push_next_bundle(struct push_run *run);

void push_end(struct push_run *run);

/* A message to be kept for long: of its own, where it was one of many. Takes it; gives the one to
 * keep. */
struct deliver_message *push_own(struct deliver_message *message);

/* One push of a bundle as a message of the caller's own, which holds the bundle. Never NULL. */
struct deliver_message *push_single(const struct bundle_message *message, uint32_t index);

#endif
