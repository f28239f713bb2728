/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "user/shelf.h"
#include "user/user.h"

/* A session that an earlier process had, when this one starts: detached, with a whole window. */

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
        if (message->stored) {
            shelf_saw(session, turn, message->mid);
        } else {
            uint64_t age_ms = message->arrived_ms;
            message->arrived_ms = turn->now_ms > age_ms ? turn->now_ms - age_ms : 0;
        }
        delivery_keep(session, message);
        message = next;
    }
    if (restore->stored_left)
        shelf_left(session, turn);
}

void user_restore(struct session *session, struct message *message, struct turn *turn)
{
    struct restore_message *restore = (struct restore_message *)message;
    CHECK(session->status == SESSION_NONE);
    session->epoch = restore->epoch;
    session->since_ms = restore->since_ms;
    session_set_token_end(session, turn, restore->token_ends_ms);
    session->acks = restore->acks;
    session->listener = restore->listener;
    session->status = SESSION_IS_DETACHED;
    session->deadline_ms = turn->now_ms + session_resume_ms(turn->limits);
    for (unsigned i = 0; i < SECRET_BYTES; i++)
        session->secret[i] = restore->secret[i];
    session_show_proof(session, turn);
    session_set_details(session, restore->address, restore->client);
    session_set_rooms(session, restore_rooms(restore));
    restore_inbox(session, restore, turn);
    turn_count(turn, METRIC_sessions_detached, 1);
    message_destroy(message);
}
