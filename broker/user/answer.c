/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "actors/held.h"
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "proto/frame.h"
#include "user/tracing.h"

/* A request gets one final answer: to the connection that is bound, or, while the session is
 * detached or the connection has no room for a large one, kept until it can have it, within the
 * inbox's byte limit. Until then it is remembered by its id, because others give the answer; there
 * is always one, because whoever drops a message that somebody waits for says so. */

enum { RETRY_BUSY_MS = 100 };

bool answer_owe(struct session *session, struct turn *turn, const struct request *request)
{
    if (request->id == 0)
        return true;
    int error = requests_add(&session->requests, request, turn->settings->requests_max,
                             turn->settings->requests_key);
    if (error == 0)
        return true;
    CHECK(error != -EEXIST); /* user/frames.c has looked */
    answer_error(session, turn, request->id, USHER__V1__ERROR__CODE__BUSY,
                 "too many requests in flight", RETRY_BUSY_MS);
    return false;
}

void answer_forget(struct session *session, struct turn *turn)
{
    call_ended(turn, requests_calls(session->requests));
    requests_destroy(session->requests);
    session->requests = NULL;
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
        output_send(session, turn, offset);
    } else if (!hold(session, turn, offset)) {
        turn_count(turn, METRIC_replies_late, 1);
        turn->out.size = offset;
    }
}

/* One that is as large as a service likes. */
static void deliver_large_frame(struct session *session, struct turn *turn, size_t offset)
{
    bool goes_out = session->conn != 0 && output_takes(session, turn, turn->out.size - offset);
    if (goes_out || !hold(session, turn, offset))
        deliver_frame(session, turn, offset);
}

void answer_send_held(struct session *session, struct turn *turn)
{
    struct buffer *held = session->held;
    size_t done = 0;
    struct bytes frame;
    size_t used;
    while (held != NULL && held->size > done && session->conn != 0 &&
           frame_next((struct bytes){held->data + done, held->size - done}, SIZE_MAX, &frame,
                      &used) == 1 &&
           output_takes(session, turn, used)) {
        size_t offset = turn->out.size;
        MEMORY_MUST(buffer_append(&turn->out, held->data + done, used) == 0, "kept answers");
        output_send(session, turn, offset);
        done += used;
    }
    if (done == 0)
        return;
    CHECK(done <= held->size);
    buffer_consume(held, done);
    if (held->size == 0)
        held_fini(held);
}

static void send_done(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch,
                      bool dropped)
{
    size_t offset = turn->out.size;
    if (id == 0)
        return;
    MEMORY_MUST(broker_frame_done(&turn->out, id, epoch, dropped) == 0, "an answer");
    deliver_frame(session, turn, offset);
}

void answer_done(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch)
{
    trace_answer(session, turn, TRACE_ACKED, "done", id);
    send_done(session, turn, id, epoch, false);
}

void answer_stored(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch,
                   uint64_t mid)
{
    size_t start = turn->out.size;
    trace_answer(session, turn, TRACE_ACKED, "done", id);
    if (id == 0)
        return;
    MEMORY_MUST(broker_frame_stored(&turn->out, id, epoch, mid) == 0, "an answer");
    deliver_frame(session, turn, start);
}

void answer_published(struct session *session, struct turn *turn, uint64_t id, uint64_t offset)
{
    size_t start = turn->out.size;
    if (is_traced(session))
        tracing_point(
            session, turn,
            &(struct trace_point){
                .stage = TRACE_ACKED, .in = true, .kind = "done", .id = id, .offset = offset});
    if (id == 0)
        return;
    MEMORY_MUST(broker_frame_published(&turn->out, id, offset) == 0, "an answer");
    deliver_frame(session, turn, start);
}

void answer_dropped(struct session *session, struct turn *turn, uint64_t id, uint64_t epoch)
{
    trace_answer(session, turn, TRACE_DROPPED, "done", id);
    send_done(session, turn, id, epoch, true);
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

void answer_refuse(struct session *session, struct turn *turn, uint64_t id, uint32_t code,
                   const char *detail)
{
    turn_count(turn, METRIC_messages_refused, 1);
    answer_error(session, turn, id, code, detail, 0);
}

void answer_refuse_for_memory(struct session *session, struct turn *turn, uint64_t id)
{
    turn_count(turn, METRIC_messages_refused, 1);
    answer_error(session, turn, id, USHER__V1__ERROR__CODE__BUSY,
                 "memory is short (limits.memory_bytes)", RETRY_BUSY_MS);
}
