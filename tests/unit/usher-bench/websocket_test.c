/* SPDX-License-Identifier: Apache-2.0 */
#include <netinet/tcp.h>

#include "proto/client_frame.h"
#include "unit/libusher/fake_websocket.h"
#include "usher-bench/crowd.h"

/* A crowd of one over WebSocket, with a server that says what a test tells it. What a broker does
 * with crowds is in the play. */

enum { TURN_NS = 1000000 };

struct stage {
    struct server server;
    struct bench_options options;
    struct address address;
    struct crowd crowd;
    unsigned welcomes, messages;
};

static void on_welcome(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    ((struct stage *)crowd->context)->welcomes++;
}

static void on_message(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    ((struct stage *)crowd->context)->messages++;
}

static const struct crowd_events EVENTS = {
    .on_welcome = on_welcome, .on_message = on_message, .on_answer = on_message};

/* One user, whose request has come; gives its key. */
static void stage_open(struct stage *stage, uint64_t ws_frames, char key[25])
{
    memset(stage, 0, sizeof(*stage));
    server_open(&stage->server);
    stage->options = (struct bench_options){.url = stage->server.url,
                                            .prefix = "u",
                                            .users = 1,
                                            .size_bytes = 16,
                                            .joining_max = 1,
                                            .ws_frames = ws_frames};
    assert_null(url_read(stage->server.url, &stage->options.place));
    stage->options.host = stage->options.place.host;
    stage->address.at.v4 = (struct sockaddr_in){.sin_family = AF_INET,
                                                .sin_port = htons(stage->server.fake.port),
                                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    stage->crowd = (struct crowd){.options = &stage->options,
                                  .address = &stage->address,
                                  .events = &EVENTS,
                                  .context = stage};
    assert_int_equal(crowd_open(&stage->crowd, 0, 1), 0);
    crowd_join(&stage->crowd, stage->crowd.users, 0);
    int on = 1;
    fake_accept(&stage->server.fake, NULL);
    setsockopt(stage->server.fake.peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    uint64_t end_ms = fake_now_ms() + FAKE_PATIENCE_MS;
    while (!take_request(&stage->server, key)) {
        assert_true(fake_now_ms() < end_ms);
        crowd_turn(&stage->crowd, TURN_NS);
        server_receive(&stage->server);
    }
}

static void stage_close(struct stage *stage)
{
    crowd_close(&stage->crowd);
    server_fini(&stage->server);
}

/* A few turns, in which all that was said arrives. */
static void turns(struct stage *stage)
{
    for (int i = 0; i < 10; i++) {
        crowd_turn(&stage->crowd, TURN_NS);
        server_receive(&stage->server);
        while (take_message(&stage->server))
            ;
    }
}

static void say(struct stage *stage, struct buffer *out)
{
    fake_bytes(&stage->server.fake, out->data, out->size);
    buffer_fini(out);
}

/* The upgrade, and a Welcome with a message behind it. */
static void put_beginning(struct buffer *out, const char *key)
{
    static const uint8_t FRAMES[] = {0x06, 0x12, 0x04, 0x08, 0x07, 0x20, 0x01, /* Welcome */
                                     0x04, 0x1a, 0x02, 0x08, 0x01};            /* Message */
    say_101(out, key);
    put_frame(out, 0x02, FRAMES, 5);
    put_frame(out, 0x89, "ping", 4);
    put_frame(out, 0x80, FRAMES + 5, sizeof(FRAMES) - 5);
}

static void a_login_byte_by_byte(void **state)
{
    struct stage stage;
    struct buffer all = {0};
    char key[25];
    stage_open(&stage, 0, key);
    put_beginning(&all, key);
    for (size_t i = 0; i < all.size; i++) {
        fake_bytes(&stage.server.fake, all.data + i, 1);
        crowd_turn(&stage.crowd, TURN_NS);
    }
    turns(&stage);
    assert_string_equal(stage.crowd.error, "");
    assert_int_equal(stage.welcomes, 1);
    assert_int_equal(stage.messages, 1);
    assert_int_equal(stage.crowd.online, 1);
    assert_int_equal(stage.server.messages, 1); /* the Login */
    assert_int_equal(stage.server.pongs, 1);
    assert_memory_equal(stage.server.pong, "ping", 4);
    buffer_fini(&all);
    stage_close(&stage);
}

/* Five frames that wait together: as one message, as five, and by twos. */
static void as_many_frames_in_a_message_as_are_wanted(void **state)
{
    static const unsigned ROWS[][2] = {{0, 1}, {1, 5}, {2, 3}, {5, 1}};
    for (size_t row = 0; row < 4; row++) {
        struct stage stage;
        struct buffer all = {0};
        char key[25];
        stage_open(&stage, ROWS[row][0], key);
        put_beginning(&all, key);
        say(&stage, &all);
        turns(&stage);
        assert_int_equal(stage.crowd.online, 1);
        unsigned before = stage.server.messages;
        size_t bytes = stage.server.frames.size;
        const struct client_frame ping = {.id = 1, .body = CLIENT_PING};
        for (int i = 0; i < 5; i++)
            assert_int_equal(client_frame_write(&stage.crowd.users->out, &ping, 100), 0);
        crowd_touch(&stage.crowd, stage.crowd.users);
        turns(&stage);
        assert_int_equal(stage.server.messages - before, ROWS[row][1]);
        assert_int_equal(stage.server.frames.size - bytes, 5 * 5);
        stage_close(&stage);
    }
}

/* A broker that is full is asked again when it says. */
static void a_503_is_put_off(void **state)
{
    static const char FULL[] = "HTTP/1.1 503 x\r\nRetry-After: 3\r\n\r\n";
    struct stage stage;
    char key[25];
    stage_open(&stage, 0, key);
    fake_bytes(&stage.server.fake, FULL, strlen(FULL));
    turns(&stage);
    assert_int_equal(stage.crowd.users->state, USER_WAITING);
    assert_in_range(stage.crowd.users->spoke_ns - stage.crowd.now_ns, 2000000000, 3000000000);
    assert_string_equal(stage.crowd.put_off_by, "OVERLOADED");
    assert_string_equal(stage.crowd.error, "");
    stage_close(&stage);
}

static void other_ends_end_the_run(void **state)
{
    static const struct {
        bool upgraded;
        const char *bytes;
        size_t size;
        const char *error;
    } ROWS[] = {
        {false, "HTTP/1.1 404 x\r\n\r\n", 18,
         "127.0.0.1 refuses the WebSocket with 404; check port"},
        {false, "\x04\x42\x02\x08\x03", 5,
         "127.0.0.1 sent what is no HTTP in place of a WebSocket"},
        {true, "\x81\x00", 2, "u0 got a message that cannot be"},
        {true, "\x88\x02\x03\xe9", 4, "u0 lost its connection"},
    };
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(*ROWS); i++) {
        struct stage stage;
        struct buffer all = {0};
        char key[25];
        stage_open(&stage, 0, key);
        if (ROWS[i].upgraded)
            put_beginning(&all, key);
        buffer_append(&all, ROWS[i].bytes, ROWS[i].size);
        say(&stage, &all);
        turns(&stage);
        if (strncmp(stage.crowd.error, ROWS[i].error, strlen(ROWS[i].error)) != 0)
            fail_msg("\"%s\" instead of \"%s\"", stage.crowd.error, ROWS[i].error);
        stage_close(&stage);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_login_byte_by_byte),
        cmocka_unit_test(as_many_frames_in_a_message_as_are_wanted),
        cmocka_unit_test(a_503_is_put_off),
        cmocka_unit_test(other_ends_end_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
