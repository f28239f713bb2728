/* SPDX-License-Identifier: Apache-2.0 */
#include "user/user.h"
#include "actors/bounce.h"
#include "base/check.h"
#include "user/company.h"
#include "user/shelf.h"
#include "user/tracing.h"

/* The dispatch table of a user's actor.
 *
 * After a session has ended its actor retires at the end of the turn; what arrives later bounces.
 * A message that finds a session of status NONE found an actor whose first login has not been
 * stored yet, or was refused. */

static user_handler *const handlers[MESSAGE_KINDS] = {
    [MESSAGE_ATTACH] = user_attach,
    [MESSAGE_RESUME] = user_resume,
    [MESSAGE_FRAMES] = user_frames,
    [MESSAGE_MORE_FRAMES] = user_more_frames,
    [MESSAGE_CONN_END] = user_conn_end,
    [MESSAGE_WRITABLE] = user_writable,
    [MESSAGE_DELIVER] = user_deliver,
    [MESSAGE_BUNDLE] = user_bundle,
    [MESSAGE_CALL_RESULT] = user_call_result,
    [MESSAGE_KICK] = user_kick,
    [MESSAGE_RESULT] = user_result,
    [MESSAGE_WATCHED] = user_watched,
    [MESSAGE_WATCHED_MANY] = user_watched_many,
    [MESSAGE_WATCH_LIST] = user_watch_list,
    [MESSAGE_TICK] = user_tick,
    [MESSAGE_RESTORE] = user_restore,
    [MESSAGE_MOVED] = user_moved,
    [MESSAGE_STOP] = user_stop,
    [MESSAGE_TRACE] = user_trace,
    [MESSAGE_ROOM_INVITE] = user_room_invite,
    [MESSAGE_ROOM_EXPEL] = user_room_expel,
    [MESSAGE_ROOM_STATE] = user_room_state,
    [MESSAGE_ROOM_BUNDLE] = user_room_bundle,
    [MESSAGE_ROOMS_LOOK] = user_rooms_look,
};

void user_receive(struct session *session, struct message *message, struct turn *turn)
{
    CHECK(turn->begun && (turn->change == NULL || shelf_joins(turn, message)));
    user_handler *handler = message->kind < MESSAGE_KINDS ? handlers[message->kind] : NULL;
    if (handler == NULL) {
        /* A link id that points at a user's slot: the backend is told to say Hello again. */
        bounce(message, turn);
    } else {
        handler(session, message, turn);
        if (turn->change == NULL && session->status != SESSION_NONE)
            shelf_look(session, turn);
        if (turn->change == NULL && session->status != SESSION_NONE)
            session_arm(session, turn);
    }
    if (session->status == SESSION_NONE && turn->change == NULL)
        turn->retire = true;
    session_check(session);
}

void user_writable(struct session *session, struct message *message, struct turn *turn)
{
    const struct writable_message *writable = (const struct writable_message *)message;
    if (writable->go_on) {
        session->feeding = false;
        answer_send_held(session, turn);
        delivery_feed(session, turn);
        company_feed(session, turn);
    } else if (writable->conn == session->conn && session->conn != 0) {
        session->flushed = true;
        turn_effect(turn, EFFECT_FLUSH, session->conn);
    }
    message_destroy(message);
}
