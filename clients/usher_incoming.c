/* SPDX-License-Identifier: Apache-2.0 */

/* The generated code unpacks a frame into many small pieces. What of them is an event's is copied
 * into one flat node and the rest freed at once, so that a queue of events costs what its frames
 * cost, whatever unknown fields a broker adds. */

#include "clients/usher_incoming.h"

#include <errno.h>
#include <string.h>

#include "client.pb-c.h"

/* Fills a node's data from front to back. */
struct filler {
    uint8_t *next;
};

static const void *fill(struct filler *filler, const void *data, size_t size)
{
    if (size == 0)
        return NULL;
    uint8_t *copy = filler->next;
    memcpy(copy, data, size);
    filler->next += size;
    return copy;
}

static const char *fill_text(struct filler *filler, const char *text)
{
    return fill(filler, text, strlen(text) + 1);
}

static struct event_node *decode_welcome(const Usher__V1__Welcome *welcome)
{
    struct event_node *node =
        event_create(USHER_WELCOME, welcome->secret.len + strlen(welcome->node) + 1);
    if (node == NULL)
        return NULL;
    struct filler filler = {node->data};
    node->event.epoch = welcome->epoch;
    node->event.payload = fill(&filler, welcome->secret.data, welcome->secret.len);
    node->event.payload_size = welcome->secret.len;
    node->event.replay = (enum usher_replay)welcome->replay;
    node->event.seq = welcome->next_seq;
    node->event.heartbeat_ms = welcome->heartbeat_ms;
    node->event.resume_ms = welcome->resume_ms;
    node->event.frame_bytes_max = welcome->frame_bytes_max;
    node->event.time_ms = welcome->time_ms;
    node->event.node = fill_text(&filler, welcome->node);
    return node;
}

static struct event_node *decode_message(const Usher__V1__Message *message)
{
    struct event_node *node =
        event_create(USHER_MESSAGE, strlen(message->from) + 1 + strlen(message->service) + 1 +
                                        message->payload.len);
    if (node == NULL)
        return NULL;
    struct filler filler = {node->data};
    node->event.seq = message->seq;
    node->event.from = fill_text(&filler, message->from);
    node->event.service = fill_text(&filler, message->service);
    node->event.payload = fill(&filler, message->payload.data, message->payload.len);
    node->event.payload_size = message->payload.len;
    node->event.time_ms = message->time_ms;
    node->event.redelivered = message->redelivered;
    return node;
}

static struct event_node *decode_done(const Usher__V1__Done *done)
{
    struct event_node *node = event_create(USHER_DONE, 0);
    if (node != NULL)
        node->event.epoch = done->epoch;
    return node;
}

static struct event_node *decode_reply(const Usher__V1__Reply *reply)
{
    struct event_node *node = event_create(USHER_REPLY, reply->payload.len);
    if (node == NULL)
        return NULL;
    struct filler filler = {node->data};
    node->event.code = reply->status;
    node->event.payload = fill(&filler, reply->payload.data, reply->payload.len);
    node->event.payload_size = reply->payload.len;
    return node;
}

static struct event_node *decode_error(const Usher__V1__Error *error)
{
    struct event_node *node = event_create(USHER_ERROR, strlen(error->detail) + 1);
    if (node == NULL)
        return NULL;
    struct filler filler = {node->data};
    node->event.code = error->code;
    node->event.detail = fill_text(&filler, error->detail);
    node->event.retry_after_ms = error->retry_after_ms;
    return node;
}

static struct event_node *decode_pong(const Usher__V1__Pong *pong)
{
    struct event_node *node = event_create(USHER_PONG, 0);
    if (node != NULL)
        node->event.time_ms = pong->time_ms;
    return node;
}

static struct event_node *decode_close(const Usher__V1__Close *close)
{
    struct event_node *node = event_create(USHER_CLOSE, strlen(close->detail) + 1);
    if (node == NULL)
        return NULL;
    struct filler filler = {node->data};
    node->event.code = close->reason;
    node->event.detail = fill_text(&filler, close->detail);
    node->event.retry_after_ms = close->retry_after_ms;
    node->event.do_not_return = close->do_not_return;
    return node;
}

static int decode_body(const Usher__V1__BrokerFrame *frame, struct event_node **node)
{
    switch (frame->body_case) {
    case USHER__V1__BROKER_FRAME__BODY_WELCOME:
        *node = decode_welcome(frame->welcome);
        break;
    case USHER__V1__BROKER_FRAME__BODY_MESSAGE:
        *node = decode_message(frame->message);
        break;
    case USHER__V1__BROKER_FRAME__BODY_DONE:
        *node = decode_done(frame->done);
        break;
    case USHER__V1__BROKER_FRAME__BODY_REPLY:
        *node = decode_reply(frame->reply);
        break;
    case USHER__V1__BROKER_FRAME__BODY_ERROR:
        *node = decode_error(frame->error);
        break;
    case USHER__V1__BROKER_FRAME__BODY_PONG:
        *node = decode_pong(frame->pong);
        break;
    case USHER__V1__BROKER_FRAME__BODY_CLOSE:
        *node = decode_close(frame->close);
        break;
    default:
        return -ENOMSG;
    }
    return *node != NULL ? 0 : -ENOMEM;
}

int incoming_decode(struct bytes frame, struct event_node **node)
{
    Usher__V1__BrokerFrame *unpacked =
        usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    if (unpacked == NULL)
        return -EPROTO; /* or no memory; the generated code does not tell them apart */
    *node = NULL;
    int result = decode_body(unpacked, node);
    if (result == 0)
        (*node)->event.id = unpacked->id;
    usher__v1__broker_frame__free_unpacked(unpacked, NULL);
    return result;
}
