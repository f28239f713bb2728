/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/presence.h"
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "client.pb-c.h"
#include "user/user.h"

/* What a committed change means for the session, or one that could not be stored. Everybody who is
 * told of it is told here, so never before it is synced. */

enum { CHANGE_RETRY_MS = 1000 };

static void detach_committed(struct session *session, struct change *change, struct turn *turn)
{
    CHECK(session->status == SESSION_IS_ONLINE && session->conn == 0 && change->cause == NULL);
    if (change->error != 0) {
        session->deadline_ms = turn->now_ms + CHANGE_RETRY_MS;
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

static void ended(struct session *session, struct turn *turn, uint8_t cause)
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
    session_clear(session, turn);
}

static void logout_committed(struct session *session, struct change *change, struct turn *turn)
{
    CHECK(change->cause->kind == MESSAGE_LOGOUT && session->conn != 0);
    uint64_t id = ((struct logout_message *)change->cause)->id;
    if (change->error != 0) {
        session->deadline_ms = turn->now_ms + CHANGE_RETRY_MS;
        answer_error(session, turn, id, USHER__V1__ERROR__CODE__UNAVAILABLE,
                     "the logout could not be stored; try again", CHANGE_RETRY_MS);
        return;
    }
    LOG(turn->log, LOGOUT, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
    answer_done(session, turn, id, session->epoch);
    refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__LOGGED_OUT, "", 0, false);
    ended(session, turn, change->event.cause);
}

static void kick_committed(struct session *session, struct change *change, struct turn *turn)
{
    struct kick_message *kick = (struct kick_message *)change->cause;
    if (change->error != 0) {
        turn_result(turn, kick->by, kick->request, 0, session->epoch,
                    USHER__V1__ERROR__CODE__UNAVAILABLE);
        return;
    }
    LOG(turn->log, KICKED, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("by", kick->kicker), LOG_U("reason", kick->reason), LOG_S("detail", kick->detail));
    turn_result(turn, kick->by, kick->request, 0, session->epoch, 0);
    if (session->conn != 0)
        refuse_shut(turn, session->conn, kick->reason, kick->detail, kick->retry_after_ms,
                    kick->do_not_return);
    ended(session, turn, change->event.cause);
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
    ended(session, turn, change->event.cause);
}

void user_committed(struct session *session, struct change *change, struct turn *turn)
{
    CHECK(turn->begun && turn->change == NULL);
    if (change->kind == CHANGE_ATTACH)
        attach_committed(session, change, turn);
    else if (change->kind == CHANGE_RESUME)
        resume_committed(session, change, turn);
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
        session_arm(session, turn);
    session_check(session);
}
