/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/user_call_moved.h"

#include "base/check.h"
#include "base/memory.h"
#include "proto/handover.h"
#include "proto/traceparent.h"

void user_call_move_out(const struct user_call_message *message, Usher__V1__HandoverMail *to)
{
    usher__v1__handover_mail__init(to);
    to->caller = message->caller;
    to->epoch = message->epoch;
    to->request = message->request;
    to->call = message->call;
    to->deadline_ms = message->deadline_ms;
    to->mail_seq = message->mail_seq;
    to->mail_number = message->mail_number;
    to->share = message->share;
    to->redelivered = message->redelivered;
    to->control = message->control;
    to->body = message->body;
    to->client_size = message->client_size;
    to->ask = message->ask;
    to->user = handover_binary(user_call_user(message));
    to->service = handover_binary(user_call_service(message));
    to->method = handover_binary(user_call_method(message));
    to->payload = handover_binary(user_call_payload(message));
    to->traceparent = handover_binary(user_call_traceparent(message));
}

struct user_call_message *user_call_move_in(const Usher__V1__HandoverMail *from)
{
    struct user_call_message *message;
    CHECK(from->user.len <= UINT8_MAX && from->service.len <= UINT8_MAX &&
          from->method.len <= UINT8_MAX);
    const struct bytes traceparent = handover_bytes(from->traceparent);
    CHECK(traceparent.size == 0 || traceparent_valid(traceparent));
    MEMORY_MUST((message = user_call_create_traced(
                     handover_bytes(from->user), handover_bytes(from->service),
                     handover_bytes(from->method), handover_bytes(from->payload), traceparent)) !=
                    NULL,
                "mail");
    message->caller = from->caller;
    message->epoch = from->epoch;
    message->request = from->request;
    message->call = from->call;
    message->deadline_ms = from->deadline_ms;
    message->mail_seq = from->mail_seq;
    message->mail_number = from->mail_number;
    message->share = from->share;
    message->redelivered = from->redelivered;
    message->control = (uint8_t)from->control;
    message->body = (uint8_t)from->body;
    message->client_size = (uint8_t)from->client_size;
    message->ask = (uint8_t)from->ask;
    return message;
}
