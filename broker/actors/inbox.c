/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/inbox.h"

#include <stddef.h>

#include "base/check.h"

/* The very messages that were delivered, linked: keeping one costs nothing but its memory. */

static struct deliver_message *after(const struct deliver_message *message)
{
    return (struct deliver_message *)message->header.next;
}

uint32_t inbox_bytes_of(const struct deliver_message *message)
{
    return message->name_size + message->payload_size;
}

bool inbox_has_room(const struct inbox *inbox, uint32_t bytes, uint32_t messages_max,
                    uint32_t bytes_max)
{
    return inbox->count < messages_max && inbox->bytes <= bytes_max &&
           bytes <= bytes_max - inbox->bytes;
}

void inbox_push(struct inbox *inbox, struct deliver_message *message)
{
    message->header.next = NULL;
    if (inbox->last != NULL)
        inbox->last->header.next = &message->header;
    else
        inbox->first = message;
    inbox->last = message;
    inbox->count++;
    inbox->bytes += inbox_bytes_of(message);
}

struct deliver_message *inbox_pop(struct inbox *inbox)
{
    struct deliver_message *message = inbox->first;
    if (message == NULL)
        return NULL;
    inbox->first = after(message);
    __builtin_prefetch(inbox->first); /* whoever pops takes all that is acknowledged */
    if (inbox->first == NULL)
        inbox->last = NULL;
    CHECK(inbox->count > 0 && inbox->bytes >= inbox_bytes_of(message));
    inbox->count--;
    inbox->bytes -= inbox_bytes_of(message);
    message->header.next = NULL;
    return message;
}
