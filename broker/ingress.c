/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/ingress.h"

#include <string.h>

#include "base/check.h"
#include "broker/thread.h"
#include "proto/frame.h"

/* Everything that arrives from clients, turned into posts; ingress_link.c has the backends.
 *
 * A connection is unbound until a Login that is good, or a Resume with the right secret, was posted
 * to its user's actor (lobby.c). What comes behind that waits in the connection until it is
 * answered; after the Welcome all frames go to that actor. */

enum { BATCHES_PER_SAMPLE = 64 };

/* Frames that could not be kept: what comes after them must not be handled as if they had been, so
 * the connection is lost to the session. */
static void lose_connection(struct ingress *ingress, struct thread *thread, conn_handle conn,
                            uint64_t owner)
{
    struct conn_end_message *end = conn_end_create(conn, LOSS_GONE);
    conn_end_blame(end, "limits.memory_bytes", limits_memory_bytes(ingress->limits), 0);
    /* If its session has ended, so has the connection. */
    scheduler_tell(ingress->scheduler, &thread->runner, owner, &end->header);
    net_consumed(ingress->egress->net, conn);
}

static void post_frames(struct ingress *ingress, struct thread *thread, conn_handle conn,
                        uint64_t owner, struct bytes frames, bool welcomed)
{
    struct frames_message *message = message_create(MESSAGE_FRAMES, sizeof(*message) + frames.size);
    if (message == NULL) {
        lose_connection(ingress, thread, conn, owner);
        return;
    }
    message_count_as(&message->header, MEMORY_OF_FRAMES);
    message->conn = conn;
    message->stamp_us =
        ++thread->batches % BATCHES_PER_SAMPLE == 0 ? env_stamp_us(ingress->env) : 0;
    message->welcomed = welcomed;
    message->done = 0;
    message->arrived_us = traces_any(ingress->traces) ? env_monotonic_ns(ingress->env) / 1000 : 0;
    message->size = (uint32_t)frames.size;
    memcpy(message->bytes, frames.data, frames.size);
    if (scheduler_post(ingress->scheduler, &thread->runner, owner, &message->header) != 0) {
        /* The session has ended; the connection is about to be closed. */
        message_destroy(&message->header);
        net_consumed(ingress->egress->net, conn);
        metrics_add(ingress->metrics, thread->runner.index, METRIC_frames_stale, 1);
    }
}

static void on_frames(void *context, void *thread_, conn_handle conn, uint64_t owner,
                      struct bytes frames, bool welcomed)
{
    struct ingress *ingress = context;
    struct thread *thread = thread_;
    if (owner != 0) {
        post_frames(ingress, thread, conn, owner, frames, welcomed);
        return;
    }
    struct bytes frame;
    size_t used;
    CHECK(frame_next(frames, frames.size, &frame, &used) == 1); /* a whole one, says net.h */
    lobby_admit(&ingress->lobby, &thread->runner, conn, frame);
    net_consumed(ingress->egress->net, conn);
}

/* A login whose actor had retired before it came there; it has been judged. */
static void on_returned(void *context, void *thread_, conn_handle conn, void *item)
{
    struct ingress *ingress = context;
    struct thread *thread = thread_;
    lobby_attach(&ingress->lobby, &thread->runner, item);
}

/* For people: which limit it was, and what there was. */
static void explain(const struct ingress *ingress, conn_handle conn, enum conn_end why,
                    struct conn_end_message *end)
{
    const struct limits *limits = ingress->limits;
    const struct net_loss loss = net_loss(ingress->egress->net, conn);
    end->reset = loss.reset;
    end->detail = loss.fault;
    switch (why) {
    case CONN_FRAME_TOO_LARGE:
        conn_end_blame(end, "limits.frame_bytes", limits_frame_bytes(limits), 0);
        break;
    case CONN_SILENT:
        conn_end_blame(end, "session.heartbeat_ms", session_heartbeat_ms(limits), loss.silent_ms);
        break;
    case CONN_SLOW:
        conn_end_blame(end, "limits.output_soft_ms", limits_output_soft_ms(limits),
                       loss.output_bytes);
        break;
    case CONN_EVICTED:
        conn_end_blame(end, "limits.output_total_bytes", limits_output_total_bytes(limits),
                       loss.output_bytes);
        break;
    case CONN_CROWDING:
    case CONN_STARVED:
        conn_end_blame(end, "limits.memory_bytes", limits_memory_bytes(limits), loss.output_bytes);
        break;
    case CONN_FRAGMENTS:
        conn_end_blame(end, "ws.fragments", ws_fragments(limits), 0);
        break;
    case CONN_CONTROL_FLOOD:
        conn_end_blame(end, "ws.control_per_second", ws_control_per_second(limits), 0);
        break;
    default:
        break;
    }
}

static void on_end(void *context, void *thread_, conn_handle conn, uint64_t owner,
                   enum conn_end end)
{
    static const enum loss losses[] = {
        [CONN_LOST] = LOSS_GONE,
        [CONN_BROKEN_FRAME] = LOSS_PROTOCOL,
        [CONN_FRAME_TOO_LARGE] = LOSS_TOO_LARGE,
        [CONN_PRELOGIN_BYTES] = LOSS_TOO_LARGE,
        [CONN_LOGIN_DEADLINE] = LOSS_SILENT,
        [CONN_SILENT] = LOSS_SILENT,
        [CONN_SLOW] = LOSS_SLOW,
        [CONN_STOPPING] = LOSS_GONE,
        [CONN_EVICTED] = LOSS_SLOW,
        [CONN_CROWDING] = LOSS_SLOW,
        [CONN_STARVED] = LOSS_GONE,
        [CONN_DISPLACED] = LOSS_GONE,
        [CONN_BROKEN_MESSAGE] = LOSS_MESSAGE,
        [CONN_FRAGMENTS] = LOSS_MESSAGE,
        [CONN_CONTROL_FLOOD] = LOSS_FLOOD,
    };
    struct ingress *ingress = context;
    struct thread *thread = thread_;
    if (owner == 0) {
        lobby_end(&ingress->lobby, &thread->runner, conn, end);
        return;
    }
    struct conn_end_message *message = conn_end_create(conn, losses[end]);
    explain(ingress, conn, end, message);
    /* An actor that is gone has released its connection, or left it unbound, on its way. */
    scheduler_tell(ingress->scheduler, &thread->runner, owner, &message->header);
}

static void on_writable(void *context, void *thread_, conn_handle conn, uint64_t owner)
{
    struct ingress *ingress = context;
    struct thread *thread = thread_;
    struct writable_message *message = message_create(MESSAGE_WRITABLE, sizeof(*message));
    message->conn = conn;
    message->go_on = false;
    scheduler_tell(ingress->scheduler, &thread->runner, owner, &message->header);
}

static void on_begin(void *context, void *thread_, uint64_t now_ms)
{
    struct ingress *ingress = context;
    struct thread *thread = thread_;
    thread->runner.now_ms = now_ms;
    thread->runner.wall_ms = env_wall_ms(ingress->env);
    atomic_fetch_add_explicit(&thread->beats, 1, memory_order_relaxed);
    lobby_take_verdicts(&ingress->lobby, &thread->runner);
}

/* An I/O thread runs what its batch caused. Beyond this many turns it looks at its sockets first
 * and leaves the rest to whoever is free; but a turn that asked for a pause is only looked away
 * from, and wakes nobody. */
enum { BATCH_TURNS_MAX = 4096 };

static bool on_batch_end(void *context, void *thread_)
{
    struct ingress *ingress = context;
    struct thread *thread = thread_;
    scheduler_run(ingress->scheduler, &thread->runner, BATCH_TURNS_MAX);
    if (!scheduler_backlog(ingress->scheduler))
        return false;
    if (!thread->runner.pauses)
        scheduler_wake(ingress->scheduler);
    return true;
}

uint32_t ingress_silence_ms(const struct options *options)
{
    return (uint32_t)(options->session_heartbeat_ms * 3);
}

struct net_events ingress_net_events(struct ingress *ingress)
{
    return (struct net_events){
        .context = ingress,
        .on_begin = on_begin,
        .on_frames = on_frames,
        .on_end = on_end,
        .on_writable = on_writable,
        .on_returned = on_returned,
        .on_batch_end = on_batch_end,
    };
}
