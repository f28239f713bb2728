/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/socket.h>

#include "net/private.h"
#include "net/upgrade.h"

/* Whoever speaks the wrong language at a port is told so in his own, because that is nearly always
 * somebody's configuration: TLS gets an alert, HTTP a response that names the right port, all
 * others a Close in the language of frames. Which it is, the first bytes tell, before anything is
 * handed up. */

enum { REASON_BYTES = 120, TEXT_BYTES = 64, SEEN_BYTES = 8 };

enum language { LANGUAGE_FRAMES, LANGUAGE_TLS, LANGUAGE_HTTP };

static const uint8_t alert_protocol_version[] = {0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 70};

/* Neither a ClientHello nor a request is a frame of ours: 22 bytes that begin with the tag of a
 * field number 0; a letter's worth of bytes whose known field has a wrong wire type. */
static enum language language_of(struct bytes input)
{
    bool awaited;
    if (input.size > 1 && input.data[0] == TLS_FIRST_BYTE && input.data[1] == 0x03)
        return LANGUAGE_TLS;
    return upgrade_is_http(input, &awaited) ? LANGUAGE_HTTP : LANGUAGE_FRAMES;
}

/* Becomes one that is being closed, with last words; by plain TCP when it has no state yet. */
static void part_with(struct reactor *reactor, struct conn *conn, const void *words, size_t size)
{
    CHECK(conn->owner == 0);
    if (conn->state == CONN_SHAKING) {
        char *peer = conn_take_peer(conn);
        CHECK(conn->wire == NULL);
        count_down(&reactor->net->handshakes);
        conn->state = CONN_OPEN;
        conn->transport = TRANSPORT_plain;
        conn_name_peer(conn, peer);
    }
    if (size > 0)
        net_write(reactor->net, reactor->index, conn_handle_of(reactor, conn), words, size);
    conn_part(reactor, conn);
}

static void note(struct reactor *reactor, struct conn *conn, const char *language,
                 enum metric_id metric, enum log_event_id event)
{
    char reason[REASON_BYTES];
    snprintf(reason, sizeof(reason), "%.64s on the port of %.32s", language,
             listener_rows[conn->listener].option);
    handshake_note(reactor, conn,
                   (struct transport_fault){.reason = reason, .metric = metric, .event = event});
}

static void meet_tls(struct reactor *reactor, struct conn *conn, enum metric_id metric)
{
    note(reactor, conn, "TLS", metric, LOG_EVENT_TLS_FAILED);
    part_with(reactor, conn, alert_protocol_version, sizeof(alert_protocol_version));
}

/* The listener that speaks HTTP, the plain one first; LISTENERS: there is none. */
static unsigned where_http_goes(const struct net *net)
{
    unsigned kind = 0;
    while (kind < LISTENERS && (!listener_rows[kind].by_http || net->listeners[kind].port == 0))
        kind++;
    return kind;
}

/* Plain HTTP where TLS comes first is no more than a peer without it. He is told the port and no
 * address: that may be one of a private network, and he found the host by himself. */
static void meet_http(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    struct buffer out = {0};
    bool bare = conn->wire == NULL && conn_transport(conn)->handshake != NULL;
    bool by_http = listener_rows[conn->listener].by_http;
    unsigned kind = where_http_goes(net);
    char where[TEXT_BYTES];
    const char *spoken = bare ? conn_transport(conn)->handshake->language : "usher's frames";
    if (kind < LISTENERS)
        snprintf(where, sizeof(where), "port %u", net->listeners[kind].port);
    note(reactor, conn, "HTTP", by_http ? METRIC_plain_on_tls_port : METRIC_http_on_frame_port,
         LOG_EVENT_WS_REFUSED);
    if (upgrade_wrong_port(&out, spoken,
                           kind < LISTENERS ? listener_rows[kind].option : "listen.ws",
                           kind < LISTENERS ? where : NULL) != 0)
        out.size = 0;
    part_with(reactor, conn, out.data, out.size);
    buffer_fini(&out);
}

bool greeting_is_foreign(struct reactor *reactor, struct conn *conn, struct bytes input)
{
    switch (language_of(input)) {
    case LANGUAGE_TLS:
        if (conn_transport(conn)->handshake != NULL)
            return false;
        meet_tls(reactor, conn, METRIC_tls_on_plain_port);
        return true;
    case LANGUAGE_HTTP:
        meet_http(reactor, conn);
        return true;
    case LANGUAGE_FRAMES:
        break;
    }
    return false;
}

/* No TLS, where that is what comes first. */
static void meet_frames(struct reactor *reactor, struct conn *conn)
{
    const struct transport_handshake *handshake = conn_transport(conn)->handshake;
    struct buffer out = {0};
    char text[TEXT_BYTES];
    snprintf(text, sizeof(text), "no %s", handshake->language);
    note(reactor, conn, text, handshake->foreign, handshake->event);
    snprintf(text, sizeof(text), "this port speaks %s", handshake->language);
    if (conn_codec(conn)->close(&out, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR, text, 0) != 0)
        out.size = 0;
    part_with(reactor, conn, out.data, out.size);
    buffer_fini(&out);
}

void greeting_meet_foreign(struct reactor *reactor, struct conn *conn)
{
    uint8_t seen[SEEN_BYTES];
    ssize_t got = recv(conn->fd, seen, sizeof(seen), MSG_PEEK | MSG_DONTWAIT);
    CHECK(conn->state == CONN_SHAKING && conn->wire == NULL);
    if (got <= 0) {
        conn_close(reactor, conn);
        return;
    }
    enum language language = language_of((struct bytes){seen, (size_t)got});
    if (seen[0] == TLS_FIRST_BYTE)
        language = LANGUAGE_TLS;
    if (language == LANGUAGE_TLS)
        meet_tls(reactor, conn, conn_transport(conn)->handshake->foreign);
    else if (language == LANGUAGE_HTTP)
        meet_http(reactor, conn);
    else
        meet_frames(reactor, conn);
}
