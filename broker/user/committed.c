/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/presence.h"
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "client.pb-c.h"
#include "user/company.h"
#include "user/shelf.h"
#include "user/user.h"

/* What a committed change means for the session, or one that could not be stored. Everybody who is
 * told of it is told here, so never before it is synced. */

static void detach_committed(struct session *session, struct change *change, struct turn *turn)
{
    CHECK(session->status == SESSION_IS_ONLINE && session->conn == 0 && change->cause == NULL);
    if (change->error != 0) {
        session->deadline_ms = turn->now_ms + CHANGE_RETRY_MS;
        session_keep_note(session, &change->note);
        return;
    }
    session->status = SESSION_IS_DETACHED;
    session->deadline_ms = turn->now_ms + session_resume_ms(turn->limits);
    turn_count(turn, METRIC_detached, 1);
    turn_count(turn, METRIC_sessions_online, (uint64_t)-1);
    turn_count(turn, METRIC_sessions_detached, 1);
    LOG(turn->log, DETACHED, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("cause", presence_cause_name(change->event.cause)));
}

void user_ended(struct session *session, struct turn *turn, uint8_t cause)
{
    CHECK(session->status != SESSION_NONE);
    turn_count(turn,
               session->status == SESSION_IS_ONLINE ? METRIC_sessions_online
                                                    : METRIC_sessions_detached,
               (uint64_t)-1);
    turn_count(turn,
               cause == USHER__V1__PRESENCE_EVENT__CAUSE__LOGOUT          ? METRIC_logouts
               : cause == USHER__V1__PRESENCE_EVENT__CAUSE__KICKED        ? METRIC_kicked
               : cause == USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED ? METRIC_token_expired
                                                                          : METRIC_expired,
               1);
    company_ended(session, turn, cause);
    session_clear(session, turn);
}

/* The window or the token of a login is over. While that cannot be stored the session goes on, as
 * everybody's does whose store fails. */
static void expire_committed(struct session *session, struct change *change, struct turn *turn)
{
    bool by_token = change->event.cause == USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED;
    if (change->error != 0 && by_token)
        session_put_off_token_end(session, turn->now_ms + CHANGE_RETRY_MS);
    else if (change->error != 0)
        session->deadline_ms = turn->now_ms + CHANGE_RETRY_MS;
    if (change->error != 0)
        return;
    if (session->conn != 0)
        refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__TOKEN_EXPIRED,
                    "the token of this login has expired; log in with a new one", 0, false);
    LOG(turn->log, OFFLINE, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("cause", presence_cause_name(change->event.cause)));
    user_ended(session, turn, change->event.cause);
}

void user_committed(struct session *session, struct change *change, struct turn *turn)
{
    CHECK(turn->begun && turn->change == NULL);
    if (change->kind == CHANGE_STORE)
        shelf_committed(session, change, turn);
    else if (change->kind == CHANGE_WINDOW)
        shelf_read(session, change, turn);
    else if (change->kind == CHANGE_ATTACH)
        attach_committed(session, change, turn);
    else if (change->kind == CHANGE_RESUME)
        attach_resume_committed(session, change, turn);
    else if (change->kind == CHANGE_DETACH)
        detach_committed(session, change, turn);
    else if (change->cause == NULL)
        expire_committed(session, change, turn);
    else if (change->cause->kind == MESSAGE_KICK)
        kick_committed(session, change, turn);
    else
        logout_committed(session, change, turn);
    if (change->cause != NULL)
        message_destroy(change->cause);
    change->cause = NULL;
    if (session->status == SESSION_NONE)
        turn->retire = true;
    else
        shelf_look(session, turn);
    if (session->status != SESSION_NONE && turn->change == NULL)
        session_arm(session, turn);
    session_check(session);
}
