/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_PUSH_H
#define USHER_ACTORS_PUSH_H

/* One payload of a service for many users: encoded once, held by all of their deliver_messages. */

#include "actors/messages.h"

/* What the receivers share: the end of their Message frames. */
struct push_body {
    struct shared shared;
    uint32_t tail_size;
    uint32_t name_at, payload_at; /* in the tail */
    uint8_t tail[];
};

/* NULL: the message has name and payload itself. */
static inline const struct push_body *push_body_of(const struct deliver_message *message)
{
    return message_is_plain(&message->header)
               ? NULL
               : (const struct push_body *)message_shared(&message->header);
}

/* Makes the messages of one push. Any thread, one at a time. */
struct push_run {
    struct bytes service, payload; /* borrowed */
    struct push_body *body;        /* NULL: one receiver, who shares with nobody */
    struct message_block *block;
    uint32_t left; /* receivers that are expected */
    struct deliver_message model;
};

/* For about `receivers` users; more are no error. service and payload are borrowed until push_end.
 * 0 or -ENOMEM, and then there is nothing to end. */
int push_begin(struct push_run *run, struct bytes service, struct bytes payload,
               uint64_t time_ms, uint64_t arrived_ms, uint32_t receivers);

/* The message for one more user, whom the caller takes it to; NULL without memory. */
struct deliver_message *push_next(struct push_run *run);

void push_end(struct push_run *run);

/* A message to be kept for long: of its own, where it was one of many. Takes it; gives the one to
 * keep. */
struct deliver_message *push_keep(struct deliver_message *message);

#endif
