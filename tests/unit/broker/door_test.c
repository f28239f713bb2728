/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

/* The limits of frames at n - 1, n and n + 1, for pairs of options at their extremes and beside
 * each other, against real input, by TCP and by WebSocket, which says the same of each. Under the
 * address sanitizer a buffer that was sized by one of them and filled by the other shows. */

enum { SEND_ID = 7, LEAST_FRAME = 64, TOO_LARGE = 1009 };

/* How the bytes come; the last one is WebSocket's alone: the frame in two fragments. */
enum way { AT_ONCE, IN_HALVES, LAST_BYTE_LATER, IN_FRAGMENTS, WAYS };

/* Where the clients come in; set for each pair. */
static enum listener_kind doors_way;

static void come(struct door_client *client, struct door *door)
{
    client_open_at(client, door, doors_way);
    if (doors_way != LISTENER_ws)
        return;
    assert_true(client_send(client, ws_bytes_head, sizeof(ws_bytes_head) - 1));
    assert_true(client_send(client, "\r\n", 2));
    client_read(client);
    assert_int_equal(client->ws, DOOR_WS_OPEN);
}

/* What would be these bytes on TCP: a message for each whole frame. */
static void put_messages(struct buffer *out, struct bytes frames, bool in_fragments)
{
    struct bytes body;
    size_t used;
    while (frame_next(frames, UINT32_MAX, &body, &used) == 1) {
        size_t cut = in_fragments ? used / 2 : used;
        uint8_t first = (uint8_t)WS_BYTES_BINARY | (in_fragments ? 0 : WS_BYTES_FIN);
        ws_bytes_put(out, first, (struct bytes){frames.data, cut}, WS_BYTES_MASK);
        if (in_fragments)
            ws_bytes_put(out, WS_BYTES_FIN | WS_BYTES_CONTINUATION,
                         (struct bytes){frames.data + cut, used - cut}, WS_BYTES_MASK);
        frames = (struct bytes){frames.data + used, frames.size - used};
    }
    assert_int_equal(frames.size, 0);
}

static void send_cut(struct door_client *client, const struct buffer *bytes, enum way way)
{
    size_t first = bytes->size;
    if (way == IN_HALVES)
        first /= 2;
    else if (way == LAST_BYTE_LATER)
        first--;
    if (client_send(client, bytes->data, first)) {
        door_settle(client->door);
        (void)client_send(client, bytes->data + first, bytes->size - first);
    }
    client_read(client);
}

static void send_in(struct door_client *client, const struct buffer *frames, enum way way)
{
    struct buffer messages = {0};
    if (doors_way == LISTENER_ws)
        put_messages(&messages, (struct bytes){frames->data, frames->size}, way == IN_FRAGMENTS);
    send_cut(client, doors_way == LISTENER_ws ? &messages : frames, way);
    buffer_fini(&messages);
}

/* By usher's Close, and behind it the one of WebSocket that says the same; `far`: or that the
 * message is too large, whatever is in it. */
static void expect_protocol_error(const struct door_client *client, bool far)
{
    assert_true(client->closed);
    assert_int_equal(client->reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    if (doors_way == LISTENER_ws && !(far && client->ws_code == TOO_LARGE))
        assert_int_equal(client->ws_code, 4000 + USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
}

static void log_in(struct door_client *client, struct door *door)
{
    struct buffer out = {0};
    come(client, door);
    door_put_login(&out, "ann", (struct bytes){0}, false, 0);
    send_in(client, &out, AT_ONCE);
    assert_int_equal(client->welcomes, 1);
    buffer_fini(&out);
}

/* A Login of that size: welcomed or closed. */
static void try_login(struct door *door, size_t size, enum way way)
{
    struct door_client client;
    struct buffer out = {0};
    come(&client, door);
    door_put_login(&out, "ann", (struct bytes){0}, false, size);
    send_in(&client, &out, way);
    bool fits = size <= door->options.limits_prelogin_bytes;
    assert_int_equal(client.welcomes, fits);
    assert_int_equal(client.closed, !fits);
    if (!fits)
        expect_protocol_error(&client, false);
    client_close(&client);
    buffer_fini(&out);
}

/* A Send of that size, to nobody: answered or closed. */
static void try_send(struct door *door, size_t size, enum way way)
{
    struct door_client client;
    struct buffer out = {0};
    log_in(&client, door);
    door_put_send(&out, SEND_ID, "nobody", (struct bytes){0}, size);
    send_in(&client, &out, way);
    bool fits = size <= door->options.limits_frame_bytes;
    assert_int_equal(client.errors, fits); /* NOT_ONLINE */
    assert_int_equal(client.closed, !fits);
    if (!fits)
        expect_protocol_error(&client, false);
    client_close(&client);
    buffer_fini(&out);
}

/* A frame behind a Login in one breath comes before the Welcome, which ends it, whatever its size.
 */
static void try_behind_login(struct door *door, size_t size)
{
    struct door_client client;
    struct buffer out = {0};
    come(&client, door);
    door_put_login(&out, "ann", (struct bytes){0}, false, 0);
    door_put_send(&out, SEND_ID, "nobody", (struct bytes){0}, size);
    send_in(&client, &out, AT_ONCE);
    /* A large one ends in a later read, when he may have been welcomed. */
    bool answered = client.errors == 1 && client.code == USHER__V1__ERROR__CODE__NOT_ONLINE;
    assert_true(client.closed || (answered && size <= door->options.limits_frame_bytes));
    if (client.closed)
        expect_protocol_error(&client, true);
    client_close(&client);
    buffer_fini(&out);
}

/* As it is, or a fragment that is not the last one. */
static void put_piece(struct buffer *out, uint8_t opcode, struct bytes piece)
{
    if (doors_way == LISTENER_ws)
        ws_bytes_put(out, opcode, piece, WS_BYTES_MASK);
    else
        assert_int_equal(buffer_append(out, piece.data, piece.size), 0);
}

/* As much of a frame as may be carried, and then as much as one read takes. */
static void try_to_overflow(struct door *door, size_t size, bool logged_in)
{
    static uint8_t bytes[65536];
    struct door_client client;
    struct buffer out = {0};
    if (logged_in)
        log_in(&client, door);
    else
        come(&client, door);
    door_put_varint(&out, size);
    uint8_t *to = buffer_reserve(&out, size);
    assert_non_null(to);
    memset(to, 'A', size - 1);
    out.size += size - 1;
    memset(bytes, 'B', sizeof(bytes));
    struct buffer begun = {0}, more = {0};
    put_piece(&begun, WS_BYTES_BINARY, (struct bytes){out.data, out.size});
    put_piece(&more, WS_BYTES_CONTINUATION, (struct bytes){bytes, sizeof(bytes)});
    if (client_send(&client, begun.data, begun.size)) {
        door_settle(door);
        (void)client_send(&client, more.data, more.size);
    }
    client_read(&client);
    assert_true(client.closed || client.ended);
    buffer_fini(&begun);
    buffer_fini(&more);
    client_close(&client);
    buffer_fini(&out);
}

static void try_pair_by(enum listener_kind kind, uint64_t frame_bytes, uint64_t prelogin_bytes)
{
    struct door door;
    doors_way = kind;
    door_init(&door);
    door.by_ws = kind == LISTENER_ws;
    door.options.limits_frame_bytes = frame_bytes;
    door.options.limits_prelogin_bytes = prelogin_bytes;
    door_open(&door);
    for (int more = -1; more <= 1; more++)
        for (enum way way = AT_ONCE; way < (door.by_ws ? WAYS : IN_FRAGMENTS); way++) {
            try_login(&door, (size_t)prelogin_bytes + (size_t)more, way);
            try_send(&door, (size_t)frame_bytes + (size_t)more, way);
        }
    try_behind_login(&door, LEAST_FRAME);
    try_behind_login(&door, (size_t)(frame_bytes < prelogin_bytes ? frame_bytes : prelogin_bytes));
    try_behind_login(&door, (size_t)frame_bytes + 1);
    try_behind_login(&door, (size_t)prelogin_bytes);
    try_to_overflow(&door, (size_t)prelogin_bytes, false);
    try_to_overflow(&door, (size_t)frame_bytes, true);
    door_close(&door);
}

static void try_pair(uint64_t frame_bytes, uint64_t prelogin_bytes)
{
    try_pair_by(LISTENER_tcp, frame_bytes, prelogin_bytes);
    try_pair_by(LISTENER_ws, frame_bytes, prelogin_bytes);
}

static void frames_of_every_size_with_every_pair_of_limits(void **state)
{
    (void)state;
    static const uint64_t prelogin[] = {256, 1024, 4096, 1048576};
    for (size_t i = 0; i < sizeof(prelogin) / sizeof(*prelogin); i++) {
        if (prelogin[i] > 1024) {
            try_pair(1024, prelogin[i]);
            try_pair(prelogin[i] - 1, prelogin[i]);
        }
        if (prelogin[i] >= 1024)
            try_pair(prelogin[i], prelogin[i]);
        if (prelogin[i] >= 1024)
            try_pair(prelogin[i] + 1, prelogin[i]);
        try_pair(65536, prelogin[i]);
    }
    try_pair(1048576, 256);
}

/* With the login judged by somebody else the connection is bound while a frame is half read. */
static void a_frame_that_is_begun_before_the_login_is_judged(void **state)
{
    (void)state;
    enum { PRELOGIN = 8192, FRAME = 1024 };
    struct door door;
    char token[TOKEN_MAKE_BYTES];
    door_init(&door);
    door.options.auth_mode = AUTH_MODE_TOKEN;
    door.options.limits_frame_bytes = FRAME;
    door.options.limits_prelogin_bytes = PRELOGIN;
    door_open(&door);
    struct door_client client;
    struct buffer out = {0};
    token_make(token, TOKEN_HEADER, "{\"sub\":\"ann\",\"exp\":1900000000}");
    client_open(&client, &door);
    door_put_login(&out, "ann", bytes_of_text(token), false, 0);
    door_put_varint(&out, PRELOGIN);
    for (unsigned i = 0; i < PRELOGIN - 1; i++)
        assert_int_equal(buffer_append(&out, "A", 1), 0);
    assert_true(client_send(&client, out.data, out.size));
    client_read(&client);
    assert_int_equal(client.welcomes, 1); /* it is half a frame: nothing wrong so far */
    assert_true(client_send(&client, "A", 1));
    client_read(&client);
    assert_true(client.closed); /* now it is one beyond limits.frame_bytes */
    assert_int_equal(client.reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    client_close(&client);
    buffer_fini(&out);
    door_close(&door);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_of_every_size_with_every_pair_of_limits),
        cmocka_unit_test(a_frame_that_is_begun_before_the_login_is_judged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
