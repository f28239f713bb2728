/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/user_call.h"

#include <string.h>

#include "base/check.h"

/* A call on its way to a service: user, service, method and payload stand behind each other. What
 * the message has behind them is a traceparent, so one without it is not a byte larger.
 *
 * What else goes that way stands in the same four: the user is the name that it is routed by, and
 * of a room's mail the method is the user whom it is about. News have more numbers than a call,
 * which few need: they are a struct at the beginning of the payload, behind it the service that
 * published, then the room's payload. */

struct news_head {
    uint64_t incarnation, news_seq, offset, time_ms;
    uint8_t kind, cause, service_size;
};

/* Payload and traceparent are to be written by the caller. */
static struct user_call_message *create_sized(struct bytes user, struct bytes service,
                                              struct bytes method, size_t payload_size,
                                              size_t trace_size)
{
    CHECK(user.size <= UINT8_MAX && service.size <= UINT8_MAX && method.size <= UINT8_MAX &&
          payload_size <= UINT32_MAX / 2);
    size_t size = user.size + service.size + method.size + payload_size + trace_size;
    struct user_call_message *message = message_create(MESSAGE_USER_CALL, sizeof(*message) + size);
    if (message == NULL)
        return NULL;
    message_count_as(&message->header, MEMORY_OF_CALLS);
    memset((uint8_t *)message + sizeof(struct message), 0,
           sizeof(*message) - sizeof(struct message));
    message->user_size = (uint8_t)user.size;
    message->service_size = (uint8_t)service.size;
    message->method_size = (uint8_t)method.size;
    message->payload_size = (uint32_t)payload_size;
    bytes_put(bytes_put(bytes_put(message->bytes, user), service), method);
    return message;
}

static struct user_call_message *create(struct bytes user, struct bytes service,
                                        struct bytes method, size_t payload_size)
{
    return create_sized(user, service, method, payload_size, 0);
}

static uint8_t *payload_of(struct user_call_message *message)
{
    return message->bytes + message->user_size + message->service_size + message->method_size;
}

struct user_call_message *user_call_create(struct bytes user, struct bytes service,
                                           struct bytes method, struct bytes payload)
{
    struct user_call_message *message = create(user, service, method, payload.size);
    if (message != NULL)
        bytes_put(payload_of(message), payload);
    return message;
}

struct user_call_message *user_call_create_traced(struct bytes user, struct bytes service,
                                                  struct bytes method, struct bytes payload,
                                                  struct bytes traceparent)
{
    struct user_call_message *message =
        create_sized(user, service, method, payload.size, traceparent.size);
    if (message != NULL)
        bytes_put(bytes_put(payload_of(message), payload), traceparent);
    return message;
}

struct bytes user_call_user(const struct user_call_message *message)
{
    return (struct bytes){message->bytes, message->user_size};
}

struct bytes user_call_service(const struct user_call_message *message)
{
    return (struct bytes){message->bytes + message->user_size, message->service_size};
}

struct bytes user_call_method(const struct user_call_message *message)
{
    return (struct bytes){message->bytes + message->user_size + message->service_size,
                          message->method_size};
}

struct bytes user_call_payload(const struct user_call_message *message)
{
    return (struct bytes){message->bytes + message->user_size + message->service_size +
                              message->method_size,
                          message->payload_size};
}

struct bytes user_call_traceparent(const struct user_call_message *message)
{
    struct bytes payload = user_call_payload(message);
    const uint8_t *end = (const uint8_t *)message + message->header.size;
    const uint8_t *behind = payload.data + payload.size;
    CHECK(behind <= end);
    return (struct bytes){behind, (size_t)(end - behind)};
}

/* --- rooms ------------------------------------------------------------------------------------ */

struct room_key {
    uint8_t bytes[1 + USERNAME_BYTES_MAX];
};

static struct bytes make_key(struct room_key *key, struct bytes room)
{
    CHECK(room.size > 0 && room.size <= USERNAME_BYTES_MAX);
    bytes_put(bytes_put(key->bytes, bytes_of_text(ROOM_KEY)), room);
    return (struct bytes){key->bytes, 1 + room.size};
}

static struct bytes room_of(const struct user_call_message *message)
{
    struct bytes key = user_call_user(message);
    return (struct bytes){key.data + 1, key.size - 1};
}

struct user_call_message *room_ask_create(const struct room_ask *ask)
{
    struct room_key key;
    CHECK(ask->call != 0);
    struct user_call_message *message = create(make_key(&key, ask->room), ask->owner, ask->user, 0);
    if (message == NULL)
        return NULL;
    message->body = MAIL_ROOM_ASK;
    message->ask = ask->kind;
    message->epoch = ask->epoch;
    message->caller = ask->caller;
    message->request = ask->request;
    message->call = ask->call;
    message->deadline_ms = ask->deadline_ms;
    return message;
}

struct room_ask_fields user_call_room_ask(const struct user_call_message *message)
{
    return (struct room_ask_fields){
        .call = message->call,
        .user = user_call_method(message),
        .epoch = message->epoch,
        .room = room_of(message),
        .kind = message->ask,
    };
}

struct user_call_message *room_news_create(const struct room_news *news)
{
    struct room_key key;
    const struct news_head head = {
        .incarnation = news->incarnation,
        .news_seq = news->news_seq,
        .offset = news->offset,
        .time_ms = news->time_ms,
        .kind = news->kind,
        .cause = news->cause,
        .service_size = (uint8_t)news->service.size,
    };
    CHECK(news->service.size <= UINT8_MAX);
    size_t size = sizeof(head) + news->service.size + news->payload.size;
    struct user_call_message *message =
        create(make_key(&key, news->room), news->owner, news->user, size);
    if (message == NULL)
        return NULL;
    message->body = MAIL_ROOM_NEWS;
    message->epoch = news->epoch;
    message->caller = news->actor;
    message->deadline_ms = news->pin_ms;
    uint8_t *at = payload_of(message);
    memcpy(at, &head, sizeof(head));
    bytes_put(bytes_put(at + sizeof(head), news->service), news->payload);
    return message;
}

struct room_news_fields user_call_room_news(const struct user_call_message *message)
{
    struct news_head head;
    struct bytes payload = user_call_payload(message);
    CHECK(message->body == MAIL_ROOM_NEWS && payload.size >= sizeof(head));
    memcpy(&head, payload.data, sizeof(head));
    payload.data += sizeof(head);
    payload.size -= sizeof(head);
    CHECK(payload.size >= head.service_size);
    return (struct room_news_fields){
        .room = room_of(message),
        .incarnation = head.incarnation,
        .news_seq = head.news_seq,
        .kind = head.kind,
        .user = user_call_method(message),
        .epoch = message->epoch,
        .cause = head.cause,
        .offset = head.offset,
        .payload = {payload.data + head.service_size, payload.size - head.service_size},
        .time_ms = head.time_ms,
        .service = {payload.data, head.service_size},
    };
}

/* --- friends ---------------------------------------------------------------------------------- */

struct user_call_message *watch_ask_create(const struct watch_ask *ask)
{
    struct buffer targets = {0};
    struct user_call_message *message = NULL;
    int error = 0;
    CHECK(ask->call != 0);
    for (size_t i = 0; error == 0 && i < ask->target_count; i++)
        error = link_watch_target(&targets, ask->targets[i]);
    if (error == 0)
        message = user_call_create(ask->user, ask->service, (struct bytes){0},
                                   (struct bytes){targets.data, targets.size});
    buffer_fini(&targets);
    if (message == NULL)
        return NULL;
    message->body = MAIL_WATCH_ASK;
    message->epoch = ask->epoch;
    message->caller = ask->caller;
    message->request = ask->request;
    message->call = ask->call;
    message->deadline_ms = ask->deadline_ms;
    return message;
}

struct watch_ask_fields user_call_watch_ask(const struct user_call_message *message)
{
    return (struct watch_ask_fields){
        .call = message->call,
        .user = user_call_user(message),
        .epoch = message->epoch,
        .targets = user_call_payload(message),
    };
}

/* --- what is stored --------------------------------------------------------------------------- */

/* The payload; the method is who sent the message. */
struct notice_head {
    uint64_t mid, time_ms;
    uint32_t payload_bytes, count;
    bool from_service;
};

struct user_call_message *stored_notice_create(const struct stored_notice *notice)
{
    const struct notice_head head = {notice->mid, notice->time_ms, notice->payload_bytes,
                                     notice->count, notice->from_service};
    struct user_call_message *message =
        create(notice->user, notice->service, notice->sender, sizeof(head));
    if (message == NULL)
        return NULL;
    memcpy(payload_of(message), &head, sizeof(head));
    message->body = MAIL_STORED;
    return message;
}

struct stored_notice_fields user_call_stored(const struct user_call_message *message)
{
    struct notice_head head;
    CHECK(message->body == MAIL_STORED && message->payload_size == sizeof(head));
    memcpy(&head, user_call_payload(message).data, sizeof(head));
    struct bytes sender = user_call_method(message);
    return (struct stored_notice_fields){
        .user = user_call_user(message),
        .mid = head.mid,
        .from = head.from_service ? (struct bytes){0} : sender,
        .service = head.from_service ? sender : (struct bytes){0},
        .payload_bytes = head.payload_bytes,
        .time_ms = head.time_ms,
        .count = head.count,
    };
}

struct bytes user_call_sharer(const struct user_call_message *message)
{
    return message->body == MAIL_ROOM_ASK ? user_call_method(message) : user_call_user(message);
}
