/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "client.pb-c.h"
#include "user/user.h"

/* The broker stops: who is connected gets his answers and a Close, and DETACHED is stored. */

/* The process that could answer them ends: each gets its final answer now, and a Send or Call that
 * is on its way may still take effect. */
static void drain_requests(struct session *session, struct turn *turn)
{
    struct request request;
    while (requests_take(&session->requests, &request)) {
        call_ended(turn, request.call != 0);
        answer_error(session, turn, request.id, USHER__V1__ERROR__CODE__DRAINING,
                     "the broker stops; this may have taken effect", 0);
    }
}

void user_stop(struct session *session, struct message *message, struct turn *turn)
{
    uint32_t retry_after_ms = ((struct stop_message *)message)->retry_after_ms;
    bool later = ((struct stop_message *)message)->later;
    const char *why = ((struct stop_message *)message)->why;
    message_destroy(message);
    session->stopping = true;
    if (session->conn == 0 || later)
        return;
    drain_requests(session, turn);
    refuse_shut(turn, session->conn, USHER__V1__CLOSE__REASON__SHUTDOWN,
                "the broker stops; come back and resume", retry_after_ms, false);
    change_detach(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__SHUTDOWN);
    turn_note(turn, why, NULL, 0, 0);
}
