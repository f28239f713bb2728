/* SPDX-License-Identifier: Apache-2.0 */
#include "user/tracing.h"

#include <stdio.h>

#include "proto/traceparent.h"

/* From what a handler has at hand to a record of a trace. Only for users who are traced, so here
 * the clock may be read. A mark whose trace is over is cleared by the first thing that happens. */

static uint64_t clock_us(const struct turn *turn)
{
    return env_monotonic_ns(turn->env) / 1000;
}

static uint64_t since(uint64_t now_us, uint64_t before_us)
{
    return before_us != 0 && before_us < now_us ? now_us - before_us : 0;
}

static void record(struct session *session, struct turn *turn, uint64_t now_us,
                   const struct trace_point *point)
{
    if (turn->traces == NULL ||
        !trace_record(turn->traces, session->trace, turn->name, now_us, point))
        session->trace = 0;
}

void tracing_point(struct session *session, struct turn *turn, const struct trace_point *point)
{
    record(session, turn, clock_us(turn), point);
}

/* Valid ones alone: what is none is told nowhere. */
static const void *trace_id_of(struct bytes traceparent)
{
    return traceparent_valid(traceparent) ? traceparent_id(traceparent).data : NULL;
}

static struct trace_point point_of(const struct client_frame *frame)
{
    struct client_frame_gist gist = client_frame_gist(frame);
    return (struct trace_point){
        .in = true,
        .id = frame->id,
        .kind = gist.word,
        .peer = (const char *)gist.peer.data,
        .peer_size = gist.peer.size,
        .bytes = (uint32_t)gist.payload_bytes,
        .trace_id = trace_id_of(gist.traceparent),
    };
}

void tracing_frame(struct session *session, struct turn *turn, const struct client_frame *frame,
                   uint64_t arrived_us)
{
    struct trace_point point = point_of(frame);
    uint64_t now_us = clock_us(turn);
    if (arrived_us != 0) {
        point.stage = TRACE_ARRIVED;
        record(session, turn, arrived_us, &point);
    }
    point.stage = TRACE_TURN;
    point.wait_us = since(now_us, arrived_us);
    if (is_traced(session))
        record(session, turn, now_us, &point);
}

void tracing_kept(struct session *session, struct turn *turn, enum trace_stage stage,
                  const struct kept_message *kept)
{
    uint64_t now_us = clock_us(turn);
    struct trace_point point = {
        .stage = stage,
        .kind = kept->from_service ? "push" : "message",
        .id = kept->seq,
        .peer = (const char *)kept->name.data,
        .peer_size = kept->name.size,
        .bytes = (uint32_t)kept->payload.size,
        /* since its sender's turn */
        .wait_us = kept->mid != 0 ? 0 : since(now_us, kept->arrived_ms * 1000),
        .trace_id = trace_id_of(kept->traceparent),
    };
    record(session, turn, now_us, &point);
}

void tracing_message(struct session *session, struct turn *turn, enum trace_stage stage,
                     const struct deliver_message *message)
{
    tracing_kept(session, turn, stage,
                 &(struct kept_message){.seq = message->seq,
                                        .arrived_ms = message->stored ? 0 : message->arrived_ms,
                                        .mid = deliver_mid(message),
                                        .from_service = message->from_service,
                                        .name = deliver_name(message),
                                        .payload = deliver_payload(message),
                                        .traceparent = deliver_traceparent(message)});
}

void tracing_room(struct session *session, struct turn *turn, const struct trace_point *what,
                  actor_handle room)
{
    char number[16]; /* his turns know no more of a room; who asks the broker finds its name */
    struct trace_point point = *what;
    point.peer = number;
    point.peer_size = (size_t)snprintf(number, sizeof(number), "#%u", room_number(room));
    record(session, turn, clock_us(turn), &point);
}

void tracing_bundle(struct session *session, struct turn *turn, enum trace_stage stage,
                    const struct room_bundle *bundle)
{
    static const char *const kinds[] = {[ROOM_MESSAGES] = "room_messages",
                                        [ROOM_EVENT] = "room_event",
                                        [ROOM_CLOSED] = "room_closed"};
    bool counts = bundle->kind == ROOM_MESSAGES;
    tracing_room(session, turn,
                 &(struct trace_point){
                     .stage = stage,
                     .kind = kinds[bundle->kind],
                     .id = counts ? bundle->first + bundle->count - 1 : bundle->first,
                     .bytes = bundle->size,
                     .wait_us = since(clock_us(turn), bundle->time_ms * 1000),
                 },
                 bundle->room);
}

void user_trace(struct session *session, struct message *message, struct turn *turn)
{
    (void)turn;
    session->trace = ((struct trace_message *)message)->slot;
    message_destroy(message);
}
