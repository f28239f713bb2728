/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "proto/username.h"
#include "user/user.h"

/* A Call: it goes to an instance of the service, whose reply is the answer. Calls that wait for one
 * are counted, over all users too. */

enum { METHOD_BYTES_MAX = 128 };

void call_ended(struct turn *turn, uint32_t count)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&turn->counters->calls_waiting, count, memory_order_relaxed);
    CHECK(before >= count);
}

static uint64_t call_deadline_ms(const struct turn *turn, uint32_t asked_ms)
{
    uint32_t timeout_ms = asked_ms ? asked_ms : limits_call_timeout_ms(turn->limits);
    if (timeout_ms > limits_call_timeout_max_ms(turn->limits))
        timeout_ms = limits_call_timeout_max_ms(turn->limits);
    return turn->now_ms + timeout_ms;
}

void user_call(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (!username_valid(frame->call.service) || frame->call.method.size > METHOD_BYTES_MAX) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__INVALID_NAME,
                      "'service' is not a name, or 'method' is longer than 128 bytes");
        return;
    }
    if (frame->call.payload.size + 512 > link_frame_bytes(turn->limits)) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__TOO_LARGE,
                      "the payload exceeds what one link frame carries");
        return;
    }
    if (requests_calls(session->requests) >= limits_calls_per_user(turn->limits) ||
        atomic_load_explicit(&turn->counters->calls_waiting, memory_order_relaxed) >=
            link_calls_max(turn->limits)) {
        answer_refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__BUSY,
                      "too many calls in flight");
        return;
    }
    struct user_call_message *call =
        memory_level() == MEMORY_FULL
            ? NULL
            : user_call_create_traced(bytes_of_text(turn->name), frame->call.service,
                                      frame->call.method, frame->call.payload,
                                      turn_traceparent(turn, frame->call.traceparent));
    if (call == NULL) {
        answer_refuse_for_memory(session, turn, frame->id);
        return;
    }
    struct request request = {.id = frame->id,
                              .deadline_ms = call_deadline_ms(turn, frame->call.timeout_ms)};
    if (frame->id != 0)
        request.call =
            atomic_fetch_add_explicit(&turn->counters->call_last, 1, memory_order_relaxed) + 1;
    if (!answer_owe(session, turn, &request)) {
        message_destroy(&call->header);
        return;
    }
    if (request.call != 0)
        atomic_fetch_add_explicit(&turn->counters->calls_waiting, 1, memory_order_relaxed);
    call->caller = turn->self;
    call->epoch = session->epoch;
    call->request = frame->id;
    call->call = request.call;
    call->deadline_ms = request.deadline_ms;
    turn_count(turn, METRIC_calls, 1);
    turn_effect(turn, EFFECT_CALL, 0)->message = &call->header;
}
