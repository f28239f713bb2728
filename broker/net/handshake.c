/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/private.h"

/* Handshakes of transports, up to the moment when the connection becomes like any other.
 *
 * One step of a TLS handshake costs as much as hundreds of messages (the server signs), and
 * strangers can begin as many as they like. So events of connections in a handshake do nothing but
 * list them, and an I/O thread makes one costly step per batch, or CHEAP_MAX of those that only
 * read a head, between two looks at its sockets: however many knock, those who are in wait for one
 * signature at most. The list is first come, first served, and its length is bounded by
 * limits.handshakes.
 *
 * A handshake may also end with an answer and no connection: a health check, or an upgrade that is
 * refused. Who speaks the wrong language is met in greeting.c. */

enum { CHEAP_MAX = 64, REFUSED_RETRY_MS = 1000 };

void handshake_list(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor) && conn->state == CONN_SHAKING);
    if (!conn->shaking_listed)
        conn->shaking_listed = handle_list_add(&reactor->shaking, conn_handle_of(reactor, conn));
}

void handshake_note(struct reactor *reactor, struct conn *conn, struct transport_fault fault)
{
    struct log *log = reactor->net->options.log;
    char address[NET_ADDRESS_BYTES_MAX];
    reactor_count(reactor, fault.metric, 1);
    if (fault.reason == NULL)
        return;
    net_address(reactor->net, conn_handle_of(reactor, conn), address);
    const struct log_field fields[] = {LOG_S("address", address), LOG_S("reason", fault.reason),
                                       LOG_U("status", fault.status)};
    log_event(log, fault.event, fields, fault.status != 0 ? 3 : 2);
}

static void fail(struct reactor *reactor, struct conn *conn, struct transport_fault fault)
{
    CHECK(conn->state == CONN_SHAKING);
    handshake_note(reactor, conn, fault);
    conn_close(reactor, conn);
}

static void fail_with(struct reactor *reactor, struct conn *conn, const char *reason)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    fail(reactor, conn,
         (struct transport_fault){
             .reason = reason, .metric = handshake->failed, .event = handshake->event});
}

/* It is over, with an answer that may still have to be written. */
static void end_answered(struct reactor *reactor, struct conn *conn)
{
    CHECK(conn->state == CONN_SHAKING && conn->owner == 0);
    handshake_note(reactor, conn, conn_transport(conn)->handshake->fault(conn->wire));
    count_down(&reactor->net->handshakes);
    conn->state = CONN_OPEN;
    conn_part(reactor, conn);
}

void handshake_expire(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    CHECK(conn->state == CONN_SHAKING);
    if (conn->wire != NULL && handshake->expire != NULL && handshake->expire(conn->wire))
        end_answered(reactor, conn);
    else
        fail_with(reactor, conn, "limits.handshake_deadline_ms");
}

/* False: there is nothing to shake hands with yet, or ever. */
static bool begin(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    switch (handshake->peek(conn->fd)) {
    case HELLO_AWAITED:
        if (conn->hung_up)
            conn_close(reactor, conn);
        return false;
    case HELLO_END:
        conn_close(reactor, conn);
        return false;
    case HELLO_FOREIGN:
        greeting_meet_foreign(reactor, conn);
        return false;
    case HELLO_LARGE:
        fail_with(reactor, conn, "a ClientHello of too many bytes");
        return false;
    case HELLO_FINE:
        break;
    }
    char address[NET_ADDRESS_BYTES_MAX];
    const char *peer = conn_peer(conn);
    if (peer == NULL && (handshake->keeps_peer || conn->forwards)) {
        net_address(reactor->net, conn_handle_of(reactor, conn), address);
        peer = address;
    }
    conn->wire = handshake->begin(&reactor->net->site, conn->fd, peer, conn->forwards);
    bool begun = conn->wire != NULL;
    if (begun)
        free(conn_take_peer(conn));
    else
        fail_with(reactor, conn, "no memory");
    return begun;
}

/* Whoever he says that he is for, he counts for from now on. As enum shaken. */
static int take_claim(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    struct net *net = reactor->net;
    struct buffer list = {0};
    struct sockaddr_storage address;
    char text[NET_ADDRESS_BYTES_MAX];
    int wants = handshake->claim(conn->wire, &list);
    bool named = wants >= 0 && net_forwarded(net, (struct bytes){list.data, list.size}, &address);
    buffer_fini(&list);
    CHECK(conn->forwards);
    conn->forwards = false;
    if (named)
        net_address_text(&address, text);
    else
        net_address(net, conn_handle_of(reactor, conn), text);
    const char *refusal = wants > 0 ? strangers_count(reactor, conn, text) : NULL;
    int failed = wants < 0 ? wants
                           : handshake->name(&net->site, conn->wire, named ? text : NULL, refusal,
                                             env_spread_ms(net->options.env, REFUSED_RETRY_MS));
    return failed != 0 ? failed : handshake->shake(&net->site, conn->fd, conn->wire);
}

static void established(struct reactor *reactor, struct conn *conn)
{
    CHECK(conn->owner == 0 && conn->unbound_bytes == 0);
    count_down(&reactor->net->handshakes);
    reactor_count(reactor, conn_transport(conn)->handshake->done, 1);
    conn->state = CONN_OPEN;
    conn->heard_ms = conn->opened_ms = (uint32_t)reactor->now_ms;
    deadline_leave(reactor, conn);
    deadline_enter(reactor, conn, DEADLINE_LOGIN);
    /* The login may be there already, and its edge was the handshake's. */
    conn_read(reactor, conn);
}

/* Whether it was costly. */
static bool step(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    if (conn->wire == NULL && !begin(reactor, conn))
        return false;
    int result = handshake->shake(&reactor->net->site, conn->fd, conn->wire);
    if (result == SHAKEN_CLAIMED)
        result = take_claim(reactor, conn);
    if (result == SHAKEN_DONE)
        established(reactor, conn);
    else if (result == SHAKEN_ANSWERED)
        end_answered(reactor, conn);
    else if (result < 0)
        fail(reactor, conn, handshake->fault(conn->wire));
    else if (conn->hung_up)
        handshake_list(reactor, conn); /* the end is behind what was read, and is reported once */
    return handshake->costly;
}

void handshake_some(struct reactor *reactor)
{
    struct handle_list *list = &reactor->shaking;
    size_t done = 0;
    bool costly = false;
    while (done < list->count && done < CHEAP_MAX && !costly) {
        struct conn *conn = slot_find(reactor->net, list->items[done++]);
        if (conn == NULL || conn->state != CONN_SHAKING)
            continue;
        CHECK(conn->shaking_listed);
        conn->shaking_listed = false;
        costly = step(reactor, conn);
    }
    /* What a step has listed stands behind. */
    memmove(list->items, list->items + done, (list->count - done) * sizeof(conn_handle));
    list->count -= done;
    if (list->count > 0)
        reactor->more = true;
}
