/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/source.h"
#include "net/carry.h"
#include "net/private.h"

/* The life of a connection: whose it is, and what its I/O thread does at each event. How it ends is
 * in conn_end.c, how it is read in conn_read.c, how it is written in write.c, where it lies in
 * slots.c.
 *
 * Life: open -> ended (on_end called once; nothing is read any more) -> closing (released by the
 * write-side owner) -> free. */

static_assert(sizeof(struct conn) <= 152, "each user has one; docs/performance.md has the sum");

static void enter_room(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    if (conn->stranger)
        return;
    conn->stranger = true;
    atomic_fetch_add_explicit(&net->unbound, 1, memory_order_relaxed);
    /* Who may say for whom he is has no source before. */
    if (conn->state == CONN_SHAKING && conn->forwards)
        conn->source = SOURCE_NONE;
    else
        conn->source = sources_take_peer(net->sources, conn_peer(conn), conn->fd);
}

void conn_leaves_strangers(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    if (!conn->stranger)
        return;
    conn->stranger = false;
    count_down(&net->unbound);
    sources_give(net->sources, conn->source);
    conn->source = SOURCE_NONE;
}

void conn_set_owner(struct reactor *reactor, struct conn *conn, uint64_t owner)
{
    CHECK(on_io_thread(reactor) && conn->state != CONN_FREE);
    if (owner != 0)
        conn_leaves_strangers(reactor, conn);
    else
        enter_room(reactor, conn);
    conn->owner = owner;
}

const char *conn_peer(const struct conn *conn)
{
    const struct transport *transport = conn_transport(conn);
    if (conn->wire != NULL)
        return transport->peer != NULL ? transport->peer(conn->wire) : NULL;
    return conn->state == CONN_SHAKING ? conn->errand : NULL;
}

/* Until a handshake has a state it lies where an errand would: nobody above, who could send one,
 * knows of the connection yet. */
void conn_name_peer(struct conn *conn, char *peer)
{
    CHECK(conn->wire == NULL && conn->errand == NULL);
    if (peer == NULL)
        return;
    if (conn->state == CONN_SHAKING) {
        conn->errand = peer;
    } else {
        conn->transport = TRANSPORT_relayed;
        conn->wire = peer;
    }
}

char *conn_take_peer(struct conn *conn)
{
    CHECK(conn->state == CONN_SHAKING);
    char *peer = conn->errand;
    conn->errand = NULL;
    return peer;
}

static void reset(struct reactor *reactor, struct conn *conn, const struct arrival *arrival)
{
    conn->fd = arrival->fd;
    conn->source = arrival->source;
    conn->listener = arrival->listener;
    conn->transport = (uint8_t)listener_rows[arrival->listener].transport;
    conn->stranger = true;
    conn->forwards = arrival->forwards;
    conn->state = conn_transport(conn)->handshake != NULL ? CONN_SHAKING : CONN_OPEN;
    conn->end = 0;
    conn->owner = 0;
    conn->kept = NULL;
    conn->unbound_bytes = conn->early_bytes = 0;
    conn->hung_up = conn->input_over = conn->reset = conn->dead = conn->gone = false;
    conn->again = conn->slow_listed = conn->shaking_listed = false;
    conn->chunks_given = atomic_load_explicit(&conn->chunks_done, memory_order_relaxed);
    atomic_store_explicit(&conn->evicting, false, memory_order_relaxed);
    atomic_store_explicit(&conn->wants_write, false, memory_order_relaxed);
    atomic_store_explicit(&conn->welcomed, false, memory_order_relaxed);
    atomic_store_explicit(&conn->delayed, false, memory_order_relaxed);
    atomic_store_explicit(&conn->soft_since, 0, memory_order_relaxed);
    conn->heard_ms = conn->opened_ms = (uint32_t)reactor->now_ms;
}

static void count_open(struct reactor *reactor, const struct conn *conn, uint64_t n)
{
    reactor_count(reactor, METRIC_connections_open, n);
    reactor_count(reactor, listener_rows[conn->listener].open, n);
}

int conn_watch(const struct reactor *reactor, const struct conn *conn)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.u64 = conn_handle_of(reactor, conn)};
    return epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, conn->fd, &event) == 0 ? 0 : -errno;
}

void conn_move_in(struct reactor *reactor, struct conn *conn, const struct conn_moved *moved)
{
    const struct arrival arrival = {.fd = moved->fd,
                                    .source = SOURCE_NONE,
                                    .listener = moved->listener,
                                    .forwards = moved->forwards};
    reset(reactor, conn, &arrival);
    conn->state = moved->fresh ? CONN_SHAKING : CONN_OPEN; /* what it shook hands for is done */
    conn_name_peer(conn, moved->peer);
    if (moved->wire != NULL)
        conn->wire = moved->wire;
    conn->stranger = false; /* it is counted as one by what follows, if it is */
    conn_set_owner(reactor, conn, moved->owner);
    count_open(reactor, conn, 1);
}

void conn_adopt(struct reactor *reactor, const struct arrival *arrival)
{
    CHECK(arrival->full == 0);
    struct conn *conn = slot_take(reactor);
    if (conn == NULL) {
        arrival_drop(arrival);
        conn_discount(reactor->net, arrival);
        return;
    }
    reset(reactor, conn, arrival);
    conn_name_peer(conn, arrival->peer);
    int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    deadline_enter(reactor, conn,
                   conn->state == CONN_SHAKING ? DEADLINE_HANDSHAKE : DEADLINE_LOGIN);
    count_open(reactor, conn, 1);
    if (conn_watch(reactor, conn) != 0) {
        conn->dead = true;
        conn_close(reactor, conn);
    }
}

void conn_close(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor) && conn->state != CONN_FREE);
    free(conn->errand);
    conn->errand = NULL;
    deadline_leave(reactor, conn);
    if (conn->state == CONN_SHAKING)
        count_down(&reactor->net->handshakes);
    conn_transport(conn)->destroy(conn->wire);
    conn->wire = NULL;
    close(conn->fd);
    carry_drop(reactor, conn);
    write_drop_pending(reactor->net, conn);
    evict_done(reactor, conn);
    conn_leaves_strangers(reactor, conn);
    conn->state = CONN_FREE;
    conn->owner = 0;
    slot_give(reactor, conn);
    count_down(&reactor->net->open);
    count_open(reactor, conn, (uint64_t)-1);
}

/* --- events ----------------------------------------------------------------------------------- */

void conn_writable(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    conn_handle handle = conn_handle_of(reactor, conn);
    if (!atomic_load_explicit(&conn->wants_write, memory_order_seq_cst))
        return;
    if (conn->state == CONN_CLOSING)
        conn_finish(reactor, conn);
    else if (conn->owner != 0)
        net->events.on_writable(net->events.context, reactor->thread, handle, conn->owner);
    else
        write_flush(net, reactor->index, handle, conn);
}

/* Whoever owns the write side settles it; what is not his is done here. */
void conn_speak(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    conn_handle handle = conn_handle_of(reactor, conn);
    if (conn->state == CONN_CLOSING)
        return;
    if (conn->owner != 0)
        net->events.on_writable(net->events.context, reactor->thread, handle, conn->owner);
    else
        write_flush(net, reactor->index, handle, conn);
}

void conn_on_event(struct reactor *reactor, struct conn *conn, uint32_t events)
{
    struct net *net = reactor->net;
    conn_handle handle = conn_handle_of(reactor, conn);
    CHECK(on_io_thread(reactor) && conn->state != CONN_FREE);
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->hung_up = true;
    if (conn->state == CONN_SHAKING) {
        handshake_list(reactor, conn);
        return;
    }
    if (events & EPOLLOUT)
        conn_writable(reactor, conn);
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && slot_find(net, handle) != NULL)
        conn_read(reactor, conn);
    /* A reset that a read did not report, because nothing is read any more. */
    if ((events & (EPOLLHUP | EPOLLERR)) && slot_find(net, handle) != NULL &&
        conn->state == CONN_CLOSING) {
        conn->dead = true;
        conn_finish(reactor, conn);
    }
}

/* --- for the layer above ---------------------------------------------------------------------- */

void net_bind(struct net *net, conn_handle handle, uint64_t owner)
{
    struct reactor *reactor = reactor_of(net, handle);
    struct conn *conn = slot_find(net, handle);
    CHECK(conn != NULL);
    CHECK(conn->state == CONN_OPEN || conn->state == CONN_ENDED);
    conn_set_owner(reactor, conn, owner);
}

uint64_t net_owner(struct net *net, conn_handle handle)
{
    struct conn *conn = slot_find(net, handle);
    CHECK(on_io_thread(reactor_of(net, handle)));
    return conn != NULL ? conn->owner : 0;
}

void net_keep(struct net *net, conn_handle handle, void *item)
{
    struct conn *conn = slot_find(net, handle);
    CHECK(on_io_thread(reactor_of(net, handle)));
    CHECK(conn != NULL && conn->owner == 0);
    conn->kept = item;
    /* By an order: without memory the connection ends then, and not in its caller's hands. */
    if (item == NULL && atomic_load_explicit(&conn->delayed, memory_order_relaxed))
        wake_order(net, handle, conn, ORDER_GO_ON);
}

void *net_kept(struct net *net, conn_handle handle)
{
    struct conn *conn = slot_find(net, handle);
    CHECK(on_io_thread(reactor_of(net, handle)));
    return conn != NULL ? conn->kept : NULL;
}

void net_address_text(const struct sockaddr_storage *address, char text[NET_ADDRESS_BYTES_MAX])
{
    char host[SOURCE_HOST_BYTES];
    source_host((const struct sockaddr *)address, host);
    uint16_t port = address->ss_family == AF_INET6
                        ? ((const struct sockaddr_in6 *)address)->sin6_port
                        : ((const struct sockaddr_in *)address)->sin_port;
    text[0] = '\0';
    if (host[0] != '\0')
        snprintf(text, NET_ADDRESS_BYTES_MAX, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host,
                 ntohs(port));
}

bool net_address(struct net *net, conn_handle handle, char text[NET_ADDRESS_BYTES_MAX])
{
    struct conn *conn = slot_find(net, handle);
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    text[0] = '\0';
    CHECK(on_io_thread(reactor_of(net, handle)));
    if (conn == NULL)
        return false;
    const char *peer = conn_peer(conn);
    if (peer != NULL) {
        snprintf(text, NET_ADDRESS_BYTES_MAX, "%s", peer);
        return true;
    }
    if (getpeername(conn->fd, (struct sockaddr *)&address, &size) != 0)
        return false;
    net_address_text(&address, text);
    return true;
}

enum listener_kind net_listener(struct net *net, conn_handle handle)
{
    const struct conn *conn = slot_find(net, handle);
    CHECK(on_io_thread(reactor_of(net, handle)));
    CHECK(conn != NULL);
    return (enum listener_kind)conn->listener;
}
