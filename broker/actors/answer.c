/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "actors/held.h"
#include "actors/tracing.h"
#include "base/memory.h"
#include "proto/broker_frame.h"

/* Frames that answer. A request gets one final answer: to the connection that is bound, or, while
 * the session is detached, kept until it resumes, within the inbox's byte limit. */

static void deliver_frame(struct session *session, struct turn *turn, size_t offset)
{
    if (session->conn != 0) {
        turn_send(turn, session->conn, offset);
        return;
    }
    size_t size = turn->out.size - offset;
    if (session->held == NULL)
        MEMORY_MUST((session->held = calloc(1, sizeof(*session->held))) != NULL, "an answer");
    if (session->held->size + size <= turn->settings->inbox_bytes_max)
        MEMORY_MUST(held_append(session->held, turn->out.data + offset, size) == 0, "an answer");
    else
        turn_count(turn, METRIC_replies_late, 1);
    turn->out.size = offset;
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
    trace_answer(session, turn, TRACE_ACKED, "reply", id);
    if (id == 0)
        return;
    MEMORY_MUST(broker_frame_reply(&turn->out, id, status, payload) == 0, "an answer");
    deliver_frame(session, turn, offset);
}

void conn_error(struct turn *turn, uint64_t conn, uint64_t id, uint32_t code, const char *detail,
                uint32_t retry_after_ms)
{
    if (id == 0)
        return;
    size_t offset = turn->out.size;
    MEMORY_MUST(broker_frame_error(&turn->out, id, code, detail, retry_after_ms) == 0, "an answer");
    turn_send(turn, conn, offset);
}

void conn_refuse(struct turn *turn, uint64_t conn, uint64_t id, uint32_t code, const char *detail,
                 uint32_t retry_after_ms)
{
    size_t offset = turn->out.size;
    if (id != 0)
        MEMORY_MUST(broker_frame_error(&turn->out, id, code, detail, retry_after_ms) == 0,
                    "an answer");
    struct effect *effect = turn_effect(turn, EFFECT_UNBIND, conn);
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)(turn->out.size - offset);
}

void conn_shut(struct turn *turn, uint64_t conn, uint32_t reason, const char *detail,
               uint32_t retry_after_ms, bool do_not_return)
{
    size_t offset = turn->out.size;
    MEMORY_MUST(
        broker_frame_close(&turn->out, reason, detail, retry_after_ms, do_not_return) == 0,
        "an answer");
    turn_send(turn, conn, offset);
    turn_effect(turn, EFFECT_RELEASE, conn);
}
