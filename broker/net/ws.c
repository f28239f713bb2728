/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ws.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "net/transport.h"
#include "net/upgrade.h"
#include "net/ws_frame.h"
#include "proto/broker_frame.h"
#include "proto/frame.h"

/* WebSocket as another way for the same bytes to travel.
 *
 * The handshake reads an HTTP head and answers it; afterwards the payload of binary messages is
 * what plain TCP would have brought, unmasked where it was read. A message holds whole frames
 * (ws_frame.c sees to it), so a frame that is not whole is in a message that is not whole, and
 * what is kept of either is the same bytes in the same place.
 *
 * Writing, a message is made when bytes go to the socket, not when they are handed in: what waits
 * in a connection is frames as on TCP, and a header is put before as many of them as make a
 * message. `announced` is what the message in progress still owes. So what one turn has written,
 * or what waited for a full socket, is one message, of at most WS_MESSAGE_BYTES.
 *
 * What this side says by itself (Pong, Ping, Close) comes from the I/O thread, which does not own
 * the write side. It leaves the frame in `words` and asks to be settled; the owner takes it from
 * there between two messages. A newer one takes the place of one that was not begun: of Pings only
 * the last has to be answered. A Close stays, and goes when all is written: the first that was
 * left there is the reason. Both are one pointer, exchanged; a lock would be the most of the state.
 *
 * An idle user is this struct and his connection, so it is as small as a chunk of the allocator
 * (64 bytes) holds. What only some need (TLS, a peer that the socket does not know) stands behind
 * it. */

enum {
    HEAD_ROOM = 1024,
    GATHER_BYTES = 16 * 1024,
    HEADER_SENT = UINT8_MAX,
    FIRST_REASON = 4000,
    CUT_BYTES = 64 * 1024, /* browsers send what is larger in pieces of at least so much */
    DRAIN_RETRY_MS = 1000,
    PEER_BYTES = 56, /* of an address with its port */
};

/* A control frame, header and all. */
struct words {
    uint16_t size, said;
    uint8_t bytes[];
};

static const uintptr_t CLOSING = 1; /* beside the pointer: it goes when all is written */

/* What there is up to the end of the handshake: the head, then the answer. */
struct head {
    struct transport_fault fault;
    struct upgrade upgrade; /* how far it has been looked at */
    size_t size, said, room;
    uint8_t bytes[];
};

enum phase { PHASE_HEAD, PHASE_ACCEPTED, PHASE_REFUSED, PHASE_OPEN };

/* Why nothing more is read. */
enum end { END_NOT, END_CLOSE, END_PROTOCOL, END_TEXT, END_UTF8, END_LARGE, END_FLOOD, END_MEMORY };

static const struct ending {
    uint16_t code;
    int result; /* of the read */
    const char *reason;
} endings[] = {
    [END_CLOSE] = {0, 0, ""},
    [END_PROTOCOL] = {1002, -EBADMSG, "it breaks the rules of WebSocket"},
    [END_TEXT] = {1003, -EBADMSG, "a text message: frames are binary"},
    [END_UTF8] = {1007, -EBADMSG, "a Close whose text is no UTF-8"},
    [END_LARGE] = {1009, -EMSGSIZE, "a message of too many bytes or fragments"},
    [END_FLOOD] = {1008, -EDQUOT, "too many control frames (ws.control_per_second)"},
    [END_MEMORY] = {0, -ENOMEM, "memory is short"}, /* no words for that: they need some, too */
};

struct ws {
    _Atomic uintptr_t words; /* shared: struct words, perhaps CLOSING */
    union {
        struct words *saying; /* owned by the write-side owner */
        struct head *head;    /* until PHASE_OPEN; owned by the I/O thread */
    };
    struct ws_reader reader; /* owned by the I/O thread */
    /* owned by the write-side owner */
    uint32_t announced;
    uint8_t header_sent; /* of the message in progress; HEADER_SENT: all of it */
    /* owned by the I/O thread */
    uint8_t phase : 2;
    uint8_t end : 3;
    bool pinged : 1;    /* and has not been heard since */
    bool named : 1;     /* PEER_BYTES stand behind the state: the peer's address as text */
    bool owes_pong : 1; /* which costs him nothing: we have asked for it */
    union {
        uint8_t controls; /* so many control frames in that second */
        bool claims;      /* until PHASE_OPEN: he may say for whom he is, when there is a head */
    };
    uint8_t controls_s;
};

static_assert(sizeof(struct ws) <= 56, "each user of a browser has one");

/* That of wss. */
struct wss {
    struct ws ws;
    void *tls;
    bool established;
};

/* What is below: plain or TLS. */
struct under {
    const struct transport *transport;
    ssize_t (*gather)(int fd, void *lower, struct iovec parts[2]);
};

struct place {
    const struct under *under;
    int fd;
    void *lower; /* the state of what is below */
};

/* --- what this side says by itself ------------------------------------------------------------ */

static struct words *words_make(const uint8_t *bytes, size_t size)
{
    struct words *words = malloc(sizeof(*words) + size);
    CHECK(size <= UINT16_MAX);
    if (words == NULL) {
        memory_refused();
        return NULL;
    }
    memory_account((int64_t)(sizeof(*words) + size));
    words->size = (uint16_t)size;
    words->said = 0;
    memcpy(words->bytes, bytes, size);
    return words;
}

static void words_free(struct words *words)
{
    if (words != NULL)
        memory_account(-(int64_t)(sizeof(*words) + words->size));
    free(words);
}

/* Takes it; NULL: there was no memory for it, and nothing is said. */
static void leave(struct ws *ws, struct words *words, uintptr_t mark)
{
    uintptr_t old = atomic_load_explicit(&ws->words, memory_order_relaxed);
    if (words == NULL)
        return;
    do {
        if (old & CLOSING) {
            words_free(words);
            return;
        }
    } while (!atomic_compare_exchange_weak_explicit(&ws->words, &old, (uintptr_t)words | mark,
                                                    memory_order_acq_rel, memory_order_relaxed));
    words_free((struct words *)old);
}

static void leave_close(struct ws *ws, uint16_t code, const char *text)
{
    uint8_t bytes[WS_CLOSE_FRAME_BYTES_MAX];
    leave(ws, words_make(bytes, ws_close_frame(bytes, code, text)), CLOSING);
}

/* The write-side owner. What is to be said now; NULL: nothing. */
static struct words *fetch(struct ws *ws, bool closing)
{
    uintptr_t old = atomic_load_explicit(&ws->words, memory_order_acquire);
    do {
        if (old == 0 || ((old & CLOSING) != 0 && !closing))
            return NULL;
    } while (!atomic_compare_exchange_weak_explicit(&ws->words, &old, 0, memory_order_acq_rel,
                                                    memory_order_acquire));
    return (struct words *)(old & ~CLOSING);
}

static ssize_t write_below(const struct place *place, const uint8_t *data, size_t size)
{
    ssize_t sent;
    do
        sent = place->under->transport->write(place->fd, place->lower, data, size);
    while (sent == -EINTR);
    return sent == -ENOBUFS || sent == -ENOMEM ? -EAGAIN : sent;
}

/* 0 when all of it was. */
static int say(const struct place *place, struct words *words)
{
    while (words->said < words->size) {
        ssize_t sent = write_below(place, words->bytes + words->said, words->size - words->said);
        if (sent < 0)
            return (int)sent;
        words->said += (uint16_t)sent;
    }
    return 0;
}

static int settle(const struct place *place, struct ws *ws, bool closing)
{
    if (ws->announced > 0)
        return 0;
    while (ws->saying != NULL || (ws->saying = fetch(ws, closing)) != NULL) {
        int failed = say(place, ws->saying);
        if (failed != 0)
            return failed;
        words_free(ws->saying);
        ws->saying = NULL;
    }
    return 0;
}

/* --- reading ---------------------------------------------------------------------------------- */

static void end(struct ws *ws, enum end why)
{
    CHECK(ws->end == END_NOT && why != END_NOT);
    ws->end = why;
    if (endings[why].code != 0)
        leave_close(ws, endings[why].code, endings[why].reason);
}

static void break_off(struct ws *ws, int error)
{
    switch (error) {
    case -ENOTSUP:
        end(ws, END_TEXT);
        break;
    case -EILSEQ:
        end(ws, END_UTF8);
        break;
    case -EMSGSIZE:
        end(ws, END_LARGE);
        break;
    case -ENOMEM:
        memory_refused();
        end(ws, END_MEMORY);
        break;
    default:
        end(ws, END_PROTOCOL);
    }
}

/* At each read, and not where one is counted: the low bits of a second come again. */
static void forget_controls(struct ws *ws, uint64_t now_ms)
{
    uint8_t now_s = (uint8_t)(now_ms / 1000);
    if (ws->controls_s != now_s)
        ws->controls = 0;
    ws->controls_s = now_s;
}

static bool is_flood(struct ws *ws, const struct transport_read *read)
{
    return ws->controls++ >= ws_control_per_second(read->limits);
}

static void answer_ping(struct ws *ws, const struct ws_control *ping)
{
    uint8_t bytes[WS_HEADER_BYTES_MAX + WS_CONTROL_BYTES_MAX];
    size_t size = ws_header(bytes, WS_PONG, ping->size);
    CHECK(ping->size <= WS_CONTROL_BYTES_MAX);
    memcpy(bytes + size, ping->data, ping->size);
    leave(ws, words_make(bytes, size + ping->size), 0);
}

/* The same code back. */
static void answer_close(struct ws *ws, const struct ws_control *close)
{
    leave_close(ws, close->size > 0 ? ws_close_code(close) : 0, NULL);
    end(ws, END_CLOSE);
}

static void take_control(struct ws *ws, int opcode, const struct ws_control *control,
                         struct transport_read *read)
{
    if (opcode == WS_CLOSE) {
        answer_close(ws, control);
    } else if (opcode == WS_PONG && ws->owes_pong) {
        ws->owes_pong = false;
    } else if (is_flood(ws, read)) {
        end(ws, END_FLOOD);
    } else if (opcode == WS_PING) {
        answer_ping(ws, control);
        read->next |= TRANSPORT_SPEAK;
    }
}

static void take(struct ws *ws, struct ws_input *input, struct transport_read *read)
{
    const struct ws_limits limits = {
        .message_bytes = (uint32_t)read->frame_bytes_max + FRAME_PREFIX_BYTES_MAX,
        .fragments =
            (uint32_t)(ws_fragments(read->limits) + (read->frame_bytes_max - 1) / CUT_BYTES),
    };
    struct ws_control control;
    int event = 0;
    do {
        event = ws_read(&ws->reader, &limits, input, &control);
        if (event > 0)
            take_control(ws, event, &control, read);
        else if (event < 0)
            break_off(ws, event);
    } while (event > 0 && ws->end == END_NOT);
    CHECK(input->payload <= input->size);
}

static ssize_t ended(const struct ws *ws, struct transport_read *read)
{
    if (ws->end == END_CLOSE)
        read->next |= TRANSPORT_FAREWELL;
    return endings[ws->end].result;
}

static ssize_t read_at(const struct place *place, struct ws *ws, struct transport_read *read)
{
    if (ws->end != END_NOT) {
        read->wire_bytes = 0;
        read->next = 0;
        return ended(ws, read);
    }
    ssize_t got = place->under->transport->read(place->fd, place->lower, read);
    if (got <= 0)
        return got;
    struct ws_input input = {.data = read->to, .size = (size_t)got};
    ws->pinged = false;
    forget_controls(ws, read->now_ms);
    take(ws, &input, read);
    if (input.payload == 0)
        return ws->end != END_NOT ? ended(ws, read) : -EAGAIN;
    if (ws->end != END_NOT)
        read->next |= TRANSPORT_MORE; /* what came before the end comes first */
    return (ssize_t)input.payload;
}

/* --- writing ---------------------------------------------------------------------------------- */

static ssize_t gather_plain(int fd, void *lower, struct iovec parts[2])
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent >= 0 ? sent : -errno;
}

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

/* Begins a message, or goes on with its header. */
static ssize_t write_header(const struct place *place, struct ws *ws, const void *data, size_t size)
{
    uint8_t header[WS_HEADER_BYTES_MAX];
    size_t left = ws_header(header, WS_BINARY, ws->announced) - ws->header_sent;
    struct iovec parts[2] = {{header + ws->header_sent, left}, {(void *)data, size}};
    ssize_t sent;
    do
        sent = place->under->gather(place->fd, place->lower, parts);
    while (sent == -EINTR);
    if (sent < 0)
        return sent;
    if ((size_t)sent < left) {
        ws->header_sent += (uint8_t)sent;
        return -EAGAIN;
    }
    ws->header_sent = HEADER_SENT;
    return (size_t)sent > left ? sent - (ssize_t)left : -EAGAIN;
}

static ssize_t write_at(const struct place *place, struct ws *ws, const void *data, size_t size)
{
    if (ws->announced == 0) {
        int failed = settle(place, ws, false);
        if (failed != 0)
            return failed;
        ws->announced = (uint32_t)ws_cut((struct bytes){data, size}, WS_MESSAGE_BYTES);
        ws->header_sent = 0;
    }
    size_t part = size < ws->announced ? size : ws->announced;
    ssize_t sent = ws->header_sent == HEADER_SENT ? write_below(place, data, part)
                                                  : write_header(place, ws, data, part);
    CHECK(sent <= (ssize_t)part);
    if (sent > 0)
        ws->announced -= (uint32_t)sent;
    return sent;
}

/* --- the handshake ---------------------------------------------------------------------------- */

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
    memory_account((int64_t)(sizeof(*head) + room) - (int64_t)before);
    return bigger;
}

static void head_free(struct head *head)
{
    if (head != NULL)
        memory_account(-(int64_t)(sizeof(*head) + head->room));
    free(head);
}

/* What is left to be said. */
static int say_answer(const struct place *place, struct head *head)
{
    while (head->said < head->size) {
        ssize_t sent = write_below(place, head->bytes + head->said, head->size - head->said);
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

static int shake_at(const struct place *place, const struct ws_site *site, struct ws *ws)
{
    int failed = 0;
    while (ws->phase == PHASE_HEAD && failed == 0)
        failed = read_head(place, site, ws);
    if (failed == SHAKEN_CLAIMED)
        return failed;
    if (failed == 0)
        failed = say_answer(place, ws->head);
    if (failed != 0)
        return failed == -EAGAIN || failed == -EINTR ? SHAKEN_NOT_YET : failed;
    if (ws->phase == PHASE_REFUSED)
        return SHAKEN_ANSWERED;
    CHECK(!ws->claims);
    head_free(ws->head);
    ws->saying = NULL;
    ws->phase = PHASE_OPEN;
    return SHAKEN_DONE;
}

/* The lines of X-Forwarded-For, for whoever knows which of them to believe. */
static int claim(const struct ws *ws, struct buffer *list)
{
    const struct upgrade *upgrade = &ws->head->upgrade;
    CHECK(ws->phase == PHASE_HEAD && ws->claims);
    int failed = upgrade_forwarded(list, upgrade);
    return failed != 0 ? failed : upgrade->verdict == UPGRADE_ACCEPTED;
}

static void put_peer(void *behind, const char *peer)
{
    CHECK(strlen(peer) < PEER_BYTES);
    memcpy(behind, peer, strlen(peer) + 1);
}

static int go_on(const struct ws_site *site, struct ws *ws, const char *refusal,
                 uint32_t retry_after_ms)
{
    ws->claims = false;
    return refusal != NULL ? turn_away(ws, refusal, retry_after_ms) : answer(site, ws);
}

/* Late: told so, if there is something to be answered. */
static bool expire(struct ws *ws)
{
    const struct upgrade late = {.verdict = UPGRADE_REFUSED,
                                 .status = 408,
                                 .reason = "no whole head within limits.handshake_deadline_ms"};
    return ws->phase == PHASE_HEAD && ws->head != NULL && answer_head(ws, &late) == 0;
}

static struct transport_fault fault_of(const struct ws *ws)
{
    if (ws->phase == PHASE_OPEN)
        return (struct transport_fault){.reason = endings[ws->end].reason,
                                        .status = endings[ws->end].code,
                                        .metric = METRIC_ws_broken,
                                        .event = LOG_EVENT_WS_BROKEN};
    if (ws->phase != PHASE_HEAD && ws->head != NULL)
        return ws->head->fault;
    return (struct transport_fault){.reason = "the connection was lost before its upgrade",
                                    .metric = METRIC_ws_refused,
                                    .event = LOG_EVENT_WS_REFUSED};
}

/* --- the rest --------------------------------------------------------------------------------- */

static bool rouse(void *state)
{
    struct ws *ws = state;
    uint8_t bytes[WS_HEADER_BYTES_MAX];
    if (ws->pinged || ws->end != END_NOT)
        return false;
    struct words *words = words_make(bytes, ws_header(bytes, WS_PING, 0));
    ws->pinged = ws->owes_pong = words != NULL;
    leave(ws, words, 0);
    return ws->pinged;
}

static void farewell(void *state, uint32_t reason, const char *detail)
{
    leave_close(state, (uint16_t)(FIRST_REASON + reason % 1000), detail);
}

static int shut_at(const struct place *place, struct ws *ws)
{
    bool open = ws != NULL && ws->phase == PHASE_OPEN;
    int failed = 0;
    if (open)
        failed = settle(place, ws, true);
    else if (ws != NULL && ws->phase == PHASE_REFUSED)
        failed = say_answer(place, ws->head);
    return failed != 0 ? failed : place->under->transport->shut(place->fd, place->lower);
}

static void fini(struct ws *ws)
{
    if (ws->phase != PHASE_OPEN)
        head_free(ws->head);
    else
        words_free(ws->saying);
    words_free((struct words *)(atomic_load(&ws->words) & ~CLOSING));
    ws_reader_fini(&ws->reader);
}

/* --- over plain TCP --------------------------------------------------------------------------- */

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
    memory_account((int64_t)ws_bytes(ws));
    return ws;
}

static int ws_claim(void *state, struct buffer *list)
{
    return claim(state, list);
}

static int ws_name(const struct transport_site *site, void *state, const char *peer,
                   const char *refusal, uint32_t retry_after_ms)
{
    struct ws *ws = state;
    CHECK(ws->named);
    if (peer != NULL)
        put_peer(ws + 1, peer);
    return go_on(site->ws, ws, refusal, retry_after_ms);
}

static int ws_refuse(struct buffer *out, const char *detail, uint32_t retry_after_ms)
{
    return upgrade_overloaded(out, retry_after_ms, detail);
}

static int ws_shake(const struct transport_site *site, int fd, void *state)
{
    const struct place place = plain_place(fd);
    return shake_at(&place, site->ws, state);
}

static bool ws_expire(void *state)
{
    return expire(state);
}

static struct transport_fault ws_fault(void *state)
{
    return fault_of(state);
}

static ssize_t ws_take(int fd, void *state, struct transport_read *read)
{
    const struct place place = plain_place(fd);
    return read_at(&place, state, read);
}

static ssize_t ws_write(int fd, void *state, const void *data, size_t size)
{
    const struct place place = plain_place(fd);
    return write_at(&place, state, data, size);
}

static int ws_settle(int fd, void *state)
{
    const struct place place = plain_place(fd);
    return settle(&place, state, false);
}

static int ws_shut(int fd, void *state)
{
    const struct place place = plain_place(fd);
    return shut_at(&place, state);
}

static void ws_destroy(void *state)
{
    struct ws *ws = state;
    if (ws == NULL)
        return;
    fini(ws);
    memory_account(-(int64_t)ws_bytes(ws));
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

const struct transport transport_ws = {
    .handshake = &ws_handshake,
    .read = ws_take,
    .write = ws_write,
    .settle = ws_settle,
    .rouse = rouse,
    .farewell = farewell,
    .shut = ws_shut,
    .peer = ws_peer,
    .destroy = ws_destroy,
};

/* --- over TLS --------------------------------------------------------------------------------- */

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
    memory_account((int64_t)wss_bytes(wss));
    return wss;
}

static int wss_claim(void *state, struct buffer *list)
{
    return claim(&((struct wss *)state)->ws, list);
}

static int wss_name(const struct transport_site *site, void *state, const char *peer,
                    const char *refusal, uint32_t retry_after_ms)
{
    struct wss *wss = state;
    CHECK(wss->ws.named);
    if (peer != NULL)
        put_peer(wss + 1, peer);
    return go_on(site->ws, &wss->ws, refusal, retry_after_ms);
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
    return shake_at(&place, site->ws, &wss->ws);
}

static bool wss_expire(void *state)
{
    struct wss *wss = state;
    return wss->established && expire(&wss->ws);
}

static struct transport_fault wss_fault(void *state)
{
    struct wss *wss = state;
    struct transport_fault below = transport_tls.handshake->fault(wss->tls);
    return !wss->established || below.reason[0] != '\0' ? below : fault_of(&wss->ws);
}

static ssize_t wss_take(int fd, void *state, struct transport_read *read)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return read_at(&place, &wss->ws, read);
}

static ssize_t wss_write(int fd, void *state, const void *data, size_t size)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return write_at(&place, &wss->ws, data, size);
}

static int wss_settle(int fd, void *state)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return settle(&place, &wss->ws, false);
}

static int wss_shut(int fd, void *state)
{
    struct wss *wss = state;
    const struct place place = tls_place(fd, wss);
    return shut_at(&place, wss != NULL ? &wss->ws : NULL);
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
    fini(&wss->ws);
    transport_tls.destroy(wss->tls);
    memory_account(-(int64_t)wss_bytes(wss));
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
    .rouse = rouse,
    .farewell = farewell,
    .shut = wss_shut,
    .peer = wss_peer,
    .destroy = wss_destroy,
    .ahead_bytes = 16 * 1024,
};
