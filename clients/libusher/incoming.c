/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/incoming.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "libusher/frame.h"

/* What of a frame is an event's is copied into one flat node, so that a queue of events costs what
 * its frames cost, whatever unknown fields a broker adds. */

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
    return node;
}

static struct event_node *decode_message(const struct broker_frame *frame)
{
    struct bytes from = frame->run[MESSAGE_FROM];
    struct bytes service = frame->run[MESSAGE_SERVICE];
    struct bytes payload = frame->run[MESSAGE_PAYLOAD];
    struct event_node *node =
        event_create(USHER_MESSAGE, from.size + 1 + service.size + 1 + payload.size);
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
    return node;
}

static struct event_node *decode_done(const struct broker_frame *frame)
{
    struct event_node *node = event_create(USHER_DONE, 0);
    if (node == NULL)
        return NULL;
    node->event.epoch = frame->number[DONE_EPOCH];
    node->event.dropped = frame->number[DONE_DROPPED] != 0;
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

int incoming_decode(struct bytes bytes, struct event_node **node)
{
    struct broker_frame frame;
    int result = broker_frame_read(bytes, &frame);
    if (result < 0)
        return result;
    *node = NULL;
    result = decode_body(&frame, node);
    if (result == 0)
        (*node)->event.id = frame.id;
    return result;
}
