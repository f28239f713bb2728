/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/held.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/frame.h"
#include "user/tracing.h"

/* Frames to one client.
 *
 * Nobody is closed because of what others send to him while he reads: a message or a Reply goes to
 * the connection only while little waits in it (session_takes), and otherwise waits here, in the
 * inbox or among the held answers, whose limits refuse who sends. What he causes himself (Done,
 * Error, Pong, all of them small) goes out at once and has the room between that mark and
 * limits.output_bytes.
 *
 * What waits goes on in steps: a turn hands out until the mark is passed; when its effects are done
 * the session learns how much the socket has left (session_settle), and a turn goes on when nothing
 * is left or something could be written. So while anything waits, either a turn is on its way or
 * the connection holds bytes, and then it tells when it can be written to (MESSAGE_WRITABLE).
 *
 * A request gets one final answer: to the connection that is bound, or, while the session is
 * detached, kept until it resumes, within the inbox's byte limit. */

void session_send(struct session *session, struct turn *turn, size_t offset)
{
    CHECK(session->conn != 0 && offset <= turn->out.size);
    size_t size = turn->out.size - offset;
    if (session->output != SESSION_OUTPUT_SHUT)
        session->output = size < SESSION_OUTPUT_SHUT - 1 - session->output
                              ? session->output + (uint32_t)size
                              : SESSION_OUTPUT_SHUT - 1;
    turn_send(turn, session->conn, offset);
}

bool session_takes(const struct session *session, const struct turn *turn, size_t size)
{
    uint64_t max = output_max(turn->limits);
    return session->output == 0 ||
           (session->output <= output_window(turn->limits) &&
            session->output + size <= max - max / 4); /* the rest is for his own answers */
}

bool session_waits(const struct session *session)
{
    return (session->inbox != NULL && session->inbox->waiting > 0) ||
           (session->held != NULL && session->held->size > 0);
}

bool session_settle(struct session *session, uint32_t output)
{
    session->output = output;
    bool goes_on = session->conn != 0 && !session->feeding && (output == 0 || session->flushed) &&
                   session_waits(session);
    session->flushed = false;
    session->feeding = session->feeding || goes_on;
    return goes_on;
}

/* False: there is no room for it. */
static bool hold(struct session *session, struct turn *turn, size_t offset)
{
    size_t size = turn->out.size - offset;
    if (session->held == NULL)
        MEMORY_MUST((session->held = calloc(1, sizeof(*session->held))) != NULL, "an answer");
    if (session->held->size + size > limits_inbox_bytes(turn->limits))
        return false;
    MEMORY_MUST(held_append(session->held, turn->out.data + offset, size) == 0, "an answer");
    turn->out.size = offset;
    return true;
}

static void deliver_frame(struct session *session, struct turn *turn, size_t offset)
{
    if (session->conn != 0) {
        session_send(session, turn, offset);
    } else if (!hold(session, turn, offset)) {
        turn_count(turn, METRIC_replies_late, 1);
        turn->out.size = offset;
    }
}

/* One that is as large as a service likes. */
static void deliver_large_frame(struct session *session, struct turn *turn, size_t offset)
{
    bool goes_out = session->conn != 0 && session_takes(session, turn, turn->out.size - offset);
    if (goes_out || !hold(session, turn, offset))
        deliver_frame(session, turn, offset);
}

void session_send_held(struct session *session, struct turn *turn)
{
    struct buffer *held = session->held;
    size_t done = 0;
    struct bytes frame;
    size_t used;
    while (held != NULL && held->size > done && session->conn != 0 &&
           frame_next((struct bytes){held->data + done, held->size - done}, SIZE_MAX, &frame,
                      &used) == 1 &&
           session_takes(session, turn, used)) {
        size_t offset = turn->out.size;
        MEMORY_MUST(buffer_append(&turn->out, held->data + done, used) == 0, "kept answers");
        session_send(session, turn, offset);
        done += used;
    }
    if (done == 0)
        return;
    CHECK(done <= held->size);
    buffer_consume(held, done);
    if (held->size == 0)
        held_fini(held);
}

void answer_done(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch)
{
    size_t offset = turn->out.size;
    trace_answer(session, turn, TRACE_ACKED, "done", id);
    if (id == 0)
        return;
    MEMORY_MUST(broker_frame_done(&turn->out, id, epoch) == 0, "an answer");
    deliver_frame(session, turn, offset);
}

void answer_error(struct session *session, struct turn *turn, uint64_t id, uint32_t code,
                  const char *detail, uint32_t retry_after_ms)
{
    size_t offset = turn->out.size;
    trace_answer(session, turn, TRACE_REFUSED, "error", id);
    if (id == 0)
        return;
    MEMORY_MUST(broker_frame_error(&turn->out, id, code, detail, retry_after_ms) == 0, "an answer");
    deliver_frame(session, turn, offset);
}

void answer_reply(struct session *session, struct turn *turn, uint64_t id, uint32_t status,
                  struct bytes payload)
{
    size_t offset = turn->out.size;
    if (id == 0)
        return;
    if (broker_frame_reply_size(id, status, payload) > limits_frame_bytes(turn->limits)) {
        turn_count(turn, METRIC_errors_too_large, 1);
        answer_error(session, turn, id, USHER__V1__ERROR__CODE__TOO_LARGE,
                     "the reply exceeds the frame limit", 0);
        return;
    }
    trace_answer(session, turn, TRACE_ACKED, "reply", id);
    MEMORY_MUST(broker_frame_reply(&turn->out, id, status, payload) == 0, "an answer");
    deliver_large_frame(session, turn, offset);
}
