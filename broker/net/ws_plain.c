/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/memory.h"
#include "net/ws_private.h"

/* WebSocket over plain TCP. Header and frames go in one call of the socket's. */

static ssize_t gather_plain(int fd, void *lower, struct iovec parts[2])
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent >= 0 ? sent : -errno;
}

static const struct under over_plain = {&transport_plain, gather_plain};

static struct place plain_place(int fd)
{
    return (struct place){&over_plain, fd, NULL};
}

/* Of TLS the first bytes are known; all others are looked at when there is a head. */
static enum hello ws_peek(int fd)
{
    uint8_t first;
    ssize_t got = recv(fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return HELLO_AWAITED;
    if (got <= 0)
        return HELLO_END;
    return first == TLS_FIRST_BYTE ? HELLO_FOREIGN : HELLO_FINE;
}

static const char *ws_peer(const void *state)
{
    const struct ws *ws = state;
    return ws->named ? (const char *)(ws + 1) : NULL;
}

static size_t ws_bytes(const struct ws *ws)
{
    return sizeof(*ws) + (ws->named ? PEER_BYTES : 0);
}

static void *ws_begin(const struct transport_site *site, int fd, const char *peer, bool forwards)
{
    struct ws *ws = calloc(1, sizeof(*ws) + (peer != NULL ? PEER_BYTES : 0));
    CHECK(peer != NULL || !forwards);
    if (ws == NULL)
        return NULL;
    ws->named = peer != NULL;
    ws->claims = forwards;
    if (peer != NULL)
        put_peer(ws + 1, peer);
    memory_account(MEMORY_OF_WEBSOCKET, (int64_t)ws_bytes(ws));
    return ws;
}

static int ws_claim(void *state, struct buffer *list)
{
    return websocket_claim(state, list);
}

static int ws_name(const struct transport_site *site, void *state, const char *peer,
                   const char *refusal, uint32_t retry_after_ms)
{
    struct ws *ws = state;
    CHECK(ws->named);
    if (peer != NULL)
        put_peer(ws + 1, peer);
    return websocket_go_on(site->ws, ws, refusal, retry_after_ms);
}

static int ws_refuse(struct buffer *out, const char *detail, uint32_t retry_after_ms)
{
    return upgrade_overloaded(out, retry_after_ms, detail);
}

static int ws_shake(const struct transport_site *site, int fd, void *state)
{
    const struct place place = plain_place(fd);
    return websocket_shake(&place, site->ws, state);
}

static bool ws_expire(void *state)
{
    return websocket_expire(state);
}

static struct transport_fault ws_fault(void *state)
{
    return websocket_fault(state);
}

static ssize_t ws_take(int fd, void *state, struct transport_read *read)
{
    const struct place place = plain_place(fd);
    return websocket_read(&place, state, read);
}

static ssize_t ws_write(int fd, void *state, const void *data, size_t size)
{
    const struct place place = plain_place(fd);
    return websocket_write(&place, state, data, size);
}

static int ws_settle(int fd, void *state)
{
    const struct place place = plain_place(fd);
    return websocket_settle(&place, state, false);
}

static int ws_shut(int fd, void *state)
{
    const struct place place = plain_place(fd);
    return websocket_shut(&place, state);
}

static void ws_destroy(void *state)
{
    struct ws *ws = state;
    if (ws == NULL)
        return;
    websocket_fini(ws);
    memory_account(MEMORY_OF_WEBSOCKET, -(int64_t)ws_bytes(ws));
    free(ws);
}

static const struct transport_handshake ws_handshake = {
    .peek = ws_peek,
    .begin = ws_begin,
    .shake = ws_shake,
    .claim = ws_claim,
    .name = ws_name,
    .expire = ws_expire,
    .fault = ws_fault,
    .refuse = ws_refuse,
    .language = "WebSocket",
    .event = LOG_EVENT_WS_REFUSED,
    .done = METRIC_ws_upgrades,
    .failed = METRIC_ws_refused,
    .foreign = METRIC_tls_on_plain_port,
};

static bool ws_pack(const void *state, Usher__V1__HandoverWebSocket *to)
{
    return websocket_pack(state, to);
}

static void *ws_unpack(const Usher__V1__HandoverWebSocket *from, const char *peer)
{
    struct ws *ws = ws_begin(NULL, -1, peer, false);
    if (ws != NULL && !websocket_unpack(ws, from)) {
        ws_destroy(ws);
        ws = NULL;
    }
    return ws;
}

const struct transport transport_ws = {
    .handshake = &ws_handshake,
    .read = ws_take,
    .write = ws_write,
    .settle = ws_settle,
    .rouse = websocket_rouse,
    .farewell = websocket_farewell,
    .shut = ws_shut,
    .peer = ws_peer,
    .pack = ws_pack,
    .unpack = ws_unpack,
    .destroy = ws_destroy,
};
