/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/push.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "proto/broker_frame.h"
#include "proto/varint.h"

/* A push to a thousand users is one payload and a thousand small messages. The payload is encoded
 * as it will stand in each Message frame (service, payload, time), so a receiver's turn writes the
 * number in front of it and copies; the messages come in blocks (runtime/message.h). Nothing of it
 * is written to once the first message has been given away.
 *
 * An inbox that keeps such a message keeps a copy of the small part alone: a block would stay for
 * its slowest receiver, the shared payload is no more than he would have to keep anyway. */

enum { FIELD_TAG_BYTES = 1 };

static struct push_body *body_create(const struct message_fields *fields)
{
    size_t size = broker_frame_tail_size(fields);
    struct push_body *body = shared_create(sizeof(*body) + size);
    if (body == NULL)
        return NULL;
    size_t time_bytes = fields->time_ms == 0 ? 0 : FIELD_TAG_BYTES + varint_size(fields->time_ms);
    size_t name_size = fields->service.size;
    body->tail_size = (uint32_t)size;
    body->name_at = name_size == 0 ? 0 : (uint32_t)(FIELD_TAG_BYTES + varint_size(name_size));
    body->payload_at = (uint32_t)(size - time_bytes - fields->payload.size);
    broker_frame_tail_write(body->tail, fields);
    return body;
}

struct bytes push_name(const struct deliver_message *message)
{
    const struct push_body *body = push_body_of(message);
    return (struct bytes){body->tail + body->name_at, message->name_size};
}

struct bytes push_payload(const struct deliver_message *message)
{
    const struct push_body *body = push_body_of(message);
    return (struct bytes){body->tail + body->payload_at, message->payload_size};
}

int push_begin(struct push_run *run, struct bytes service, struct bytes payload,
               uint64_t time_ms, uint64_t arrived_ms, uint32_t receivers)
{
    CHECK(service.size <= UINT8_MAX && payload.size <= UINT32_MAX / 2);
    struct message_fields fields = {.service = service, .payload = payload, .time_ms = time_ms};
    *run = (struct push_run){
        .service = service,
        .payload = payload,
        .body = receivers != 1 ? body_create(&fields) : NULL,
        .left = receivers,
        .model = {.from_service = true,
                  .time_ms = time_ms,
                  .arrived_ms = arrived_ms,
                  .name_size = (uint8_t)service.size,
                  .payload_size = (uint32_t)payload.size},
    };
    return run->body != NULL || receivers == 1 ? 0 : -ENOMEM;
}

/* Everything but the header. */
static void copy(struct deliver_message *to, const struct deliver_message *from)
{
    memcpy((uint8_t *)to + sizeof(struct message),
           (const uint8_t *)from + sizeof(struct message), sizeof(*to) - sizeof(struct message));
}

/* The next of a block, or the first of a new one. */
static struct deliver_message *next_of_many(struct push_run *run)
{
    struct deliver_message *message =
        run->block != NULL ? message_block_next(run->block, MESSAGE_DELIVER) : NULL;
    if (message != NULL)
        return message;
    message_block_close(run->block);
    uint32_t count = run->left < MESSAGE_BLOCK_MAX ? run->left : MESSAGE_BLOCK_MAX;
    run->left -= count;
    run->block =
        message_block_create(count > 0 ? count : 1, sizeof(*message), &run->body->shared);
    return run->block != NULL ? message_block_next(run->block, MESSAGE_DELIVER) : NULL;
}

struct deliver_message *push_next(struct push_run *run)
{
    struct deliver_message *message =
        run->body != NULL ? next_of_many(run) : deliver_create(run->service, run->payload);
    if (message != NULL)
        copy(message, &run->model);
    return message;
}

void push_end(struct push_run *run)
{
    message_block_close(run->block);
    if (run->body != NULL)
        shared_release(&run->body->shared);
}

struct deliver_message *push_keep(struct deliver_message *message)
{
    if (!message_is_of_block(&message->header))
        return message;
    struct shared *shared = message_shared(&message->header);
    struct deliver_message *own =
        message_create_holding(MESSAGE_DELIVER, sizeof(*own), shared); /* small: never NULL */
    copy(own, message);
    message_destroy(&message->header);
    return own;
}
