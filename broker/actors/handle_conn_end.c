/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/instance.h"
#include "actors/push.h"
#include "actors/user.h"
#include "base/check.h"
#include "backend.pb-c.h"
#include "client.pb-c.h"

/* The connection is lost or must go, and what a committed change means for the session. The late
 * end of a connection that was replaced meanwhile finds another one bound and does nothing: remove
 * by handle, never by name. */

enum { CHANGE_RETRY_MS = 1000 };

struct loss_row {
    uint32_t reason; /* 0: nobody is there to read a Close */
    uint8_t cause;
    enum metric_id metric;
    const char *detail;
};

static const struct loss_row losses[] = {
    [LOSS_GONE] = {0, USHER__V1__PRESENCE_EVENT__CAUSE__LOST, METRIC_COUNT, ""},
    [LOSS_PROTOCOL] = {USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                       USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL, METRIC_closed_protocol,
                       "a frame length of more than five bytes"},
    [LOSS_TOO_LARGE] = {USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                        USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL, METRIC_errors_too_large,
                        "a frame larger than frame_bytes_max"},
    [LOSS_SILENT] = {USHER__V1__CLOSE__REASON__HEARTBEAT_TIMEOUT,
                     USHER__V1__PRESENCE_EVENT__CAUSE__HEARTBEAT, METRIC_closed_heartbeat,
                     "nothing was heard for two heartbeats"},
    [LOSS_SLOW] = {USHER__V1__CLOSE__REASON__SLOW_CONSUMER,
                   USHER__V1__PRESENCE_EVENT__CAUSE__SLOW_CONSUMER, METRIC_closed_slow_consumer,
                   "the client does not read what it is sent"},
};

static void log_loss(struct session *session, const struct loss_row *row, enum loss loss,
                     struct turn *turn)
{
    if (row->metric != METRIC_COUNT)
        turn_count(turn, row->metric, 1);
    if (loss == LOSS_SILENT)
        LOG(turn->log, HEARTBEAT_TIMEOUT, LOG_S("user", turn->name),
            LOG_U("epoch", session->epoch));
    else if (loss == LOSS_SLOW)
        LOG(turn->log, SLOW_CONSUMER, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
    else if (loss != LOSS_GONE)
        LOG(turn->log, PROTOCOL_ERROR, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
            LOG_S("detail", row->detail));
}

void handle_conn_end(struct session *session, struct message *message, struct turn *turn)
{
    struct conn_end_message *end = (struct conn_end_message *)message;
    if (session->conn != end->conn || session->conn == 0) {
        turn_count(turn, METRIC_events_stale, 1);
        LOG(turn->log, STALE_EVENT, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
        message_destroy(message);
        return;
    }
    if (session->unread != NULL && end->loss != LOSS_SLOW) {
        /* What it sent before it ended comes first. */
        turn_post(turn, turn->self, message);
        return;
    }
    const struct loss_row *row = &losses[end->loss];
    log_loss(session, row, end->loss, turn);
    session_drop_frames(session, turn);
    if (row->reason != 0)
        conn_shut(turn, session->conn, row->reason, row->detail, 0, false);
    else
        turn_effect(turn, EFFECT_RELEASE, session->conn);
    message_destroy(message);
    session_detach(session, turn, row->cause);
}

static void detach_committed(struct session *session, struct change *change, struct turn *turn)
{
    if (change->error != 0) {
        session->deadline_ms = turn->now_ms + CHANGE_RETRY_MS;
        return;
    }
    session->status = SESSION_IS_DETACHED;
    session->deadline_ms = turn->now_ms + turn->settings->resume_ms;
    turn_count(turn, METRIC_detached, 1);
    turn_count(turn, METRIC_sessions_online, (uint64_t)-1);
    turn_count(turn, METRIC_sessions_detached, 1);
    LOG(turn->log, DETACHED, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("cause", presence_cause_name(change->event.cause)));
}

static void ended(struct session *session, struct turn *turn, uint8_t cause)
{
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
    uint64_t id = ((struct logout_message *)change->cause)->id;
    if (change->error != 0) {
        session->deadline_ms = turn->now_ms + CHANGE_RETRY_MS;
        answer_error(session, turn, id, USHER__V1__ERROR__CODE__UNAVAILABLE,
                     "the logout could not be stored; try again", CHANGE_RETRY_MS);
        return;
    }
    LOG(turn->log, LOGOUT, LOG_S("user", turn->name), LOG_U("epoch", session->epoch));
    answer_done(session, turn, id, session->epoch);
    conn_shut(turn, session->conn, USHER__V1__CLOSE__REASON__LOGGED_OUT, "", 0, false);
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
        LOG_S("by", kick->kicker), LOG_U("reason", kick->reason),
        LOG_S("detail", kick->detail));
    turn_result(turn, kick->by, kick->request, 0, session->epoch, 0);
    if (session->conn != 0)
        conn_shut(turn, session->conn, kick->reason, kick->detail, kick->retry_after_ms,
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
        conn_shut(turn, session->conn, USHER__V1__CLOSE__REASON__TOKEN_EXPIRED,
                  "the token of this login has expired; log in with a new one", 0, false);
    LOG(turn->log, OFFLINE, LOG_S("user", turn->name), LOG_U("epoch", session->epoch),
        LOG_S("cause", presence_cause_name(change->event.cause)));
    ended(session, turn, change->event.cause);
}

void user_committed(struct session *session, struct change *change, struct turn *turn)
{
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
}

void user_bounce(struct message *message, struct turn *turn)
{
    turn_count(turn, METRIC_events_stale, 1);
    if (message->kind == MESSAGE_DELIVER) {
        deliver_refuse(turn, (struct deliver_message *)message,
                       USHER__V1__ERROR__CODE__NOT_ONLINE);
        return;
    }
    if (message->kind == MESSAGE_USER_CALL) {
        turn_effect(turn, EFFECT_CALL, 0)->message = message; /* to another instance */
        return;
    }
    if (message->kind == MESSAGE_LINK_REQUEST) {
        instance_refuse(turn, ((struct link_request_message *)message)->exchange,
                        USHER__V1__REFUSED__CODE__STALE_LINK,
                        "this link is not known; say Hello again");
    } else if (message->kind == MESSAGE_BUNDLE) { /* whoever pushed waits for no answer */
        turn_count(turn, METRIC_messages_refused,
                   push_bundle_of((struct bundle_message *)message)->count);
    } else if (message->kind == MESSAGE_KICK) {
        struct kick_message *kick = (struct kick_message *)message;
        turn_result(turn, kick->by, kick->request, 0, 0, USHER__V1__ERROR__CODE__NOT_ONLINE);
    } else if (message->kind == MESSAGE_FRAMES) {
        turn_effect(turn, EFFECT_CONSUMED, ((struct frames_message *)message)->conn);
    } else if (message->kind == MESSAGE_RESUME) {
        struct resume_message *resume = (struct resume_message *)message;
        turn_count(turn, METRIC_resumes_rejected, 1);
        conn_refuse(turn, resume->conn, resume->id, USHER__V1__ERROR__CODE__RESUME_REJECTED,
                    "no such session to resume; log in", 0);
    }
    message_destroy(message);
}
