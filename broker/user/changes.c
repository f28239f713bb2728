/* SPDX-License-Identifier: Apache-2.0 */
#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "user/company.h"
#include "user/session.h"

/* The changes of a session that backends hear of. Only the user's own turn makes them, so the
 * chain of a user is serial by construction: ONLINE, then any number of DETACHED and RESUMED,
 * then OFFLINE or the next ONLINE that names the epoch it replaces.
 *
 * A change that the store refuses is tried again after CHANGE_RETRY_MS where nobody waits for an
 * answer (a lost connection, an expired window); otherwise whoever asked is told. */

void change_detach(struct session *session, struct turn *turn, uint8_t cause)
{
    CHECK(session->status == SESSION_IS_ONLINE);
    session->conn = 0;
    session->loss_cause = cause;
    company_lost(session, turn);
    struct change *change;
    MEMORY_MUST((change = turn_change(turn, CHANGE_DETACH, NULL)) != NULL, "a change");
    session_describe(session, turn, change, USHER__V1__PRESENCE_EVENT__KIND__DETACHED, cause);
    change->event.until_ms = turn->wall_ms + session_resume_ms(turn->limits);
}

void change_end(struct session *session, struct turn *turn, uint8_t cause, struct message *because)
{
    CHECK(session->status != SESSION_NONE);
    struct change *change;
    MEMORY_MUST((change = turn_change(turn, CHANGE_END, because)) != NULL, "a change");
    session_describe(session, turn, change, USHER__V1__PRESENCE_EVENT__KIND__OFFLINE, cause);
    change->remove = true;
}
