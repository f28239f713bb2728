/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "net/private.h"

/* Handshakes of transports, up to the moment when the connection becomes like any other.
 *
 * One step of a TLS handshake costs as much as hundreds of messages (the server signs), and
 * strangers can begin as many as they like. So events of connections in a handshake do nothing but
 * list them, and an I/O thread makes one costly step per batch, between two looks at its sockets:
 * however many knock, those who are in wait for one signature at most. The list is first come,
 * first served, and its length is bounded by handshakes_max.
 *
 * Whoever speaks the wrong language at a port is told so in his own, because that is nearly always
 * somebody's configuration: TLS at a port without it gets a TLS alert, others at the TLS port get a
 * Close in the language of its codec. */

enum { REASON_BYTES = 80 };

static const uint8_t alert_protocol_version[] = {0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 70};

void handshake_list(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor) && conn->state == CONN_SHAKING);
    if (!conn->shaking_listed)
        conn->shaking_listed = handle_list_add(&reactor->shaking, conn_handle_of(reactor, conn));
}

void handshake_log(struct reactor *reactor, struct conn *conn, const char *reason)
{
    char address[NET_ADDRESS_BYTES_MAX];
    net_address(reactor->net, conn_handle_of(reactor, conn), address);
    LOG(reactor->net->options.log, TLS_FAILED, LOG_S("address", address), LOG_S("reason", reason));
}

void handshake_fail(struct reactor *reactor, struct conn *conn, const char *reason)
{
    CHECK(conn->state == CONN_SHAKING);
    reactor_count(reactor, conn_transport(conn)->handshake->failed, 1);
    handshake_log(reactor, conn, reason);
    conn_close(reactor, conn);
}

/* Becomes a plain connection that is being closed, with last words. */
static void part_with(struct reactor *reactor, struct conn *conn, const void *words, size_t size)
{
    if (conn->state == CONN_SHAKING)
        count_down(&reactor->net->handshakes);
    CHECK(conn->owner == 0 && conn->wire == NULL);
    conn->state = CONN_OPEN;
    conn->transport = TRANSPORT_plain;
    net_write(reactor->net, reactor->index, conn_handle_of(reactor, conn), words, size);
    conn_part(reactor, conn);
}

void handshake_meets_tls(struct reactor *reactor, struct conn *conn)
{
    char reason[REASON_BYTES];
    snprintf(reason, sizeof(reason), "TLS on the port of %s", listener_rows[conn->listener].option);
    reactor_count(reactor, METRIC_tls_on_plain_port, 1);
    handshake_log(reactor, conn, reason);
    part_with(reactor, conn, alert_protocol_version, sizeof(alert_protocol_version));
}

static void meet_foreign(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    struct buffer out = {0};
    char reason[REASON_BYTES];
    snprintf(reason, sizeof(reason), "no %s on the port of %s", handshake->language,
             listener_rows[conn->listener].option);
    reactor_count(reactor, handshake->foreign, 1);
    handshake_log(reactor, conn, reason);
    snprintf(reason, sizeof(reason), "this port speaks %s", handshake->language);
    if (conn_codec(conn)->close(&out, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR, reason, 0) == 0)
        part_with(reactor, conn, out.data, out.size);
    else
        conn_close(reactor, conn);
    buffer_fini(&out);
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
        meet_foreign(reactor, conn);
        return false;
    case HELLO_LARGE:
        handshake_fail(reactor, conn, "a ClientHello of too many bytes");
        return false;
    case HELLO_FINE:
        break;
    }
    char address[NET_ADDRESS_BYTES_MAX];
    net_address(reactor->net, conn_handle_of(reactor, conn), address);
    conn->wire = handshake->begin(reactor->net->tls, conn->fd, address);
    bool begun = conn->wire != NULL;
    if (!begun)
        handshake_fail(reactor, conn, "no memory");
    return begun;
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

/* False: it cost next to nothing. */
static bool step(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    if (conn->wire == NULL && !begin(reactor, conn))
        return false;
    int result = handshake->shake(conn->wire);
    if (result == 1)
        established(reactor, conn);
    else if (result < 0)
        handshake_fail(reactor, conn, handshake->fault(conn->wire));
    else if (conn->hung_up)
        handshake_list(reactor, conn); /* the end is behind what was read, and is reported once */
    return true;
}

void handshake_some(struct reactor *reactor)
{
    struct handle_list *list = &reactor->shaking;
    size_t done = 0;
    bool costly = false;
    while (done < list->count && !costly) {
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
