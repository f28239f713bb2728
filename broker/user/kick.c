/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"
#include "backend.pb-c.h"
#include "client.pb-c.h"
#include "user/user.h"

/* A backend or an operator ends the session. Stored first, then who was kicked and who asked for it
 * are told. */

void user_kick(struct session *session, struct message *message, struct turn *turn)
{
    struct kick_message *kick = (struct kick_message *)message;
    bool stale = kick->epoch != 0 && kick->epoch != session->epoch;
    if (session->status == SESSION_NONE || stale) {
        turn_result(turn, kick->by, kick->request, 0, session->epoch,
                    stale ? RESULT_STALE_EPOCH : USHER__V1__ERROR__CODE__NOT_ONLINE);
        message_destroy(message);
        return;
    }
    change_end(session, turn, USHER__V1__PRESENCE_EVENT__CAUSE__KICKED, message);
    turn_note(turn, kick->detail, NULL, 0, kick->reason);
    turn_note_by(turn, kick->kicker);
}

void kick_committed(struct session *session, struct change *change, struct turn *turn)
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
    user_ended(session, turn, change->event.cause);
}
