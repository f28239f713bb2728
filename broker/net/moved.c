/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "net/carry.h"
#include "net/private.h"

/* Connections that go over to another process: what is more about each of them than its descriptor.
 *
 * There are no I/O threads then, so everything here is done for them. A connection keeps its handle
 * over there, so whoever remembers it need not be told of another one. What its peer has sent is in
 * its socket or in `carry`, what it has not been sent in `pending`: both go as bytes, and nothing
 * else of what was said is anywhere. A new epoll tells at once of what can be read or written, so
 * no edge is lost.
 *
 * Not all go: who is in the middle of a handshake, whose transport has a state that cannot go, and
 * whose login is being judged. They end with the process that they came to (left.c). Of whose
 * handshake nothing has come is there as if he had just been accepted; who waits for his PROXY
 * header too, since that is left in the socket until it is whole. */

void net_pause(struct net *net)
{
    net_stop(net);
    atomic_store_explicit(&net->stopping, false, memory_order_seq_cst);
}

bool net_settle(struct net *net)
{
    bool any = false;
    CHECK(net->started == 0);
    for (unsigned i = 0; i < net->options.reactors; i++)
        any = reactor_settle(&net->reactors[i]) || any;
    return any;
}

int net_listen_fd(const struct net *net, enum listener_kind kind)
{
    return net->listeners[kind].fd;
}

uint32_t net_generation(struct net *net)
{
    uint32_t most = 0;
    CHECK(net->started == 0);
    for (unsigned i = 0; i < net->options.reactors; i++) {
        struct reactor *reactor = &net->reactors[i];
        for (uint32_t slot = 0; slot < reactor->slots_made; slot++) {
            uint32_t generation = atomic_load(&slot_conn(reactor, slot)->generation);
            most = generation > most ? generation : most;
        }
    }
    return most;
}

void net_begin_above(struct net *net, uint32_t generation)
{
    CHECK(net->started == 0 && net_count(net) == 0);
    net->generation_before = generation;
}

/* --- out -------------------------------------------------------------------------------------- */

/* It has been accepted, and no more. */
static bool is_fresh(const struct conn *conn)
{
    return conn->state == CONN_SHAKING && conn->wire == NULL && !conn->hung_up;
}

bool conn_can_move(const struct conn *conn)
{
    const struct transport *transport = conn_transport(conn);
    Usher__V1__HandoverWebSocket websocket = USHER__V1__HANDOVER_WEB_SOCKET__INIT;
    if (is_fresh(conn))
        return true;
    return conn->state == CONN_OPEN && conn->kept == NULL && conn->errand == NULL && !conn->dead &&
           !conn->input_over && (transport->handshake == NULL || transport->pack != NULL) &&
           atomic_load_explicit(&conn->orders, memory_order_relaxed) == 0 &&
           conn->chunks_given == atomic_load_explicit(&conn->chunks_done, memory_order_relaxed) &&
           (transport->pack == NULL || transport->pack(conn->wire, &websocket));
}

static struct net_moved describe(struct reactor *reactor, struct conn *conn)
{
    return (struct net_moved){
        .handle = conn_handle_of(reactor, conn),
        .owner = conn->owner,
        .fd = conn->fd,
        .listener = conn->listener,
        .welcomed = atomic_load_explicit(&conn->welcomed, memory_order_relaxed),
        .fresh = is_fresh(conn),
        .forwards = conn->forwards,
        .opened_ms = conn->opened_ms,
        .heard_ms = conn->heard_ms,
        .unbound_bytes = conn->unbound_bytes,
        .early_bytes = conn->early_bytes,
        .carry = {conn->carry, carry_size(conn)},
        .pending = {conn->pending != NULL ? conn->pending + conn->pending_offset : NULL,
                    conn->pending_size - conn->pending_offset},
        .peer = conn_peer(conn),
    };
}

/* False: it cannot go. */
static bool move_out(struct reactor *reactor, struct conn *conn, net_move_each *each, void *context)
{
    const struct transport *transport = conn_transport(conn);
    Usher__V1__HandoverWebSocket websocket = USHER__V1__HANDOVER_WEB_SOCKET__INIT;
    if (!conn_can_move(conn))
        return false;
    struct net_moved moved = describe(reactor, conn);
    if (!moved.fresh && transport->pack != NULL && transport->pack(conn->wire, &websocket))
        moved.websocket = &websocket;
    each(context, &moved);
    return true;
}

size_t net_move_out(struct net *net, net_move_each *each, void *context)
{
    size_t left = 0;
    CHECK(net->started == 0);
    for (unsigned i = 0; i < net->options.reactors; i++) {
        struct reactor *reactor = &net->reactors[i];
        for (uint32_t slot = 0; slot < reactor->slots_made; slot++) {
            struct conn *conn = slot_conn(reactor, slot);
            if (conn->state != CONN_FREE && !move_out(reactor, conn, each, context))
                left++;
        }
    }
    anteroom_move_out(&net->reactors[0], each, context);
    return left;
}

/* --- in --------------------------------------------------------------------------------------- */

/* It comes from another process, which is believed as little as a file would be. */
static bool can_wait(const struct net_moved *moved)
{
    return moved->fd >= 0 && moved->listener < LISTENERS;
}

static bool is_untouched(const struct transport *transport, const struct net_moved *moved)
{
    return transport->handshake != NULL && moved->websocket == NULL && moved->owner == 0 &&
           moved->carry.size == 0 && moved->pending.size == 0;
}

static bool can_be(const struct net *net, const struct net_moved *moved)
{
    unsigned index = moved->handle >> 24 & 0xff;
    if (index >= net->options.reactors || moved->listener >= LISTENERS || moved->fd < 0)
        return false;
    const struct reactor *reactor = &net->reactors[index];
    const struct transport *transport = transports[listener_rows[moved->listener].transport];
    return moved->handle >> 32 != 0 && ((uint32_t)moved->handle & 0xffffff) < net->slots_max &&
           ((uint32_t)moved->handle & 0xffffff) >= reactor->slots_made &&
           (moved->fresh ? is_untouched(transport, moved)
                         : (moved->websocket != NULL) == (transport->unpack != NULL) &&
                               (transport->handshake == NULL || transport->unpack != NULL)) &&
           moved->carry.size <= reactor->input_bytes - READ_BYTES &&
           moved->pending.size <= UINT32_MAX / 2 && (moved->owner != 0 || !moved->welcomed);
}

static void fill(struct conn *conn, const struct net_moved *moved)
{
    conn->opened_ms = moved->opened_ms;
    conn->heard_ms = moved->heard_ms;
    conn->unbound_bytes = moved->unbound_bytes;
    conn->early_bytes = moved->early_bytes;
    atomic_store_explicit(&conn->welcomed, moved->welcomed, memory_order_relaxed);
}

/* What it carries and what waits for it; and it is read without waiting for an edge, since a whole
 * frame may be among that. 0 or -ENOMEM. */
static int give_bytes(struct reactor *reactor, struct conn *conn, const struct net_moved *moved)
{
    int error = 0;
    if (moved->pending.size > 0)
        error = write_adopt(reactor->net, conn_handle_of(reactor, conn), conn, moved->pending);
    if (error != 0 || moved->carry.size == 0)
        return error;
    carry_keep(reactor, conn, moved->carry);
    if (conn->state == CONN_OPEN)
        conn_read_again(reactor, conn);
    return conn->state == CONN_OPEN ? 0 : -ENOMEM;
}

/* What it stands upon. False: it cannot be, or there is no memory; nothing is left to be freed. */
static bool make_base(const struct net_moved *moved, struct conn_moved *base)
{
    const struct transport *transport = transports[listener_rows[moved->listener].transport];
    *base = (struct conn_moved){moved->fd, moved->listener, moved->owner,   NULL,
                                NULL,      moved->fresh,    moved->forwards};
    if (moved->websocket != NULL)
        base->wire = transport->unpack(moved->websocket, moved->peer);
    else if (moved->peer != NULL)
        base->peer = strdup(moved->peer);
    return moved->websocket != NULL ? base->wire != NULL
                                    : moved->peer == NULL || base->peer != NULL;
}

int net_move_in(struct net *net, const struct net_moved *moved)
{
    struct conn_moved base;
    CHECK(net->started == 0);
    if (moved->handle == 0)
        return can_wait(moved) ? anteroom_move_in(&net->reactors[0], moved) : -EINVAL;
    if (!can_be(net, moved) || !make_base(moved, &base))
        return -EINVAL;
    struct reactor *reactor = reactor_of(net, moved->handle);
    struct conn *conn =
        slot_claim(reactor, (uint32_t)moved->handle & 0xffffff, (uint32_t)(moved->handle >> 32));
    if (conn == NULL) {
        free(base.peer);
        transports[listener_rows[moved->listener].transport]->destroy(base.wire);
        return -ENOMEM;
    }
    reactor->now_ms = env_monotonic_ms(net->options.env);
    atomic_fetch_add_explicit(&net->open, 1, memory_order_relaxed);
    if (moved->fresh)
        atomic_fetch_add_explicit(&net->handshakes, 1, memory_order_relaxed);
    conn_move_in(reactor, conn, &base);
    fill(conn, moved);
    deadline_enter(reactor, conn,
                   moved->fresh      ? DEADLINE_HANDSHAKE
                   : moved->welcomed ? DEADLINE_SILENCE
                                     : DEADLINE_LOGIN);
    return give_bytes(reactor, conn, moved);
}

int net_move_watch(struct net *net, conn_handle handle)
{
    if (handle == 0) /* the anteroom has it watched */
        return 0;
    const struct conn *conn = slot_find(net, handle);
    CHECK(conn != NULL);
    return conn_watch(reactor_of(net, handle), conn);
}
