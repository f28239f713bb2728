/* SPDX-License-Identifier: Apache-2.0 */
#include "user/user.h"
#include "actors/bounce.h"
#include "actors/refuse.h"

#include "backend.pb-c.h"
#include "base/check.h"
#include "client.pb-c.h"
#include "user/tracing.h"

/* The dispatch table of a user's actor, and the messages too small for a file of their own.
 *
 * After a session has ended its actor retires at the end of the turn; what arrives later bounces.
 * A message that finds a session of status NONE found an actor whose first login has not been
 * stored yet, or was refused. */

static user_handler *const handlers[MESSAGE_KINDS] = {
    [MESSAGE_ATTACH] = handle_attach,
    [MESSAGE_RESUME] = handle_resume,
    [MESSAGE_FRAMES] = handle_frames,
    [MESSAGE_MORE_FRAMES] = handle_more_frames,
    [MESSAGE_CONN_END] = handle_conn_end,
    [MESSAGE_WRITABLE] = handle_writable,
    [MESSAGE_DELIVER] = handle_deliver,
    [MESSAGE_BUNDLE] = handle_bundle,
    [MESSAGE_CALL_RESULT] = handle_call_result,
    [MESSAGE_KICK] = handle_kick,
    [MESSAGE_RESULT] = handle_result,
    [MESSAGE_TICK] = handle_tick,
    [MESSAGE_RESTORE] = handle_restore,
    [MESSAGE_STOP] = handle_stop,
    [MESSAGE_TRACE] = handle_trace,
};

void user_receive(struct session *session, struct message *message, struct turn *turn)
{
    CHECK(turn->begun && turn->change == NULL);
    user_handler *handler = message->kind < MESSAGE_KINDS ? handlers[message->kind] : NULL;
    if (handler == NULL) {
        /* A link id that points at a user's slot: the backend is told to say Hello again. */
        bounce(message, turn);
    } else {
        handler(session, message, turn);
        if (turn->change == NULL && session->status != SESSION_NONE)
            session_arm(session, turn);
    }
    if (session->status == SESSION_NONE && turn->change == NULL)
        turn->retire = true;
    session_check(session);
}

void handle_writable(struct session *session, struct message *message, struct turn *turn)
{
    const struct writable_message *writable = (const struct writable_message *)message;
    if (writable->go_on) {
        session->feeding = false;
        session_send_held(session, turn);
        session_feed(session, turn);
    } else if (writable->conn == session->conn && session->conn != 0) {
        session->flushed = true;
        turn_effect(turn, EFFECT_FLUSH, session->conn);
    }
    message_destroy(message);
}

void handle_deliver(struct session *session, struct message *message, struct turn *turn)
{
    struct deliver_message *deliver = (struct deliver_message *)message;
    if (deliver->epoch_wanted != 0 && deliver->epoch_wanted != session->epoch)
        refuse_message(turn, deliver, RESULT_STALE_EPOCH);
    else
        session_deliver(session, deliver, turn);
}

void handle_bundle(struct session *session, struct message *message, struct turn *turn)
{
    session_deliver_bundle(session, (struct bundle_message *)message, turn);
}

static const char *explain(uint16_t code)
{
    switch (code) {
    case USHER__V1__ERROR__CODE__NOT_ONLINE:
        return "that user has no session";
    case USHER__V1__ERROR__CODE__INBOX_FULL:
        return "the receiver's inbox is full, or holds your share of it";
    case USHER__V1__ERROR__CODE__BUSY:
        return "the receiver is busy";
    case USHER__V1__ERROR__CODE__TOO_LARGE:
        return "it would be larger than its receiver can get";
    case USHER__V1__ERROR__CODE__UNDELIVERED:
        return "the message was given up before it was acknowledged";
    case USHER__V1__ERROR__CODE__NO_SERVICE:
        return "no instance of that service is linked";
    case USHER__V1__ERROR__CODE__SERVICE_LOST:
        return "the instance that had the call is lost";
    default:
        return "";
    }
}

static uint32_t retry_hint_ms(uint16_t code)
{
    switch (code) {
    case USHER__V1__ERROR__CODE__BUSY:
        return 100;
    case USHER__V1__ERROR__CODE__INBOX_FULL:
    case USHER__V1__ERROR__CODE__NO_SERVICE:
    case USHER__V1__ERROR__CODE__SERVICE_LOST:
        return 1000;
    default:
        return 0;
    }
}

/* How a Send of this user ended. */
void handle_result(struct session *session, struct message *message, struct turn *turn)
{
    struct result_message *result = (struct result_message *)message;
    bool waits = result->asker_epoch == session->epoch &&
                 requests_find(session->requests, result->request) != NULL;
    if (!waits) {
        turn_count(turn, METRIC_replies_late, 1);
    } else {
        requests_remove(&session->requests, result->request);
        if (result->code == 0)
            answer_done(session, turn, result->request, result->epoch);
        else
            answer_error(session, turn, result->request, result->code, explain(result->code),
                         retry_hint_ms(result->code));
    }
    message_destroy(message);
}

void handle_call_result(struct session *session, struct message *message, struct turn *turn)
{
    struct call_result_message *result = (struct call_result_message *)message;
    const struct request *request = requests_find(session->requests, result->request);
    if (result->epoch != session->epoch || request == NULL || request->call != result->call) {
        turn_count(turn, METRIC_replies_late, 1);
    } else {
        requests_remove(&session->requests, result->request);
        session_calls_ended(turn, 1);
        turn_count(turn, result->code == 0 ? METRIC_calls_answered : METRIC_calls_lost, 1);
        if (result->code == 0)
            turn_mark(turn, HISTOGRAM_call_latency, result->stamp_us);
        if (result->code == 0)
            answer_reply(session, turn, result->request, result->status,
                         (struct bytes){result->payload, result->payload_size});
        else
            answer_error(session, turn, result->request, result->code, explain(result->code),
                         retry_hint_ms(result->code));
    }
    message_destroy(message);
}

void handle_tick(struct session *session, struct message *message, struct turn *turn)
{
    message_destroy(message);
    session->timer_ms = 0;
    struct request expired;
    while (requests_expire(&session->requests, turn->now_ms, &expired)) {
        turn_count(turn, METRIC_calls_timed_out, 1);
        session_calls_ended(turn, 1);
        answer_error(session, turn, expired.id, USHER__V1__ERROR__CODE__TIMEOUT,
                     "the service did not answer in time", 0);
    }
    session_age(session, turn);
    if (!session->stopping && session_token_left_ms(session, turn) == 0) {
        session_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED, NULL);
        return;
    }
    if (session->deadline_ms == 0 || session->deadline_ms > turn->now_ms)
        return;
    session->deadline_ms = 0;
    if (session->status == SESSION_IS_DETACHED && session->stopping)
        return; /* nobody can come back now: the next start gives a fresh window */
    if (session->status == SESSION_IS_DETACHED)
        session_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__EXPIRED, NULL);
    else if (session->status == SESSION_IS_ONLINE && session->conn == 0)
        session_detach(session, turn, session->loss_cause);
}

/* What was saved goes on under its numbers. Without a saved inbox they are not known: whatever a
 * resume says that it has seen, something may be missing. */
static void restore_inbox(struct session *session, struct restore_message *restore,
                          struct turn *turn)
{
    session->unnumbered = restore->unnumbered;
    session->loss_untold = restore->loss_untold;
    session->next_seq = restore->saved ? restore->next_seq : 1;
    for (struct deliver_message *message = restore->inbox; message != NULL;) {
        struct deliver_message *next = (struct deliver_message *)message->header.next;
        uint64_t age_ms = message->arrived_ms;
        message->arrived_ms = turn->now_ms > age_ms ? turn->now_ms - age_ms : 0;
        session_keep(session, message);
        message = next;
    }
}

void handle_restore(struct session *session, struct message *message, struct turn *turn)
{
    struct restore_message *restore = (struct restore_message *)message;
    CHECK(session->status == SESSION_NONE);
    session->epoch = restore->epoch;
    session->since_ms = restore->since_ms;
    session_set_token_end(session, turn, restore->token_ends_ms);
    session->acks = restore->acks;
    session->status = SESSION_IS_DETACHED;
    session->deadline_ms = turn->now_ms + session_resume_ms(turn->limits);
    for (unsigned i = 0; i < SECRET_BYTES; i++)
        session->secret[i] = restore->secret[i];
    session_show_proof(session, turn);
    session_set_details(session, restore->address, restore->client);
    restore_inbox(session, restore, turn);
    turn_count(turn, METRIC_sessions_detached, 1);
    message_destroy(message);
}

/* The process that could answer them ends: each gets its final answer now, and a Send or Call that
 * is on its way may still take effect. */
static void drain_requests(struct session *session, struct turn *turn)
{
    struct request request;
    while (requests_take(&session->requests, &request)) {
        session_calls_ended(turn, request.call != 0);
        answer_error(session, turn, request.id, USHER__V1__ERROR__CODE__DRAINING,
                     "the broker stops; this may have taken effect", 0);
    }
}

void handle_stop(struct session *session, struct message *message, struct turn *turn)
{
    uint32_t retry_after_ms = ((struct stop_message *)message)->retry_after_ms;
    bool later = ((struct stop_message *)message)->later;
    message_destroy(message);
    session->stopping = true;
    if (session->conn == 0 || later)
        return;
    drain_requests(session, turn);
    refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__SHUTDOWN,
                "the broker stops; come back and resume", retry_after_ms, false);
    session_detach(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__SHUTDOWN);
}

void handle_kick(struct session *session, struct message *message, struct turn *turn)
{
    struct kick_message *kick = (struct kick_message *)message;
    bool stale = kick->epoch != 0 && kick->epoch != session->epoch;
    if (session->status == SESSION_NONE || stale) {
        turn_result(turn, kick->by, kick->request, 0, session->epoch,
                    stale ? RESULT_STALE_EPOCH : USHER__V1__ERROR__CODE__NOT_ONLINE);
        message_destroy(message);
        return;
    }
    session_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__KICKED, message);
}
