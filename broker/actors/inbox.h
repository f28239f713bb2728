/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_INBOX_H
#define USHER_ACTORS_INBOX_H

/* The messages of one user that are not done with: unacknowledged, or waiting for a connection.
 * In order of seq. Owned by the user's turn; belongs to the user, not to a connection. */

#include "actors/messages.h"

struct inbox {
    struct deliver_message *first, *last; /* linked through header.next */
    uint32_t count;
    uint32_t bytes; /* names and payloads */
};

/* True when one more of that many bytes stays within both limits. */
bool inbox_has_room(const struct inbox *inbox, uint32_t bytes, uint32_t messages_max,
                    uint32_t bytes_max);

uint32_t inbox_bytes_of(const struct deliver_message *message);

/* Takes the message. */
void inbox_push(struct inbox *inbox, struct deliver_message *message);

/* Gives the oldest, or NULL. */
struct deliver_message *inbox_pop(struct inbox *inbox);

#endif
