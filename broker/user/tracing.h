/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_TRACING_H
#define USHER_USER_TRACING_H

/* Where handlers tell a trace (base/trace.h) what happens to a message. Who is not traced has no
 * mark, and then these cost one comparison of a byte of the session. */

#include "actors/room_messages.h"
#include "actors/turn.h"
#include "base/trace.h"
#include "proto/client_frame.h"
#include "user/session.h"

struct trace_message {
    struct message header; /* MESSAGE_TRACE: to a user; his mark from now on */
    uint8_t slot;
};

/* Out of line on purpose. */
void tracing_point(struct session *session, struct turn *turn, const struct trace_point *point);
void tracing_frame(struct session *session, struct turn *turn, const struct client_frame *frame,
                   uint64_t arrived_us);
void tracing_message(struct session *session, struct turn *turn, enum trace_stage stage,
                     const struct deliver_message *message);
void tracing_room(struct session *session, struct turn *turn, const struct trace_point *what,
                  actor_handle room);
void tracing_bundle(struct session *session, struct turn *turn, enum trace_stage stage,
                    const struct room_bundle *bundle);
void tracing_kept(struct session *session, struct turn *turn, enum trace_stage stage,
                  const struct kept_message *kept);

static inline bool is_traced(const struct session *session)
{
    return __builtin_expect(session->trace != 0, 0);
}

/* A frame's turn has come; arrived_us 0: not known. */
static inline void trace_frame(struct session *session, struct turn *turn,
                               const struct client_frame *frame, uint64_t arrived_us)
{
    if (is_traced(session))
        tracing_frame(session, turn, frame, arrived_us);
}

/* Something befalls a message to this user. */
static inline void trace_message(struct session *session, struct turn *turn, enum trace_stage stage,
                                 const struct deliver_message *message)
{
    if (is_traced(session))
        tracing_message(session, turn, stage, message);
}

static inline void trace_kept(struct session *session, struct turn *turn, enum trace_stage stage,
                              const struct kept_message *kept)
{
    if (is_traced(session))
        tracing_kept(session, turn, stage, kept);
}

/* His request has its final answer. */
static inline void trace_answer(struct session *session, struct turn *turn, enum trace_stage stage,
                                const char *kind, uint64_t id)
{
    if (is_traced(session))
        tracing_point(session, turn,
                      &(struct trace_point){.stage = stage, .in = true, .kind = kind, .id = id});
}

/* A room's bundle goes to him, or is not for him now; its id is the offset of its last message. */
static inline void trace_bundle(struct session *session, struct turn *turn, enum trace_stage stage,
                                const struct room_bundle *bundle)
{
    if (is_traced(session))
        tracing_bundle(session, turn, stage, bundle);
}

void user_trace(struct session *session, struct message *message, struct turn *turn);

#endif
