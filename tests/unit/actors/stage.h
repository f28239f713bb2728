/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_ACTORS_STAGE_H
#define USHER_TESTS_ACTORS_STAGE_H

/* One actor on a stage: messages go in, and what its handlers ask for is written to a *tape*, one
 * line per effect, in order. Handlers are pure, so a test is a script: what is done, and the tape
 * that must come of it. Lines read
 *
 *   10 welcome #1 epoch=1 FRESH next=1      a frame to connection 10, #id of the request
 *   10 release                              an effect on connection 10
 *   to 901 result #7 OK epoch=1             a post to actor 901; `self` is the one on the stage
 *   forward bob deliver #7 'hi'             a message to a user by name
 *   answer 50 refused STALE_LINK            to a link exchange
 *   store ATTACH ONLINE LOGIN epoch=1       the change that holds the turn
 *   goes on                                 the session has more to hand out
 *   retire
 *
 * Timers are kept beside the tape, in `timer_ms`. stage_user.h and stage_link.h send the messages.
 * The stage owns whatever is asked for and frees it with the next message. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "actors/room_messages.h"
#include "actors/watch.h"
#include "backend.pb-c.h"
#include "client.pb-c.h"
#include "instance/instance.h"
#include "numbers.h"
#include "proto/frame.h"
#include "runtime/message.h"
#include "user/user.h"

enum { TAPE_BYTES = 64 * 1024, STAGE_NOW_MS = 1000000, STAGE_WALL_MS = 5000000, SHOWN_BYTES = 24 };

static const actor_handle STAGE_SELF = UINT64_C(3) << 32 | 5;

struct stage {
    struct limits limits;
    struct settings settings;
    struct counters counters;
    struct env env;
    uint8_t random_next;
    struct metrics *metrics;
    struct turn turn;
    uint64_t now_ms, wall_ms;
    uint32_t output;        /* what the connection of the session has left of each turn */
    uint32_t unsent;        /* what its socket has not sent when a turn begins */
    uint64_t token_ends_ms; /* of the next login or restore */
    /* who is on it */
    struct session session;
    struct instance *instance;
    /* what the last turn asked for */
    struct change *change;
    uint64_t timer_ms;     /* of the last tick asked for; 0: none on its way */
    uint64_t link;         /* of the last Accepted */
    uint64_t link_shown;   /* its number for people */
    uint32_t answer_bytes; /* of the last answer to an exchange */
    uint32_t closed;       /* of the last Close */
    char close_detail[256];
    uint64_t asked_after; /* by the last query for events */
    uint64_t tokens[8];   /* of commands, in the order in which they were sent away */
    uint32_t token_count;
    uint8_t secret[SECRET_BYTES]; /* of the last Welcome */
    uint64_t proof;               /* that a Resume has to show, as the user says */
    uint64_t welcome_proof;       /* what that was at the last welcome */
    struct message *mail;         /* of the last LINK_LEAVE; a list */
    struct buffer input;          /* frames for the next MESSAGE_FRAMES */
    size_t size;
    const char *rooms; /* of the tokens; NULL: none */
    char tape[TAPE_BYTES];
};

/* --- the tape --------------------------------------------------------------------------------- */

__attribute__((format(printf, 2, 3))) static inline void tape_put(struct stage *stage,
                                                                  const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    size_t room = TAPE_BYTES - stage->size;
    int size = vsnprintf(stage->tape + stage->size, room, format, arguments);
    va_end(arguments);
    assert_true(size >= 0 && (size_t)size < room);
    stage->size += (size_t)size;
}

static inline void tape_bytes(struct stage *stage, const void *data, size_t size)
{
    if (size > SHOWN_BYTES)
        tape_put(stage, " <%zu bytes>", size);
    else
        tape_put(stage, " '%.*s'", (int)size, size > 0 ? (const char *)data : "");
}

static inline void tape_id(struct stage *stage, uint64_t id)
{
    if (id != 0)
        tape_put(stage, " #%llu", (unsigned long long)id);
}

static inline void tape_number(struct stage *stage, const char *name, uint64_t value)
{
    tape_put(stage, " %s=%llu", name, (unsigned long long)value);
}

static inline void tape_number_if(struct stage *stage, const char *name, uint64_t value)
{
    if (value != 0)
        tape_number(stage, name, value);
}

static inline void tape_enum(struct stage *stage, const ProtobufCEnumDescriptor *descriptor,
                             uint32_t value)
{
    const ProtobufCEnumValue *row = protobuf_c_enum_descriptor_get_value(descriptor, (int)value);
    tape_put(stage, " %s", row != NULL ? row->name : "?");
}

static inline void tape_code(struct stage *stage, uint16_t code)
{
    if (code == 0)
        tape_put(stage, " OK");
    else if (code == RESULT_STALE_EPOCH)
        tape_put(stage, " STALE_EPOCH");
    else if (code == RESULT_DROPPED)
        tape_put(stage, " DROPPED");
    else
        tape_enum(stage, &usher__v1__error__code__descriptor, code);
}

/* A failing test shows both tapes. */
static inline void tape_check(struct stage *stage, const char *const *lines, size_t count,
                              const char *file, int line)
{
    char *wanted = calloc(1, TAPE_BYTES);
    assert_non_null(wanted);
    for (size_t i = 0; i < count; i++) {
        strncat(wanted, lines[i], TAPE_BYTES - strlen(wanted) - 2);
        strcat(wanted, "\n");
    }
    bool same = strcmp(stage->tape, wanted) == 0;
    if (!same)
        print_error("--- wanted:\n%s--- on the tape:\n%s", wanted, stage->tape);
    free(wanted);
    if (!same)
        _fail(file, line);
}

/* The whole tape of the last turn: EXPECT(stage, "10 welcomed", "10 welcome ..."). */
#define EXPECT(stage_, ...)                                                                 \
    tape_check((stage_), (const char *const[]){__VA_ARGS__},                                \
               sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *), __FILE__, \
               __LINE__)
#define EXPECT_NOTHING(stage_) tape_check((stage_), NULL, 0, __FILE__, __LINE__)
#define COUNTED(stage_, metric_, n_) \
    assert_int_equal(metrics_read((stage_)->metrics, METRIC_##metric_), (n_))

/* --- frames to clients ------------------------------------------------------------------------ */

static inline void tape_welcome(struct stage *stage, const Usher__V1__Welcome *welcome)
{
    assert_int_equal(welcome->secret.len, SECRET_BYTES);
    memcpy(stage->secret, welcome->secret.data, SECRET_BYTES);
    assert_int_equal(welcome->heartbeat_ms, stage->limits.session_heartbeat_ms);
    assert_int_equal(welcome->resume_ms, stage->limits.session_resume_ms);
    assert_int_equal(welcome->frame_bytes_max, stage->limits.limits_frame_bytes);
    assert_int_equal(welcome->time_ms, stage->wall_ms);
    assert_string_equal(welcome->node, stage->settings.node);
    tape_number(stage, "epoch", welcome->epoch);
    tape_enum(stage, &usher__v1__welcome__replay__descriptor, welcome->replay);
    tape_number(stage, "next", welcome->next_seq);
    if (welcome->token_ms != 0)
        tape_number(stage, "token", welcome->token_ms);
    if (welcome->stored != USHER__V1__WELCOME__REPLAY__FRESH || welcome->stored_messages != 0) {
        tape_put(stage, " stored");
        tape_enum(stage, &usher__v1__welcome__replay__descriptor, welcome->stored);
        tape_put(stage, " %u", welcome->stored_messages);
    }
}

static inline void tape_trace(struct stage *stage, struct bytes traceparent)
{
    if (traceparent.size > 0)
        tape_put(stage, " trace=%.*s", (int)traceparent.size, (const char *)traceparent.data);
}

static inline void tape_message(struct stage *stage, const Usher__V1__Message *message)
{
    tape_put(stage, " %llu", (unsigned long long)message->seq);
    if (message->from[0] != '\0')
        tape_put(stage, " from=%s", message->from);
    if (message->service[0] != '\0')
        tape_put(stage, " service=%s", message->service);
    tape_bytes(stage, message->payload.data, message->payload.len);
    tape_put(stage, message->redelivered ? " again" : "");
    tape_trace(stage, bytes_of_text(message->traceparent));
    tape_number_if(stage, "mid", message->mid);
}

static inline void tape_close(struct stage *stage, const Usher__V1__Close *close)
{
    stage->closed = close->reason;
    snprintf(stage->close_detail, sizeof(stage->close_detail), "%s", close->detail);
    tape_enum(stage, &usher__v1__close__reason__descriptor, close->reason);
    tape_number_if(stage, "retry", close->retry_after_ms);
    tape_put(stage, close->do_not_return ? " do_not_return" : "");
}

static inline void tape_friends(struct stage *stage, const Usher__V1__FriendStates *states)
{
    tape_put(stage, states->snapshot ? " snapshot" : "");
    for (size_t i = 0; i < states->n_friends; i++) {
        const Usher__V1__FriendState *friend = states->friends[i];
        tape_put(stage, " %s", friend->user);
        tape_enum(stage, &usher__v1__friend_state__state__descriptor, friend->state);
        if (friend->status.len > 0)
            tape_bytes(stage, friend->status.data, friend->status.len);
        tape_number_if(stage, "since", friend->since_ms);
    }
}

static inline void tape_frame(struct stage *stage, const Usher__V1__BrokerFrame *frame)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        &usher__v1__broker_frame__descriptor, (unsigned)frame->body_case);
    tape_put(stage, " %s", field != NULL ? field->name : "?");
    tape_id(stage, frame->id);
    switch (frame->body_case) {
    case USHER__V1__BROKER_FRAME__BODY_WELCOME:
        tape_welcome(stage, frame->welcome);
        break;
    case USHER__V1__BROKER_FRAME__BODY_MESSAGE:
        tape_message(stage, frame->message);
        break;
    case USHER__V1__BROKER_FRAME__BODY_DONE:
        tape_number(stage, "epoch", frame->done->epoch);
        tape_number_if(stage, "offset", frame->done->offset);
        tape_number_if(stage, "mid", frame->done->mid);
        tape_put(stage, frame->done->dropped ? " dropped" : "");
        break;
    case USHER__V1__BROKER_FRAME__BODY_REPLY:
        tape_number(stage, "status", frame->reply->status);
        tape_bytes(stage, frame->reply->payload.data, frame->reply->payload.len);
        break;
    case USHER__V1__BROKER_FRAME__BODY_ERROR:
        tape_enum(stage, &usher__v1__error__code__descriptor, frame->error->code);
        tape_number_if(stage, "retry", frame->error->retry_after_ms);
        break;
    case USHER__V1__BROKER_FRAME__BODY_PONG:
        tape_number(stage, "stamp", frame->pong->stamp);
        assert_int_equal(frame->pong->time_ms, stage->wall_ms);
        break;
    case USHER__V1__BROKER_FRAME__BODY_FRIENDS:
        tape_friends(stage, frame->friends);
        break;
    case USHER__V1__BROKER_FRAME__BODY_CLOSE:
        tape_close(stage, frame->close);
        break;
    case USHER__V1__BROKER_FRAME__BODY_ROOM_STATE:
        tape_number(stage, "room", frame->room_state->room);
        tape_enum(stage, &usher__v1__room_state__state__descriptor, frame->room_state->state);
        tape_enum(stage, &usher__v1__room_state__replay__descriptor, frame->room_state->replay);
        tape_number_if(stage, "life", frame->room_state->incarnation);
        break;
    case USHER__V1__BROKER_FRAME__BODY_ROOM_MESSAGES:
        tape_number(stage, "first", frame->room_messages->offset);
        tape_number(stage, "n", frame->room_messages->n_messages);
        break;
    default:
        break;
    }
}

/* A line per frame; the bytes must be whole, valid frames within the limit. */
static inline void tape_frames(struct stage *stage, uint64_t conn, const char *verb,
                               const uint8_t *data, size_t size)
{
    while (size > 0) {
        struct bytes bytes;
        size_t used;
        assert_int_equal(
            frame_next((struct bytes){data, size}, stage->limits.limits_frame_bytes, &bytes, &used),
            1);
        Usher__V1__BrokerFrame *frame =
            usher__v1__broker_frame__unpack(NULL, bytes.size, bytes.data);
        assert_non_null(frame);
        assert_null(number_too_large(&frame->base));
        tape_put(stage, "%llu%s", (unsigned long long)conn, verb);
        tape_frame(stage, frame);
        tape_put(stage, "\n");
        usher__v1__broker_frame__free_unpacked(frame, NULL);
        data += used;
        size -= used;
    }
}

/* --- messages to actors ----------------------------------------------------------------------- */

static inline void tape_deliver(struct stage *stage, const struct deliver_message *message)
{
    struct bytes name = deliver_name(message);
    struct bytes payload = deliver_payload(message);
    tape_put(stage, " deliver");
    if (message->from_service)
        stage->tokens[stage->token_count++ % 8] = message->request;
    else
        tape_id(stage, message->request);
    tape_put(stage, " %s=%.*s", message->from_service ? "service" : "from", (int)name.size,
             (const char *)name.data);
    tape_bytes(stage, payload.data, payload.size);
    if (message->keep_s == 0)
        tape_number_if(stage, "wanted", message->epoch_wanted);
    else
        tape_put(stage, " keep=%u tag=%llu%s", message->keep_s, (unsigned long long)message->tag,
                 message->for_present ? " for_present" : "");
    tape_put(stage, message->until_delivered ? " until_delivered" : "");
    tape_put(stage, message->transient ? " transient" : "");
    tape_trace(stage, deliver_traceparent(message));
    assert_int_equal(message->time_ms, stage->wall_ms);
    assert_int_equal(message->arrived_ms, message->keep_s == 0 ? stage->now_ms : 0);
    assert_int_equal(message->sender, STAGE_SELF);
}

static inline void tape_kick(struct stage *stage, const struct kick_message *kick)
{
    stage->tokens[stage->token_count++ % 8] = kick->request;
    assert_int_equal(kick->by, STAGE_SELF);
    tape_put(stage, " kick");
    tape_number_if(stage, "epoch", kick->epoch);
    tape_enum(stage, &usher__v1__close__reason__descriptor, kick->reason);
    tape_number_if(stage, "retry", kick->retry_after_ms);
    tape_put(stage, " '%s'%s", kick->detail, kick->do_not_return ? " do_not_return" : "");
    tape_put(stage, " by %s", kick->kicker);
}

static inline void tape_call(struct stage *stage, const struct user_call_message *call)
{
    struct bytes user = user_call_user(call);
    struct bytes service = user_call_service(call);
    struct bytes method = user_call_method(call);
    tape_put(stage, " %.*s.%.*s user=%.*s", (int)service.size, (const char *)service.data,
             (int)method.size, (const char *)method.data, (int)user.size, (const char *)user.data);
    tape_id(stage, call->request);
    tape_number(stage, "call", call->call);
    tape_number(stage, "epoch", call->epoch);
    tape_put(stage, " due=+%lld", (long long)(call->deadline_ms - stage->now_ms));
    tape_bytes(stage, user_call_payload(call).data, call->payload_size);
    tape_put(stage, call->redelivered ? " again" : "");
    tape_trace(stage, user_call_traceparent(call));
}

static inline void tape_result(struct stage *stage, const struct result_message *result)
{
    tape_put(stage, " result");
    tape_id(stage, result->request);
    tape_code(stage, result->code);
    tape_number(stage, "epoch", result->epoch);
    tape_number_if(stage, "asker", result->asker_epoch);
    tape_number_if(stage, "mid", result->mid);
}

static inline void tape_call_result(struct stage *stage, const struct call_result_message *result)
{
    tape_put(stage, " call_result");
    tape_id(stage, result->request);
    tape_number(stage, "call", result->call);
    tape_number(stage, "epoch", result->epoch);
    tape_number_if(stage, "stamp", result->stamp_us);
    tape_code(stage, result->code);
    if (result->code == 0) {
        tape_number(stage, "status", result->status);
        tape_bytes(stage, result->payload, result->payload_size);
    }
}

/* To a user, of a service. */
static inline void tape_room_member(struct stage *stage, const struct room_member_message *message)
{
    struct bytes room = room_member_name(message);
    struct bytes detail = room_member_detail(message);
    stage->tokens[stage->token_count++ % 8] = message->token;
    assert_int_equal(message->asker, STAGE_SELF);
    tape_put(stage, " %s %.*s", message->header.kind == MESSAGE_ROOM_INVITE ? "invite" : "expel",
             (int)room.size, (const char *)room.data);
    tape_number_if(stage, "wanted", message->epoch);
    tape_put(stage, message->carry ? " carry" : "");
    if (detail.size > 0)
        tape_bytes(stage, detail.data, detail.size);
}

/* To a room, of a user. */
static inline void tape_users_call(struct stage *stage, const struct room_call *call,
                                   struct bytes room)
{
    static const char *const words[] = {"not", "owner", "may"};
    if (call->header.kind == MESSAGE_ROOM_PUBLISH) {
        const struct room_publish_message *publish = (const struct room_publish_message *)call;
        if (room.size > 0)
            tape_put(stage, "room %.*s publish", (int)room.size, (const char *)room.data);
        else
            tape_put(stage, "to %llu publish", (unsigned long long)call->room);
        tape_id(stage, call->request);
        tape_bytes(stage, publish->bytes + room.size + publish->from_size, publish->payload_size);
        return;
    }
    const struct room_join_message *join = (const struct room_join_message *)call;
    assert_int_equal(call->header.kind, MESSAGE_ROOM_JOIN);
    tape_put(stage, "room %.*s join", (int)room.size, (const char *)room.data);
    tape_id(stage, join->user_request);
    tape_number(stage, "epoch", join->epoch);
    tape_put(stage, " create=%s join=%s%s", words[call->may_create], words[join->may_join],
             join->again_only ? " again_only" : "");
    if (join->recover)
        tape_put(stage, " from=%llu/%llu", (unsigned long long)join->incarnation,
                 (unsigned long long)join->offset);
}

/* To a room, of the turn of a member. */
static inline void tape_of_member(struct stage *stage, const struct message *message)
{
    if (message->kind == MESSAGE_ROOM_AWAY) {
        tape_put(stage, " away");
        tape_number(stage, "epoch", ((const struct room_away_message *)message)->epoch);
    } else if (message->kind == MESSAGE_ROOM_LEAVE) {
        const struct room_leave_message *leave = (const struct room_leave_message *)message;
        tape_put(stage, " leave");
        tape_id(stage, leave->token);
        tape_number(stage, "epoch", leave->epoch);
        tape_enum(stage, &usher__v1__room_news__cause__descriptor, leave->cause);
    } else {
        const struct room_pull_message *pull = (const struct room_pull_message *)message;
        tape_put(stage, " pull %u", pull->pull);
        tape_id(stage, pull->request);
        tape_number(stage, "epoch", pull->epoch);
        tape_number_if(stage, "new", pull->new_epoch);
        tape_number(stage, "at", pull->offset);
        tape_put(stage, "%s%s%s", pull->fresh ? " fresh" : "", pull->resumed ? " resumed" : "",
                 pull->roster ? " roster" : "");
        assert_true(pull->back);
    }
}

/* To a room, of a service. */
static inline void tape_room_call(struct stage *stage, const struct room_call *call)
{
    static const char *const commands[] = {"open", "close", "members"};
    struct bytes room = room_call_name(call);
    bool invites = call->from_service && call->header.kind == MESSAGE_ROOM_JOIN;
    assert_true(invites || call->asker == STAGE_SELF);
    if (invites || !call->from_service) {
        tape_users_call(stage, call, room);
        return;
    }
    stage->tokens[stage->token_count++ % 8] = call->request;
    tape_put(stage, "room %.*s%s", (int)room.size, (const char *)room.data,
             call->may_create == ROOM_MAY ? " create" : "");
    if (call->header.kind == MESSAGE_ROOM_COMMAND) {
        const struct room_command_message *command = (const struct room_command_message *)call;
        tape_put(stage, " %s", commands[command->command]);
        tape_bytes(stage, command->bytes + call->name_size, command->text_size);
        tape_number_if(stage, "max", command->members_max);
        tape_number_if(stage, "limit", command->limit);
        tape_number_if(stage, "room", command->bytes_max);
    } else {
        const struct room_publish_message *publish = (const struct room_publish_message *)call;
        assert_int_equal(call->header.kind, MESSAGE_ROOM_PUBLISH);
        assert_int_equal(publish->time_ms, stage->wall_ms);
        tape_put(stage, " publish from=%.*s", publish->from_size,
                 (const char *)publish->bytes + call->name_size);
        tape_bytes(stage, publish->bytes + call->name_size + publish->from_size,
                   publish->payload_size);
    }
}

/* The shards of friends: what a user, or an instance, tells them and each other. */
static inline void tape_pair(struct stage *stage, const struct message *message)
{
    if (message->kind == MESSAGE_WATCH_STATUS) {
        const struct watch_status_message *status = (const struct watch_status_message *)message;
        tape_put(stage, " status %s epoch=%llu%s", status->gone ? "gone" : "",
                 (unsigned long long)status->epoch, status->invisible ? " invisible" : "");
        tape_bytes(stage, status->bytes + status->name_size, status->status_size);
    } else if (message->kind == MESSAGE_WATCH_LISTED) {
        const struct watch_listed_message *listed = (const struct watch_listed_message *)message;
        tape_put(stage, " listed #%llu", (unsigned long long)listed->request);
        tape_enum(stage, &usher__v1__result__code__descriptor, listed->code);
        tape_put(stage, " %u", listed->accepted);
        for (uint32_t i = 0; i < listed->count; i++) {
            tape_put(stage, " %u", listed->failures[i].index);
            tape_enum(stage, &usher__v1__result__code__descriptor, listed->failures[i].code);
        }
    } else {
        const struct watch_message *watch = (const struct watch_message *)message;
        tape_put(stage, " %s", message->kind == MESSAGE_WATCH ? "watch" : "unwatch");
        for (uint32_t i = 0; i < watch->count; i++) {
            struct bytes name = watch_message_name(watch, i);
            tape_put(stage, " %.*s %u/%u", (int)name.size, (const char *)name.data,
                     watch->pairs[i].position, watch->pairs[i].serial);
        }
        tape_put(stage, "%s", watch->asks ? " asks" : "");
        assert_int_equal(watch->watcher, STAGE_SELF);
    }
}

static inline void tape_posted(struct stage *stage, const struct message *message)
{
    switch (message->kind) {
    case MESSAGE_ROOM_INVITE:
    case MESSAGE_ROOM_EXPEL:
        tape_room_member(stage, (const struct room_member_message *)message);
        break;
    case MESSAGE_ROOM_AWAY:
    case MESSAGE_ROOM_LEAVE:
    case MESSAGE_ROOM_PULL:
        tape_of_member(stage, message);
        break;
    case MESSAGE_DELIVER:
        tape_deliver(stage, (const struct deliver_message *)message);
        break;
    case MESSAGE_KICK:
        tape_kick(stage, (const struct kick_message *)message);
        break;
    case MESSAGE_RESULT:
        tape_result(stage, (const struct result_message *)message);
        break;
    case MESSAGE_CALL_RESULT:
        tape_call_result(stage, (const struct call_result_message *)message);
        break;
    case MESSAGE_MORE_FRAMES:
        tape_put(stage, " more_frames");
        break;
    case MESSAGE_CONN_END:
        tape_put(stage, " conn_end %llu",
                 (unsigned long long)((const struct conn_end_message *)message)->conn);
        break;
    case MESSAGE_LEAVE:
        tape_put(stage, " leave");
        break;
    case MESSAGE_WATCH:
    case MESSAGE_UNWATCH:
    case MESSAGE_WATCH_STATUS:
    case MESSAGE_WATCH_LISTED:
        tape_pair(stage, message);
        break;
    default:
        tape_put(stage, " message of kind %u", message->kind);
        break;
    }
}

/* --- answers to exchanges --------------------------------------------------------------------- */

static inline void tape_ask(struct stage *stage, uint64_t seq, const Usher__V1__RoomAsk *ask)
{
    tape_put(stage, " [%llu", (unsigned long long)seq);
    tape_enum(stage, &usher__v1__room_ask__kind__descriptor, ask->kind);
    tape_put(stage, " %s user=%s", ask->room, ask->user);
    tape_number(stage, "call", ask->call);
    tape_number(stage, "epoch", ask->epoch);
    tape_number(stage, "left", ask->timeout_ms);
    tape_put(stage, "%s]", ask->redelivered ? " again" : "");
}

static inline void tape_news(struct stage *stage, uint64_t seq, const Usher__V1__RoomNews *news)
{
    tape_put(stage, " [%llu %s", (unsigned long long)seq, news->room);
    tape_number(stage, "life", news->incarnation);
    tape_number(stage, "news", news->news_seq);
    tape_enum(stage, &usher__v1__room_news__kind__descriptor, news->kind);
    tape_put(stage, " user=%s", news->user);
    tape_number(stage, "epoch", news->epoch);
    tape_enum(stage, &usher__v1__room_news__cause__descriptor, news->cause);
    tape_number(stage, "offset", news->offset);
    tape_bytes(stage, news->payload.data, (uint32_t)news->payload.len);
    tape_number(stage, "time", news->time_ms);
    tape_put(stage, " by=%s%s]", news->service, news->redelivered ? " again" : "");
}

static inline void tape_watch(struct stage *stage, uint64_t seq, const Usher__V1__WatchAsk *ask)
{
    tape_put(stage, " [%llu watch user=%s", (unsigned long long)seq, ask->user);
    tape_number(stage, "call", ask->call);
    tape_number(stage, "epoch", ask->epoch);
    tape_number(stage, "left", ask->timeout_ms);
    for (size_t i = 0; i < ask->n_targets; i++)
        tape_put(stage, " %s", ask->targets[i]);
    tape_put(stage, "%s]", ask->redelivered ? " again" : "");
}

static inline void tape_mail(struct stage *stage, const Usher__V1__Mail *mail)
{
    if (mail->body_case == USHER__V1__MAIL__BODY_ASK) {
        tape_ask(stage, mail->seq, mail->ask);
        return;
    }
    if (mail->body_case == USHER__V1__MAIL__BODY_NEWS) {
        tape_news(stage, mail->seq, mail->news);
        return;
    }
    if (mail->body_case == USHER__V1__MAIL__BODY_WATCH) {
        tape_watch(stage, mail->seq, mail->watch);
        return;
    }
    if (mail->body_case == USHER__V1__MAIL__BODY_STORED) {
        tape_put(stage, " [%llu stored user=%s mid=%llu from=%s service=%s bytes=%u count=%u]",
                 (unsigned long long)mail->seq, mail->stored->user,
                 (unsigned long long)mail->stored->mid, mail->stored->from, mail->stored->service,
                 mail->stored->payload_bytes, mail->stored->count);
        return;
    }
    if (mail->body_case == USHER__V1__MAIL__BODY_CONTROL) {
        tape_put(stage, " [");
        tape_enum(stage, &usher__v1__control__kind__descriptor, mail->control->kind);
        tape_put(stage, " ]");
        assert_true(mail->seq > 0);
        return;
    }
    assert_int_equal(mail->body_case, USHER__V1__MAIL__BODY_CALL);
    tape_put(stage, " [%llu", (unsigned long long)mail->seq);
    tape_put(stage, " %s user=%s", mail->call->method, mail->call->user);
    tape_number(stage, "call", mail->call->call);
    tape_number(stage, "left", mail->call->timeout_ms);
    tape_put(stage, mail->call->redelivered ? " again" : "");
    tape_trace(stage, bytes_of_text(mail->call->traceparent));
    tape_put(stage, "]");
}

static inline void tape_batch(struct stage *stage, const Usher__V1__Batch *batch)
{
    for (size_t i = 0; i < batch->n_mail; i++)
        tape_mail(stage, batch->mail[i]);
    for (size_t i = 0; i < batch->n_presence; i++)
        tape_put(stage, " {%llu %s}", (unsigned long long)batch->presence[i]->seq,
                 batch->presence[i]->user);
    tape_put(stage, batch->presence_reset ? " reset" : "");
    tape_number(stage, "last", batch->presence_last);
}

static inline void tape_one_result(struct stage *stage, const Usher__V1__Result *result)
{
    tape_enum(stage, &usher__v1__result__code__descriptor, result->code);
    if (result->value_case == USHER__V1__RESULT__VALUE_PUSH) {
        tape_put(stage, "(%u", result->push->accepted);
        tape_number_if(stage, "dropped", result->push->dropped);
        tape_number_if(stage, "mid", result->push->mid);
        for (size_t i = 0; i < result->push->n_failures; i++) {
            tape_put(stage, " %s", result->push->failures[i]->user);
            tape_enum(stage, &usher__v1__result__code__descriptor, result->push->failures[i]->code);
        }
        tape_put(stage, ")");
    } else if (result->value_case == USHER__V1__RESULT__VALUE_ROOMS) {
        for (size_t i = 0; i < result->rooms->n_rooms; i++)
            tape_put(stage, "[%s]", result->rooms->rooms[i]->name);
    } else if (result->value_case == USHER__V1__RESULT__VALUE_NUMBERS) {
        for (size_t i = 0; i < result->numbers->n_numbers; i++)
            tape_number(stage, result->numbers->numbers[i]->name,
                        result->numbers->numbers[i]->value);
    }
}

static inline void tape_answer(struct stage *stage, uint64_t exchange, struct bytes bytes)
{
    Usher__V1__LinkAnswer *answer = usher__v1__link_answer__unpack(NULL, bytes.size, bytes.data);
    assert_non_null(answer);
    assert_null(number_too_large(&answer->base));
    assert_true(bytes.size <= stage->limits.link_frame_bytes);
    stage->answer_bytes = (uint32_t)bytes.size;
    tape_put(stage, "answer %llu", (unsigned long long)exchange);
    if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_ACCEPTED) {
        stage->link = answer->accepted->link;
        stage->link_shown = answer->accepted->number;
        assert_string_equal(answer->accepted->node, stage->settings.node);
        assert_string_equal(answer->accepted->node_boot, stage->settings.node_boot);
        assert_int_equal(answer->accepted->frame_bytes_max, stage->limits.link_frame_bytes);
        assert_int_equal(answer->accepted->park_ms, stage->limits.link_park_ms);
        tape_put(stage, " accepted");
        tape_number(stage, "from", answer->accepted->presence_from);
    } else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_BATCH) {
        tape_put(stage, " batch");
        tape_batch(stage, answer->batch);
    } else if (answer->body_case == USHER__V1__LINK_ANSWER__BODY_RESULTS) {
        tape_put(stage, " results %llu:", (unsigned long long)answer->results->seq);
        for (size_t i = 0; i < answer->results->n_results; i++)
            tape_one_result(stage, answer->results->results[i]);
    } else {
        assert_int_equal(answer->body_case, USHER__V1__LINK_ANSWER__BODY_REFUSED);
        tape_put(stage, " refused");
        tape_enum(stage, &usher__v1__refused__code__descriptor, answer->refused->code);
    }
    usher__v1__link_answer__free_unpacked(answer, NULL);
}

/* --- what instances ask for ------------------------------------------------------------------- */

static inline void tape_query(struct stage *stage, const struct query_message *query)
{
    assert_int_equal(query->asker, STAGE_SELF);
    tape_put(stage, "query ");
    if (query->kind == QUERY_PRESENCE) {
        tape_put(stage, "presence after=%llu", (unsigned long long)query->after);
        assert_int_equal(query->until, atomic_load(&stage->counters.presence_last));
        stage->asked_after = query->token;
        return;
    }
    Usher__V1__Command *command = usher__v1__command__unpack(NULL, query->size, query->bytes);
    assert_non_null(command);
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(
        &usher__v1__command__descriptor, (unsigned)command->body_case);
    tape_put(stage, "%s room=%u", field->name, query->bytes_max);
    stage->tokens[stage->token_count++ % 8] = query->token;
    usher__v1__command__free_unpacked(command, NULL);
}

static inline void stage_drop_mail(struct stage *stage)
{
    while (stage->mail != NULL) {
        struct message *next = stage->mail->next;
        message_destroy(stage->mail);
        stage->mail = next;
    }
}

/* Keeps the mail of a LINK_LEAVE, frees every other message. */
static inline void tape_link(struct stage *stage, const struct effect *effect)
{
    tape_put(stage, "link ");
    if (effect->detail == LINK_LEAVE) {
        static const char *const steps[] = {"leave?", "leave some", "leave"};
        tape_put(stage, "%s", steps[effect->value]);
        stage_drop_mail(stage);
        stage->mail = effect->message;
        for (struct message *mail = stage->mail; mail != NULL; mail = mail->next) {
            const struct user_call_message *call = (const struct user_call_message *)mail;
            tape_put(stage, " [%.*s%s]", (int)call->method_size,
                     (const char *)user_call_method(call).data, call->redelivered ? " again" : "");
        }
        return;
    }
    if (effect->detail == LINK_JOIN) {
        const struct join_message *join = (const struct join_message *)effect->message;
        tape_put(stage, "join %s%s", join->service, join->presence ? " presence" : "");
    } else if (effect->detail == LINK_DRAIN) {
        tape_put(stage, effect->value != 0 ? "drain" : "undrain");
    } else if (effect->detail == LINK_QUERY) {
        tape_query(stage, (const struct query_message *)effect->message);
    } else {
        const struct push_all_message *push = (const struct push_all_message *)effect->message;
        stage->tokens[stage->token_count++ % 8] = push->token;
        struct push text = instance_push_text(push);
        tape_put(stage, "push_all %.*s", (int)text.service.size, (const char *)text.service.data);
        tape_bytes(stage, text.payload.data, text.payload.size);
        tape_put(stage, text.transient ? " transient" : "");
        tape_trace(stage, text.traceparent);
    }
    message_destroy(effect->message);
}

/* --- a turn's effects, as lines --------------------------------------------------------------- */

static inline void tape_of_stored(struct stage *stage, const struct change *change)
{
    assert_int_equal(change->self, STAGE_SELF);
    assert_string_equal(change->event.user, stage->turn.name);
    if (change->kind == CHANGE_WINDOW) {
        tape_put(stage, "window after=%llu n=%u bytes=%u\n", (unsigned long long)change->after_mid,
                 change->messages_max, change->bytes_max);
        return;
    }
    tape_put(stage, "store%s", change->away ? " away" : "");
    for (const struct deliver_message *message = change->stored; message != NULL;
         message = (const struct deliver_message *)message->header.next)
        tape_bytes(stage, deliver_payload(message).data, message->payload_size);
    tape_put(stage, "\n");
}

static inline void tape_change(struct stage *stage, const struct change *change)
{
    if (change->kind == CHANGE_STORE || change->kind == CHANGE_WINDOW) {
        tape_of_stored(stage, change);
        return;
    }
    static const char *const kinds[] = {[CHANGE_ATTACH] = "ATTACH",
                                        [CHANGE_RESUME] = "RESUME",
                                        [CHANGE_DETACH] = "DETACH",
                                        [CHANGE_END] = "END"};
    tape_put(stage, "store %s", kinds[change->kind]);
    tape_enum(stage, &usher__v1__presence_event__kind__descriptor, change->event.kind);
    tape_enum(stage, &usher__v1__presence_event__cause__descriptor, change->event.cause);
    tape_number(stage, "epoch", change->event.epoch);
    tape_number_if(stage, "previous", change->event.previous_epoch);
    tape_number_if(stage, "until", change->event.until_ms);
    tape_put(stage, "%s\n", change->remove ? " removed" : "");
    assert_int_equal(change->self, STAGE_SELF);
    assert_int_equal(change->event.time_ms, stage->wall_ms);
    assert_string_equal(change->event.user, stage->turn.name);
}

static inline void tape_to_conn(struct stage *stage, const struct effect *effect)
{
    static const char *const verbs[] = {[EFFECT_FLUSH] = "flush",
                                        [EFFECT_WELCOMED] = "welcomed",
                                        [EFFECT_RELEASE] = "release",
                                        [EFFECT_CONSUMED] = "consumed"};
    if (effect->kind == EFFECT_SEND || (effect->kind == EFFECT_UNBIND && effect->size > 0))
        tape_frames(stage, effect->value, effect->kind == EFFECT_SEND ? "" : " unbind",
                    stage->turn.out.data + effect->offset, effect->size);
    else
        tape_put(stage, "%llu %s\n", (unsigned long long)effect->value,
                 effect->kind == EFFECT_UNBIND ? "unbind" : verbs[effect->kind]);
}

static inline void tape_to_actor(struct stage *stage, const struct effect *effect)
{
    if (effect->kind == EFFECT_CALL) {
        tape_put(stage, "call");
        tape_call(stage, (const struct user_call_message *)effect->message);
    } else if (effect->kind == EFFECT_ROOM) {
        tape_room_call(stage, (const struct room_call *)effect->message);
    } else if (effect->kind == EFFECT_FORWARD) {
        tape_put(stage, "forward %.*s", (int)effect->size,
                 (const char *)stage->turn.out.data + effect->offset);
        tape_posted(stage, effect->message);
    } else {
        if (effect->value == STAGE_SELF)
            tape_put(stage, "to self");
        else
            tape_put(stage, "to %llu", (unsigned long long)effect->value);
        tape_posted(stage, effect->message);
    }
    tape_put(stage, "\n");
    message_destroy(effect->message);
}

static inline void tape_effect(struct stage *stage, const struct effect *effect)
{
    switch ((enum effect_kind)effect->kind) {
    case EFFECT_TIMER:
        stage->timer_ms = effect->value;
        break;
    case EFFECT_PROOF:
        stage->proof = effect->value;
        break;
    case EFFECT_WELCOMED:
        stage->welcome_proof = stage->proof;
        tape_to_conn(stage, effect);
        break;
    case EFFECT_FAREWELL: /* says what the Close before it says */
        assert_int_equal(effect->detail, stage->closed);
        assert_string_equal((const char *)stage->turn.out.data + effect->offset,
                            stage->close_detail);
        break;
    case EFFECT_POST:
    case EFFECT_FORWARD:
    case EFFECT_CALL:
    case EFFECT_ROOM:
        tape_to_actor(stage, effect);
        break;
    case EFFECT_ANSWER:
        tape_answer(stage, effect->value,
                    (struct bytes){stage->turn.out.data + effect->offset, effect->size});
        tape_put(stage, "\n");
        break;
    case EFFECT_DONE:
        tape_put(stage, "done up to %llu\n", (unsigned long long)effect->value);
        break;
    case EFFECT_VOUCH:
        tape_put(stage, "vouch %llu\n", (unsigned long long)effect->value);
        break;
    case EFFECT_LINK:
        tape_link(stage, effect);
        tape_put(stage, "\n");
        break;
    default:
        tape_to_conn(stage, effect);
        break;
    }
}

static inline void stage_begin(struct stage *stage)
{
    stage->size = 0;
    stage->token_count = 0;
    stage->tape[0] = '\0';
    turn_begin(&stage->turn, STAGE_SELF, stage->turn.name, stage->now_ms, stage->wall_ms);
}

static inline void stage_end(struct stage *stage)
{
    for (size_t i = 0; i < stage->turn.count; i++)
        tape_effect(stage, &stage->turn.effects[i]);
    assert_null(stage->change);
    stage->change = stage->turn.change;
    if (stage->change != NULL)
        tape_change(stage, stage->change);
    if (output_settle(&stage->session, stage->output))
        tape_put(stage, "goes on\n");
    if (stage->turn.retire)
        tape_put(stage, "retire\n");
    turn_reset(&stage->turn);
}

/* --- setting up ------------------------------------------------------------------------------- */

static inline void stage_random(void *context, void *to, size_t size)
{
    struct stage *stage = context;
    memset(to, ++stage->random_next, size);
}

static inline uint64_t stage_wall(void *context)
{
    return ((struct stage *)context)->wall_ms;
}

static inline uint64_t stage_monotonic(void *context)
{
    return ((struct stage *)context)->now_ms * 1000000;
}

/* Limits small enough to stand at n and n + 1. */
static const struct limits stage_limits = {
    .session_heartbeat_ms = 15000,
    .session_resume_ms = 60000,
    .limits_frame_bytes = 1024,
    .limits_output_bytes = 4096,
    .limits_output_soft_bytes = 1024,
    .limits_inbox_messages = 4,
    .limits_inbox_bytes = 200,
    .limits_inbox_age_ms = 30000,
    .limits_transient_age_ms = 200,
    .limits_mailbox_messages = 100,
    .limits_turn_messages = 4,
    .limits_calls_per_user = 2000,
    .limits_one_way_calls_per_user = 3,
    .rooms_news_waiting = 3,
    .link_calls_max = 6,
    .limits_call_timeout_ms = 5000,
    .limits_call_timeout_max_ms = 20000,
    .link_frame_bytes = 4096,
    .link_park_ms = 10000,
    .link_grace_ms = 3000,
    .link_fetch_timeout_ms = 25000,
    .link_mail_items = 4,
    .link_mail_bytes = 8192,
    .inbox_keep_max_s = 1000,
    .inbox_stored_per_second = 3,
    .inbox_offline_per_hour = 2,
};

static const struct settings stage_settings = {
    .node = "n1",
    .requests_max = 5,
    .link_submits_max = 16,
    .node_boot = "boot-1",
};

/* The setup and teardown of every test. */
static inline int stage_setup(void **state)
{
    struct stage *stage = calloc(1, sizeof(*stage));
    assert_non_null(stage);
    stage->limits = stage_limits;
    stage->settings = stage_settings;
    stage->env = (struct env){stage_monotonic, stage_wall, stage_random, stage};
    stage->now_ms = STAGE_NOW_MS;
    stage->wall_ms = STAGE_WALL_MS;
    stage->metrics = metrics_create(1);
    assert_non_null(stage->metrics);
    stage->turn = (struct turn){.limits = &stage->limits,
                                .settings = &stage->settings,
                                .counters = &stage->counters,
                                .env = &stage->env,
                                .metrics = stage->metrics,
                                .name = "ann"};
    *state = stage;
    return 0;
}

static inline int stage_teardown(void **state)
{
    struct stage *stage = *state;
    if (stage->change != NULL && stage->change->cause != NULL)
        message_destroy(stage->change->cause);
    while (stage->change != NULL && stage->change->stored != NULL) {
        struct message *stored = &stage->change->stored->header;
        stage->change->stored = (struct deliver_message *)stored->next;
        message_destroy(stored);
    }
    free(stage->change);
    stage->change = NULL;
    stage_begin(stage);
    session_clear(&stage->session, &stage->turn);
    stage_end(stage);
    assert_int_equal(atomic_load(&stage->counters.calls_waiting), 0);
    if (stage->instance != NULL) {
        /* An instance ends with its mail handed over. */
        struct leave_message *leave = message_create(MESSAGE_LEAVE, sizeof(*leave));
        leave->begun = true;
        stage_begin(stage);
        instance_receive(&stage->instance, &leave->header, &stage->turn);
        instance_finish(&stage->instance, &stage->turn);
        instance_end(&stage->instance, &stage->turn);
        stage_end(stage);
    }
    stage_drop_mail(stage);
    buffer_fini(&stage->input);
    turn_fini(&stage->turn);
    metrics_destroy(stage->metrics);
    free(stage);
    return 0;
}

#define stage_test(function) cmocka_unit_test_setup_teardown(function, stage_setup, stage_teardown)

#endif
