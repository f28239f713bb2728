/* SPDX-License-Identifier: Apache-2.0 */
#include "backend.pb-c.h"
#include "client.pb-c.h"
#include "user/company.h"
#include "user/user.h"

/* Time has passed (session_arm): calls are answered TIMEOUT, old messages given up, and a session
 * whose token or window is over ends. */

static void expire(struct session *session, struct turn *turn)
{
    change_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__EXPIRED, NULL);
    turn_note(turn, "nobody came back", "session.resume_ms", session_resume_ms(turn->limits), 0);
}

/* That his connection is lost could not be stored. */
static void detach_again(struct session *session, struct turn *turn)
{
    struct change_note note;
    bool noted = session_take_note(session, &note); /* before the change borrows of the details */
    change_detach(session, turn, session->loss_cause);
    if (noted)
        turn->change->note = note;
}

void user_tick(struct session *session, struct message *message, struct turn *turn)
{
    message_destroy(message);
    session->timer_ms = 0;
    struct request expired;
    while (requests_expire(&session->requests, turn->now_ms, &expired)) {
        turn_count(turn, METRIC_calls_timed_out, 1);
        call_ended(turn, 1);
        answer_error(session, turn, expired.id, USHER__V1__ERROR__CODE__TIMEOUT,
                     "the service did not answer in time", 0);
    }
    delivery_age(session, turn);
    company_tick(session, turn);
    if (!session->stopping && session_token_left_ms(session, turn) == 0) {
        change_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED, NULL);
        turn_note(turn, "auth.session_ends is with_token", NULL, 0, 0);
        return;
    }
    if (session->deadline_ms == 0 || session->deadline_ms > turn->now_ms)
        return;
    session->deadline_ms = 0;
    if (session->status == SESSION_IS_DETACHED && session->stopping)
        return; /* nobody can come back now: the next start gives a fresh window */
    if (session->status == SESSION_IS_DETACHED)
        expire(session, turn);
    else if (session->status == SESSION_IS_ONLINE && session->conn == 0)
        detach_again(session, turn);
}
