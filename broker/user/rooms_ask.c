/* SPDX-License-Identifier: Apache-2.0 */
#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "proto/username.h"
#include "user/rooms.h"
#include "user/tracing.h"
#include "user/user.h"

/* What a client asks of rooms: Join, Leave, Publish. What his own turn knows (the class of the
 * name, his token, his allowance) is judged here; the rest by the room. */

static const uint64_t SECOND_US = 1000000;
static const uint64_t JOINS_US = 10 * 1000000;
enum { JOINS_MORE = 16 };

static bool refuse_name(struct session *session, struct turn *turn, uint64_t id, struct bytes name)
{
    if (username_valid(name))
        return false;
    answer_refuse(session, turn, id, USHER__V1__ERROR__CODE__INVALID_NAME,
                  "not a name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +");
    return true;
}

/* NULL: there is none, and he was told so. */
static const struct room_class *class_of(struct session *session, struct turn *turn, uint64_t id,
                                         struct bytes name)
{
    const struct room_class *class = room_class_of(turn->settings->room_classes, name);
    if (class == NULL)
        answer_refuse(session, turn, id, USHER__V1__ERROR__CODE__NO_ROOM,
                      "no class of rooms fits that name (rooms.classes)");
    return class;
}

static uint8_t leave_to(const struct session *session, enum room_who who, struct bytes name)
{
    switch (who) {
    case ROOM_CLIENT:
        return ROOM_MAY;
    case ROOM_TOKEN:
        return session_may_join(session, name) ? ROOM_MAY : ROOM_MAY_NOT;
    case ROOM_SERVICE:
        return ROOM_MAY_IF_OWNER;
    default:
        return ROOM_MAY_NOT;
    }
}

static void post_room(struct turn *turn, struct room_call *call)
{
    turn_effect(turn, EFFECT_ROOM, 0)->message = &call->header;
}

/* Each Join may make a room, which then stands empty for a while, and tells its members and its
 * owner of him. So he has as many at once as he may be in rooms, and some, and they come back
 * within JOINS_US. True: that was too many, and he was told so. */
static bool refuse_joins(struct session *session, uint64_t id, struct turn *turn)
{
    if (rooms_publish_per_second(turn->limits) == 0)
        return false;
    struct allowance *joins = &rooms_of(session)->joins;
    struct allowance_terms terms =
        allowance_over((uint32_t)rooms_per_user(turn->limits) + JOINS_MORE, JOINS_US);
    uint32_t wait_ms = allowance_wait_ms(joins, terms, turn->now_ms);
    if (wait_ms == 0) {
        allowance_spend(joins, terms, turn->now_ms);
        return false;
    }
    turn_count(turn, METRIC_room_joins_limited, 1);
    answer_error(session, turn, id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                 "more Joins in ten seconds than rooms.per_user and 16", wait_ms);
    return true;
}

void user_join(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    struct bytes name = frame->join.room;
    if (refuse_name(session, turn, frame->id, name))
        return;
    const struct room_class *class = class_of(session, turn, frame->id, name);
    if (class == NULL) {
        rooms_count_refusal(turn, USHER__V1__ERROR__CODE__NO_ROOM);
        return;
    }
    if (refuse_joins(session, frame->id, turn))
        return;
    bool full = rooms_are_full(session, turn); /* he may be in this one already: the room knows */
    struct room_join_message *join = room_join_create(name, bytes_of_text(turn->name));
    const struct request request = {.id = frame->id};
    if (join == NULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return;
    }
    if (!answer_owe(session, turn, &request)) {
        message_destroy(&join->call.header);
        return;
    }
    join->call.asker = turn->self; /* whose part of the mailbox it takes */
    join->call.may_create = full ? ROOM_MAY_NOT : leave_to(session, class->create, name);
    join->again_only = full;
    join->may_join = leave_to(session, class->join, name);
    join->user = turn->self;
    join->epoch = session->epoch;
    join->user_request = frame->id;
    join->recover = frame->join.recover;
    join->incarnation = frame->join.incarnation;
    join->offset = frame->join.offset;
    rooms_of(session)->asked++;
    post_room(turn, &join->call);
}

void user_leave(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    struct membership *membership = rooms_find_number(session, frame->leave.room);
    if (membership == NULL) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__NOT_MEMBER,
                      "you are not in that room");
        return;
    }
    uint64_t incarnation = membership->incarnation;
    rooms_answer_waiting(session, membership, USHER__V1__ERROR__CODE__NOT_MEMBER,
                         "you have left the room", turn);
    rooms_leave(turn, membership->room, session->epoch, USHER__V1__ROOM_NEWS__CAUSE__ASKED, 0, 0);
    rooms_remove(session, membership);
    answer_done(session, turn, frame->id, 0);
    rooms_say(session, turn, frame->leave.room, incarnation, USHER__V1__ROOM_STATE__STATE__LEFT,
              (struct bytes){0});
    rooms_pull(session, turn); /* the next one may, if this one was at it */
    rooms_drop_empty(session, turn);
}

/* True: he publishes too fast, and was told so. */
static bool refuse_rate(struct session *session, struct allowance *rate, uint64_t id,
                        struct turn *turn)
{
    uint32_t per_second = (uint32_t)rooms_publish_per_second(turn->limits);
    if (per_second == 0)
        return false;
    struct allowance_terms terms = allowance_over(per_second, SECOND_US);
    uint32_t wait_ms = allowance_wait_ms(rate, terms, turn->now_ms);
    if (wait_ms == 0) {
        allowance_spend(rate, terms, turn->now_ms);
        return false;
    }
    turn_count(turn, METRIC_room_messages_limited, 1);
    turn_count(turn, METRIC_room_messages_refused, 1);
    answer_error(session, turn, id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                 "more messages to one room than rooms.publish_per_second", wait_ms);
    return true;
}

static void publish(struct session *session, const struct client_frame *frame,
                    const struct membership *membership, struct turn *turn)
{
    struct bytes name = membership != NULL ? (struct bytes){0} : frame->publish.name;
    struct room_publish_message *message =
        room_publish_create(name, bytes_of_text(turn->name), frame->publish.payload);
    const struct request request = {.id = frame->id};
    if (message == NULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return;
    }
    if (!answer_owe(session, turn, &request)) {
        message_destroy(&message->call.header);
        return;
    }
    message->call.room = membership != NULL ? membership->room : 0;
    message->call.asker = turn->self;
    message->call.asker_epoch = session->epoch;
    message->call.request = frame->id;
    message->member_only = membership != NULL;
    message->time_ms = turn->wall_ms;
    if (is_traced(session) && membership != NULL)
        tracing_room(session, turn,
                     &(struct trace_point){.stage = TRACE_QUEUED,
                                           .in = true,
                                           .kind = "publish",
                                           .id = frame->id,
                                           .bytes = (uint32_t)frame->publish.payload.size},
                     membership->room);
    post_room(turn, &message->call);
}

static void publish_by_name(struct session *session, const struct client_frame *frame,
                            struct turn *turn)
{
    struct bytes name = frame->publish.name;
    if (refuse_name(session, turn, frame->id, name) ||
        class_of(session, turn, frame->id, name) == NULL ||
        refuse_rate(session, &rooms_of(session)->by_name, frame->id, turn))
        return;
    publish(session, frame, NULL, turn);
}

void user_publish(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (frame->publish.room == 0 && frame->publish.name.size > 0) {
        publish_by_name(session, frame, turn);
        return;
    }
    struct membership *membership = rooms_find_number(session, frame->publish.room);
    if (membership == NULL)
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__NOT_MEMBER,
                      "you are not in that room");
    else if (!refuse_rate(session, &membership->rate, frame->id, turn))
        publish(session, frame, membership, turn);
}
