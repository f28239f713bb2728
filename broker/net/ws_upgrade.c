/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "client.pb-c.h"
#include "net/ws_private.h"
#include "proto/broker_frame.h"

/* The handshake of WebSocket: a head of HTTP is read and judged (upgrade.c) and answered.
 *
 * It ends in one of two ways: upgraded, or with an answer and no connection, which may be a health
 * check, a refusal, or a Close for one who speaks frames. Nothing is kept of the head but what an
 * answer needs; head and answer lie in one piece of memory, in the book from its first byte, and
 * it is given back when the answer is out. Who may say for whom he comes (ws.forwarded_from) is
 * named between the head and its answer. */

enum { HEAD_ROOM = 1024, DRAIN_RETRY_MS = 1000 };

static struct head *head_grow(struct head *head, size_t room)
{
    size_t before = head != NULL ? sizeof(*head) + head->room : 0;
    struct head *bigger = realloc(head, sizeof(*head) + room);
    if (bigger == NULL) {
        memory_refused();
        return NULL;
    }
    if (head == NULL)
        *bigger = (struct head){0};
    bigger->room = room;
    memory_account(MEMORY_OF_WEBSOCKET, (int64_t)(sizeof(*head) + room) - (int64_t)before);
    return bigger;
}

void websocket_head_free(struct head *head)
{
    if (head != NULL)
        memory_account(MEMORY_OF_WEBSOCKET, -(int64_t)(sizeof(*head) + head->room));
    free(head);
}

/* What is left to be said. */
int websocket_say_answer(const struct place *place, struct head *head)
{
    while (head->said < head->size) {
        ssize_t sent =
            websocket_write_below(place, head->bytes + head->said, head->size - head->said);
        if (sent < 0)
            return (int)sent;
        head->said += (size_t)sent;
    }
    return 0;
}

/* From now on it is the answer. */
static void set_answer(struct ws *ws, enum phase phase, struct transport_fault fault,
                       struct buffer *answer)
{
    struct head *head = ws->head;
    CHECK(ws->phase == PHASE_HEAD && (phase == PHASE_ACCEPTED || phase == PHASE_REFUSED));
    if (answer->size > head->room) {
        head = head_grow(head, answer->size);
        if (head == NULL)
            answer->size = 0; /* then he hears nothing */
        else
            ws->head = head;
    }
    if (answer->size > 0)
        memcpy(ws->head->bytes, answer->data, answer->size);
    ws->head->size = answer->size;
    ws->head->said = 0;
    ws->head->fault = fault;
    ws->phase = phase;
}

/* Frames, on the port of WebSocket: told in his own language. */
static int meet_frames(struct ws *ws)
{
    const struct transport_fault fault = {.reason = "frames, and no HTTP, on a port of WebSocket",
                                          .metric = METRIC_frames_on_ws_port,
                                          .event = LOG_EVENT_WS_REFUSED};
    struct buffer answer = {0};
    int failed = broker_frame_close(&answer, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                                    "this port speaks WebSocket", 0, false);
    if (failed == 0)
        set_answer(ws, PHASE_REFUSED, fault, &answer);
    buffer_fini(&answer);
    return failed;
}

static int answer_head(struct ws *ws, const struct upgrade *upgrade)
{
    struct transport_fault fault = {.status = upgrade->status, .event = LOG_EVENT_WS_REFUSED};
    struct buffer answer = {0};
    int failed = upgrade_answer(&answer, upgrade);
    fault.metric = METRIC_ws_health_checks;
    if (upgrade->verdict == UPGRADE_REFUSED) {
        fault.metric = METRIC_ws_refused;
        fault.reason = upgrade->reason;
    }
    if (failed == 0)
        set_answer(ws, upgrade->verdict == UPGRADE_ACCEPTED ? PHASE_ACCEPTED : PHASE_REFUSED, fault,
                   &answer);
    buffer_fini(&answer);
    return failed;
}

/* It would be let in, but for that. */
static int turn_away(struct ws *ws, const char *why, uint32_t retry_after_ms)
{
    const struct transport_fault fault = {
        .reason = why, .status = 503, .metric = METRIC_ws_refused, .event = LOG_EVENT_WS_REFUSED};
    struct buffer answer = {0};
    int failed = upgrade_overloaded(&answer, retry_after_ms, why);
    if (failed == 0)
        set_answer(ws, PHASE_REFUSED, fault, &answer);
    buffer_fini(&answer);
    return failed;
}

static bool is_draining(const struct ws_site *site)
{
    return atomic_load_explicit(&site->draining, memory_order_relaxed);
}

static int answer(const struct ws_site *site, struct ws *ws)
{
    const struct upgrade *upgrade = &ws->head->upgrade;
    if (upgrade->verdict == UPGRADE_ACCEPTED && is_draining(site))
        return turn_away(ws, "the broker drains", DRAIN_RETRY_MS);
    return answer_head(ws, upgrade);
}

/* As soon as it can be told. SHAKEN_CLAIMED: he has to be named first. */
static int judge(const struct ws_site *site, struct ws *ws)
{
    const struct bytes input = {ws->head->bytes, ws->head->size};
    const struct upgrade_rules rules = {
        .path = site->path,
        .origins = site->origins,
        .origins_count = site->origins_count,
        .open = site->open,
        .draining = is_draining(site),
        .head_bytes = ws_head_bytes(site->limits),
    };
    struct upgrade *upgrade = &ws->head->upgrade;
    bool awaited = false;
    if (!upgrade_is_http(input, &awaited))
        return awaited ? 0 : meet_frames(ws);
    upgrade_judge(input, &rules, upgrade);
    if (upgrade->verdict == UPGRADE_AWAITED)
        return 0;
    return ws->claims && upgrade->verdict != UPGRADE_HEALTH ? SHAKEN_CLAIMED : answer(site, ws);
}

/* Room for more of it, up to one byte too many. */
static int make_room(const struct ws_site *site, struct ws *ws)
{
    size_t most = ws_head_bytes(site->limits) + 1;
    size_t size = ws->head != NULL ? ws->head->size : 0;
    size_t room = ws->head != NULL ? ws->head->room : 0;
    if (size < room)
        return 0;
    room = room == 0 ? HEAD_ROOM : 2 * room;
    if (room > most && most > size)
        room = most;
    struct head *head = head_grow(ws->head, room);
    if (head == NULL)
        return -ENOMEM;
    ws->head = head;
    return 0;
}

/* 0; -EAGAIN, there is no more yet; or what went wrong. */
static int read_head(const struct place *place, const struct ws_site *site, struct ws *ws)
{
    if (make_room(site, ws) != 0)
        return -ENOMEM;
    struct head *head = ws->head;
    struct transport_read read = {
        .to = head->bytes + head->size, .size = head->room - head->size, .limits = site->limits};
    ssize_t got = place->under->transport->read(place->fd, place->lower, &read);
    if (got <= 0)
        return got == 0 ? -ECONNRESET : (int)got;
    head->size += (size_t)got;
    return judge(site, ws);
}

int websocket_shake(const struct place *place, const struct ws_site *site, struct ws *ws)
{
    int failed = 0;
    while (ws->phase == PHASE_HEAD && failed == 0)
        failed = read_head(place, site, ws);
    if (failed == SHAKEN_CLAIMED)
        return failed;
    if (failed == 0)
        failed = websocket_say_answer(place, ws->head);
    if (failed != 0)
        return failed == -EAGAIN || failed == -EINTR ? SHAKEN_NOT_YET : failed;
    if (ws->phase == PHASE_REFUSED)
        return SHAKEN_ANSWERED;
    CHECK(!ws->claims);
    websocket_head_free(ws->head);
    ws->saying = NULL;
    ws->phase = PHASE_OPEN;
    return SHAKEN_DONE;
}

/* The lines of X-Forwarded-For, for whoever knows which of them to believe. */
int websocket_claim(const struct ws *ws, struct buffer *list)
{
    const struct upgrade *upgrade = &ws->head->upgrade;
    CHECK(ws->phase == PHASE_HEAD && ws->claims);
    int failed = upgrade_forwarded(list, upgrade);
    return failed != 0 ? failed : upgrade->verdict == UPGRADE_ACCEPTED;
}

int websocket_go_on(const struct ws_site *site, struct ws *ws, const char *refusal,
                    uint32_t retry_after_ms)
{
    ws->claims = false;
    return refusal != NULL ? turn_away(ws, refusal, retry_after_ms) : answer(site, ws);
}

/* Late: told so, if there is something to be answered. */
bool websocket_expire(struct ws *ws)
{
    const struct upgrade late = {.verdict = UPGRADE_REFUSED,
                                 .status = 408,
                                 .reason = "no whole head within limits.handshake_deadline_ms"};
    return ws->phase == PHASE_HEAD && ws->head != NULL && answer_head(ws, &late) == 0;
}

struct transport_fault websocket_fault(const struct ws *ws)
{
    if (ws->phase == PHASE_OPEN)
        return (struct transport_fault){.reason = websocket_endings[ws->end].reason,
                                        .status = websocket_endings[ws->end].code,
                                        .metric = METRIC_ws_broken,
                                        .event = LOG_EVENT_WS_BROKEN};
    if (ws->phase != PHASE_HEAD && ws->head != NULL)
        return ws->head->fault;
    return (struct transport_fault){.reason = "the connection was lost before its upgrade",
                                    .metric = METRIC_ws_refused,
                                    .event = LOG_EVENT_WS_REFUSED};
}
