/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/stores.h"

#include "client.pb-c.h"

enum { BYTES_MAX = 256 * 1024, CHANGES_MAX = 4096, MESSAGE_BYTES = 64 };

static const struct deliver_message *next_of(const struct deliver_message *message)
{
    return (const struct deliver_message *)message->header.next;
}

static uint64_t change_bytes(const struct change *change)
{
    uint64_t bytes = 0;
    for (const struct deliver_message *message = change->stored; message != NULL;
         message = next_of(message))
        bytes += message->payload_size + MESSAGE_BYTES;
    return bytes;
}

uint64_t stores_bytes(const struct change *list)
{
    uint64_t bytes = 0;
    for (; list != NULL; list = list->next)
        bytes += change_bytes(list);
    return bytes;
}

uint64_t stores_limit(struct change *change, uint64_t waiting_bytes, uint64_t max)
{
    for (struct message *next = (struct message *)change->stored; next != NULL; next = next->next) {
        struct deliver_message *message = (struct deliver_message *)next;
        uint64_t bytes = message->payload_size + MESSAGE_BYTES;
        bool fits = waiting_bytes == 0 || waiting_bytes + bytes <= max;
        message->refusal = fits ? 0 : USHER__V1__ERROR__CODE__BUSY;
        waiting_bytes += bytes;
    }
    return change_bytes(change);
}

struct change *stores_part(struct change **list, struct change **stores)
{
    struct change *rest = NULL, **end = stores, **rest_end = &rest;
    uint64_t bytes = 0;
    unsigned count = 0;
    while (*list != NULL) {
        struct change *change = *list;
        if (change->kind != CHANGE_STORE) {
            list = &change->next;
            continue;
        }
        *list = change->next;
        bool fits = rest == NULL && bytes < BYTES_MAX && count < CHANGES_MAX;
        bytes += change_bytes(change);
        count++;
        *(fits ? end : rest_end) = change;
        *(fits ? &end : &rest_end) = &change->next;
    }
    *end = *rest_end = NULL;
    return rest;
}
