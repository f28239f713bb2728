/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "user/rooms.h"
#include "user/tracing.h"
#include "user/user.h"

/* What rooms, and services about rooms, tell a user. */

enum { RETRY_MS = 1000 };

static const char *explain(uint16_t code)
{
    switch (code) {
    case USHER__V1__ERROR__CODE__NO_ROOM:
        return "there is no room of that name";
    case USHER__V1__ERROR__CODE__NOT_MEMBER:
        return "you are not in that room";
    case USHER__V1__ERROR__CODE__BUSY:
        return "the room is busy, or memory is short";
    case USHER__V1__ERROR__CODE__ROOM_FULL:
        return "there are as many rooms as there may be (rooms.count)";
    default:
        return "";
    }
}

static uint32_t retry_hint_ms(uint16_t code)
{
    bool passes = code == USHER__V1__ERROR__CODE__BUSY ||
                  code == USHER__V1__ERROR__CODE__NO_SERVICE ||
                  code == USHER__V1__ERROR__CODE__SERVICE_LOST;
    return passes ? RETRY_MS : 0;
}

/* --- the answer to a Join --------------------------------------------------------------------- */

static bool is_asked(const struct session *session, uint64_t id)
{
    return id != 0 && requests_find(session->requests, id) != NULL;
}

/* A Join waits for its answer no more. */
static void one_less(struct session *session)
{
    struct rooms *rooms = rooms_of(session);
    rooms->asked -= rooms->asked > 0;
}

void rooms_count_refusal(struct turn *turn, uint16_t code)
{
    switch (code) {
    case USHER__V1__ERROR__CODE__ROOM_FULL:
        turn_count(turn, METRIC_room_refused_members, 1);
        break;
    case RESULT_ROOMS_FULL:
        turn_count(turn, METRIC_room_refused_rooms_count, 1);
        break;
    case USHER__V1__ERROR__CODE__NO_ROOM:
        turn_count(turn, METRIC_room_refused_no_room, 1);
        break;
    case USHER__V1__ERROR__CODE__FORBIDDEN:
        turn_count(turn, METRIC_room_refused_forbidden, 1);
        break;
    case USHER__V1__ERROR__CODE__TIMEOUT:
        turn_count(turn, METRIC_room_refused_owner_silent, 1);
        break;
    case USHER__V1__ERROR__CODE__NO_SERVICE:
    case USHER__V1__ERROR__CODE__SERVICE_LOST:
        turn_count(turn, METRIC_room_refused_owner_gone, 1);
        break;
    default:
        turn_count(turn, METRIC_room_refused_busy, 1);
        break;
    }
}

static void join_refused(struct session *session, const struct room_state_message *state,
                         struct turn *turn)
{
    uint16_t code =
        state->code == RESULT_ROOMS_FULL ? USHER__V1__ERROR__CODE__ROOM_FULL : state->code;
    char why[DETAIL_BYTES_MAX + 1];
    message_copy_text(why, sizeof(why), (struct bytes){state->bytes, state->size});
    one_less(session);
    if (state->too_many)
        turn_count(turn, METRIC_room_refused_per_user, 1);
    else
        rooms_count_refusal(turn, state->code);
    if (is_asked(session, state->request)) {
        requests_remove(&session->requests, state->request);
        answer_error(session, turn, state->request, code,
                     why[0] != '\0'    ? why
                     : state->too_many ? "you are in as many rooms as one user may be"
                                       : explain(code),
                     retry_hint_ms(code));
    }
    rooms_drop_empty(session, turn);
}

void rooms_answer_waiting(struct session *session, struct membership *membership, uint32_t code,
                          const char *why, struct turn *turn)
{
    uint64_t id = membership->request;
    membership->request = 0;
    if (!is_asked(session, id))
        return;
    requests_remove(&session->requests, id);
    answer_error(session, turn, id, code, why, retry_hint_ms((uint16_t)code));
}

static void trace_state(struct session *session, const struct room_state_message *state,
                        enum trace_stage stage, struct turn *turn)
{
    bool answers = is_asked(session, state->request);
    if (is_traced(session))
        tracing_room(session, turn,
                     &(struct trace_point){.stage = stage,
                                           .in = answers,
                                           .kind = "room_state",
                                           .id = answers ? state->request : state->offset,
                                           .offset = answers ? state->offset : 0,
                                           .bytes = state->size},
                     state->room);
}

/* The frames go to the connection, and say up to where it has everything. */
static void hand_out(struct session *session, struct membership *membership,
                     const struct room_state_message *state, struct turn *turn)
{
    size_t offset = turn->out.size;
    if (state->size > 0) {
        MEMORY_MUST(buffer_append(&turn->out, state->bytes, state->size) == 0, "a RoomState");
        output_send(session, turn, offset);
    }
    if (is_asked(session, state->request))
        requests_remove(&session->requests, state->request);
    if (membership->request == state->request)
        membership->request = 0;
    membership->fresh = membership->resumed = membership->partial = false;
}

/* He asked as a member, and has left or was removed since, which the room is about to hear. */
static void joined_no_more(struct session *session, const struct room_state_message *state,
                           struct turn *turn)
{
    if (is_asked(session, state->request)) {
        requests_remove(&session->requests, state->request);
        answer_error(session, turn, state->request, USHER__V1__ERROR__CODE__NOT_MEMBER,
                     "you have left the room meanwhile", 0);
    }
    rooms_drop_empty(session, turn);
}

/* A pull brings the RoomState, and the answer in it: when he is back, or his connection has room
 * for it. It begins where this one did. */
static void put_off(struct session *session, struct membership *membership,
                    const struct room_state_message *state, struct turn *turn)
{
    if (is_asked(session, state->request))
        membership->request = state->request;
    if (!state->again || state->recovers)
        membership->offset = state->offset;
    if (session->conn == 0)
        return; /* all is new to him when he comes back */
    if (!state->again || state->recovers) {
        membership->fresh = !state->recovers;
        membership->resumed = state->recovers;
        membership->partial = state->recovers && state->partial;
    }
    membership->pull++;
    rooms_set(session, membership, MEMBER_BEHIND);
    rooms_pull(session, turn);
}

/* It names no position, and an earlier Join, whose RoomState is yet to come, may have. */
static void crossed(struct session *session, const struct room_state_message *state,
                    struct turn *turn)
{
    requests_remove(&session->requests, state->request);
    answer_error(session, turn, state->request, USHER__V1__ERROR__CODE__BUSY,
                 "another Join of the room is under way", RETRY_MS);
}

/* He is a member from now on; away, if the connection was lost meanwhile. */
static void joined(struct session *session, const struct room_state_message *state,
                   struct turn *turn)
{
    struct membership *membership = rooms_find(session, state->room, state->incarnation);
    bool known = membership != NULL;
    bool stays = state->again && !state->recovers;
    one_less(session);
    if (!known && state->again) {
        joined_no_more(session, state, turn);
        return;
    }
    if (!known)
        membership = rooms_add(session, state->room, state->incarnation);
    membership->carry = state->carry;
    if (!known && session->conn == 0)
        rooms_tell_away(session, turn, state->room);
    if (stays && is_asked(session, state->request) && is_asked(session, membership->request)) {
        crossed(session, state, turn);
        return;
    }
    if (is_asked(session, state->request))
        rooms_answer_waiting(session, membership, USHER__V1__ERROR__CODE__BUSY,
                             "another Join of the room came behind it", turn);
    bool pulls = stays && membership->state != MEMBER_LIVE; /* that brings all of it */
    if (session->conn == 0 || pulls || !rooms_fit(session, turn, state->size)) {
        put_off(session, membership, state, turn);
        return;
    }
    trace_state(session, state, state->request != 0 ? TRACE_ACKED : TRACE_SENT, turn);
    hand_out(session, membership, state, turn);
    if (stays)
        return; /* nothing has changed for him */
    membership->pull++;
    membership->offset = state->offset;
    rooms_set(session, membership, state->live ? MEMBER_LIVE : MEMBER_BEHIND);
    rooms_pull(session, turn);
}

/* --- the answer to a pull --------------------------------------------------------------------- */

static void pulled(struct session *session, const struct room_state_message *state,
                   struct turn *turn)
{
    struct membership *membership = rooms_find(session, state->room, state->incarnation);
    if (membership == NULL || membership->state != MEMBER_PULLING ||
        membership->pull != state->pull)
        return;
    if (!rooms_fit(session, turn, state->size)) {
        trace_state(session, state, TRACE_DROPPED, turn);
        membership->roster = true; /* it may have been in it, and the room has owed it no more */
        rooms_set(session, membership, MEMBER_BEHIND); /* asked for again when it does */
        return;
    }
    trace_state(session, state, TRACE_PULLED, turn);
    hand_out(session, membership, state, turn);
    membership->offset = state->offset;
    rooms_set(session, membership,
              state->live && !membership->roster ? MEMBER_LIVE : MEMBER_BEHIND);
    rooms_pull(session, turn);
}

/* The room was closed, and that did not reach him. */
static void room_gone(struct session *session, const struct room_state_message *state,
                      struct turn *turn)
{
    struct membership *membership = rooms_find(session, state->room, state->incarnation);
    if (membership == NULL)
        return;
    rooms_answer_waiting(session, membership, USHER__V1__ERROR__CODE__NO_ROOM, "the room is closed",
                         turn);
    if (session->conn == 0) {
        rooms_set(session, membership, MEMBER_WAS_CLOSED);
        return;
    }
    rooms_say(session, turn, room_number(membership->room), membership->incarnation,
              USHER__V1__ROOM_STATE__STATE__CLOSED, (struct bytes){0});
    rooms_remove(session, membership);
    rooms_pull(session, turn);
    rooms_drop_empty(session, turn);
}

/* Something was for him and found his mailbox full. */
static void owed(struct session *session, const struct room_state_message *state, struct turn *turn)
{
    struct membership *membership = rooms_find(session, state->room, state->incarnation);
    if (membership == NULL || membership->state != MEMBER_LIVE)
        return;
    membership->roster = true;
    rooms_set(session, membership, MEMBER_BEHIND);
    rooms_pull(session, turn);
}

/* Of a login that is over. Where a service had added him to stay, he stays. */
static void joined_late(struct session *session, const struct room_state_message *state,
                        struct turn *turn)
{
    bool stays = state->carry && session->status != SESSION_NONE &&
                 rooms_find(session, state->room, state->incarnation) == NULL;
    if (!stays) {
        rooms_leave(turn, state->room, state->epoch,
                    session->status == SESSION_NONE ? USHER__V1__ROOM_NEWS__CAUSE__EXPIRED
                                                    : USHER__V1__ROOM_NEWS__CAUSE__TAKEOVER,
                    0, 0);
        return;
    }
    struct membership *membership = rooms_add(session, state->room, state->incarnation);
    membership->carry = true;
    rooms_carry(session, membership, turn, state->epoch);
}

void user_room_state(struct session *session, struct message *message, struct turn *turn)
{
    const struct room_state_message *state = (const struct room_state_message *)message;
    bool late = session->status == SESSION_NONE || state->epoch != session->epoch;
    if (late && state->joined)
        joined_late(session, state, turn);
    else if (late)
        turn_count(turn, METRIC_events_stale, 1);
    else if (state->code != 0)
        join_refused(session, state, turn);
    else if (state->joined)
        joined(session, state, turn);
    else if (state->gone)
        room_gone(session, state, turn);
    else if (state->owed)
        owed(session, state, turn);
    else
        pulled(session, state, turn);
    message_destroy(message);
}

/* --- what is for all members ------------------------------------------------------------------ */

/* Whole, or what is behind his position. */
static void send_messages(struct session *session, struct membership *membership,
                          const struct room_bundle *bundle, struct turn *turn)
{
    size_t offset = turn->out.size;
    uint64_t last = bundle->first + bundle->count - 1;
    if (bundle->first > membership->offset) {
        MEMORY_MUST(buffer_append(&turn->out, bundle->bytes, bundle->size) == 0, "room messages");
    } else {
        uint32_t skip = bundle->ends[membership->offset - bundle->first];
        const struct bytes items = {bundle->bytes + skip, bundle->size - skip};
        MEMORY_MUST(broker_frame_room_messages(&turn->out, room_number(bundle->room),
                                               membership->offset + 1, items) == 0,
                    "room messages");
    }
    output_send(session, turn, offset);
    membership->offset = last;
}

static void take_messages(struct session *session, struct membership *membership,
                          const struct room_bundle *bundle, struct turn *turn)
{
    bool live = membership->state == MEMBER_LIVE;
    if (bundle->first + bundle->count - 1 <= membership->offset)
        return;
    if (!live || bundle->first > membership->offset + 1 ||
        !rooms_fit(session, turn, bundle->size)) {
        trace_bundle(session, turn, TRACE_DROPPED, bundle);
        turn_count(turn, METRIC_room_behind, live);
        if (live) {
            rooms_set(session, membership, MEMBER_BEHIND);
            rooms_pull(session, turn);
        }
        return;
    }
    trace_bundle(session, turn, TRACE_SENT, bundle);
    send_messages(session, membership, bundle, turn);
}

static void take_event(struct session *session, struct membership *membership,
                       const struct room_bundle *bundle, struct turn *turn)
{
    if (membership->state == MEMBER_AWAY)
        return;
    if (membership->state != MEMBER_LIVE || !rooms_fit(session, turn, bundle->size)) {
        membership->roster = true;
        if (membership->state == MEMBER_LIVE)
            rooms_set(session, membership, MEMBER_BEHIND);
        rooms_pull(session, turn);
        return;
    }
    trace_bundle(session, turn, TRACE_SENT, bundle);
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, bundle->bytes, bundle->size) == 0, "a room's event");
    output_send(session, turn, offset);
}

static void take_closed(struct session *session, struct membership *membership,
                        const struct room_bundle *bundle, struct turn *turn)
{
    rooms_answer_waiting(session, membership, USHER__V1__ERROR__CODE__NO_ROOM, "the room is closed",
                         turn);
    if (session->conn == 0) {
        rooms_set(session, membership, MEMBER_WAS_CLOSED);
        return;
    }
    trace_bundle(session, turn, TRACE_SENT, bundle);
    bool whole = membership->offset >= bundle->first; /* also if his roster is not */
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, bundle->bytes + (whole ? 0 : bundle->size),
                              whole ? bundle->size : bundle->second_size) == 0,
                "a RoomState");
    output_send(session, turn, offset);
    rooms_remove(session, membership);
    rooms_pull(session, turn);
    rooms_drop_empty(session, turn);
}

void user_room_bundle(struct session *session, struct message *message, struct turn *turn)
{
    const struct room_bundle *bundle = room_bundle_of((struct room_bundle_message *)message);
    struct membership *membership = rooms_find(session, bundle->room, bundle->incarnation);
    if (membership == NULL)
        turn_count(turn, METRIC_events_stale, 1);
    else if (bundle->kind == ROOM_MESSAGES)
        take_messages(session, membership, bundle, turn);
    else if (bundle->kind == ROOM_EVENT)
        take_event(session, membership, bundle, turn);
    else
        take_closed(session, membership, bundle, turn);
    message_destroy(message);
}

/* --- what services want of him ---------------------------------------------------------------- */

/* 0, or why it cannot be. */
static uint16_t judge(const struct session *session, const struct room_member_message *message)
{
    if (session->status == SESSION_NONE)
        return USHER__V1__ERROR__CODE__NOT_ONLINE;
    if (message->epoch != 0 && message->epoch != session->epoch)
        return RESULT_STALE_EPOCH;
    return message->room == 0 ? USHER__V1__ERROR__CODE__NO_ROOM : 0;
}

/* Asks the room for him, with the service as the one who hears of it. */
static void invite(struct session *session, const struct room_member_message *message,
                   struct turn *turn)
{
    struct room_join_message *join;
    MEMORY_MUST((join = room_join_create(room_member_name(message), bytes_of_text(turn->name))) !=
                    NULL,
                "an invitation");
    join->call.asker = message->asker;
    join->call.request = message->token;
    join->call.from_service = true;
    join->may_join = ROOM_MAY;
    join->user = turn->self;
    join->epoch = session->epoch;
    join->carry = message->carry;
    rooms_of(session)->asked++;
    turn_effect(turn, EFFECT_ROOM, 0)->message = &join->call.header;
}

void user_room_invite(struct session *session, struct message *message, struct turn *turn)
{
    const struct room_member_message *invitation = (const struct room_member_message *)message;
    uint16_t code = judge(session, invitation);
    if (code == 0 && rooms_find(session, invitation->room, 0) == NULL &&
        rooms_are_full(session, turn))
        code = RESULT_ROOMS_FULL;
    turn_count(turn, METRIC_room_refused_per_user, code == RESULT_ROOMS_FULL);
    if (code != 0)
        turn_result(turn, invitation->asker, invitation->token, 0, session->epoch, code);
    else
        invite(session, invitation, turn);
    message_destroy(message);
}

void user_room_expel(struct session *session, struct message *message, struct turn *turn)
{
    const struct room_member_message *order = (const struct room_member_message *)message;
    uint16_t code = judge(session, order);
    struct membership *membership = code == 0 ? rooms_find(session, order->room, 0) : NULL;
    if (code == 0 && membership == NULL)
        code = USHER__V1__ERROR__CODE__NOT_MEMBER;
    if (code != 0) {
        turn_result(turn, order->asker, order->token, 0, session->epoch, code);
        message_destroy(message);
        return;
    }
    rooms_answer_waiting(session, membership, USHER__V1__ERROR__CODE__NOT_MEMBER,
                         "a service has removed you from the room", turn);
    rooms_leave(turn, membership->room, session->epoch, USHER__V1__ROOM_NEWS__CAUSE__SERVICE,
                order->asker, order->token);
    if (session->conn == 0) {
        rooms_set(session, membership, MEMBER_WAS_REMOVED);
    } else {
        rooms_say(session, turn, room_number(membership->room), membership->incarnation,
                  USHER__V1__ROOM_STATE__STATE__REMOVED, room_member_detail(order));
        rooms_remove(session, membership);
        rooms_pull(session, turn);
    }
    message_destroy(message);
    rooms_drop_empty(session, turn);
}
