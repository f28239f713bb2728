/* SPDX-License-Identifier: Apache-2.0 */
#include "ws_fixture.h"

#include "base/memory.h"
#include "client.pb-c.h"
#include "net/carry.h"
#include "net/ws_private.h"

/* What is written by WebSocket, where the socket takes as little as it likes: whole messages, and
 * what the broker says by itself between them alone. */

static const enum listener_kind both[] = {LISTENER_ws, LISTENER_wss};

#define EACH(kind) for (size_t each = 0, kind = both[0]; each < 2; kind = both[++each % 2])

enum { ALL = 1 << 30 };

/* Of the broker's end; the rest of it waits. */
static void take_more(struct fixture *fixture, conn_handle conn, size_t bytes)
{
    ws_hold(fixture, conn, bytes);
    assert_int_equal(net_flush(fixture->net, 0, conn), 0);
}

/* What the I/O thread has left, and nobody has begun to say. */
static uintptr_t left_words(const struct ws_peer *peer)
{
    const struct ws *ws = slot_find(peer->fixture->net, peer->conn)->wire;
    return ws->words;
}

/* The client says something for which the broker has an answer of its own, and the I/O thread has
 * left it; nobody has said it yet. That a connection is writable would not tell: sockets say so
 * late, for what was before. */
static void ping(struct ws_peer *peer, const char *text)
{
    uintptr_t before = left_words(peer);
    ws_control(peer, WS_BYTES_PING, text);
    WAIT_FOR(left_words(peer) != 0 && left_words(peer) != before);
}

static struct ws_peer bound_peer(struct fixture *fixture, enum listener_kind kind)
{
    fixture->binds = fixture->flushes_not = true;
    return ws_new_peer(fixture, kind);
}

/* --- cuts ------------------------------------------------------------------------------------- */

/* A message of that many bytes of payload, of which `first` bytes go, then one after the other. */
static void write_cut(struct ws_peer *peer, const struct buffer *frame, size_t first, size_t next)
{
    struct net *net = peer->fixture->net;
    ws_hold(peer->fixture, peer->conn, first);
    assert_int_equal(net_write(net, 0, peer->conn, frame->data, frame->size), 0);
    if (next > 0)
        take_more(peer->fixture, peer->conn, next);
    take_more(peer->fixture, peer->conn, ALL);
    ws_expect(peer, WS_BYTES_BINARY, frame->data, frame->size);
    assert_int_equal(net_waiting(net, peer->conn), 0);
}

/* Headers of two, four and ten bytes, cut everywhere; twice within what a header may be. */
static void messages_cut_anywhere(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {0, 100, 300, 70000};
    start(fixture);
    struct ws_peer peer = bound_peer(fixture, LISTENER_ws);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct buffer frame = {0};
        add_frame(&frame, sizes[i], 'm');
        size_t whole = frame.size + 10 < 350 ? frame.size + 10 : 350;
        for (size_t first = 0; first <= whole; first++)
            for (size_t next = 0; next <= (first < 12 ? 12 : 0); next++)
                write_cut(&peer, &frame, first, next);
        buffer_fini(&frame);
    }
    ws_let_go();
    ws_close(&peer);
}

static void messages_cut_anywhere_by_tls(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct ws_peer peer = bound_peer(fixture, LISTENER_wss);
    struct buffer frame = {0};
    add_frame(&frame, 200, 'm');
    for (size_t first = 0; first < 260; first += 3)
        write_cut(&peer, &frame, first, first % 7);
    buffer_fini(&frame);
    add_frame(&frame, 40000, 'l');
    for (size_t first = 0; first < 40000; first += 1777)
        write_cut(&peer, &frame, first, first % 5000);
    ws_let_go();
    buffer_fini(&frame);
    ws_close(&peer);
}

/* Wherever a message is cut, the Pong comes behind it, and in front of the next. */
static void a_pong_waits_for_the_message(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.ws_control_per_second = 255;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = bound_peer(fixture, kind);
        struct buffer frame = {0};
        size_t behind = kind == LISTENER_ws ? 0 : 29; /* a record's */
        add_frame(&frame, 140, 'm');
        for (size_t cut = 0; cut < frame.size + 4 + behind; cut += 1 + cut / 8) {
            char text[24];
            snprintf(text, sizeof(text), "%zu", cut);
            ws_hold(fixture, peer.conn, cut);
            net_write(fixture->net, 0, peer.conn, frame.data, frame.size);
            ping(&peer, text);
            take_more(fixture, peer.conn, cut % 3); /* perhaps the rest of the header */
            net_write(fixture->net, 0, peer.conn,
                      "\x01"
                      "n",
                      2);
            take_more(fixture, peer.conn, ALL);
            /* What waited goes as one message with what came meanwhile, or behind the Pong. */
            struct ws_bytes_seen seen = ws_next(&peer);
            assert_int_equal(seen.opcode, WS_BYTES_BINARY);
            assert_int_equal(seen.payload.size, frame.size);
            assert_memory_equal(seen.payload.data, frame.data, frame.size);
            ws_expect(&peer, WS_BYTES_PONG, text, strlen(text));
            ws_expect(&peer, WS_BYTES_BINARY,
                      "\x01"
                      "n",
                      2);
        }
        ws_let_go();
        buffer_fini(&frame);
        ws_close(&peer);
    }
}

/* And what is written waits for a Pong that is half said. */
static void a_message_waits_for_the_pong(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.ws_control_per_second = 255;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = bound_peer(fixture, kind);
        size_t pong = 2 + 4 + (kind == LISTENER_ws ? 0 : 22);
        for (size_t cut = 0; cut < pong; cut++) {
            ws_hold(fixture, peer.conn, cut);
            ping(&peer, "half");
            take_more(fixture, peer.conn, cut);
            ws_world.budget = 0;
            net_write(fixture->net, 0, peer.conn,
                      "\x03"
                      "bye",
                      4);
            assert_int_equal(net_waiting(fixture->net, peer.conn), 4);
            ping(&peer, "next");
            take_more(fixture, peer.conn, 1);
            take_more(fixture, peer.conn, ALL);
            ws_expect(&peer, WS_BYTES_PONG, "half", 4);
            ws_expect(&peer, WS_BYTES_PONG, "next", 4);
            ws_expect(&peer, WS_BYTES_BINARY,
                      "\x03"
                      "bye",
                      4);
        }
        ws_let_go();
        ws_close(&peer);
    }
}

/* Whoever asks the transport alone: it has nothing to say while a message is half written. */
static void nothing_is_said_inside_a_message(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = bound_peer(fixture, kind);
        struct conn *conn = slot_find(fixture->net, peer.conn);
        ws_hold(fixture, peer.conn, 1);
        net_write(fixture->net, 0, peer.conn,
                  "\x03"
                  "bye",
                  4);
        ping(&peer, "p");
        ws_world.budget = ALL;
        assert_int_equal(conn_transport(conn)->settle(conn->fd, conn->wire), 0);
        assert_int_equal(ws_world.budget, ALL);
        take_more(fixture, peer.conn, ALL);
        ws_expect(&peer, WS_BYTES_BINARY,
                  "\x03"
                  "bye",
                  4);
        ws_expect(&peer, WS_BYTES_PONG, "p", 1);
        ws_let_go();
        ws_close(&peer);
    }
}

static void the_newest_ping_is_answered(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct ws_peer peer = bound_peer(fixture, LISTENER_ws);
    ping(&peer, "1");
    ping(&peer, "2");
    ping(&peer, "3");
    take_more(fixture, peer.conn, ALL);
    ws_expect(&peer, WS_BYTES_PONG, "3", 1);
    ws_expect_silence(&peer);
    ping(&peer, "");
    take_more(fixture, peer.conn, ALL);
    ws_expect(&peer, WS_BYTES_PONG, "", 0);
    ws_let_go();
    ws_close(&peer);
}

/* A full socket is waited for, by whoever has to say something alone. */
static void a_pong_at_a_full_socket(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    fixture->binds = true;
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    ws_hold(fixture, peer.conn, 3);
    ws_control(&peer, WS_BYTES_PING, "first");
    WAIT_FOR(ws_world.budget == 0);
    ws_world.budget = ALL;
    /* By the next edge, without a flush of ours. */
    ws_control(&peer, WS_BYTES_PONG, "");
    ws_expect(&peer, WS_BYTES_PONG, "first", 5);
    ws_let_go();
    ws_close(&peer);
}

/* --- ends ------------------------------------------------------------------------------------- */

/* The Close goes when all is written, wherever that was cut; a Ping behind it is not answered. */
static void the_close_comes_last(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    EACH(kind)
    {
        for (size_t cut = 0; cut < 90; cut += 1 + cut / 6) {
            struct ws_peer peer = bound_peer(fixture, kind);
            struct buffer frame = {0};
            add_frame(&frame, 60, 'm');
            ws_hold(fixture, peer.conn, cut);
            net_write(fixture->net, 0, peer.conn, frame.data, frame.size);
            ping(&peer, "takes the place of none");
            net_farewell(fixture->net, peer.conn, USHER__V1__CLOSE__REASON__SHUTDOWN, "bye");
            net_farewell(fixture->net, peer.conn, USHER__V1__CLOSE__REASON__KICKED, "no");
            net_write(fixture->net, 0, peer.conn,
                      "\x03"
                      "bye",
                      4);
            net_release(fixture->net, peer.conn);
            nap_ms(2);
            for (size_t i = 0; i < 4; i++) { /* edges, at each of which a little goes */
                ws_world.budget = i < 3 ? 5 : ALL;
                ws_control(&peer, WS_BYTES_PONG, "");
                nap_ms(1);
            }
            struct buffer got = {0};
            struct ws_bytes_seen seen = ws_next(&peer);
            for (; seen.opcode == WS_BYTES_BINARY; seen = ws_next(&peer))
                ws_bytes_append(&got, seen.payload.data, seen.payload.size);
            assert_int_equal(got.size, frame.size + 4);
            assert_memory_equal(got.data + frame.size,
                                "\x03"
                                "bye",
                                4);
            assert_int_equal(seen.opcode, WS_BYTES_CLOSE);
            assert_int_equal(ws_bytes_code(&seen), 4000 + USHER__V1__CLOSE__REASON__SHUTDOWN);
            ws_expect_end(&peer);
            ws_let_go();
            ws_close(&peer);
            buffer_fini(&got);
            buffer_fini(&frame);
            WAIT_FOR(net_count(fixture->net) == 0);
        }
    }
}

static void codes_and_texts(void **state)
{
    struct fixture *fixture = *state;
    char longest[200];
    start(fixture);
    fixture->binds = true;
    memset(longest, 'x', sizeof(longest));
    memcpy(longest + 122, "\xc3\xa9", 3); /* a character across the end */
    const struct {
        const char *detail;
        size_t said;
    } texts[] = {{"", 0}, {"because", 7}, {"caf\xc3\xa9", 5}, {longest, 122}};
    for (uint32_t reason = 1; reason <= 16; reason++) {
        struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
        size_t i = reason % 4;
        net_farewell(fixture->net, peer.conn, reason, texts[i].detail);
        net_release(fixture->net, peer.conn);
        struct ws_bytes_seen seen = ws_next(&peer);
        assert_int_equal(seen.opcode, WS_BYTES_CLOSE);
        assert_int_equal(ws_bytes_code(&seen), 4000 + reason);
        assert_int_equal(seen.payload.size, 2 + texts[i].said);
        assert_memory_equal(seen.payload.data + 2, texts[i].detail, texts[i].said);
        ws_expect_end(&peer);
        ws_close(&peer);
    }
}

/* --- much output ------------------------------------------------------------------------------ */

/* Reads messages until so many bytes have come: each of whole frames, and not larger than it may
 * be. Gives how many there were. */
static unsigned read_messages(struct ws_peer *peer, const struct buffer *frames)
{
    struct buffer got = {0};
    unsigned count = 0;
    for (; got.size < frames->size; count++) {
        struct ws_bytes_seen seen = ws_next(peer);
        struct bytes first;
        size_t used;
        assert_int_equal(seen.opcode, WS_BYTES_BINARY);
        assert_true(are_whole_frames(seen.payload));
        assert_int_equal(frame_next(seen.payload, UINT32_MAX, &first, &used), 1);
        assert_true(seen.payload.size <= WS_MESSAGE_BYTES || used == seen.payload.size);
        ws_bytes_append(&got, seen.payload.data, seen.payload.size);
    }
    assert_int_equal(got.size, frames->size);
    assert_memory_equal(got.data, frames->data, got.size);
    buffer_fini(&got);
    return count;
}

/* In one write, and many while the socket is full: what waits comes out as messages of many frames,
 * at n and n + 1. */
static void what_waits_is_cut_into_messages(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    ws_by_hand(fixture);
    EACH(kind)
    {
        struct ws_peer peer = ws_new_peer(fixture, kind);
        struct buffer frames = {0};
        for (unsigned i = 0; i < 16; i++)
            add_frame(&frames, 1022, (uint8_t)('a' + i)); /* with its length, 1024 */
        net_write(fixture->net, 0, peer.conn, frames.data, frames.size);
        assert_int_equal(read_messages(&peer, &frames), 1);
        add_frame(&frames, 0, 0);
        net_write(fixture->net, 0, peer.conn, frames.data, frames.size);
        assert_int_equal(read_messages(&peer, &frames), 2);
        add_frame(&frames, 50000, 'l');
        add_frame(&frames, WS_MESSAGE_BYTES - 2, 'm');
        add_frame(&frames, WS_MESSAGE_BYTES - 3, 'n');
        add_frame(&frames, 10, 's');
        net_write(fixture->net, 0, peer.conn, frames.data, frames.size);
        /* 16, 1, the large one, one above, one at the limit, the last */
        assert_int_equal(read_messages(&peer, &frames), 6);
        buffer_fini(&frames);
        ws_close(&peer);
    }
}

static void a_full_socket(void **state)
{
    struct fixture *fixture = *state;
    enum { WRITES = 3000 };
    fixture->binds = true;
    fixture->limits.limits_output_bytes = 8 << 20;
    fixture->limits.limits_output_soft_bytes = 8 << 20;
    ws_by_hand(fixture);
    EACH(kind)
    {
        struct ws_peer peer = ws_new_peer(fixture, kind);
        struct buffer frames = {0};
        int small = 4096;
        setsockopt(slot_find(fixture->net, peer.conn)->fd, SOL_SOCKET, SO_SNDBUF, &small,
                   sizeof(small));
        for (unsigned i = 0; i < WRITES; i++) {
            size_t before = frames.size;
            add_frame(&frames, i % 100 == 0 ? 20000 : i % 300, (uint8_t)i);
            assert_int_equal(
                net_write(fixture->net, 0, peer.conn, frames.data + before, frames.size - before),
                0);
        }
        assert_true(net_waiting(fixture->net, peer.conn) > 0);
        ws_control(&peer, WS_BYTES_PING, "in front");
        struct buffer got = {0};
        unsigned messages = 0, pongs = 0;
        while (got.size < frames.size || pongs == 0) {
            struct ws_bytes_seen seen = ws_next(&peer);
            pongs += seen.opcode == WS_BYTES_PONG;
            messages += seen.opcode == WS_BYTES_BINARY;
            if (seen.opcode == WS_BYTES_BINARY)
                ws_bytes_append(&got, seen.payload.data, seen.payload.size);
        }
        assert_int_equal(got.size, frames.size);
        assert_memory_equal(got.data, frames.data, got.size);
        assert_int_equal(pongs, 1);
        assert_true(messages < WRITES);
        buffer_fini(&got);
        buffer_fini(&frames);
        ws_close(&peer);
    }
}

/* --- silence ---------------------------------------------------------------------------------- */

enum { SILENCE_MS = 6000, HEARTBEAT_MS = SILENCE_MS / 3, LOOK_MS = SILENCE_MS / 12 + 1 };

/* Steps of time, in which a Ping is to have come or not. */
static unsigned pings_in(struct ws_peer *peer, unsigned ms)
{
    unsigned pings = 0;
    struct ws_bytes_seen seen;
    for (unsigned passed = 0; passed < ms; passed += 100) {
        ws_pass(peer->fixture, 100);
        while (ws_more(peer))
            continue;
        while (ws_bytes_take(ws_left(peer), &seen, &peer->used) == 1)
            pings += seen.opcode == WS_BYTES_PING && seen.payload.size == 0;
    }
    return pings;
}

static void silence_is_asked_once(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.silence_ms = SILENCE_MS;
    fixture->binds = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    assert_int_equal(pings_in(&peer, HEARTBEAT_MS - 100), 0);
    assert_int_equal(pings_in(&peer, 2 * LOOK_MS + 200), 1);
    assert_int_equal(pings_in(&peer, SILENCE_MS - HEARTBEAT_MS - 2 * LOOK_MS - 300), 0);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    assert_int_equal(metric_of(fixture, METRIC_ws_pings), 1);
    ws_pass(fixture, 2 * LOOK_MS);
    ws_expect_conn_end(fixture, peer.conn, CONN_SILENT);
    ws_close(&peer);
}

/* Whatever he says, a part of a frame too, is a sign of life: he stays, and is asked again when he
 * has been silent for as long again. */
static void a_sign_of_life(void **state)
{
    struct fixture *fixture = *state;
    static const char pong[6] = {'\x8a', '\x80'};
    fixture->options.silence_ms = SILENCE_MS;
    fixture->binds = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(pings_in(&peer, HEARTBEAT_MS + 2 * LOOK_MS), 1);
        if (i % 4 == 0)
            ws_control(&peer, WS_BYTES_PONG, "");
        else if (i % 4 == 1)
            ws_say(&peer, ws_hello, 2);
        else /* a part of a Pong, and its rest the next time */
            ws_send(&peer, &pong[i % 4 == 2 ? 0 : 3], 3);
        ws_rounds(fixture);
        assert_int_equal(pings_in(&peer, HEARTBEAT_MS - 2 * LOOK_MS), 0);
    }
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    ws_close(&peer);
}

/* --- pressure --------------------------------------------------------------------------------- */

/* One who does not read is ended as by TCP, and is told when he reads at last. */
static void a_slow_reader(void **state)
{
    struct fixture *fixture = *state;
    enum { SOFT_MS = 1000 };
    fixture->limits.limits_output_soft_bytes = 20000;
    fixture->limits.limits_output_soft_ms = SOFT_MS;
    fixture->binds = fixture->keeps = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    struct buffer frame = {0};
    add_frame(&frame, 30000, 's');
    ws_hold(fixture, peer.conn, 7);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, frame.data, frame.size), 0);
    ws_control(&peer, WS_BYTES_PING, "still here"); /* no excuse */
    ws_pass(fixture, SOFT_MS - 100);
    assert_int_equal(look(fixture, peer.conn).ends, 0);
    ws_pass(fixture, 200);
    ws_expect_conn_end(fixture, peer.conn, CONN_SLOW);
    net_farewell(fixture->net, peer.conn, USHER__V1__CLOSE__REASON__SLOW_CONSUMER, "read faster");
    net_release(fixture->net, peer.conn);
    ws_world.budget = ALL;
    ws_control(&peer, WS_BYTES_PONG, "");
    ws_expect(&peer, WS_BYTES_BINARY, frame.data, frame.size);
    ws_expect_close(&peer, 4000 + USHER__V1__CLOSE__REASON__SLOW_CONSUMER);
    ws_let_go();
    ws_close(&peer);
    buffer_fini(&frame);
}

/* Whose output is the largest of too much is cut off in whatever he was being told. */
static void the_largest_goes(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.limits_output_total_bytes = 600000;
    fixture->binds = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    struct buffer frame = {0};
    add_frame(&frame, 500000, 'e'); /* in memory that doubles: more than three quarters */
    ws_hold(fixture, peer.conn, 5000);
    assert_int_equal(net_write(fixture->net, 0, peer.conn, frame.data, frame.size), 0);
    ws_control(&peer, WS_BYTES_PING, "p");
    ws_expect_conn_end(fixture, peer.conn, CONN_EVICTED);
    ws_world.budget = ALL;
    while (ws_more(&peer) || !peer.ended)
        ws_pause(fixture);
    assert_int_equal(ws_left(&peer).size, 5000);
    assert_int_equal(net_count(fixture->net), 0);
    ws_let_go();
    ws_close(&peer);
    buffer_fini(&frame);
}

/* While memory is full a frame that is there is taken, in however many fragments; one that is not
 * waits in its socket, and what it has said comes through when there is memory again. */
static void frames_while_memory_is_full(void **state)
{
    struct fixture *fixture = *state;
    enum { BUDGET = 1 << 20, FRAME = 30000, END = 500 };
    fixture->limits.limits_memory_bytes = BUDGET;
    fixture->binds = true;
    memory_open(&fixture->limits, NULL, fixture->metrics);
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    struct buffer frame = {0}, wire = {0};
    add_frame(&frame, FRAME, 'f');
    for (size_t at = 0, size; at < frame.size; at += size) {
        size = frame.size - at < 1000 ? frame.size - at : 1000;
        ws_bytes_put(&wire,
                     (at + size == frame.size ? WS_BYTES_FIN : 0) |
                         (at == 0 ? WS_BYTES_BINARY : WS_BYTES_CONTINUATION),
                     (struct bytes){frame.data + at, size}, (uint32_t)at);
    }
    memory_account(MEMORY_OF_OWN, BUDGET);
    assert_int_equal(memory_level(), MEMORY_FULL);
    ws_send(&peer, wire.data, wire.size);
    ws_expect_frames(fixture, peer.conn, frame.data, frame.size);
    /* All but its end, which is more than the headers that are in the way: it waits. */
    ws_send(&peer, wire.data, wire.size - END);
    ws_rounds(fixture);
    assert_int_equal(frames_size(fixture, peer.conn), 0);
    assert_true(carry_size(slot_find(fixture->net, peer.conn)) < IN_PLACE_BYTES);
    memory_account(MEMORY_OF_OWN, -BUDGET);
    ws_send(&peer, wire.data + wire.size - END, END);
    ws_control(&peer, WS_BYTES_PING, "heard");
    ws_expect_frames(fixture, peer.conn, frame.data, frame.size);
    ws_expect(&peer, WS_BYTES_PONG, "heard", 5);
    ws_close(&peer);
    buffer_fini(&wire);
    buffer_fini(&frame);
    memory_close();
}

/* Whose receiver is busy is not read, and so not answered; nothing of it is lost. */
static void a_busy_receiver(void **state)
{
    struct fixture *fixture = *state;
    enum { CHUNKS = 8 };
    fixture->binds = fixture->holds = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    for (unsigned i = 1; i < CHUNKS; i++) {
        ws_say(&peer, ws_hello, 2);
        WS_WAIT(fixture, frames_size(fixture, peer.conn) == 2 * i);
    }
    ws_say(&peer, ws_hello, 2);
    ws_control(&peer, WS_BYTES_PING, "later");
    ws_rounds(fixture);
    ws_expect_silence(&peer);
    for (unsigned i = 0; i < CHUNKS; i++)
        net_consumed(fixture->net, peer.conn);
    WS_WAIT(fixture, frames_size(fixture, peer.conn) == 2 * CHUNKS);
    ws_expect(&peer, WS_BYTES_PONG, "later", 5);
    ws_close(&peer);
}

/* --- two threads ------------------------------------------------------------------------------ */

/* The owner writes and flushes on a thread of his own while the I/O thread hears Pings, and a Close
 * at last. */
struct writer {
    struct fixture *fixture;
    conn_handle conn;
    unsigned frames; /* written */
    pthread_t thread;
};

static void *write_until_the_end(void *argument)
{
    struct writer *writer = argument;
    struct net *net = writer->fixture->net;
    unsigned writables = 0;
    while (look(writer->fixture, writer->conn).ends == 0) {
        struct buffer frame = {0};
        add_frame(&frame, writer->frames % 1000, 'w');
        if (net_waiting(net, writer->conn) < 100000 &&
            net_write(net, 1, writer->conn, frame.data, frame.size) == 0)
            writer->frames++;
        buffer_fini(&frame);
        unsigned now = look(writer->fixture, writer->conn).writables;
        if (now != writables)
            net_flush(net, 1, writer->conn);
        writables = now;
    }
    net_farewell(net, writer->conn, 14, "of the writer");
    net_release(net, writer->conn);
    return NULL;
}

/* Reads while it pings: gives the Pongs. */
static unsigned ping_and_read(struct ws_peer *peer, struct buffer *got, unsigned pings)
{
    unsigned sent = 0, pongs = 0;
    struct ws_bytes_seen seen;
    uint64_t next_ms = 0;
    while (sent < pings) {
        if (clock_ms() >= next_ms) {
            ws_control(peer, sent % 3 == 2 ? WS_BYTES_PONG : WS_BYTES_PING, "from the client");
            next_ms = clock_ms() + 5;
            sent++;
        }
        seen = ws_next(peer);
        if (seen.opcode == WS_BYTES_BINARY)
            ws_bytes_append(got, seen.payload.data, seen.payload.size);
        else
            assert_int_equal(seen.opcode, WS_BYTES_PONG);
        pongs += seen.opcode == WS_BYTES_PONG;
    }
    return pongs;
}

static void one_writes_and_one_reads(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.ws_control_per_second = 255;
    fixture->keeps = true;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = bound_peer(fixture, kind);
        struct writer writer = {.fixture = fixture, .conn = peer.conn};
        struct buffer got = {0};
        pthread_create(&writer.thread, NULL, write_until_the_end, &writer);
        assert_true(ping_and_read(&peer, &got, 150) > 10);
        ws_control(&peer, WS_BYTES_CLOSE,
                   "\x0f\xa7"
                   "enough");
        struct ws_bytes_seen seen = ws_next(&peer);
        for (; seen.opcode != WS_BYTES_CLOSE; seen = ws_next(&peer))
            if (seen.opcode == WS_BYTES_BINARY)
                ws_bytes_append(&got, seen.payload.data, seen.payload.size);
        assert_int_equal(ws_bytes_code(&seen), 4007);
        pthread_join(writer.thread, NULL);
        ws_expect_end(&peer);
        struct bytes left = {got.data, got.size}, frame;
        for (unsigned i = 0; i < writer.frames; i++) {
            size_t used;
            assert_int_equal(frame_next(left, UINT32_MAX, &frame, &used), 1);
            assert_int_equal(frame.size, i % 1000);
            left = (struct bytes){left.data + used, left.size - used};
        }
        assert_int_equal(left.size, 0);
        buffer_fini(&got);
        ws_close(&peer);
    }
}

#define WS(test) cmocka_unit_test_setup_teardown(test, ws_set_up, tear_down)
#define WSS(test) cmocka_unit_test_setup_teardown(test, wss_set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WS(messages_cut_anywhere),
        WSS(messages_cut_anywhere_by_tls),
        WSS(a_pong_waits_for_the_message),
        WSS(a_message_waits_for_the_pong),
        WSS(nothing_is_said_inside_a_message),
        WS(the_newest_ping_is_answered),
        WS(a_pong_at_a_full_socket),
        WSS(the_close_comes_last),
        WS(codes_and_texts),
        WSS(what_waits_is_cut_into_messages),
        WSS(a_full_socket),
        WS(silence_is_asked_once),
        WS(a_sign_of_life),
        WS(a_slow_reader),
        WS(the_largest_goes),
        WS(frames_while_memory_is_full),
        WS(a_busy_receiver),
        WSS(one_writes_and_one_reads),
    };
    return cmocka_run_group_tests(tests, ws_set_up_group, ws_tear_down_group);
}
