/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/number.h"
#include "room/private.h"

/* A message gets its offset here, in the room's turn, and nowhere else: that is the order for all.
 * Messages that come in one turn, or within one tick, are encoded behind each other as they will
 * stand in everybody's frame; a full bundle, or the end of the turn, puts the frame around them. */

static const uint64_t SECOND_NS = 1000000000;

/* What the frame needs beside the items: envelope, lengths, room and offset. */
enum { FRAME_MORE_BYTES = 40, ITEMS_BYTES_KEPT = 1024 };

static struct bytes name_of(const struct room_publish_message *publish)
{
    return (struct bytes){publish->bytes + publish->call.name_size, publish->from_size};
}

static struct bytes payload_of(const struct room_publish_message *publish)
{
    return (struct bytes){publish->bytes + publish->call.name_size + publish->from_size,
                          publish->payload_size};
}

/* As allowance.h, but one message spends as many as there are members. A bucket that is whole takes
 * any, or a large room could never say anything. */
static bool spend(struct room *room, const struct limits *limits, uint64_t now_ms)
{
    uint64_t per_second = rooms_deliveries_per_second(limits);
    if (per_second == 0)
        return true;
    uint64_t now_ns = now_ms * 1000000;
    uint64_t spent_ns = room->spent_ns > now_ns ? room->spent_ns - now_ns : 0;
    uint64_t cost_ns = room->count * (SECOND_NS / per_second) +
                       room->count * (SECOND_NS % per_second) / per_second;
    if (spent_ns > 0 && spent_ns + cost_ns > SECOND_NS)
        return false;
    room->spent_ns = now_ns + spent_ns + cost_ns;
    return true;
}

/* Who may say something here; 0, or an Error.Code. */
static uint16_t judge_sender(struct room *room, const struct room_publish_message *publish)
{
    const struct room_call *call = &publish->call;
    if (!room_is_open(room))
        return USHER__V1__ERROR__CODE__NO_ROOM;
    if (call->from_service)
        return 0;
    const struct member *member = members_find(room, call->asker);
    bool is_member = member != NULL && member->epoch == call->asker_epoch;
    if (!is_member && (publish->member_only || room->class.publish == ROOM_MEMBER))
        return USHER__V1__ERROR__CODE__NOT_MEMBER;
    return room->class.publish == ROOM_BACKEND ? USHER__V1__ERROR__CODE__FORBIDDEN : 0;
}

static uint16_t judge(struct room *room, const struct room_publish_message *publish,
                      struct turn *turn)
{
    uint16_t code = judge_sender(room, publish);
    if (code != 0)
        return code;
    if (publish->payload_size + publish->from_size + FRAME_MORE_BYTES >
        limits_frame_bytes(turn->limits))
        return USHER__V1__ERROR__CODE__TOO_LARGE;
    if (memory_level() == MEMORY_FULL || room->out_count >= ROOM_WAITING_MAX)
        return USHER__V1__ERROR__CODE__BUSY;
    if (spend(room, turn->limits, turn->now_ms))
        return 0;
    turn_count(turn, METRIC_room_deliveries_limited, 1);
    return USHER__V1__ERROR__CODE__RATE_LIMITED;
}

static void answer(struct room *room, const struct room_publish_message *publish, uint64_t offset,
                   struct turn *turn)
{
    const struct room_call *call = &publish->call;
    if (call->request == 0)
        return;
    if (call->from_service) {
        command_answer_room(room, offset, call->asker, call->request, turn);
        return;
    }
    struct result_message *result = message_create(MESSAGE_RESULT, sizeof(*result));
    result->request = call->request;
    result->asker_epoch = call->asker_epoch;
    result->epoch = 0;
    result->offset = offset;
    result->mid = 0;
    result->code = 0;
    turn_post(turn, call->asker, &result->header);
}

static void refuse(const struct room_publish_message *publish, uint16_t code, struct turn *turn)
{
    const struct room_call *call = &publish->call;
    turn_count(turn, METRIC_room_messages_refused, 1);
    if (!call->from_service) {
        turn_result(turn, call->asker, call->request, call->asker_epoch, 0, code);
    } else if (call->request != 0) {
        struct room_answer_message *none;
        MEMORY_MUST((none = room_answer_create(call->request, code, (struct bytes){0})) != NULL,
                    "an answer");
        turn_post(turn, call->asker, &none->header);
    }
}

static void append(struct room *room, const struct room_publish_message *publish, struct turn *turn)
{
    struct bytes name = name_of(publish);
    struct bytes from = publish->call.from_service ? (struct bytes){0} : name;
    struct bytes service = publish->call.from_service ? name : (struct bytes){0};
    size_t after = room->items.size + name.size + publish->payload_size + FRAME_MORE_BYTES;
    if (room->item_count == ROOM_BUNDLE_MAX || after > ROOM_BUNDLE_BYTES_MAX ||
        after > limits_frame_bytes(turn->limits))
        publish_seal(room, turn);
    size_t capacity = room->items.capacity;
    MEMORY_MUST(broker_frame_room_message(&room->items, from, service, payload_of(publish),
                                          publish->time_ms) == 0,
                "a room's message");
    memory_account(MEMORY_OF_ROOMS, (int64_t)room->items.capacity - (int64_t)capacity);
    room->ends[room->item_count++] = (uint32_t)room->items.size;
    room->offset++;
    if (room->flush_ms == 0)
        room->flush_ms = turn->now_ms + room->class.tick_ms;
    room->deliveries += room->count;
}

void publish_take(struct room *room, struct room_publish_message *publish, struct turn *turn)
{
    uint16_t code = judge(room, publish, turn);
    if (code != 0) {
        refuse(publish, code, turn);
    } else {
        append(room, publish, turn);
        turn_count(turn, METRIC_room_messages, 1);
        answer(room, publish, room->offset, turn);
        struct bytes name = name_of(publish);
        if (room->class.follows_messages)
            news_tell(room,
                      &(struct news){
                          .kind = USHER__V1__ROOM_NEWS__KIND__MESSAGE,
                          .user = publish->call.from_service ? (struct bytes){0} : name,
                          .service = publish->call.from_service ? name : (struct bytes){0},
                          .epoch = publish->call.asker_epoch,
                          .payload = payload_of(publish),
                          .offset = room->offset,
                      },
                      turn);
    }
    message_destroy(&publish->call.header);
}

void publish_free(struct room *room)
{
    memory_account(MEMORY_OF_ROOMS, -(int64_t)room->items.capacity);
    buffer_fini(&room->items);
}

void publish_seal(struct room *room, struct turn *turn)
{
    if (room->item_count == 0)
        return;
    uint64_t first = room->sealed + 1;
    const struct bytes items = {room->items.data, room->items.size};
    size_t size = broker_frame_room_messages_size(room_number(turn->self), first, items.size);
    struct room_bundle *bundle = out_bundle(room, ROOM_MESSAGES, turn, size);
    struct buffer frame = {.data = bundle->bytes, .capacity = size};
    CHECK(broker_frame_room_messages(&frame, room_number(turn->self), first, items) == 0 &&
          frame.size == size && frame.data == bundle->bytes);
    bundle->first = first;
    bundle->count = room->item_count;
    bundle->size = (uint32_t)size;
    bundle->items_at = (uint32_t)(size - items.size);
    for (uint32_t i = 0; i < bundle->count; i++)
        bundle->ends[i] = bundle->items_at + room->ends[i];
    room->sealed += bundle->count;
    room->item_count = 0;
    room->items.size = 0;
    if (room->items.capacity > ITEMS_BYTES_KEPT) /* a quiet room holds next to nothing */
        publish_free(room);
    history_keep(room, bundle);
    out_add(room, bundle);
}
