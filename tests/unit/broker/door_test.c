/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "door_world.h"

/* The limits of frames at n - 1, n and n + 1, for pairs of options at their extremes and beside
 * each other, against real input. Under the address sanitizer a buffer that was sized by one of
 * them and filled by the other shows. */

enum { SEND_ID = 7, LEAST_FRAME = 64 };

/* How the bytes come. */
enum way { AT_ONCE, IN_HALVES, LAST_BYTE_LATER, WAYS };

static void send_in(struct door_client *client, const struct buffer *bytes, enum way way)
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

static void log_in(struct door_client *client, struct door *door)
{
    struct buffer out = {0};
    client_open(client, door);
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
    client_open(&client, door);
    door_put_login(&out, "ann", (struct bytes){0}, false, size);
    send_in(&client, &out, way);
    bool fits = size <= door->options.limits_prelogin_bytes;
    assert_int_equal(client.welcomes, fits);
    assert_int_equal(client.closed, !fits);
    if (!fits)
        assert_int_equal(client.reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
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
        assert_int_equal(client.reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    client_close(&client);
    buffer_fini(&out);
}

/* A frame behind a Login in one breath comes before the Welcome, which ends it, whatever its size.
 */
static void try_behind_login(struct door *door, size_t size)
{
    struct door_client client;
    struct buffer out = {0};
    client_open(&client, door);
    door_put_login(&out, "ann", (struct bytes){0}, false, 0);
    door_put_send(&out, SEND_ID, "nobody", (struct bytes){0}, size);
    send_in(&client, &out, AT_ONCE);
    /* A large one ends in a later read, when he may have been welcomed. */
    bool answered = client.errors == 1 && client.code == USHER__V1__ERROR__CODE__NOT_ONLINE;
    assert_true(client.closed || (answered && size <= door->options.limits_frame_bytes));
    if (client.closed)
        assert_int_equal(client.reason, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR);
    client_close(&client);
    buffer_fini(&out);
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
        client_open(&client, door);
    door_put_varint(&out, size);
    uint8_t *to = buffer_reserve(&out, size);
    assert_non_null(to);
    memset(to, 'A', size - 1);
    out.size += size - 1;
    memset(bytes, 'B', sizeof(bytes));
    if (client_send(&client, out.data, out.size)) {
        door_settle(door);
        (void)client_send(&client, bytes, sizeof(bytes));
    }
    client_read(&client);
    assert_true(client.closed || client.ended);
    client_close(&client);
    buffer_fini(&out);
}

static void try_pair(uint64_t frame_bytes, uint64_t prelogin_bytes)
{
    struct door door;
    door_init(&door);
    door.options.limits_frame_bytes = frame_bytes;
    door.options.limits_prelogin_bytes = prelogin_bytes;
    door_open(&door);
    for (int more = -1; more <= 1; more++)
        for (enum way way = AT_ONCE; way < WAYS; way++) {
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
