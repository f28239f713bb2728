/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "proto/broker_frame.h"
#include "proto/client_frame.h"
#include "user/user.h"

/* A Ping: the Pong has the time of the node. */

void user_ping(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    size_t offset = turn->out.size;
    MEMORY_MUST(broker_frame_pong(&turn->out, frame->id, frame->ping.stamp, turn->wall_ms) == 0,
                "a Pong");
    output_send(session, turn, offset);
}
