/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/memory.h"
#include "net/ws_private.h"
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
    FIRST_REASON = 4000,
    CUT_BYTES = 64 * 1024, /* browsers send what is larger in pieces of at least so much */
};

const struct ending websocket_endings[] = {
    [END_CLOSE] = {0, 0, ""},
    [END_PROTOCOL] = {1002, -EBADMSG, "it breaks the rules of WebSocket"},
    [END_TEXT] = {1003, -EBADMSG, "a text message: frames are binary"},
    [END_UTF8] = {1007, -EBADMSG, "a Close whose text is no UTF-8"},
    [END_LARGE] = {1009, -EMSGSIZE, "a message of too many bytes"},
    [END_FRAGMENTS] = {1009, -E2BIG, "a message of too many fragments (ws.fragments)"},
    [END_FLOOD] = {1008, -EDQUOT, "too many control frames (ws.control_per_second)"},
    [END_MEMORY] = {0, -ENOMEM, "memory is short"}, /* no words for that: they need some, too */
};

/* --- what this side says by itself ------------------------------------------------------------ */

struct words *websocket_words(const uint8_t *bytes, size_t size)
{
    struct words *words = malloc(sizeof(*words) + size);
    CHECK(size <= UINT16_MAX);
    if (words == NULL) {
        memory_refused();
        return NULL;
    }
    memory_account(MEMORY_OF_WEBSOCKET, (int64_t)(sizeof(*words) + size));
    words->size = (uint16_t)size;
    words->said = 0;
    memcpy(words->bytes, bytes, size);
    return words;
}

static void words_free(struct words *words)
{
    if (words != NULL)
        memory_account(MEMORY_OF_WEBSOCKET, -(int64_t)(sizeof(*words) + words->size));
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
    leave(ws, websocket_words(bytes, ws_close_frame(bytes, code, text)), CLOSING);
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

ssize_t websocket_write_below(const struct place *place, const uint8_t *data, size_t size)
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
        ssize_t sent =
            websocket_write_below(place, words->bytes + words->said, words->size - words->said);
        if (sent < 0)
            return (int)sent;
        words->said += (uint16_t)sent;
    }
    return 0;
}

int websocket_settle(const struct place *place, struct ws *ws, bool closing)
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
    if (websocket_endings[why].code != 0)
        leave_close(ws, websocket_endings[why].code, websocket_endings[why].reason);
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
    case -E2BIG:
        end(ws, END_FRAGMENTS);
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
    uint8_t now_s = now_ms / 1000 & 0x7f;
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
    leave(ws, websocket_words(bytes, size + ping->size), 0);
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
    return websocket_endings[ws->end].result;
}

ssize_t websocket_read(const struct place *place, struct ws *ws, struct transport_read *read)
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

ssize_t websocket_write(const struct place *place, struct ws *ws, const void *data, size_t size)
{
    if (ws->announced == 0) {
        int failed = websocket_settle(place, ws, false);
        if (failed != 0)
            return failed;
        ws->announced = (uint32_t)ws_cut((struct bytes){data, size}, WS_MESSAGE_BYTES);
        ws->header_sent = 0;
    }
    size_t part = size < ws->announced ? size : ws->announced;
    ssize_t sent = ws->header_sent == HEADER_SENT ? websocket_write_below(place, data, part)
                                                  : write_header(place, ws, data, part);
    CHECK(sent <= (ssize_t)part);
    if (sent > 0)
        ws->announced -= (uint32_t)sent;
    return sent;
}

/* --- ends and signs of life ------------------------------------------------------------------- */

bool websocket_rouse(void *state)
{
    struct ws *ws = state;
    uint8_t bytes[WS_HEADER_BYTES_MAX];
    if (ws->pinged || ws->end != END_NOT)
        return false;
    struct words *words = websocket_words(bytes, ws_header(bytes, WS_PING, 0));
    ws->pinged = ws->owes_pong = words != NULL;
    leave(ws, words, 0);
    return ws->pinged;
}

void websocket_farewell(void *state, uint32_t reason, const char *detail)
{
    leave_close(state, (uint16_t)(FIRST_REASON + reason % 1000), detail);
}

int websocket_shut(const struct place *place, struct ws *ws)
{
    bool open = ws != NULL && ws->phase == PHASE_OPEN;
    int failed = 0;
    if (open)
        failed = websocket_settle(place, ws, true);
    else if (ws != NULL && ws->phase == PHASE_REFUSED)
        failed = websocket_say_answer(place, ws->head);
    return failed != 0 ? failed : place->under->transport->shut(place->fd, place->lower);
}

void websocket_fini(struct ws *ws)
{
    if (ws->phase != PHASE_OPEN)
        websocket_head_free(ws->head);
    else
        words_free(ws->saying);
    words_free((struct words *)(atomic_load(&ws->words) & ~CLOSING));
    ws_reader_fini(&ws->reader);
}
