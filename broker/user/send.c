/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/client_frame.h"
#include "proto/username.h"
#include "user/user.h"

/* Requests of a client that others answer: Send (by the receiver's actor) and Call (by an
 * instance of the service). With an id, each is remembered until its answer comes; there is
 * always one, because whoever drops a message that somebody waits for says so. */

enum { METHOD_BYTES_MAX = 128, RETRY_BUSY_MS = 100 };

/* True: remembered, or nothing to remember. */
static bool remember(struct session *session, struct turn *turn, const struct request *request)
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

void session_calls_ended(struct turn *turn, uint32_t count)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&turn->counters->calls_waiting, count, memory_order_relaxed);
    CHECK(before >= count);
}

void session_forget_requests(struct session *session, struct turn *turn)
{
    session_calls_ended(turn, requests_calls(session->requests));
    requests_destroy(session->requests);
    session->requests = NULL;
}

static void refuse(struct session *session, struct turn *turn, uint64_t id, uint32_t code,
                   const char *detail)
{
    turn_count(turn, METRIC_messages_refused, 1);
    answer_error(session, turn, id, code, detail, 0);
}

static void refuse_for_memory(struct session *session, struct turn *turn, uint64_t id)
{
    turn_count(turn, METRIC_messages_refused, 1);
    answer_error(session, turn, id, USHER__V1__ERROR__CODE__BUSY,
                 "memory is short (limits.memory_bytes)", RETRY_BUSY_MS);
}

void handle_send(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (!username_valid(frame->send.to)) {
        refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__INVALID_NAME,
               "'to' is not a name: 1 to 64 of A-Z a-z 0-9 . _ - @ : +");
        return;
    }
    struct deliver_message *message =
        deliver_create(bytes_of_text(turn->name), frame->send.payload);
    if (message == NULL) {
        refuse_for_memory(session, turn, frame->id);
        return;
    }
    struct request request = {.id = frame->id};
    if (!remember(session, turn, &request)) {
        message_destroy(&message->header);
        return;
    }
    message->sender = turn->self;
    message->sender_epoch = session->epoch;
    message->request = frame->id;
    message->until_delivered = frame->send.until == USHER__V1__SEND__UNTIL__DELIVERED;
    message->time_ms = turn->wall_ms;
    message->arrived_ms = turn->now_ms;
    message->stamp_us = turn->stamp_us;
    size_t offset = turn->out.size;
    MEMORY_MUST(buffer_append(&turn->out, frame->send.to.data, frame->send.to.size) == 0, "a name");
    struct effect *effect = turn_effect(turn, EFFECT_FORWARD, 0);
    effect->message = &message->header;
    effect->offset = (uint32_t)offset;
    effect->size = (uint32_t)frame->send.to.size;
}

static uint64_t call_deadline_ms(const struct turn *turn, uint32_t asked_ms)
{
    uint32_t timeout_ms = asked_ms ? asked_ms : limits_call_timeout_ms(turn->limits);
    if (timeout_ms > limits_call_timeout_max_ms(turn->limits))
        timeout_ms = limits_call_timeout_max_ms(turn->limits);
    return turn->now_ms + timeout_ms;
}

void handle_call(struct session *session, const struct client_frame *frame, struct turn *turn)
{
    if (!username_valid(frame->call.service) || frame->call.method.size > METHOD_BYTES_MAX) {
        refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__INVALID_NAME,
               "'service' is not a name, or 'method' is longer than 128 bytes");
        return;
    }
    if (frame->call.payload.size + 512 > link_frame_bytes(turn->limits)) {
        refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__TOO_LARGE,
               "the payload exceeds what one link frame carries");
        return;
    }
    if (requests_calls(session->requests) >= limits_calls_per_user(turn->limits) ||
        atomic_load_explicit(&turn->counters->calls_waiting, memory_order_relaxed) >=
            link_calls_max(turn->limits)) {
        refuse(session, turn, frame->id, USHER__V1__ERROR__CODE__BUSY, "too many calls in flight");
        return;
    }
    struct user_call_message *call =
        memory_level() == MEMORY_FULL
            ? NULL
            : user_call_create(bytes_of_text(turn->name), frame->call.service, frame->call.method,
                               frame->call.payload);
    if (call == NULL) {
        refuse_for_memory(session, turn, frame->id);
        return;
    }
    struct request request = {.id = frame->id,
                              .deadline_ms = call_deadline_ms(turn, frame->call.timeout_ms)};
    if (frame->id != 0)
        request.call =
            atomic_fetch_add_explicit(&turn->counters->call_last, 1, memory_order_relaxed) + 1;
    if (!remember(session, turn, &request)) {
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
