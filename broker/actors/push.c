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
 * What costs then is the message itself: made here, listed in a mailbox, fetched by another
 * processor. A service that pushes to everybody several times in one breath (the tick of each
 * region, say) pays for that once: its pushes are a bundle, and each receiver gets one message for
 * all of them. Only a session that has to keep them makes messages of it again.
 *
 * An inbox that keeps such a message keeps a copy of the small part alone: a block would stay for
 * its slowest receiver, the shared payload is no more than he would have to keep anyway. */

enum { FIELD_TAG_BYTES = 1 };

static struct message_fields fields_of(const struct push *push, uint64_t time_ms)
{
    CHECK(push->service.size <= UINT8_MAX && push->payload.size <= UINT32_MAX / 2 &&
          (push->traceparent.size == 0 || push->traceparent.size == TRACEPARENT_BYTES));
    return (struct message_fields){.service = push->service,
                                   .payload = push->payload,
                                   .time_ms = time_ms,
                                   .traceparent = push->traceparent};
}

static void encode(struct push_body *body, uint8_t *tail, const struct message_fields *fields)
{
    size_t size = broker_frame_tail_size(fields);
    size_t time_bytes = fields->time_ms == 0 ? 0 : FIELD_TAG_BYTES + varint_size(fields->time_ms);
    size_t name_size = fields->service.size;
    size_t trace_size = fields->traceparent.size;
    size_t behind = time_bytes + (trace_size == 0 ? 0 : FIELD_TAG_BYTES + varint_size(trace_size)) +
                    trace_size; /* the payload */
    *body = (struct push_body){
        .tail = tail,
        .tail_size = (uint32_t)size,
        .name_at = name_size == 0 ? 0 : (uint32_t)(FIELD_TAG_BYTES + varint_size(name_size)),
        .payload_at = (uint32_t)(size - behind - fields->payload.size),
        .payload_size = (uint32_t)fields->payload.size,
        .name_size = (uint8_t)name_size,
        .traced = trace_size > 0,
    };
    CHECK(behind + fields->payload.size <= size && body->name_at <= body->payload_at);
    broker_frame_tail_write(tail, fields);
}

static struct push_bundle *bundle_create(const struct push *pushes, uint32_t count,
                                         uint64_t time_ms, uint64_t arrived_ms)
{
    CHECK(count >= 1 && count <= PUSH_BUNDLE_MAX);
    struct message_fields fields[PUSH_BUNDLE_MAX];
    size_t size = sizeof(struct push_bundle) + count * sizeof(struct push_body);
    size_t at = size;
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = fields_of(&pushes[i], time_ms);
        size += broker_frame_tail_size(&fields[i]);
    }
    struct push_bundle *bundle = shared_create(size);
    if (bundle == NULL)
        return NULL;
    bundle->count = count;
    bundle->transient = pushes[0].transient;
    bundle->payload_bytes_max = 0;
    bundle->time_ms = time_ms;
    bundle->arrived_ms = arrived_ms;
    for (uint32_t i = 0; i < count; i++) {
        CHECK(pushes[i].transient == bundle->transient);
        encode(&bundle->bodies[i], (uint8_t *)bundle + at, &fields[i]);
        at += bundle->bodies[i].tail_size;
        uint32_t bytes =
            bundle->bodies[i].payload_size + (bundle->bodies[i].traced ? TRACEPARENT_BYTES : 0);
        if (bytes > bundle->payload_bytes_max)
            bundle->payload_bytes_max = bytes;
    }
    CHECK(at == size);
    return bundle;
}

/* What a message of one of them says beside the payload. */
static struct deliver_message model_of(size_t name_size, size_t payload_size, bool traced,
                                       uint64_t time_ms, uint64_t arrived_ms)
{
    return (struct deliver_message){
        .from_service = true,
        .time_ms = time_ms,
        .arrived_ms = arrived_ms,
        .name_size = (uint8_t)name_size,
        .payload_size = (uint32_t)payload_size,
        .traced = traced,
    };
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

struct bytes push_traceparent(const struct deliver_message *message)
{
    const struct push_body *body = push_body_of(message);
    return (struct bytes){body->tail + body->tail_size - TRACEPARENT_BYTES, TRACEPARENT_BYTES};
}

int push_begin_bundle(struct push_run *run, const struct push *pushes, uint32_t count,
                      uint64_t time_ms, uint64_t arrived_ms, uint32_t receivers)
{
    *run = (struct push_run){.bundle = bundle_create(pushes, count, time_ms, arrived_ms),
                             .left = receivers};
    return run->bundle != NULL ? 0 : -ENOMEM;
}

int push_begin(struct push_run *run, struct push push, uint64_t time_ms, uint64_t arrived_ms,
               uint32_t receivers)
{
    struct message_fields fields = fields_of(&push, time_ms); /* which checks the sizes */
    *run = (struct push_run){
        .alone = push,
        .bundle = receivers != 1 ? bundle_create(&push, 1, time_ms, arrived_ms) : NULL,
        .left = receivers,
        .model = model_of(fields.service.size, fields.payload.size, fields.traceparent.size > 0,
                          time_ms, arrived_ms),
    };
    run->model.transient = push.transient;
    return run->bundle != NULL || receivers == 1 ? 0 : -ENOMEM;
}

void push_store(struct push_run *run, uint32_t keep_s, uint64_t tag)
{
    CHECK(keep_s != 0 && keep_s <= KEEP_S_MAX && !run->model.transient);
    run->model.keep_s = keep_s;
    run->model.tag = tag;
    run->model.arrived_ms = 0;
}

/* Everything but the header. */
static void copy(struct deliver_message *to, const struct deliver_message *from)
{
    memcpy((uint8_t *)to + sizeof(struct message), (const uint8_t *)from + sizeof(struct message),
           sizeof(*to) - sizeof(struct message));
}

/* The next of a block, or the first of a new one. */
static void *next_of_many(struct push_run *run, uint16_t kind, size_t size)
{
    void *message = run->block != NULL ? message_block_next(run->block, kind) : NULL;
    if (message != NULL)
        return message;
    message_block_close(run->block);
    uint32_t count = run->left < MESSAGE_BLOCK_MAX ? run->left : MESSAGE_BLOCK_MAX;
    run->left -= count;
    run->block = message_block_create(count > 0 ? count : 1, size, &run->bundle->shared);
    return run->block != NULL ? message_block_next(run->block, kind) : NULL;
}

struct deliver_message *push_next(struct push_run *run)
{
    struct deliver_message *message =
        run->bundle != NULL
            ? next_of_many(run, MESSAGE_DELIVER, sizeof(*message))
            : deliver_create_traced(run->alone.service, run->alone.payload, run->alone.traceparent);
    if (message != NULL)
        copy(message, &run->model);
    return message;
}

struct bundle_message *push_next_bundle(struct push_run *run)
{
    CHECK(run->bundle != NULL);
    return next_of_many(run, MESSAGE_BUNDLE, sizeof(struct bundle_message));
}

void push_end(struct push_run *run)
{
    message_block_close(run->block);
    if (run->bundle != NULL)
        shared_release(&run->bundle->shared);
}

/* Small: never NULL. */
static struct deliver_message *holding(struct shared *shared)
{
    return message_create_holding(MESSAGE_DELIVER, sizeof(struct deliver_message), shared);
}

struct deliver_message *push_own(struct deliver_message *message)
{
    if (!message_is_of_block(&message->header))
        return message;
    struct deliver_message *own = holding(message_shared(&message->header));
    copy(own, message);
    message_destroy(&message->header);
    return own;
}

struct deliver_message *push_single(const struct bundle_message *message, uint32_t index)
{
    const struct push_bundle *bundle = push_bundle_of(message);
    CHECK(message->header.kind == MESSAGE_BUNDLE && index < bundle->count);
    const struct push_body *body = &bundle->bodies[index];
    struct deliver_message model = model_of(body->name_size, body->payload_size, body->traced,
                                            bundle->time_ms, bundle->arrived_ms);
    struct deliver_message *single = holding(message_shared(&message->header));
    copy(single, &model);
    single->push_index = (uint8_t)index;
    single->transient = bundle->transient;
    return single;
}
