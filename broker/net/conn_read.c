/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "net/carry.h"
#include "net/private.h"

/* The read side of a connection: from bytes to whole frames, all on its I/O thread.
 *
 * Descriptors are edge-triggered. A read that gives less than was asked for has emptied the
 * socket; what comes later is a new edge. A connection that filled the buffer, or whose receiver
 * still holds CHUNKS_MAX batches of frames, goes on the list `again`: that bounds what one client
 * can have in flight inside the broker without losing a byte.
 *
 * Before the welcome the layer above gets one frame at a time, and none while a request of the
 * connection is being judged: by somebody whom it remembers (net_keep), or by the owner to whom it
 * was bound. What comes meanwhile waits in `carry`, within the limits of before the login, and is
 * `delayed`; when the judgment is known it goes on from there. A refused request so leaves nothing
 * behind it unread, whoever refused it and how long that took. */

enum { CHUNKS_MAX = 8, UNBOUND_EXTRA_BYTES = 64 };

static size_t frame_bytes_max(const struct reactor *reactor, const struct conn *conn)
{
    const struct limits *limits = reactor->net->options.limits;
    return conn->owner != 0 ? limits_frame_bytes(limits) : limits_prelogin_bytes(limits);
}

/* The length of the whole frames at the front, at most `frames` of them; an end other than 0 says
 * what is wrong behind them. */
static size_t whole_frames(const struct reactor *reactor, const struct conn *conn,
                           struct bytes input, size_t frames, enum conn_end *end)
{
    size_t size;
    int failed = conn_codec(conn)->whole(input, frame_bytes_max(reactor, conn), frames, &size);
    CHECK(size <= input.size);
    *end = 0;
    if (failed == -EMSGSIZE)
        *end = conn->owner != 0 ? CONN_FRAME_TOO_LARGE : CONN_PRELOGIN_BYTES;
    else if (failed != 0)
        *end = CONN_BROKEN_FRAME;
    return size;
}

/* One frame of the largest size, and a refused Resume before it. */
static uint32_t early_bytes_max(const struct net_options *options)
{
    return 2 * limits_prelogin_bytes(options->limits) + UNBOUND_EXTRA_BYTES;
}

size_t conn_input_bytes(const struct net_options *options)
{
    size_t frame = (size_t)limits_frame_bytes(options->limits) + codec_overhead_bytes();
    size_t early = early_bytes_max(options);
    return (frame > early ? frame : early) + READ_BYTES;
}

/* False: it was ended. */
static bool count_early_bytes(struct reactor *reactor, struct conn *conn, size_t fresh)
{
    conn->unbound_bytes += (uint32_t)fresh;
    bool fits = conn->unbound_bytes <= early_bytes_max(&reactor->net->options);
    if (!fits)
        conn_end(reactor, conn, CONN_PRELOGIN_BYTES);
    return fits;
}

/* False: it was ended, or is none of ours. */
static bool count_early(struct reactor *reactor, struct conn *conn, struct bytes input,
                        size_t fresh)
{
    /* Nothing of it has been handed up. */
    bool first = input.size == conn->unbound_bytes + fresh;
    if (conn->owner == 0 && first && greeting_is_foreign(reactor, conn, input))
        return false;
    return count_early_bytes(reactor, conn, fresh);
}

static void hand_up(struct reactor *reactor, struct conn *conn, struct bytes frames, bool welcomed)
{
    struct net *net = reactor->net;
    CHECK(conn->state == CONN_OPEN && frames.size > 0);
    conn->chunks_given++;
    net->events.on_frames(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                          conn->owner, frames, welcomed);
}

/* Gives how many bytes were handed up, until a request is being judged. Who cannot be answered any
 * more is not listened to either: he would be let in and hear nothing of it. Once the connection
 * has an owner, `dead` is his, and no longer looked at. */
static size_t hand_up_early(struct reactor *reactor, struct conn *conn, struct bytes input,
                            enum conn_end *end)
{
    size_t at = 0;
    *end = 0;
    while (conn_is_heard(conn) && conn->owner == 0 && !conn->dead && conn->kept == NULL) {
        struct bytes left = {input.data + at, input.size - at};
        size_t whole = whole_frames(reactor, conn, left, 1, end);
        if (whole == 0)
            return at;
        hand_up(reactor, conn, (struct bytes){left.data, whole}, false);
        at += whole;
    }
    return at;
}

/* Behind a request that is being judged. The welcome may come from another thread meanwhile: either
 * it finds the mark (net_welcome), or it is found here. */
static void delay(struct reactor *reactor, struct conn *conn)
{
    atomic_store_explicit(&conn->delayed, true, memory_order_seq_cst);
    if (atomic_load_explicit(&conn->welcomed, memory_order_seq_cst))
        conn_go_on(reactor, conn);
}

static bool is_judged(const struct conn *conn, bool welcomed)
{
    return conn->kept != NULL || (conn->owner != 0 && !welcomed);
}

static void take_input(struct reactor *reactor, struct conn *conn, struct bytes input, size_t fresh)
{
    bool welcomed = atomic_load_explicit(&conn->welcomed, memory_order_acquire);
    if (!welcomed && !count_early(reactor, conn, input, fresh))
        return;
    size_t done = 0;
    enum conn_end end = 0;
    if (conn->owner == 0) {
        done = hand_up_early(reactor, conn, input, &end);
    } else if (welcomed) {
        bool early = atomic_exchange_explicit(&conn->delayed, false, memory_order_relaxed);
        done = whole_frames(reactor, conn, input, SIZE_MAX, &end);
        if (done > 0)
            hand_up(reactor, conn, (struct bytes){input.data, done}, !early);
    }
    if (conn->state != CONN_OPEN)
        return;
    /* Answers that nobody asked for, before the login: the I/O thread has written them itself. */
    if (end == 0 && conn->owner == 0 && conn->dead)
        end = conn_end_of_dead(conn);
    if (end != 0) {
        conn_end(reactor, conn, end);
        return;
    }
    carry_keep(reactor, conn, (struct bytes){input.data + done, input.size - done});
    if (done < input.size && is_judged(conn, welcomed))
        delay(reactor, conn);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static bool receiver_is_busy(struct conn *conn)
{
    /* Below zero when a count for the slot's life before came late (net_consumed). */
    uint32_t done = atomic_load_explicit(&conn->chunks_done, memory_order_acquire);
    int32_t max = memory_level() == MEMORY_FULL ? 1 : CHUNKS_MAX;
    return (int32_t)(conn->chunks_given - done) >= max;
}

void conn_read_again(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor) && conn->state != CONN_FREE);
    if (conn->again)
        return;
    conn->again = handle_list_add(&reactor->again, conn_handle_of(reactor, conn));
    if (!conn->again) { /* no memory: nothing would ever read it again */
        memory_refused();
        conn_end(reactor, conn, CONN_STARVED);
    }
}

/* What a read says of a peer who can still be told; 0: it says nothing of that kind. */
static enum conn_end end_of_fault(const struct conn *conn, ssize_t got)
{
    switch (got) {
    case -EBADMSG:
        return CONN_BROKEN_MESSAGE;
    case -EMSGSIZE:
        return conn->owner != 0 ? CONN_FRAME_TOO_LARGE : CONN_PRELOGIN_BYTES;
    case -E2BIG:
        return CONN_FRAGMENTS;
    case -EDQUOT:
        return CONN_CONTROL_FLOOD;
    default:
        return 0;
    }
}

/* Bytes; 0 at the end; -EAGAIN or what broke it. */
static ssize_t receive(struct reactor *reactor, struct conn *conn, const struct carry_place *place,
                       struct transport_read *read)
{
    CHECK(place->have < place->room); /* no room would look like the peer's end */
    /* Of the buffer as it is, and not as the limits say that it must be. */
    size_t left = place->room - place->have;
    *read = (struct transport_read){.to = place->data + place->have,
                                    .size = left < READ_BYTES ? left : READ_BYTES,
                                    .frame_bytes_max = frame_bytes_max(reactor, conn),
                                    .now_ms = reactor->now_ms,
                                    .limits = reactor->net->options.limits};
    const struct transport *transport = conn_transport(conn);
    ssize_t got = transport->read(conn->fd, conn->wire, read);
    CHECK(got <= (ssize_t)read->size);
    if (got < 0 && (got == -EPROTO || end_of_fault(conn, got) != 0) && transport->handshake != NULL)
        handshake_note(reactor, conn, transport->handshake->fault(conn->wire));
    if (read->next & TRANSPORT_WRITE_AGAIN)
        conn_writable(reactor, conn);
    if (read->next & TRANSPORT_SPEAK)
        conn_speak(reactor, conn);
    return got;
}

/* Goes on with what was delayed; true: it did, and what came behind that is read in its turn. */
static bool take_delayed(struct reactor *reactor, struct conn *conn,
                         const struct carry_place *place)
{
    bool welcomed = atomic_load_explicit(&conn->welcomed, memory_order_acquire);
    if (!atomic_load_explicit(&conn->delayed, memory_order_relaxed) || is_judged(conn, welcomed))
        return false;
    if (!welcomed)
        atomic_store_explicit(&conn->delayed, false, memory_order_relaxed);
    take_input(reactor, conn, (struct bytes){place->data, place->have}, 0);
    if (conn->state == CONN_OPEN)
        conn_read_again(reactor, conn);
    return true;
}

/* All that came was the transport's own: of a stranger it counts as anything else. */
static void take_nothing(struct reactor *reactor, struct conn *conn, size_t fresh)
{
    if (fresh > 0 && conn->state == CONN_OPEN &&
        !atomic_load_explicit(&conn->welcomed, memory_order_acquire))
        (void)count_early_bytes(reactor, conn, fresh);
}

/* Nothing more will be given: the peer's end, or a fault of his. Who has said it, or can be told,
 * is still there to be written to. */
static void end_input(struct reactor *reactor, struct conn *conn, ssize_t got, unsigned next)
{
    enum conn_end end = end_of_fault(conn, got);
    conn->input_over = end == 0 && !(next & TRANSPORT_FAREWELL);
    conn->reset = end == 0 && got < 0;
    conn_end(reactor, conn, end != 0 ? end : got == -ENOMEM ? CONN_STARVED : CONN_LOST);
}

void conn_read(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor));
    if (conn->state == CONN_CLOSING) {
        conn_drain(reactor, conn);
        return;
    }
    if (conn->state != CONN_OPEN)
        return;
    if (receiver_is_busy(conn)) {
        conn_read_again(reactor, conn);
        return;
    }
    struct carry_place place = carry_place(reactor, conn);
    if (take_delayed(reactor, conn, &place))
        return;
    if (memory_level() == MEMORY_FULL &&
        !carry_keep_within(conn, &place, carry_in_place(reactor, conn))) {
        conn_read_again(reactor, conn);
        return;
    }
    struct transport_read read;
    ssize_t got = receive(reactor, conn, &place, &read);
    bool more = (read.next & TRANSPORT_MORE) != 0;
    if (read.wire_bytes > 0) {
        conn->heard_ms = (uint32_t)reactor->now_ms;
        reactor_count(reactor, METRIC_bytes_in, read.wire_bytes);
    }
    if (got == -EAGAIN || got == -EINTR) {
        take_nothing(reactor, conn, read.wire_bytes);
        /* Records without data: the rest when others had their turn. A part of a record, and the
         * peer's end behind it. */
        if ((more || conn->hung_up) && conn->state == CONN_OPEN)
            conn_read_again(reactor, conn);
        return;
    }
    if (got <= 0) {
        end_input(reactor, conn, got, read.next);
        return;
    }
    take_input(reactor, conn, (struct bytes){place.data, place.have + (size_t)got},
               read.wire_bytes);
    /* The peer's end is reported once, perhaps together with its last bytes. */
    if ((more || conn->hung_up) && conn->state == CONN_OPEN) {
        conn_read_again(reactor, conn);
        reactor->more = true;
    }
}
