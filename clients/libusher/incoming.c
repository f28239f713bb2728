/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/incoming.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <string.h>

#include "common/check.h"
#include "proto/traceparent.h"

/* What of a frame is an event's is copied into one flat node, so that a queue of events costs what
 * its frames cost, whatever unknown fields a broker adds. */

enum { INCOMING_NAME_BYTES_MAX = 255 };

static_assert(offsetof(struct event_node, data) % alignof(struct usher_friend) == 0 &&
                  offsetof(struct event_node, data) % alignof(struct usher_room_change) == 0,
              "arrays stand at the beginning of a node's data");

/* Fills a node's data from front to back. */
struct filler {
    uint8_t *next;
    const uint8_t *end;
};

static struct filler filler_of(struct event_node *node)
{
    return (struct filler){node->data, (const uint8_t *)node + node->bytes};
}

static const void *fill(struct filler *filler, struct bytes data)
{
    if (data.size == 0)
        return NULL;
    uint8_t *copy = filler->next;
    CHECK(data.size <= (size_t)(filler->end - copy));
    memcpy(copy, data.data, data.size);
    filler->next += data.size;
    return copy;
}

/* A text ends at its first NUL, or at the one behind it. */
static const char *fill_text(struct filler *filler, struct bytes text)
{
    if (text.size == 0)
        return "";
    const char *copy = fill(filler, text);
    CHECK(filler->next < filler->end);
    *filler->next++ = '\0';
    return copy;
}

static struct event_node *decode_welcome(const struct broker_frame *frame)
{
    struct bytes secret = frame->run[WELCOME_SECRET];
    struct bytes node_name = frame->run[WELCOME_NODE];
    struct event_node *node = event_create(USHER_WELCOME, secret.size + node_name.size + 1);
    if (node == NULL)
        return NULL;
    struct filler filler = filler_of(node);
    node->event.epoch = frame->number[WELCOME_EPOCH];
    node->event.payload = fill(&filler, secret);
    node->event.payload_size = secret.size;
    node->event.replay = (enum usher_replay)(uint32_t)frame->number[WELCOME_REPLAY];
    node->event.seq = frame->number[WELCOME_NEXT_SEQ];
    node->event.heartbeat_ms = (uint32_t)frame->number[WELCOME_HEARTBEAT_MS];
    node->event.resume_ms = (uint32_t)frame->number[WELCOME_RESUME_MS];
    node->event.frame_bytes_max = (uint32_t)frame->number[WELCOME_FRAME_BYTES_MAX];
    node->event.time_ms = frame->number[WELCOME_TIME_MS];
    node->event.node = fill_text(&filler, node_name);
    node->event.stored = (enum usher_replay)(uint32_t)frame->number[WELCOME_STORED];
    node->event.stored_messages = (uint32_t)frame->number[WELCOME_STORED_MESSAGES];
    return node;
}

static struct event_node *decode_message(const struct broker_frame *frame)
{
    struct bytes from = frame->run[MESSAGE_FROM];
    struct bytes service = frame->run[MESSAGE_SERVICE];
    struct bytes payload = frame->run[MESSAGE_PAYLOAD];
    struct bytes traceparent = frame->run[MESSAGE_TRACEPARENT];
    if (!traceparent_valid(traceparent))
        traceparent.size = 0;
    struct event_node *node = event_create(USHER_MESSAGE, from.size + 1 + service.size + 1 +
                                                              payload.size + traceparent.size + 1);
    if (node == NULL)
        return NULL;
    struct filler filler = filler_of(node);
    node->event.seq = frame->number[MESSAGE_SEQ];
    node->event.from = fill_text(&filler, from);
    node->event.service = fill_text(&filler, service);
    node->event.payload = fill(&filler, payload);
    node->event.payload_size = payload.size;
    node->event.time_ms = frame->number[MESSAGE_TIME_MS];
    node->event.redelivered = frame->number[MESSAGE_REDELIVERED] != 0;
    node->event.mid = frame->number[MESSAGE_MID];
    node->event.traceparent = fill_text(&filler, traceparent);
    return node;
}

static struct event_node *decode_done(const struct broker_frame *frame)
{
    struct event_node *node = event_create(USHER_DONE, 0);
    if (node == NULL)
        return NULL;
    node->event.epoch = frame->number[DONE_EPOCH];
    node->event.dropped = frame->number[DONE_DROPPED] != 0;
    node->event.offset = frame->number[DONE_OFFSET];
    node->event.mid = frame->number[DONE_MID];
    return node;
}

static struct event_node *decode_reply(const struct broker_frame *frame)
{
    struct bytes payload = frame->run[REPLY_PAYLOAD];
    struct event_node *node = event_create(USHER_REPLY, payload.size);
    if (node == NULL)
        return NULL;
    struct filler filler = filler_of(node);
    node->event.code = (uint32_t)frame->number[REPLY_STATUS];
    node->event.payload = fill(&filler, payload);
    node->event.payload_size = payload.size;
    return node;
}

/* Error and Close: the code or reason is field 1 of both. */
static struct event_node *decode_refusal(const struct broker_frame *frame,
                                         enum usher_event_type type)
{
    struct bytes detail = frame->run[REFUSAL_DETAIL];
    struct event_node *node = event_create(type, detail.size + 1);
    if (node == NULL)
        return NULL;
    struct filler filler = filler_of(node);
    node->event.code = (int32_t)frame->number[ERROR_CODE];
    node->event.detail = fill_text(&filler, detail);
    node->event.retry_after_ms = (uint32_t)frame->number[REFUSAL_RETRY_AFTER_MS];
    node->event.do_not_return = type == USHER_CLOSE && frame->number[CLOSE_DO_NOT_RETURN] != 0;
    return node;
}

static struct event_node *decode_pong(const struct broker_frame *frame)
{
    struct event_node *node = event_create(USHER_PONG, 0);
    if (node != NULL)
        node->event.time_ms = frame->number[PONG_TIME_MS];
    return node;
}

static int decode_body(const struct broker_frame *frame, struct event_node **node)
{
    switch (frame->body) {
    case BROKER_WELCOME:
        *node = decode_welcome(frame);
        break;
    case BROKER_MESSAGE:
        *node = decode_message(frame);
        break;
    case BROKER_DONE:
        *node = decode_done(frame);
        break;
    case BROKER_REPLY:
        *node = decode_reply(frame);
        break;
    case BROKER_ERROR:
        *node = decode_refusal(frame, USHER_ERROR);
        break;
    case BROKER_PONG:
        *node = decode_pong(frame);
        break;
    case BROKER_CLOSE:
        *node = decode_refusal(frame, USHER_CLOSE);
        break;
    default:
        return -ENOMSG;
    }
    return *node != NULL ? 0 : -ENOMEM;
}

int incoming_decode(const struct broker_frame *frame, struct event_node **node)
{
    *node = NULL;
    int result = decode_body(frame, node);
    if (result == 0)
        (*node)->event.id = frame->id;
    return result;
}

/* --- rooms and friends ------------------------------------------------------------------------ */

/* What a list of a frame needs: how many items, and how many bytes of texts with their NULs. */
struct list_size {
    size_t count, bytes;
};

/* `first` and `second`: fields of an item that are copied, each with a NUL behind it. */
static int measure(const struct broker_frame *frame, unsigned number, unsigned first,
                   unsigned second, struct list_size *size)
{
    struct bytes rest = frame->bytes;
    struct broker_frame item;
    int result;
    *size = (struct list_size){0};
    while ((result = broker_item_read(&rest, number, &item)) == 1) {
        size->bytes += item.run[first].size + 1 + item.run[second].size + 1;
        if (++size->count > INCOMING_ITEMS_MAX)
            return -EPROTO;
    }
    return result;
}

/* An aligned part of the node's data, at its beginning. */
static void *fill_array(struct filler *filler, size_t bytes)
{
    void *array = filler->next;
    CHECK(bytes <= (size_t)(filler->end - filler->next));
    filler->next += bytes;
    return array;
}

/* The roster of a RoomState or the changes of a RoomEvent, with room for `texts` bytes more. */
static int decode_changes(const struct broker_frame *frame, unsigned number,
                          enum usher_event_type type, size_t texts, struct event_node **made,
                          struct filler *filler)
{
    struct list_size size;
    struct broker_frame item;
    struct bytes rest = frame->bytes;
    int result = measure(frame, number, PRESENCE_USER, PRESENCE_USER, &size);
    if (result < 0)
        return result;
    size_t array_bytes = size.count * sizeof(struct usher_room_change);
    struct event_node *node = event_create(type, array_bytes + size.bytes + texts);
    if (node == NULL)
        return -ENOMEM;
    *filler = filler_of(node);
    struct usher_room_change *changes = fill_array(filler, array_bytes);
    for (size_t i = 0; i < size.count && broker_item_read(&rest, number, &item) == 1; i++)
        changes[i] = (struct usher_room_change){
            fill_text(filler, item.run[PRESENCE_USER]),
            (enum usher_presence)(uint32_t)item.number[PRESENCE_KIND],
        };
    node->event.changes = size.count > 0 ? changes : NULL;
    node->event.change_count = size.count;
    *made = node;
    return 0;
}

static int decode_room_state(const struct broker_frame *frame, struct event_node **node)
{
    struct bytes name = frame->run[STATE_NAME];
    struct bytes detail = frame->run[STATE_DETAIL];
    struct filler filler;
    if (name.size > INCOMING_NAME_BYTES_MAX ||
        (name.size > 0 && memchr(name.data, 0, name.size) != NULL))
        return -EPROTO;
    int result = decode_changes(frame, STATE_ROSTER, USHER_ROOM,
                                INCOMING_NAME_BYTES_MAX + 1 + detail.size + 1, node, &filler);
    if (result < 0)
        return result;
    struct usher_event *event = &(*node)->event;
    event->id = frame->id;
    event->detail = fill_text(&filler, detail);
    event->room = (const char *)filler.next; /* with room for any, behind all else */
    (void)fill(&filler, name);
    event->code = (uint32_t)frame->number[STATE_ROOM];
    event->incarnation = frame->number[STATE_INCARNATION];
    event->offset = frame->number[STATE_OFFSET];
    event->room_state = (enum usher_room_state)(uint32_t)frame->number[STATE_STATE];
    event->room_replay = (enum usher_room_replay)(uint32_t)frame->number[STATE_REPLAY];
    event->members = (uint32_t)frame->number[STATE_MEMBERS];
    event->tick_ms = (uint32_t)frame->number[STATE_TICK_MS];
    return 0;
}

static int decode_room_event(const struct broker_frame *frame, const char *room,
                             struct event_node **node)
{
    struct filler filler;
    int result =
        decode_changes(frame, EVENT_CHANGE, USHER_ROOM_MEMBERS, strlen(room) + 1, node, &filler);
    if (result < 0)
        return result;
    (*node)->event.room = fill_text(&filler, bytes_of_text(room));
    (*node)->event.members = (uint32_t)frame->number[EVENT_MEMBERS];
    return 0;
}

static struct event_node *decode_room_message(const struct broker_frame *item, const char *room)
{
    struct bytes from = item->run[ITEM_FROM];
    struct bytes service = item->run[ITEM_SERVICE];
    struct bytes payload = item->run[ITEM_PAYLOAD];
    struct event_node *node = event_create(USHER_ROOM_MESSAGE, strlen(room) + 1 + from.size + 1 +
                                                                   service.size + 1 + payload.size);
    if (node == NULL)
        return NULL;
    struct filler filler = filler_of(node);
    node->event.room = fill_text(&filler, bytes_of_text(room));
    node->event.from = fill_text(&filler, from);
    node->event.service = fill_text(&filler, service);
    node->event.payload = fill(&filler, payload);
    node->event.payload_size = payload.size;
    node->event.time_ms = item->number[ITEM_TIME_MS];
    return node;
}

static int decode_room_messages(const struct broker_frame *frame, const char *room,
                                struct event_queue *queue)
{
    struct bytes rest = frame->bytes;
    struct broker_frame item;
    int result;
    while ((result = broker_item_read(&rest, MESSAGES_MESSAGE, &item)) == 1) {
        if (queue->count == INCOMING_MESSAGES_MAX)
            return -EPROTO;
        struct event_node *node = decode_room_message(&item, room);
        if (node == NULL)
            return -ENOMEM;
        events_push(queue, node);
    }
    return result;
}

static int decode_friends(const struct broker_frame *frame, struct event_node **made)
{
    struct list_size size;
    struct broker_frame item;
    struct bytes rest = frame->bytes;
    int result = measure(frame, FRIEND_STATES_EACH, EACH_FRIEND_USER, EACH_FRIEND_STATUS, &size);
    if (result < 0)
        return result;
    size_t array_bytes = size.count * sizeof(struct usher_friend);
    struct event_node *node = event_create(USHER_FRIENDS, array_bytes + size.bytes);
    if (node == NULL)
        return -ENOMEM;
    struct filler filler = filler_of(node);
    struct usher_friend *friends = fill_array(&filler, array_bytes);
    for (size_t i = 0; i < size.count && broker_item_read(&rest, FRIEND_STATES_EACH, &item) == 1;
         i++)
        friends[i] = (struct usher_friend){
            .user = fill_text(&filler, item.run[EACH_FRIEND_USER]),
            .state = (enum usher_friend_state)(uint32_t)item.number[EACH_FRIEND_STATE],
            .since_ms = item.number[EACH_FRIEND_SINCE_MS],
            .status = fill(&filler, item.run[EACH_FRIEND_STATUS]),
            .status_size = item.run[EACH_FRIEND_STATUS].size,
        };
    node->event.friends = size.count > 0 ? friends : NULL;
    node->event.friend_count = size.count;
    node->event.snapshot = frame->number[FRIEND_STATES_SNAPSHOT] != 0;
    *made = node;
    return 0;
}

int incoming_company(const struct broker_frame *frame, const char *room, struct event_queue *queue)
{
    struct event_node *node = NULL;
    int result = -ENOMSG;
    if (frame->body == BROKER_ROOM_MESSAGES)
        return decode_room_messages(frame, room, queue);
    if (frame->body == BROKER_ROOM_STATE)
        result = decode_room_state(frame, &node);
    else if (frame->body == BROKER_ROOM_EVENT)
        result = decode_room_event(frame, room, &node);
    else if (frame->body == BROKER_FRIENDS)
        result = decode_friends(frame, &node);
    if (result == 0)
        events_push(queue, node);
    return result;
}
