/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "net/private.h"

/* The write side, called by whoever owns it (net.h), from any thread.
 *
 * A write goes straight to the socket. What it does not take waits in `pending`, which exists
 * only while something waits, so an idle connection holds no buffer. Descriptors are registered
 * once, edge-triggered, for both directions; `wants_write` tells the I/O thread that an edge
 * matters. The edge may come between a full socket and that flag, so after setting it we try
 * once more: either that try takes bytes, or the socket is still full and its edge is yet to
 * come and finds the flag.
 *
 * The bytes go through the connection's transport, while the I/O thread may be reading by the same
 * one. A write that the socket did not take is tried again with the same bytes in front, as TLS
 * demands: they are the front of `pending`. */

static uint32_t waiting(const struct conn *conn)
{
    return conn->pending_size - conn->pending_offset;
}

/* Of whoever owns the write side: the I/O thread when nobody is bound to it, and nobody who has
 * given it back. */
static struct conn *owned(struct net *net, conn_handle handle)
{
    struct conn *conn = slot_find(net, handle);
    CHECK(conn != NULL);
    CHECK(conn->owner != 0 || on_io_thread(reactor_of(net, handle)));
    CHECK((atomic_load_explicit(&conn->orders, memory_order_relaxed) & ORDERS_GIVE) == 0);
    return conn;
}

void write_drop_pending(struct net *net, struct conn *conn)
{
    if (conn->pending == NULL)
        return;
    free(conn->pending);
    conn->pending = NULL;
    conn->pending_offset = conn->pending_size = conn->pending_capacity = 0;
    (void)evict_account(net, NULL, conn, 0);
}

static int give_up(struct net *net, struct conn *conn, int error)
{
    conn->dead = true;
    conn->gone = error == -EPIPE;
    write_drop_pending(net, conn);
    return error;
}

/* Bytes that the socket took; -EPIPE when it is dead. */
static ssize_t push(struct net *net, unsigned block, struct conn *conn, const uint8_t *data,
                    size_t size)
{
    const struct transport *transport = conn_transport(conn);
    size_t done = 0;
    while (done < size) {
        ssize_t sent = transport->write(conn->fd, conn->wire, data + done, size - done);
        CHECK(sent <= (ssize_t)(size - done));
        if (sent >= 0)
            done += (size_t)sent;
        else if (sent == -EAGAIN || sent == -ENOBUFS || sent == -ENOMEM)
            break;
        else if (sent != -EINTR)
            return give_up(net, conn, -EPIPE);
    }
    if (done > 0 && net->options.metrics != NULL)
        metrics_add(net->options.metrics, block, METRIC_bytes_out, done);
    return (ssize_t)done;
}

static int keep(struct net *net, conn_handle handle, struct conn *conn, const uint8_t *data,
                size_t size)
{
    CHECK(conn->pending_offset <= conn->pending_size &&
          conn->pending_size <= conn->pending_capacity);
    if (waiting(conn) + size > output_max(net->options.limits))
        return give_up(net, conn, -ENOBUFS);
    if (conn->pending_offset > 0) {
        memmove(conn->pending, conn->pending + conn->pending_offset, waiting(conn));
        conn->pending_size -= conn->pending_offset;
        conn->pending_offset = 0;
    }
    if (conn->pending_size + size > conn->pending_capacity) {
        uint32_t capacity = conn->pending_capacity ? conn->pending_capacity * 2 : 1024;
        while (capacity < conn->pending_size + size)
            capacity *= 2;
        if (!evict_account(net, reactor_of(net, handle), conn, capacity))
            return give_up(net, conn, -EDQUOT);
        uint8_t *bigger = realloc(conn->pending, capacity);
        if (bigger == NULL) {
            evict_account(net, NULL, conn, conn->pending_capacity);
            return give_up(net, conn, -ENOMEM);
        }
        conn->pending = bigger;
        conn->pending_capacity = capacity;
    }
    memcpy(conn->pending + conn->pending_size, data, size);
    conn->pending_size += (uint32_t)size;
    return 0;
}

/* Tells the I/O thread when the soft limit is crossed; it watches the time (deadline_check_slow).
 */
static void note_soft_limit(struct net *net, conn_handle handle, struct conn *conn)
{
    bool above = waiting(conn) > output_window(net->options.limits);
    uint32_t since = atomic_load_explicit(&conn->soft_since, memory_order_relaxed);
    if (above == (since != 0))
        return;
    uint32_t now = (uint32_t)env_monotonic_ms(net->options.env) | 1;
    atomic_store_explicit(&conn->soft_since, above ? now : 0, memory_order_relaxed);
    if (above)
        wake_order(net, handle, conn, ORDER_SLOW);
}

int write_adopt(struct net *net, conn_handle handle, struct conn *conn, struct bytes waiting)
{
    int error = keep(net, handle, conn, waiting.data, waiting.size);
    if (error != 0)
        return error;
    atomic_store_explicit(&conn->wants_write, true, memory_order_seq_cst);
    note_soft_limit(net, handle, conn);
    return 0;
}

static int write_pending(struct net *net, unsigned block, conn_handle handle, struct conn *conn)
{
    ssize_t done = push(net, block, conn, conn->pending + conn->pending_offset, waiting(conn));
    if (done < 0)
        return (int)done;
    conn->pending_offset += (uint32_t)done;
    if (waiting(conn) == 0)
        write_drop_pending(net, conn);
    note_soft_limit(net, handle, conn);
    return 0;
}

/* What the transport says by itself, when nothing else waits: -EAGAIN, or -EPIPE when the socket is
 * dead. */
static int settle(struct net *net, struct conn *conn)
{
    const struct transport *transport = conn_transport(conn);
    int failed = transport->settle != NULL ? transport->settle(conn->fd, conn->wire) : 0;
    return failed == 0 || failed == -EAGAIN ? failed : give_up(net, conn, -EPIPE);
}

int write_flush(struct net *net, unsigned block, conn_handle handle, struct conn *conn)
{
    int error = 0;
    if (conn->dead)
        return -EPIPE;
    if (waiting(conn) == 0 && conn_transport(conn)->settle == NULL)
        return 0;
    if (waiting(conn) > 0)
        error = write_pending(net, block, handle, conn);
    if (error != 0 || waiting(conn) > 0)
        return error;
    error = settle(net, conn);
    if (error == -EAGAIN) {
        atomic_store_explicit(&conn->wants_write, true, memory_order_seq_cst);
        error = settle(net, conn);
    }
    if (error == 0)
        atomic_store_explicit(&conn->wants_write, false, memory_order_seq_cst);
    return error == -EAGAIN ? 0 : error;
}

int net_flush(struct net *net, unsigned block, conn_handle handle)
{
    return write_flush(net, block, handle, owned(net, handle));
}

/* Who has not logged in yet is not answered without end. */
static bool is_too_much_too_early(struct net *net, struct conn *conn, size_t size)
{
    uint32_t max = limits_prelogin_output_bytes(net->options.limits);
    if (max == 0)
        return false;
    bool fits = size <= max && conn->early_bytes + size <= max;
    conn->early_bytes += fits ? (uint32_t)size : 0;
    return !fits;
}

int net_write(struct net *net, unsigned block, conn_handle handle, const void *data, size_t size)
{
    struct conn *conn = owned(net, handle);
    if (conn->dead)
        return -EPIPE;
    if (!atomic_load_explicit(&conn->welcomed, memory_order_relaxed) &&
        is_too_much_too_early(net, conn, size))
        return give_up(net, conn, -ENOBUFS);
    if (waiting(conn) > 0) {
        int error = keep(net, handle, conn, data, size);
        if (error == 0)
            note_soft_limit(net, handle, conn);
        return error;
    }
    ssize_t done = push(net, block, conn, data, size);
    if (done < 0)
        return (int)done;
    if ((size_t)done == size)
        return 0;
    int error = keep(net, handle, conn, (const uint8_t *)data + done, size - (size_t)done);
    if (error != 0)
        return error;
    atomic_store_explicit(&conn->wants_write, true, memory_order_seq_cst);
    return net_flush(net, block, handle);
}

uint32_t net_waiting(struct net *net, conn_handle handle)
{
    const struct conn *conn = owned(net, handle);
    return conn->dead ? NET_DEAD : waiting(conn);
}

uint32_t net_unsent(struct net *net, conn_handle handle)
{
    const struct conn *conn = owned(net, handle);
    int bytes = 0;
    if (conn->dead)
        return NET_DEAD;
    if (waiting(conn) > 0)
        return waiting(conn);
    /* Not SIOCOUTQ: over a long way something is unacknowledged all the time. */
    return ioctl(conn->fd, SIOCOUTQNSD, &bytes) == 0 ? (uint32_t)bytes : 0;
}

void net_welcome(struct net *net, conn_handle handle)
{
    struct conn *conn = owned(net, handle);
    atomic_store_explicit(&conn->welcomed, true, memory_order_seq_cst);
    if (atomic_load_explicit(&conn->delayed, memory_order_seq_cst))
        wake_order(net, handle, conn, ORDER_GO_ON);
}

void net_farewell(struct net *net, conn_handle handle, uint32_t reason, const char *detail)
{
    struct conn *conn = owned(net, handle);
    const struct transport *transport = conn_transport(conn);
    if (transport->farewell != NULL)
        transport->farewell(conn->wire, reason, detail);
}

void net_release(struct net *net, conn_handle handle)
{
    struct conn *conn = slot_find(net, handle);
    if (conn != NULL)
        wake_order(net, handle, conn, ORDER_RELEASE);
}

void net_unbind(struct net *net, conn_handle handle, const void *last_words, size_t size)
{
    struct conn *conn = owned(net, handle);
    if (size > 0 && conn->errand == NULL) {
        struct parting *parting;
        MEMORY_MUST((parting = malloc(sizeof(*parting) + size)) != NULL, "an answer");
        parting->size = size;
        memcpy(parting->bytes, last_words, size);
        conn->errand = parting;
    }
    wake_order(net, handle, conn, ORDER_UNBIND);
}

void net_return(struct net *net, conn_handle handle, void *item)
{
    struct conn *conn = owned(net, handle);
    CHECK(conn->errand == NULL);
    conn->errand = item;
    wake_order(net, handle, conn, ORDER_RETURN);
}

void net_consumed(struct net *net, conn_handle handle)
{
    /* The connection may be closed by now; the slot is never freed, and a count that is one too
     * high for its next life is prevented by starting that at chunks_done. */
    struct conn *conn = slot_find(net, handle);
    if (conn != NULL)
        atomic_fetch_add_explicit(&conn->chunks_done, 1, memory_order_release);
}
