/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "proto/username.h"
#include "user/shelf.h"
#include "user/user.h"

/* A Send: the message goes to the receiver's actor, whose result is the answer. */

static bool refuse(struct session *session, const struct client_frame *frame, struct turn *turn,
                   enum metric_id counter, uint32_t code, const char *detail)
{
    turn_count(turn, counter, 1);
    answer_refuse(session, turn, frame->id, code, detail);
    return true;
}

/* What cannot be said of one message at once. True: it was refused. */
static bool refuse_contradiction(struct session *session, const struct client_frame *frame,
                                 bool until_delivered, struct turn *turn)
{
    bool keeps = frame->send.keep_s != 0;
    const char *detail = NULL;
    if (frame->send.transient && until_delivered)
        detail = "nobody acknowledges a transient message: it has no until DELIVERED";
    else if (keeps && frame->send.transient)
        detail = "a transient message is never kept: it has no keep_s";
    else if (keeps && until_delivered)
        detail = "Done to a message with keep_s says that it is stored: it has no until DELIVERED";
    return detail != NULL && refuse(session, frame, turn, METRIC_errors_protocol,
                                    USHER__V1__ERROR__CODE__PROTOCOL, detail);
}

/* True: it is not stored, and its sender was told why. */
static bool refuse_to_store(struct session *session, const struct client_frame *frame,
                            struct turn *turn)
{
    uint64_t keep_max_s = inbox_keep_max_s(turn->limits);
    if (frame->send.keep_s > keep_max_s) {
        char detail[80];
        snprintf(detail, sizeof(detail), "keep_s is at most %" PRIu64 " (inbox.keep_max_s)",
                 keep_max_s);
        return refuse(session, frame, turn, METRIC_errors_too_large,
                      USHER__V1__ERROR__CODE__TOO_LARGE, detail);
    }
    uint32_t wait_ms = shelf_take_rate(session, turn);
    if (wait_ms == 0)
        return false;
    turn_count(turn, METRIC_stored_refused_rate, 1);
    turn_count(turn, METRIC_messages_refused, 1);
    answer_error(session, turn, frame->id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                 "more messages with keep_s than inbox.stored_per_second", wait_ms);
    return true;
}

/* When it goes: how it is kept. */
static void set_policy(const struct session *session, struct deliver_message *message,
                       const struct client_frame *frame, const struct turn *turn)
{
    message->transient = frame->send.transient;
    message->time_ms = turn->wall_ms;
    if (frame->send.keep_s == 0) {
        message->arrived_ms = turn->now_ms;
        message->stamp_us = turn->stamp_us;
        return;
    }
    message->keep_s = frame->send.keep_s;
    message->tag = frame->send.tag;
    message->for_present = shelf_is_for_present(session, turn);
}

void user_send(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (!username_valid(frame->send.to)) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__INVALID_NAME,
                      "'to' is not a name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +");
        return;
    }
    bool until_delivered = frame->send.until == USHER__V1__SEND__UNTIL__DELIVERED;
    if (refuse_contradiction(session, frame, until_delivered, turn) ||
        (frame->send.keep_s != 0 && refuse_to_store(session, frame, turn)))
        return;
    struct deliver_message *message =
        deliver_create_traced(bytes_of_text(turn->name), frame->send.payload,
                              turn_traceparent(turn, frame->send.traceparent));
    if (message == NULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return;
    }
    struct request request = {.id = frame->id};
    if (!answer_owe(session, turn, &request)) {
        message_destroy(&message->header);
        return;
    }
    message->sender = turn->self;
    message->sender_epoch = session->epoch;
    message->request = frame->id;
    message->until_delivered = until_delivered;
    set_policy(session, message, frame, turn);
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, frame->send.to.data, frame->send.to.size) == 0, "a name");
    struct effect *effect = turn_effect(turn, EFFECT_FORWARD, 0);
    effect->message = &message->header;
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)frame->send.to.size;
}
