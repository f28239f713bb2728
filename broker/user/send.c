/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "proto/username.h"
#include "user/user.h"

/* A Send: the message goes to the receiver's actor, whose result is the answer. */

void user_send(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (!username_valid(frame->send.to)) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__INVALID_NAME,
                      "'to' is not a name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +");
        return;
    }
    bool until_delivered = frame->send.until == USHER__V1__SEND__UNTIL__DELIVERED;
    if (frame->send.transient && until_delivered) {
        turn_count(turn, METRIC_errors_protocol, 1);
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__PROTOCOL,
                      "nobody acknowledges a transient message: it has no until DELIVERED");
        return;
    }
    if (frame->send.keep_s != 0) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__UNAVAILABLE,
                      "stored messages are not kept here yet");
        return;
    }
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
    message->transient = frame->send.transient;
    message->time_ms = turn->wall_ms;
    message->arrived_ms = turn->now_ms;
    message->stamp_us = turn->stamp_us;
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, frame->send.to.data, frame->send.to.size) == 0, "a name");
    struct effect *effect = turn_effect(turn, EFFECT_FORWARD, 0);
    effect->message = &message->header;
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)frame->send.to.size;
}
