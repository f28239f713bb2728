/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/memory.h"
#include "net/ws_private.h"

/* WebSocket over TLS: its handshake, then the upgrade. Header and frames are copied into one
 * record. */

enum { GATHER_BYTES = 16 * 1024 };

/* The state. */
struct wss {
    struct ws ws;
    void *tls;
    bool established;
};

/* In one record of TLS. */
static ssize_t gather_tls(int fd, void *lower, struct iovec parts[2])
{
    uint8_t record[GATHER_BYTES];
    size_t room = sizeof(record) - parts[0].iov_len;
    size_t size = parts[1].iov_len < room ? parts[1].iov_len : room;
    memcpy(record, parts[0].iov_base, parts[0].iov_len);
    memcpy(record + parts[0].iov_len, parts[1].iov_base, size);
    return transport_tls.write(fd, lower, record, parts[0].iov_len + size);
}

static const struct under over_tls = {&transport_tls, gather_tls};

static struct place tls_place(int fd, const struct wss *wss)
{
    return (struct place){&over_tls, fd, wss != NULL ? wss->tls : NULL};
}

static size_t wss_bytes(const struct wss *wss)
{
    return sizeof(*wss) + (wss->ws.named ? PEER_BYTES : 0);
}

/* TLS knows the peer; there is a place here for whom he is for. */
static void *wss_begin(const struct transport_site *site, int fd, const char *peer, bool forwards)
{
    struct wss *wss = calloc(1, sizeof(*wss) + (forwards ? PEER_BYTES : 0));
    if (wss == NULL)
        return NULL;
    wss->tls = transport_tls.handshake->begin(site, fd, peer, forwards);
    if (wss->tls == NULL) {
        free(wss);
        return NULL;
    }
    wss->ws.named = wss->ws.claims = forwards;
    if (forwards)
        put_peer(wss + 1, peer);
    memory_account(MEMORY_OF_WEBSOCKET, (int64_t)wss_bytes(wss));
    return wss;
}

static int wss_claim(void *state, struct buffer *list)
{
    return websocket_claim(&((struct wss *)state)->ws, list);
}

static int wss_name(const struct transport_site *site, void *state, const char *peer,
                    const char *refusal, uint32_t retry_after_ms)
{
    struct wss *wss = state;
    CHECK(wss->ws.named);
    if (peer != NULL)
        put_peer(wss + 1, peer);
    return websocket_go_on(site->ws, &wss->ws, refusal, retry_after_ms);
}

static int wss_shake(const struct transport_site *site, int fd, void *state)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    if (!wss->established) {
        int shaken = transport_tls.handshake->shake(site, fd, wss->tls);
        if (shaken != SHAKEN_DONE)
            return shaken;
        wss->established = true;
    }
    return websocket_shake(&place, site->ws, &wss->ws);
}

static bool wss_expire(void *state)
{
    struct wss *wss = state;
    return wss->established && websocket_expire(&wss->ws);
}

static struct transport_fault wss_fault(void *state)
{
    struct wss *wss = state;
    struct transport_fault below = transport_tls.handshake->fault(wss->tls);
    return !wss->established || below.reason[0] != '\0' ? below : websocket_fault(&wss->ws);
}

static ssize_t wss_take(int fd, void *state, struct transport_read *read)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return websocket_read(&place, &wss->ws, read);
}

static ssize_t wss_write(int fd, void *state, const void *data, size_t size)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return websocket_write(&place, &wss->ws, data, size);
}

static int wss_settle(int fd, void *state)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return websocket_settle(&place, &wss->ws, false);
}

static int wss_shut(int fd, void *state)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return websocket_shut(&place, wss != NULL ? &wss->ws : NULL);
}

static const char *wss_peer(const void *state)
{
    const struct wss *wss = state;
    return wss->ws.named ? (const char *)(wss + 1) : transport_tls.peer(wss->tls);
}

static void wss_destroy(void *state)
{
    struct wss *wss = state;
    if (wss == NULL)
        return;
    websocket_fini(&wss->ws);
    transport_tls.destroy(wss->tls);
    memory_account(MEMORY_OF_WEBSOCKET, -(int64_t)wss_bytes(wss));
    free(wss);
}

static enum hello wss_peek(int fd)
{
    return transport_tls.handshake->peek(fd);
}

static int wss_refuse(struct buffer *out, const char *detail, uint32_t retry_after_ms)
{
    return transport_tls.handshake->refuse(out, detail, retry_after_ms);
}

static const struct transport_handshake wss_handshake = {
    .peek = wss_peek,
    .begin = wss_begin,
    .shake = wss_shake,
    .claim = wss_claim,
    .name = wss_name,
    .expire = wss_expire,
    .fault = wss_fault,
    .refuse = wss_refuse,
    .language = "TLS",
    .costly = true,
    .keeps_peer = true,
    .event = LOG_EVENT_TLS_FAILED,
    .done = METRIC_ws_upgrades,
    .failed = METRIC_tls_failed,
    .foreign = METRIC_plain_on_tls_port,
};

const struct transport transport_wss = {
    .handshake = &wss_handshake,
    .read = wss_take,
    .write = wss_write,
    .settle = wss_settle,
    .rouse = websocket_rouse,
    .farewell = websocket_farewell,
    .shut = wss_shut,
    .peer = wss_peer,
    .destroy = wss_destroy,
    .ahead_bytes = 16 * 1024,
};
