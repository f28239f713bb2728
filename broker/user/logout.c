/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "user/user.h"

/* A Logout: answered when the end of the session is stored. While that fails the session goes on,
 * and the client is told when to try again. */

void user_logout(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    uint32_t wait_ms = session_logout_wait_ms(session, turn);
    if (wait_ms > 0) { /* or each would be one more transaction for a store that fails */
        answer_error(session, turn, frame->id, USHER__V1__ERROR__CODE__RATE_LIMITED,
                     "the last logout could not be stored; try again later", wait_ms);
        return;
    }
    struct message *cause = message_create(MESSAGE_LOGOUT, sizeof(struct logout_message));
    ((struct logout_message *)cause)->id = frame->id;
    change_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__LOGOUT, cause);
}

void logout_committed(struct session *session, struct change *change, struct turn *turn)
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
    user_ended(session, turn, change->event.cause);
}
