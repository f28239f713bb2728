/* SPDX-License-Identifier: Apache-2.0 */
#include "ws_fixture.h"

#include "base/memory.h"
#include "client.pb-c.h"

/* Connections by WebSocket: like others once they are in, and bounded like them. What the broker
 * writes there is in ws_output_test.c, the codec alone in ws_frame_test.c and upgrade_test.c. */

static const enum listener_kind both[] = {LISTENER_ws, LISTENER_wss};

#define EACH(kind) for (size_t each = 0, kind = both[0]; each < 2; kind = both[++each % 2])

/* --- like any other --------------------------------------------------------------------------- */

static void frames_and_answers(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = ws_new_peer(fixture, kind);
        for (unsigned size = 0; size < 40000; size = size * 3 + 1) {
            struct buffer frame = {0};
            add_frame(&frame, size, 'q');
            ws_say(&peer, frame.data, frame.size);
            ws_expect_frames(fixture, peer.conn, frame.data, frame.size);
            assert_int_equal(net_write(fixture->net, 0, peer.conn, frame.data, frame.size), 0);
            ws_expect(&peer, WS_BYTES_BINARY, frame.data, frame.size);
            buffer_fini(&frame);
        }
        net_write(fixture->net, 0, peer.conn,
                  "\x03"
                  "bye",
                  4);
        net_farewell(fixture->net, peer.conn, USHER__V1__CLOSE__REASON__REPLACED, "elsewhere");
        net_release(fixture->net, peer.conn);
        ws_expect(&peer, WS_BYTES_BINARY,
                  "\x03"
                  "bye",
                  4);
        ws_expect_close(&peer, 4001);
        ws_close(&peer);
        WAIT_FOR(net_count(fixture->net) == 0);
    }
    assert_int_equal(metric_of(fixture, METRIC_ws_upgrades), 2);
    assert_int_equal(metric_of(fixture, METRIC_ws_refused), 0);
    assert_int_equal(metric_of(fixture, METRIC_ws_broken), 0);
}

static void a_head_byte_by_byte(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = ws_connect(fixture, kind);
        for (size_t i = 0; i < sizeof(ws_bytes_head) - 1; i++) {
            ws_send(&peer, ws_bytes_head + i, 1);
            if (i % 16 == 0)
                nap_ms(1);
        }
        ws_expect_silence(&peer);
        ws_send(&peer, "\r\n", 2);
        assert_int_equal(ws_status(&peer, NULL), 101);
        ws_say(&peer, ws_hello, 2);
        WAIT_FOR(records_count(fixture) == each + 1);
        ws_close(&peer);
    }
}

/* The protocol is chosen when it is offered, and nothing else is; an offer of others alone is let
 * pass without one. */
static void the_protocol_is_answered(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    for (unsigned offered = 0; offered < 2; offered++) {
        struct ws_peer peer = ws_connect(fixture, LISTENER_ws);
        struct buffer head = {0};
        const char *line = strstr(ws_bytes_head, "Sec-WebSocket-Protocol");
        ws_send(&peer, ws_bytes_head, (size_t)(line - ws_bytes_head));
        ws_send(&peer, offered ? line : "\r\n", offered ? strlen(line) : 2);
        if (offered)
            ws_send(&peer, "\r\n", 2);
        assert_int_equal(ws_status(&peer, &head), 101);
        ws_bytes_append(&head, "", 1);
        bool chosen = strstr((char *)head.data, "Sec-WebSocket-Protocol: usher.v1\r\n") != NULL;
        assert_int_equal(chosen, offered);
        ws_close(&peer);
        buffer_fini(&head);
    }
}

/* Three messages in one segment, cut at any byte. */
static void messages_in_any_pieces(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    struct buffer frames = {0}, wire = {0};
    for (unsigned i = 0; i < 3; i++) {
        size_t before = frames.size;
        for (unsigned k = 0; k <= i; k++)
            add_frame(&frames, 60 * i, (uint8_t)('a' + i));
        ws_bytes_message(&wire, (struct bytes){frames.data + before, frames.size - before});
    }
    for (size_t at = 0; at <= wire.size; at++) {
        ws_send_cut(&peer, &wire, at);
        ws_expect_frames(fixture, peer.conn, frames.data, frames.size);
    }
    for (size_t at = 0; at < wire.size; at++) {
        ws_send(&peer, wire.data + at, 1);
        if (at % 16 == 0)
            nap_ms(1);
    }
    ws_expect_frames(fixture, peer.conn, frames.data, frames.size);
    buffer_fini(&frames);
    buffer_fini(&wire);
    ws_close(&peer);
}

/* A message in fragments that cut its frames anywhere, with Pings between them. */
static void fragments_and_pings(void **state)
{
    struct fixture *fixture = *state;
    fixture->limits.ws_control_per_second = 255;
    fixture->binds = true;
    start(fixture);
    EACH(kind)
    {
        struct ws_peer peer = ws_new_peer(fixture, kind);
        struct buffer frames = {0};
        for (unsigned i = 0; i < 4; i++)
            add_frame(&frames, 10 + 200 * (i % 2), (uint8_t)('a' + i));
        for (size_t cut = 0; cut <= frames.size; cut += 7) {
            struct buffer wire = {0};
            ws_bytes_put(&wire, WS_BYTES_BINARY, (struct bytes){frames.data, cut}, (uint32_t)cut);
            ws_bytes_put(&wire, WS_BYTES_FIN | WS_BYTES_PING, bytes_of_text("between"), 7);
            ws_bytes_put(&wire, WS_BYTES_FIN | WS_BYTES_CONTINUATION,
                         (struct bytes){frames.data + cut, frames.size - cut}, WS_BYTES_MASK);
            ws_send_cut(&peer, &wire, wire.size * cut / (frames.size + 1));
            ws_expect_frames(fixture, peer.conn, frames.data, frames.size);
            ws_expect(&peer, WS_BYTES_PONG, "between", 7);
            buffer_fini(&wire);
        }
        buffer_fini(&frames);
        ws_close(&peer);
    }
}

/* --- ends ------------------------------------------------------------------------------------- */

struct fault {
    const char *bytes;
    size_t size;
    unsigned code;
    enum conn_end end;
};

/* What is wrong as a literal, which may have NULs. */
#define FAULT(literal, code, end)               \
    {                                           \
        literal, sizeof(literal) - 1, code, end \
    }

static const struct fault faults[] = {
    FAULT("\x82\x02\x01h", 1002, CONN_BROKEN_MESSAGE),            /* not masked */
    FAULT("\xc2\x82\0\0\0\0\x01h", 1002, CONN_BROKEN_MESSAGE),    /* a reserved bit */
    FAULT("\x83\x80\0\0\0\0", 1002, CONN_BROKEN_MESSAGE),         /* no such opcode */
    FAULT("\x80\x80\0\0\0\0", 1002, CONN_BROKEN_MESSAGE),         /* continues nothing */
    FAULT("\x82\x81\0\0\0\0\x01", 1002, CONN_BROKEN_MESSAGE),     /* a frame is not whole */
    FAULT("\x09\x80\0\0\0\0", 1002, CONN_BROKEN_MESSAGE),         /* a Ping in fragments */
    FAULT("\x88\x81\0\0\0\0\x03", 1002, CONN_BROKEN_MESSAGE),     /* a Close of one byte */
    FAULT("\x88\x82\0\0\0\0\x03\xee", 1002, CONN_BROKEN_MESSAGE), /* of code 1006 */
    FAULT("\x81\x82\0\0\0\0\x01h", 1003, CONN_BROKEN_MESSAGE),    /* text */
    FAULT("\x82\x86\0\0\0\0\x80\x80\x80\x80\x80\x01", 1002,
          CONN_BROKEN_MESSAGE),                                       /* a length of six bytes */
    FAULT("\x88\x83\0\0\0\0\x03\xe8\xff", 1007, CONN_BROKEN_MESSAGE), /* not UTF-8 */
};

/* The fault is said by WebSocket's own code, whatever reason comes behind it; what came before it
 * is handed up. */
static void faults_are_told(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = fixture->keeps = true;
    start(fixture);
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        EACH(kind)
        {
            struct ws_peer peer = ws_new_peer(fixture, kind);
            struct buffer out = {0};
            ws_bytes_message(&out, (struct bytes){(const uint8_t *)ws_hello, 2});
            ws_bytes_append(&out, faults[i].bytes, faults[i].size);
            ws_send(&peer, out.data, out.size);
            ws_expect_frames(fixture, peer.conn, ws_hello, 2);
            ws_expect_conn_end(fixture, peer.conn, faults[i].end);
            net_write(fixture->net, 0, peer.conn,
                      "\x03"
                      "bye",
                      4);
            net_farewell(fixture->net, peer.conn, 3, "another reason");
            net_release(fixture->net, peer.conn);
            ws_expect(&peer, WS_BYTES_BINARY,
                      "\x03"
                      "bye",
                      4);
            ws_expect_close(&peer, faults[i].code);
            ws_close(&peer);
            buffer_fini(&out);
        }
    }
    assert_int_equal(metric_of(fixture, METRIC_ws_broken), 2 * sizeof(faults) / sizeof(*faults));
}

/* Also by one who has not logged in; there the I/O thread says it. */
static void faults_of_strangers(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
        ws_send(&peer, faults[i].bytes, faults[i].size);
        ws_expect_close(&peer, faults[i].code);
        ws_expect_conn_end(fixture, peer.conn, faults[i].end);
        ws_close(&peer);
    }
}

/* His Close is given back, behind what was said to him; for everybody above he is lost. */
static void the_clients_close(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *payload;
        unsigned code;
    } closes[] = {{"\x03\xe8going", 1000}, {"\x03\xe9", 1001}, {"\x0f\xa0", 4000}, {"", 1005}};
    fixture->binds = fixture->keeps = true;
    start(fixture);
    for (size_t i = 0; i < 2 * sizeof(closes) / sizeof(*closes); i++) {
        struct ws_peer peer = ws_new_peer(fixture, both[i % 2]);
        struct buffer out = {0};
        ws_bytes_message(&out, (struct bytes){(const uint8_t *)ws_hello, 2});
        ws_bytes_put(&out, WS_BYTES_FIN | WS_BYTES_CLOSE, bytes_of_text(closes[i / 2].payload), 9);
        ws_bytes_message(&out, (struct bytes){(const uint8_t *)ws_hello, 2});
        ws_send(&peer, out.data, out.size);
        ws_expect_frames(fixture, peer.conn, ws_hello, 2);
        ws_expect_conn_end(fixture, peer.conn, CONN_LOST);
        assert_int_equal(frames_size(fixture, peer.conn), 0); /* none from behind it */
        net_write(fixture->net, 0, peer.conn,
                  "\x03"
                  "bye",
                  4);
        net_farewell(fixture->net, peer.conn, 3, "too late");
        net_release(fixture->net, peer.conn);
        ws_expect(&peer, WS_BYTES_BINARY,
                  "\x03"
                  "bye",
                  4);
        ws_expect_close(&peer, closes[i / 2].code);
        ws_close(&peer);
        buffer_fini(&out);
    }
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_ws_broken), 0);
}

/* The socket's end without a Close, between messages and within one. */
static void the_sockets_end(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    start(fixture);
    for (unsigned half = 0; half < 2; half++) {
        EACH(kind)
        {
            struct ws_peer peer = ws_new_peer(fixture, kind);
            conn_handle conn = peer.conn;
            if (half)
                ws_send(&peer, "\x82\x85\0\0\0\0\x04x", 8);
            ws_close(&peer);
            ws_expect_conn_end(fixture, conn, CONN_LOST);
            WAIT_FOR(net_count(fixture->net) == 0);
        }
    }
}

/* --- limits ----------------------------------------------------------------------------------- */

/* A head of so many bytes. */
static unsigned try_head(struct fixture *fixture, size_t size)
{
    struct ws_peer peer = ws_connect(fixture, LISTENER_ws);
    struct buffer out = {0};
    ws_bytes_append(&out, ws_bytes_head, strlen(ws_bytes_head));
    ws_bytes_append(&out, "Cookie: ", 8);
    while (out.size < size - 4)
        ws_bytes_append(&out, "c", 1);
    ws_bytes_append(&out, "\r\n\r\n", 4);
    ws_send(&peer, out.data, out.size);
    unsigned status = ws_status(&peer, NULL);
    ws_close(&peer);
    buffer_fini(&out);
    return status;
}

static void limit_of_head_bytes(void **state)
{
    struct fixture *fixture = *state;
    static const uint64_t limits[] = {1024, 1500, 2048, 8192, 65536};
    start(fixture);
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        atomic_store(&fixture->limits.ws_head_bytes, limits[i]);
        assert_int_equal(try_head(fixture, limits[i]), 101);
        assert_int_equal(try_head(fixture, limits[i] + 1), 431);
    }
}

/* A message in so many fragments. */
static void say_fragments(struct ws_peer *peer, unsigned count)
{
    struct buffer out = {0};
    for (unsigned i = 0; i < count; i++)
        ws_bytes_put(&out,
                     (i + 1 == count ? WS_BYTES_FIN : 0) |
                         (i == 0 ? WS_BYTES_BINARY : WS_BYTES_CONTINUATION),
                     (struct bytes){(const uint8_t *)ws_hello, i == 0 ? 2 : 0}, WS_BYTES_MASK);
    ws_send(peer, out.data, out.size);
    buffer_fini(&out);
}

static void limit_of_fragments(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 5 };
    fixture->limits.ws_fragments = LIMIT;
    fixture->binds = true;
    start(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    for (unsigned i = 0; i < 3; i++) {
        say_fragments(&peer, LIMIT);
        ws_expect_frames(fixture, peer.conn, ws_hello, 2);
    }
    say_fragments(&peer, LIMIT + 1);
    ws_expect_conn_end(fixture, peer.conn, CONN_FRAGMENTS);
    ws_expect_close(&peer, 1009);
    ws_close(&peer);
}

/* A message of so many bytes, all of them one frame. */
static void say_message_of(struct ws_peer *peer, size_t size)
{
    struct buffer frame = {0};
    size_t length_bytes = size > 16384 + 2 ? 3 : size > 129 ? 2 : 1;
    add_frame(&frame, size - length_bytes, 'm');
    assert_int_equal(frame.size, size);
    ws_say(peer, frame.data, frame.size);
    buffer_fini(&frame);
}

static void limit_of_message_bytes(void **state)
{
    struct fixture *fixture = *state;
    enum { FRAME = 20000, EARLY = 300 };
    fixture->limits.limits_frame_bytes = FRAME;
    fixture->limits.limits_prelogin_bytes = EARLY;
    start(fixture);
    for (unsigned bound = 0; bound < 2; bound++) {
        size_t frame = bound ? FRAME : EARLY;
        size_t largest = frame + (bound ? 3 : 2);
        fixture->binds = bound;
        struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
        say_message_of(&peer, largest);
        WAIT_FOR(frames_size(fixture, peer.conn) == largest);
        say_message_of(&peer, largest + 1);
        ws_expect_conn_end(fixture, peer.conn, bound ? CONN_FRAME_TOO_LARGE : CONN_PRELOGIN_BYTES);
        ws_close(&peer);
        /* Frames that may be, in a message that may be and in one that may not. */
        peer = ws_new_peer(fixture, LISTENER_ws);
        struct buffer frames = {0};
        while (frames.size < frame + FRAME_PREFIX_BYTES_MAX)
            add_frame(&frames, 0, 0);
        ws_say(&peer, frames.data, frames.size);
        ws_expect_frames(fixture, peer.conn, frames.data, frames.size);
        add_frame(&frames, 0, 0);
        ws_say(&peer, frames.data, frames.size);
        ws_expect_conn_end(fixture, peer.conn, bound ? CONN_FRAME_TOO_LARGE : CONN_PRELOGIN_BYTES);
        ws_expect_close(&peer, 1009);
        buffer_fini(&frames);
        ws_close(&peer);
    }
}

/* Of a stranger all bytes count, also those of control frames and of headers. */
static void limit_of_prelogin_bytes(void **state)
{
    struct fixture *fixture = *state;
    enum { EARLY = 200, MOST = 2 * EARLY + 64, HELLO = 6 + 2, PING = 6 + 90 };
    fixture->limits.limits_prelogin_bytes = EARLY;
    static const char text[] = "123456789012345678901234567890123456789012345678901234567890"
                               "123456789012345678901234567890";
    ws_by_hand(fixture);
    for (unsigned beyond = 0; beyond < 2; beyond++) {
        struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
        size_t left = MOST - HELLO;
        for (; left >= PING + 6; left -= PING) {
            ws_control(&peer, WS_BYTES_PING, text);
            ws_expect(&peer, WS_BYTES_PONG, text, 90);
        }
        ws_control(&peer, WS_BYTES_PONG, text + 90 - (left - 6));
        ws_rounds(fixture);
        ws_expect_silence(&peer);
        if (beyond) {
            ws_send(&peer, "\x8a", 1); /* one byte, and nothing of it a frame */
            ws_expect_conn_end(fixture, peer.conn, CONN_PRELOGIN_BYTES);
            ws_expect_end(&peer);
        }
        ws_close(&peer);
    }
}

static void limit_of_control_frames(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 7 };
    fixture->limits.ws_control_per_second = LIMIT;
    fixture->binds = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    for (unsigned second = 0; second < 3; second++) {
        for (unsigned i = 0; i < LIMIT; i++)
            ws_control(&peer, i % 2 == 0 ? WS_BYTES_PING : WS_BYTES_PONG, "p");
        ws_rounds(fixture);
        ws_expect(&peer, WS_BYTES_PONG, "p", 1); /* the last one is enough */
        ws_expect_silence(&peer);
        ws_pass(fixture, 1000);
    }
    for (unsigned i = 0; i < LIMIT; i++)
        ws_control(&peer, WS_BYTES_PONG, "p");
    ws_pass(fixture, 999);
    ws_expect_silence(&peer);
    ws_control(&peer, WS_BYTES_PONG, "one too many");
    ws_expect_conn_end(fixture, peer.conn, CONN_CONTROL_FLOOD);
    ws_expect_close(&peer, 1008);
    ws_close(&peer);
}

/* The seconds are counted with few bits, and one who says a control frame every so many of them is
 * no flood. */
static void a_slow_beat_is_no_flood(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 3, BEAT_MS = 128 * 1000 };
    fixture->limits.ws_control_per_second = LIMIT;
    fixture->options.silence_ms = 4 * BEAT_MS;
    fixture->binds = true;
    ws_by_hand(fixture);
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    for (unsigned i = 0; i < 4 * LIMIT; i++) {
        ws_control(&peer, WS_BYTES_PING, "p");
        ws_rounds(fixture);
        ws_expect(&peer, WS_BYTES_PONG, "p", 1);
        ws_world.now_ms += BEAT_MS / 2;
        ws_say(&peer, ws_hello, 2); /* something else between */
        ws_expect_frames(fixture, peer.conn, ws_hello, 2);
        ws_world.now_ms += BEAT_MS / 2;
    }
    ws_close(&peer);
}

/* --- who comes in ----------------------------------------------------------------------------- */

/* Told in the port's own language, before anything is read. */
static void limit_of_handshakes(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 3 };
    struct ws_peer peers[LIMIT];
    struct buffer head = {0};
    fixture->limits.limits_handshakes = LIMIT;
    ws_by_hand(fixture);
    for (unsigned i = 0; i < LIMIT; i++) {
        peers[i] = ws_connect(fixture, LISTENER_ws);
        ws_send(&peers[i], "GET /usher", i * 3);
        ws_rounds(fixture);
    }
    struct ws_peer refused = ws_connect(fixture, LISTENER_ws);
    assert_int_equal(ws_status(&refused, &head), 503);
    ws_bytes_append(&head, "", 1);
    assert_non_null(strstr((char *)head.data, "\r\nRetry-After: "));
    assert_int_equal(metric_of(fixture, METRIC_refused_handshakes), 1);
    ws_close(&refused);
    /* Who has been upgraded counts no more. */
    ws_upgrade(&peers[0]);
    struct ws_peer taken = ws_connect(fixture, LISTENER_ws);
    ws_upgrade(&taken);
    ws_close(&taken);
    for (unsigned i = 0; i < LIMIT; i++)
        ws_close(&peers[i]);
    buffer_fini(&head);
}

static void limit_of_time(void **state)
{
    struct fixture *fixture = *state;
    struct buffer head = {0};
    enum { DEADLINE_MS = 5000 };
    fixture->limits.limits_handshake_deadline_ms = DEADLINE_MS;
    ws_by_hand(fixture);
    struct ws_peer silent = ws_connect(fixture, LISTENER_ws);
    struct ws_peer half = ws_connect(fixture, LISTENER_ws);
    ws_send(&half, ws_bytes_head, sizeof(ws_bytes_head) - 1);
    ws_pass(fixture, DEADLINE_MS - 1);
    ws_expect_silence(&silent);
    ws_expect_silence(&half);
    ws_pass(fixture, 2);
    ws_expect_end(&silent);
    assert_int_equal(ws_status(&half, &head), 408);
    assert_memory_equal(head.data, "HTTP/1.1 408 Request Timeout\r\n", 30);
    ws_close(&silent);
    ws_close(&half);
    WS_WAIT(fixture, net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_ws_refused), 2);
    buffer_fini(&head);
}

/* Somebody who sits in his upgrade goes for one who comes; not one who has just come. */
static void displaced_in_the_upgrade(void **state)
{
    struct fixture *fixture = *state;
    enum { LIMIT = 2, AGE_MS = 1000 };
    fixture->limits.limits_handshakes = LIMIT;
    fixture->options.unbound_age_ms = AGE_MS;
    ws_by_hand(fixture);
    struct ws_peer old = ws_connect(fixture, LISTENER_ws);
    ws_send(&old, "GET", 3);
    ws_pass(fixture, AGE_MS);
    struct ws_peer young = ws_connect(fixture, LISTENER_ws);
    ws_rounds(fixture);
    struct ws_peer newcomer = ws_connect(fixture, LISTENER_ws);
    ws_upgrade(&newcomer);
    ws_expect_end(&old);
    assert_int_equal(metric_of(fixture, METRIC_strangers_displaced), 1);
    ws_upgrade(&young);
    ws_close(&old);
    ws_close(&young);
    ws_close(&newcomer);
}

/* --- languages -------------------------------------------------------------------------------- */

/* A frame with Close(PROTOCOL_ERROR), which names what is spoken, then the end. */
static void expect_close_frame(struct ws_peer *peer, const char *names)
{
    struct bytes frame;
    size_t used;
    while (ws_more(peer) || !peer->ended)
        ws_pause(peer->fixture);
    assert_int_equal(frame_next(ws_left(peer), 1000, &frame, &used), 1);
    Usher__V1__BrokerFrame *read = usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    assert_non_null(read);
    assert_int_equal(read->body_case, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    assert_int_equal(read->close->reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    assert_non_null(strstr(read->close->detail, names));
    usher__v1__broker_frame__free_unpacked(read, NULL);
}

/* Plain sockets, whatever the port wants. */
static struct ws_peer plain_to(struct fixture *fixture, enum listener_kind kind)
{
    struct ws_peer peer = {.fixture = fixture, .fd = new_socket()};
    assert_int_equal(connect_to(fixture, peer.fd, kind), 0);
    return peer;
}

static void frames_where_http_is_spoken(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct ws_peer peer = plain_to(fixture, LISTENER_ws);
    ws_send(&peer, "\x05hello", 6);
    expect_close_frame(&peer, "this port speaks WebSocket");
    ws_close(&peer);
    WAIT_FOR(metric_of(fixture, METRIC_frames_on_ws_port) == 1);
    peer = plain_to(fixture, LISTENER_wss);
    ws_send(&peer, "\x05hello", 6);
    expect_close_frame(&peer, "this port speaks TLS");
    ws_close(&peer);
    assert_int_equal(metric_of(fixture, METRIC_plain_on_tls_port), 1);
    /* Frames in TLS, which is right, and no HTTP in it. */
    peer = ws_connect(fixture, LISTENER_wss);
    ws_send(&peer, "\x05hello", 6);
    expect_close_frame(&peer, "this port speaks WebSocket");
    ws_close(&peer);
    assert_int_equal(metric_of(fixture, METRIC_frames_on_ws_port), 2);
}

static void tls_where_http_is_spoken(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t alert[] = {0x15, 3, 1, 0, 2, 2, 70};
    start(fixture);
    struct ws_peer peer = plain_to(fixture, LISTENER_ws);
    ws_send(&peer, "\x16\x03\x01\x01\0\x01\0\0\xf0\x03", 10);
    while (ws_more(&peer) || !peer.ended)
        ws_pause(fixture);
    assert_int_equal(ws_left(&peer).size, sizeof(alert));
    assert_memory_equal(peer.input.data, alert, sizeof(alert));
    ws_close(&peer);
    assert_int_equal(metric_of(fixture, METRIC_tls_on_plain_port), 1);
}

/* Told where it is, by the name of the option that there is, and not by an address of ours. */
static void expect_http_refused(struct ws_peer *peer, const char *says, const char *port)
{
    assert_int_equal(ws_status(peer, NULL), 426);
    while (ws_more(peer) || !peer->ended)
        ws_pause(peer->fixture);
    struct bytes body = ws_left(peer);
    if (memmem(body.data, body.size, says, strlen(says)) == NULL ||
        memmem(body.data, body.size, port, strlen(port)) == NULL ||
        memmem(body.data, body.size, "127.0.0.1", 9) != NULL)
        fail_msg("'%.*s' does not say '%s' and '%s' alone", (int)body.size, body.data, says, port);
    ws_close(peer);
}

static void http_where_frames_are_spoken(void **state)
{
    struct fixture *fixture = *state;
    char port[16];
    start(fixture);
    snprintf(port, sizeof(port), "port %u\n", net_port(fixture->net, LISTENER_ws));
    for (size_t cut = 3; cut < 8; cut++) {
        struct ws_peer peer = plain_to(fixture, LISTENER_tcp);
        struct buffer head = {0};
        ws_bytes_append(&head, ws_bytes_head, strlen(ws_bytes_head));
        ws_send_cut(&peer, &head, 4);
        expect_http_refused(&peer, "listen.ws", port);
        buffer_fini(&head);
    }
    struct ws_peer peer = plain_to(fixture, LISTENER_tls);
    ws_send_head(&peer);
    expect_http_refused(&peer, "this port speaks TLS; WebSocket is at listen.ws, ", port);
    peer = ws_connect(fixture, LISTENER_tls);
    ws_send_head(&peer);
    expect_http_refused(&peer, "usher's frames; WebSocket is at listen.ws, ", port);
    WAIT_FOR(net_count(fixture->net) == 0);
    assert_int_equal(metric_of(fixture, METRIC_http_on_frame_port), 5 + 2);
}

/* The right protocol at the right port, but for its TLS. */
static void http_where_it_comes_by_tls(void **state)
{
    struct fixture *fixture = *state;
    char port[16];
    fixture->options.listen[LISTENER_ws].address = "";
    start(fixture);
    snprintf(port, sizeof(port), "port %u\n", net_port(fixture->net, LISTENER_wss));
    struct ws_peer peer = plain_to(fixture, LISTENER_wss);
    ws_send_head(&peer);
    expect_http_refused(&peer, "this port speaks TLS; WebSocket is at listen.wss, ", port);
    peer = plain_to(fixture, LISTENER_tcp);
    ws_send_head(&peer);
    expect_http_refused(&peer, "usher's frames; WebSocket is at listen.wss, ", port);
    assert_int_equal(metric_of(fixture, METRIC_plain_on_tls_port), 1);
    assert_int_equal(metric_of(fixture, METRIC_http_on_frame_port), 1);
}

static void http_and_nowhere_to_go(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.listen[LISTENER_ws].address = "";
    start(fixture);
    struct ws_peer peer = plain_to(fixture, LISTENER_tcp);
    ws_send_head(&peer);
    expect_http_refused(&peer, "usher's frames; listen.ws is not set", "");
}

/* --- the broker leaves ------------------------------------------------------------------------ */

static unsigned health(struct fixture *fixture, enum listener_kind kind)
{
    struct ws_peer peer = ws_connect(fixture, kind);
    static const char head[] = "GET /health HTTP/1.0\r\n\r\n";
    ws_send(&peer, head, sizeof(head) - 1);
    unsigned status = ws_status(&peer, NULL);
    ws_close(&peer);
    return status;
}

static int try_to_connect(struct fixture *fixture, enum listener_kind kind)
{
    int fd = new_socket();
    int result = connect_to(fixture, fd, kind);
    close(fd);
    return result;
}

static void draining(void **state)
{
    struct fixture *fixture = *state;
    start(fixture);
    struct ws_peer stranger = ws_new_peer(fixture, LISTENER_ws);
    fixture->binds = true;
    struct ws_peer bound = ws_new_peer(fixture, LISTENER_ws);
    struct ws_peer half = ws_connect(fixture, LISTENER_ws);
    ws_send(&half, ws_bytes_head, strlen(ws_bytes_head));
    EACH(kind)
    assert_int_equal(health(fixture, kind), 200);
    net_drain(fixture->net);
    ws_expect_conn_end(fixture, stranger.conn, CONN_STOPPING);
    WAIT_FOR(try_to_connect(fixture, LISTENER_tcp) == -ECONNREFUSED);
    EACH(kind)
    {
        assert_int_equal(health(fixture, kind), 503);
        struct ws_peer peer = ws_connect(fixture, kind);
        struct buffer head = {0};
        ws_send_head(&peer);
        assert_int_equal(ws_status(&peer, &head), 503);
        ws_bytes_append(&head, "", 1);
        assert_non_null(strstr((char *)head.data, "\r\nRetry-After: 1\r\n"));
        ws_close(&peer);
        buffer_fini(&head);
    }
    /* Who had begun hears it as well; who was in stays. */
    ws_send(&half, "\r\n", 2);
    assert_int_equal(ws_status(&half, NULL), 503);
    ws_say(&bound, ws_hello, 2);
    ws_expect_frames(fixture, bound.conn, ws_hello, 2);
    struct ws_peer late = ws_connect(fixture, LISTENER_ws);
    ws_send(&late, "GET ", 4);
    net_stop_accepting(fixture->net);
    ws_expect_end(&late);
    WAIT_FOR(try_to_connect(fixture, LISTENER_ws) == -ECONNREFUSED);
    WAIT_FOR(try_to_connect(fixture, LISTENER_wss) == -ECONNREFUSED);
    ws_say(&bound, ws_hello, 2);
    ws_expect_frames(fixture, bound.conn, ws_hello, 2);
    ws_close(&late);
    ws_close(&half);
    ws_close(&stranger);
    ws_close(&bound);
}

/* --- memory ----------------------------------------------------------------------------------- */

/* What the book has, to the byte. */
static int64_t held(struct fixture *fixture)
{
    enum { STEP_BYTES = 64 * 1024 };
    memory_account(MEMORY_OF_OWN, 2 * STEP_BYTES);
    memory_account(MEMORY_OF_OWN, -2 * STEP_BYTES);
    return (int64_t)metric_of(fixture, METRIC_memory_held_bytes);
}

/* One who ends in the middle of all that is kept for him. */
static void end_amid(struct fixture *fixture, unsigned how)
{
    struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
    if (how & 1)
        ws_send(&peer,
                "\x02\x84\0\0\0\0\x0f"
                "abc\x89\x90\0\0\0\0"
                "part of a Ping",
                31);
    else
        ws_control(&peer, WS_BYTES_PING, "whole");
    if (how & 2)
        ws_hold(fixture, peer.conn, how & 4 ? 0 : 1); /* what is to be said waits */
    ws_rounds(fixture);
    if (!(how & 1))
        ws_control(&peer, WS_BYTES_PING, "another");
    ws_rounds(fixture);
    if (how & 8) {
        struct buffer frame = {0};
        add_frame(&frame, 3000, 'w');
        (void)net_write(fixture->net, 0, peer.conn, frame.data, frame.size);
        buffer_fini(&frame);
    }
    if (how & 16) {
        net_farewell(fixture->net, peer.conn, 11, "one reason");
        net_farewell(fixture->net, peer.conn, 12, "and another");
        net_release(fixture->net, peer.conn);
    }
    ws_rounds(fixture);
    ws_close(&peer);
    ws_rounds(fixture);
    ws_pass(fixture, fixture->limits.limits_close_linger_ms + 1);
    assert_int_equal(net_count(fixture->net), 0);
    ws_let_go();
}

static void memory_is_given_back(void **state)
{
    struct fixture *fixture = *state;
    fixture->binds = true;
    memory_open(&fixture->limits, NULL, fixture->metrics);
    int64_t before = held(fixture);
    ws_by_hand(fixture);
    for (unsigned how = 0; how < 32; how++) {
        end_amid(fixture, how);
        assert_int_equal(held(fixture), before);
    }
    for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
        struct ws_peer peer = ws_new_peer(fixture, LISTENER_ws);
        assert_true(held(fixture) > before);
        ws_send(&peer, faults[i].bytes, faults[i].size);
        ws_expect_close(&peer, faults[i].code);
        ws_close(&peer);
        WS_WAIT(fixture, net_count(fixture->net) == 0);
        assert_int_equal(held(fixture), before);
    }
    static const size_t heads[] = {1, 100, 1024, 5000, 8192, 8193};
    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        char head[8193];
        struct ws_peer peer = ws_connect(fixture, LISTENER_ws);
        memset(head, 'h', sizeof(head));
        memcpy(head, "GET ", 4);
        ws_send(&peer, head, heads[i]);
        ws_rounds(fixture);
        ws_close(&peer);
        WS_WAIT(fixture, net_count(fixture->net) == 0);
        assert_int_equal(held(fixture), before);
    }
    memory_close();
}

#define WS(test) cmocka_unit_test_setup_teardown(test, ws_set_up, tear_down)
#define WSS(test) cmocka_unit_test_setup_teardown(test, wss_set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WSS(frames_and_answers),
        WSS(a_head_byte_by_byte),
        WS(the_protocol_is_answered),
        WS(messages_in_any_pieces),
        WSS(fragments_and_pings),
        WSS(faults_are_told),
        WS(faults_of_strangers),
        WSS(the_clients_close),
        WSS(the_sockets_end),
        WS(limit_of_head_bytes),
        WS(limit_of_fragments),
        WS(limit_of_message_bytes),
        WS(limit_of_prelogin_bytes),
        WS(limit_of_control_frames),
        WS(a_slow_beat_is_no_flood),
        WS(limit_of_handshakes),
        WS(limit_of_time),
        WS(displaced_in_the_upgrade),
        WSS(frames_where_http_is_spoken),
        WSS(tls_where_http_is_spoken),
        WSS(http_where_frames_are_spoken),
        WSS(http_where_it_comes_by_tls),
        WS(http_and_nowhere_to_go),
        WSS(draining),
        WS(memory_is_given_back),
    };
    return cmocka_run_group_tests(tests, ws_set_up_group, ws_tear_down_group);
}
