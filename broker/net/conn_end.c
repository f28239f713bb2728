/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "net/carry.h"
#include "net/private.h"

/* How connections end, and what the write-side owner orders: all on the I/O thread.
 *
 * The layer above is told of an end once, and answers with a release; then what waits is written,
 * our half is closed, and what still comes is read and dropped until the peer ends too. Given back
 * instead of released, a connection goes on as a stranger's. */

/* Whoever has given it back wants to hear no more of it, though that is not carried out yet. */
bool conn_is_heard(struct conn *conn)
{
    return conn->state == CONN_OPEN &&
           !(atomic_load_explicit(&conn->orders, memory_order_acquire) & ORDER_RELEASE);
}

void conn_end(struct reactor *reactor, struct conn *conn, enum conn_end end)
{
    CHECK(on_io_thread(reactor) && end != 0);
    if (!conn_is_heard(conn))
        return;
    conn->state = CONN_ENDED;
    conn->end = (uint8_t)end;
    deadline_leave(reactor, conn);
    carry_drop(reactor, conn);
    struct net *net = reactor->net;
    net->events.on_end(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                       conn->owner, end);
}

/* What its transport has to say of an end that is its own. */
static const char *fault_of(const struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    bool speaks = conn->end == CONN_BROKEN_MESSAGE || conn->end == CONN_FRAGMENTS;
    return speaks && handshake != NULL ? handshake->fault(conn->wire).reason : NULL;
}

struct net_loss net_loss(struct net *net, conn_handle handle)
{
    const struct conn *conn = slot_find(net, handle);
    CHECK(conn != NULL);
    uint64_t now_ms = env_monotonic_ms(net->options.env);
    return (struct net_loss){
        .reset = conn->reset,
        .fault = fault_of(conn),
        .silent_ms = net_ms_since(conn->heard_ms, now_ms),
        .output_bytes = atomic_load_explicit(&conn->output_bytes, memory_order_relaxed),
    };
}

/* All is written, but for what the transport says at its end. */
static void shut(struct reactor *reactor, struct conn *conn)
{
    const struct transport *transport = conn_transport(conn);
    int failed = transport->shut(conn->fd, conn->wire);
    if (failed == -EAGAIN) {
        /* The edge may have come before the mark. */
        atomic_store_explicit(&conn->wants_write, true, memory_order_seq_cst);
        failed = transport->shut(conn->fd, conn->wire);
    }
    if (failed != 0 && failed != -EAGAIN)
        conn_close(reactor, conn);
}

/* The I/O thread owns the write side: writes what waits, then closes its half. */
void conn_finish(struct reactor *reactor, struct conn *conn)
{
    CHECK(conn->state == CONN_CLOSING);
    conn->dead = conn->dead || conn->reset;
    if (!conn->dead && conn->pending_size > 0) {
        write_flush(reactor->net, reactor->index, conn_handle_of(reactor, conn), conn);
        if (conn->pending_size > 0)
            return;
    }
    if (conn->dead || conn->input_over) {
        conn_close(reactor, conn);
        return;
    }
    shut(reactor, conn);
}

/* Reads and drops until the peer ends too, so that our last frame is not lost to a reset. What is
 * dropped need not be decrypted. */
void conn_drain(struct reactor *reactor, struct conn *conn)
{
    CHECK(conn->state == CONN_CLOSING);
    ssize_t got = recv(conn->fd, reactor->input, READ_BYTES, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        conn->input_over = true;
    else if ((got == READ_BYTES || (got > 0 && conn->hung_up)) && !conn->again)
        conn->again = handle_list_add(&reactor->again, conn_handle_of(reactor, conn));
    if (conn->input_over)
        conn_finish(reactor, conn);
}

void conn_part(struct reactor *reactor, struct conn *conn)
{
    if (conn->state == CONN_CLOSING || conn->state == CONN_FREE)
        return;
    CHECK(on_io_thread(reactor) && conn->state != CONN_SHAKING);
    /* Its memory is what was wanted. */
    conn->dead = conn->dead || conn->end == CONN_EVICTED || conn->end == CONN_CROWDING;
    deadline_leave(reactor, conn);
    conn->state = CONN_CLOSING;
    deadline_enter(reactor, conn, DEADLINE_LINGER);
    conn_handle handle = conn_handle_of(reactor, conn);
    conn_finish(reactor, conn);
    if (slot_find(reactor->net, handle) != NULL)
        conn_drain(reactor, conn);
    /* One who was silent is not waited for: others are to have the room. */
    if (conn->end == CONN_DISPLACED && slot_find(reactor->net, handle) != NULL)
        conn_close(reactor, conn);
}

/* --- orders ----------------------------------------------------------------------------------- */

/* Of one that is unbound and cannot be written to. Nothing was too much for who is gone. */
enum conn_end conn_end_of_dead(const struct conn *conn)
{
    return conn->gone ? CONN_LOST : CONN_PRELOGIN_BYTES;
}

/* The others that are unbound were ended when accepting stopped. */
static void end_if_stopping(struct reactor *reactor, struct conn *conn)
{
    if (conn->owner == 0 && atomic_load_explicit(&reactor->net->accept_off, memory_order_acquire))
        conn_end(reactor, conn, CONN_STOPPING);
}

/* What it waited for may be known: what has been delayed need not wait any longer. */
void conn_go_on(struct reactor *reactor, struct conn *conn)
{
    if (conn->state != CONN_OPEN || !atomic_load_explicit(&conn->delayed, memory_order_relaxed))
        return;
    conn_read_again(reactor, conn);
    reactor->more = true;
}

static void unbind(struct reactor *reactor, struct conn *conn)
{
    CHECK(conn->owner != 0);
    conn_set_owner(reactor, conn, 0);
    atomic_store_explicit(&conn->welcomed, false, memory_order_relaxed);
    struct net *net = reactor->net;
    struct parting *parting = conn->errand;
    conn->errand = NULL;
    if (parting != NULL)
        net_write(net, reactor->index, conn_handle_of(reactor, conn), parting->bytes,
                  parting->size);
    free(parting);
    if (conn->state == CONN_ENDED)
        net->events.on_end(net->events.context, reactor->thread, conn_handle_of(reactor, conn), 0,
                           conn->end);
    else if (conn->dead)
        conn_end(reactor, conn, conn_end_of_dead(conn)); /* perhaps its last words were too many */
    else
        end_if_stopping(reactor, conn);
    conn_go_on(reactor, conn);
}

static void give_returned(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    void *item = conn->errand;
    CHECK(conn->owner != 0);
    conn->errand = NULL;
    conn_set_owner(reactor, conn, 0);
    net->events.on_returned(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                            item);
    /* The end was told to the owner before, who is gone. */
    if (conn->state == CONN_ENDED)
        net->events.on_end(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                           conn->owner, conn->end);
    else
        end_if_stopping(reactor, conn);
    conn_go_on(reactor, conn);
}

void conn_orders(struct reactor *reactor, struct conn *conn, uint8_t orders)
{
    CHECK(on_io_thread(reactor) && orders != 0);
    if (conn->state == CONN_FREE)
        return;
    if ((orders & ORDER_SLOW) && !conn->slow_listed)
        conn->slow_listed = handle_list_add(&reactor->slow, conn_handle_of(reactor, conn));
    if (orders & ORDER_RELEASE)
        conn_part(reactor, conn);
    else if (orders & ORDER_UNBIND)
        unbind(reactor, conn);
    else if (orders & ORDER_RETURN)
        give_returned(reactor, conn);
    else if (orders & ORDER_GO_ON)
        conn_go_on(reactor, conn);
}
