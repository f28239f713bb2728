/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/user_call_moved.h"

#include "actors/user_call.h"
#include "base/check.h"
#include "base/memory.h"
#include "proto/handover.h"
#include "proto/traceparent.h"

/* News and notices have numbers in front of what was published, as a struct of this program; they
 * go by name, for a program whose struct is another one. */
static void move_head_out(const struct user_call_message *message, Usher__V1__HandoverMail *to)
{
    if (message->body == MAIL_ROOM_NEWS) {
        const struct room_news_fields news = user_call_room_news(message);
        to->incarnation = news.incarnation;
        to->news_seq = news.news_seq;
        to->offset = news.offset;
        to->kind = (uint32_t)news.kind;
        to->cause = (uint32_t)news.cause;
        to->time_ms = news.time_ms;
        to->publisher = handover_binary(news.service);
        to->payload = handover_binary(news.payload);
    } else if (message->body == MAIL_STORED) {
        const struct stored_notice_fields notice = user_call_stored(message);
        to->mid = notice.mid;
        to->time_ms = notice.time_ms;
        to->payload_bytes = notice.payload_bytes;
        to->count = notice.count;
        to->from_service = notice.service.size > 0;
        to->payload = (ProtobufCBinaryData){0};
    }
}

static struct user_call_message *news_in(const Usher__V1__HandoverMail *from)
{
    const struct bytes key = handover_bytes(from->user);
    CHECK(key.size > 1);
    const struct room_news news = {
        .room = {key.data + 1, key.size - 1},
        .owner = handover_bytes(from->service),
        .incarnation = from->incarnation,
        .news_seq = from->news_seq,
        .kind = (uint8_t)from->kind,
        .cause = (uint8_t)from->cause,
        .user = handover_bytes(from->method),
        .offset = from->offset,
        .payload = handover_bytes(from->payload),
        .service = handover_bytes(from->publisher),
        .time_ms = from->time_ms,
    };
    return room_news_create(&news);
}

static struct user_call_message *notice_in(const Usher__V1__HandoverMail *from)
{
    const struct stored_notice notice = {
        .user = handover_bytes(from->user),
        .service = handover_bytes(from->service),
        .sender = handover_bytes(from->method),
        .from_service = from->from_service,
        .mid = from->mid,
        .time_ms = from->time_ms,
        .payload_bytes = from->payload_bytes,
        .count = from->count,
    };
    return stored_notice_create(&notice);
}

static struct user_call_message *make(const Usher__V1__HandoverMail *from)
{
    const struct bytes traceparent = handover_bytes(from->traceparent);
    CHECK(from->user.len <= UINT8_MAX && from->service.len <= UINT8_MAX &&
          from->method.len <= UINT8_MAX);
    CHECK(traceparent.size == 0 || traceparent_valid(traceparent));
    if (from->body == MAIL_ROOM_NEWS)
        return news_in(from);
    if (from->body == MAIL_STORED)
        return notice_in(from);
    return user_call_create_traced(handover_bytes(from->user), handover_bytes(from->service),
                                   handover_bytes(from->method), handover_bytes(from->payload),
                                   traceparent);
}

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
    move_head_out(message, to);
}

struct user_call_message *user_call_move_in(const Usher__V1__HandoverMail *from)
{
    struct user_call_message *message;
    MEMORY_MUST((message = make(from)) != NULL, "mail");
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
