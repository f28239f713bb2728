/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/client_frame.h"
#include "user/user.h"

/* An Ack: the messages up to its seq have come. */

void user_ack(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (frame->ack.seq > delivery_sent_seq(session))
        user_protocol_error(session, turn, frame->id, "an Ack beyond what was sent");
    else {
        delivery_acknowledge(session, turn, frame->ack.seq);
        answer_done(session, turn, frame->id, session->epoch);
    }
}
