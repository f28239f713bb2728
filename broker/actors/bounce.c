/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/bounce.h"

#include "actors/push.h"
#include "actors/refuse.h"
#include "actors/room_messages.h"
#include "actors/watch.h"
#include "backend.pb-c.h"
#include "base/memory.h"
#include "client.pb-c.h"

/* Who was let into a room is gone: so he is out of it. */
static void bounce_state(const struct room_state_message *state, struct turn *turn)
{
    if (!state->joined)
        return;
    struct room_leave_message *leave = message_create(MESSAGE_ROOM_LEAVE, sizeof(*leave));
    leave->user = state->user;
    leave->epoch = state->epoch;
    leave->cause = USHER__V1__ROOM_NEWS__CAUSE__LOST;
    leave->asker = 0;
    leave->token = 0;
    turn_post(turn, state->room, &leave->header);
}

/* The room has retired, and he was no member when it told them. */
static void bounce_pull(const struct room_pull_message *pull, struct turn *turn)
{
    struct room_state_message *state;
    MEMORY_MUST((state = room_state_create((struct bytes){0})) != NULL, "a RoomState");
    state->room = pull->room;
    state->user = pull->user;
    state->incarnation = pull->incarnation;
    state->epoch = pull->new_epoch != 0 ? pull->new_epoch : pull->epoch;
    state->gone = true;
    turn_post(turn, pull->user, &state->header);
}

/* He is gone, and in no room. */
static void bounce_look(const struct rooms_look_message *look, struct turn *turn)
{
    struct room_answer_message *answer;
    MEMORY_MUST((answer = room_answer_create(look->token, USHER__V1__ERROR__CODE__NOT_ONLINE,
                                             (struct bytes){0})) != NULL,
                "an answer");
    turn_post(turn, look->asker, &answer->header);
}

/* One that is stored for who is away came a moment too late for the actor that it was posted to,
 * and will find another. */
static void bounce_deliver(struct deliver_message *message, struct turn *turn)
{
    uint16_t code = USHER__V1__ERROR__CODE__NOT_ONLINE;
    if (message->keep_s != 0) {
        code = refusal_for_away(turn, message);
        code = code != 0 ? code : USHER__V1__ERROR__CODE__BUSY;
    }
    refuse_message(turn, message, code);
}

void bounce(struct message *message, struct turn *turn)
{
    turn_count(turn, METRIC_events_stale, 1);
    if (message->kind == MESSAGE_DELIVER) {
        bounce_deliver((struct deliver_message *)message, turn);
        return;
    }
    if (message->kind == MESSAGE_USER_CALL) {
        turn_effect(turn, EFFECT_CALL, 0)->message = message; /* to another instance */
        return;
    }
    if (message->kind == MESSAGE_LINK_REQUEST) {
        refuse_exchange(turn, ((struct link_request_message *)message)->exchange,
                        USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link is not known; say Hello again");
    } else if (message->kind == MESSAGE_BUNDLE) { /* whoever pushed waits for no answer */
        const struct push_bundle *bundle = push_bundle_of((struct bundle_message *)message);
        turn_count(turn, bundle->transient ? METRIC_transient_dropped : METRIC_messages_refused,
                   bundle->count);
    } else if (message->kind == MESSAGE_KICK) {
        struct kick_message *kick = (struct kick_message *)message;
        turn_result(turn, kick->by, kick->request, 0, 0, USHER__V1__ERROR__CODE__NOT_ONLINE);
    } else if (message->kind == MESSAGE_ROOM_INVITE || message->kind == MESSAGE_ROOM_EXPEL) {
        struct room_member_message *order = (struct room_member_message *)message;
        turn_result(turn, order->asker, order->token, 0, 0, USHER__V1__ERROR__CODE__NOT_ONLINE);
    } else if (message->kind == MESSAGE_ROOM_LEAVE) { /* so has the room */
        struct room_leave_message *leave = (struct room_leave_message *)message;
        turn_result(turn, leave->asker, leave->token, 0, leave->epoch, 0);
    } else if (message->kind == MESSAGE_ROOM_PULL) {
        bounce_pull((struct room_pull_message *)message, turn);
    } else if (message->kind == MESSAGE_ROOM_STATE) {
        bounce_state((struct room_state_message *)message, turn);
    } else if (message->kind == MESSAGE_WATCH_LIST) {
        const struct watch_list_message *list = (const struct watch_list_message *)message;
        watch_listed(turn, list->by, list->request, USHER__V1__RESULT__CODE__NOT_ONLINE, 0, NULL,
                     0);
    } else if (message->kind == MESSAGE_ROOMS_LOOK) {
        bounce_look((struct rooms_look_message *)message, turn);
    } else if (message->kind == MESSAGE_FRAMES) {
        turn_effect(turn, EFFECT_CONSUMED, ((struct frames_message *)message)->conn);
    } else if (message->kind == MESSAGE_RESUME) {
        struct resume_message *resume = (struct resume_message *)message;
        turn_count(turn, METRIC_resumes_rejected, 1);
        refuse_conn(turn, resume->conn, resume->id, USHER__V1__ERROR__CODE__RESUME_REJECTED,
                    "no such session to resume; log in", 0);
    }
    message_destroy(message);
}
