/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/websocket.h"

#include <netinet/tcp.h>
#include <stdlib.h>

#include "libusher/session.h"
#include "unit/libusher/fake_websocket.h"

/* A session over WebSocket, with a server that says what a test tells it: good ones however they
 * cut what they send, full ones, wrong ones, and those that mean no good. Frames and heads by
 * themselves are in websocket_frame_test.c and websocket_upgrade_test.c. */

static const struct fake_welcome EPOCH_7 = {.epoch = 7};

/* --- the server ------------------------------------------------------------------------------- */

static struct usher_options server_options(const struct server *server)
{
    struct usher_options options = fake_options(&server->fake);
    options.url = server->url;
    options.host = NULL;
    options.port = 0;
    return options;
}

/* Lets the client do what it can until `done` is so, or patience ends. */
#define UNTIL(server, client, done)                          \
    do {                                                     \
        uint64_t end_ms_ = fake_now_ms() + FAKE_PATIENCE_MS; \
        while (!(done)) {                                    \
            assert_true(fake_now_ms() < end_ms_);            \
            fake_tick(client);                               \
            server_receive(server);                          \
            while (take_message(server))                     \
                ;                                            \
        }                                                    \
    } while (0)

static bool next_frame(struct server *server, Usher__V1__ClientFrame **frame)
{
    struct bytes input = {server->frames.data, server->frames.size};
    struct bytes body;
    size_t used;
    if (input.size == 0 || frame_next(input, 64 * 1024 * 1024, &body, &used) != 1)
        return false;
    *frame = usher__v1__client_frame__unpack(NULL, body.size, body.data);
    assert_non_null(*frame);
    buffer_consume(&server->frames, used);
    return true;
}

/* Gives its id. */
static uint64_t expect_frame(struct server *server, struct usher_client *client,
                             Usher__V1__ClientFrame__BodyCase body)
{
    Usher__V1__ClientFrame *frame = NULL;
    UNTIL(server, client, next_frame(server, &frame));
    assert_int_equal(frame->body_case, body);
    uint64_t id = frame->id;
    usher__v1__client_frame__free_unpacked(frame, NULL);
    return id;
}

/* Takes a connection and its request; gives the key in it. */
static void accept_request(struct server *server, struct usher_client *client, char key[25])
{
    int on = 1; /* or bytes would wait for each other */
    fake_accept(&server->fake, client);
    setsockopt(server->fake.peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    server->raw.size = server->frames.size = 0;
    server->messages = server->pongs = server->closes = 0;
    uint64_t end_ms = fake_now_ms() + FAKE_PATIENCE_MS;
    while (!take_request(server, key)) {
        assert_true(fake_now_ms() < end_ms);
        fake_tick(client);
        server_receive(server);
    }
}

static void say_frame(struct server *server, uint8_t first, const void *payload, size_t size)
{
    struct buffer out = {0};
    put_frame(&out, first, payload, size);
    fake_bytes(&server->fake, out.data, out.size);
    buffer_fini(&out);
}

static void say_bytes(struct server *server, struct buffer *out)
{
    fake_bytes(&server->fake, out->data, out->size);
    buffer_fini(out);
}

/* Frames of usher, as the fake packs them. */
static void pack_welcome(struct buffer *out, const struct fake_welcome *what)
{
    Usher__V1__Welcome welcome = USHER__V1__WELCOME__INIT;
    welcome.epoch = what->epoch;
    welcome.next_seq = 1;
    welcome.replay = (Usher__V1__Welcome__Replay)what->replay;
    welcome.heartbeat_ms = what->heartbeat_ms;
    welcome.frame_bytes_max = what->frame_bytes_max;
    Usher__V1__BrokerFrame frame = fake_frame(what->id, USHER__V1__BROKER_FRAME__BODY_WELCOME);
    frame.welcome = &welcome;
    fake_pack(out, &frame);
}

static void pack_message(struct buffer *out, uint64_t seq, const char *text)
{
    Usher__V1__Message message = USHER__V1__MESSAGE__INIT;
    message.seq = seq;
    message.from = (char *)(uintptr_t) "bob";
    message.payload = (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_MESSAGE);
    frame.message = &message;
    fake_pack(out, &frame);
}

static void pack_close(struct buffer *out, int reason)
{
    Usher__V1__Close body = USHER__V1__CLOSE__INIT;
    body.reason = (Usher__V1__Close__Reason)reason;
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    frame.close = &body;
    fake_pack(out, &frame);
}

static void say_packed(struct server *server, struct buffer *packed)
{
    say_frame(server, 0x82, packed->data, packed->size);
    buffer_fini(packed);
}

static struct usher_client *started(struct server *server, const struct usher_options *options)
{
    struct usher_client *client;
    char key[25];
    struct buffer out = {0};
    assert_int_equal(usher_client_create(options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    accept_request(server, client, key);
    say_101(&out, key);
    say_bytes(server, &out);
    return client;
}

static void welcome_it(struct server *server, struct usher_client *client,
                       const struct fake_welcome *what, Usher__V1__ClientFrame__BodyCase hello)
{
    struct buffer packed = {0};
    struct fake_welcome welcome = *what;
    welcome.id = expect_frame(server, client, hello);
    pack_welcome(&packed, &welcome);
    say_packed(server, &packed);
    assert_int_equal(expect_event(client, USHER_WELCOME).epoch, what->epoch);
}

static struct usher_client *online(struct server *server, const struct usher_options *options,
                                   const struct fake_welcome *what)
{
    struct usher_client *client = started(server, options);
    welcome_it(server, client, what, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    return client;
}

/* --- good servers ----------------------------------------------------------------------------- */

/* All that a broker says in a short life, byte by byte: the upgrade, messages of several frames,
 * one in pieces with a Ping inside, the Close and the end of the WebSocket. */
static void a_life_byte_by_byte(void **state)
{
    struct server server;
    struct usher_client *client;
    struct buffer all = {0}, packed = {0};
    char key[25];
    server_open(&server);
    struct usher_options options = server_options(&server);
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    accept_request(&server, client, key);
    say_101(&all, key);
    const struct fake_welcome welcome = {.id = 1, .epoch = 7};
    pack_welcome(&packed, &welcome);
    pack_message(&packed, 1, "one");
    put_frame(&all, 0x82, packed.data, packed.size);
    packed.size = 0;
    pack_message(&packed, 2, "two");
    pack_message(&packed, 3, "three");
    put_frame(&all, 0x02, packed.data, 3);
    put_frame(&all, 0x89, "ping", 4);
    put_frame(&all, 0x00, packed.data + 3, 0);
    put_frame(&all, 0x80, packed.data + 3, packed.size - 3);
    packed.size = 0;
    pack_close(&packed, USHER_CLOSE_KICKED);
    put_frame(&all, 0x82, packed.data, packed.size);
    put_frame(&all, 0x88, "\x0f\xa2 with words", 13);
    for (size_t i = 0; i < all.size; i++) {
        (void)send(server.fake.peer, all.data + i, 1, MSG_NOSIGNAL);
        (void)usher_client_process(client);
        server_receive(&server);
        while (take_message(&server))
            ;
    }
    assert_int_equal(expect_event(client, USHER_WELCOME).epoch, 7);
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_payload(&event, "one");
    event = expect_event(client, USHER_MESSAGE);
    assert_payload(&event, "two");
    event = expect_event(client, USHER_MESSAGE);
    assert_payload(&event, "three");
    assert_int_equal(expect_event(client, USHER_CLOSE).code, USHER_CLOSE_KICKED);
    expect_event(client, USHER_DISCONNECTED); /* and no second Close for the code */
    assert_int_equal(server.pongs, 1);
    assert_int_equal(server.pong_bytes, 4);
    assert_memory_equal(server.pong, "ping", 4);
    assert_int_equal(server.messages, 1); /* the Login */
    buffer_fini(&all);
    buffer_fini(&packed);
    usher_client_destroy(client);
    server_fini(&server);
}

/* What waits for the Welcome leaves in one message behind it, and the Login is one by itself. */
static void what_one_flush_has_is_one_message(void **state)
{
    struct server server;
    server_open(&server);
    struct usher_options options = server_options(&server);
    struct usher_client *client = started(&server, &options);
    for (int i = 0; i < 3; i++)
        assert_int_equal(usher_send(client, "bob", "hello", 5, USHER_ACCEPTED, NULL), 0);
    welcome_it(&server, client, &EPOCH_7, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    assert_int_equal(server.messages, 1);
    for (int i = 0; i < 3; i++)
        expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_int_equal(server.messages, 2);
    assert_int_equal(usher_ping(client, NULL), 0);
    expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_PING);
    assert_int_equal(server.messages, 3);
    usher_client_destroy(client);
    server_fini(&server);
}

/* Frames that fill a message to what the broker takes in one, and one byte more. */
static void a_message_holds_what_the_broker_takes(void **state)
{
    enum { FRAME = 1000, PAYLOAD = FRAME - 2 /* length */ - 13 /* fields */ };
    for (uint32_t less = 0; less < 2; less++) {
        struct server server;
        uint8_t payload[PAYLOAD];
        memset(payload, 'x', sizeof(payload));
        server_open(&server);
        struct usher_options options = server_options(&server);
        struct usher_client *client = started(&server, &options);
        for (int i = 0; i < 2; i++)
            assert_int_equal(usher_post(client, "bob", payload, sizeof(payload)), 0);
        size_t frame = client->requests.waiting.head->frame.size;
        const struct fake_welcome welcome = {
            .epoch = 7, .frame_bytes_max = (uint32_t)(2 * frame - FRAME_PREFIX_BYTES_MAX) - less};
        welcome_it(&server, client, &welcome, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
        for (int i = 0; i < 2; i++)
            expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
        assert_int_equal(server.messages, 1 + 1 + less);
        usher_client_destroy(client);
        server_fini(&server);
    }
}

/* However much the broker takes, more than 16 KiB of several frames is never one message. */
static void messages_are_never_long_for_nothing(void **state)
{
    struct server server;
    server_open(&server);
    struct usher_options options = server_options(&server);
    struct usher_client *client = started(&server, &options);
    uint8_t payload[1024] = {0};
    for (int i = 0; i < 40; i++)
        assert_int_equal(usher_post(client, "bob", payload, sizeof(payload)), 0);
    const struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = 16 * 1024 * 1024};
    welcome_it(&server, client, &welcome, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    for (int i = 0; i < 40; i++)
        expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_int_equal(server.messages, 1 + 3);
    usher_client_destroy(client);
    server_fini(&server);
}

/* 64 masks come with one system call; all of 200 differ from the one before. */
static void every_frame_has_a_mask_of_its_own(void **state)
{
    struct server server;
    uint8_t before[4] = {0};
    server_open(&server);
    struct usher_options options = server_options(&server);
    struct usher_client *client = online(&server, &options, &EPOCH_7);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(usher_post(client, "bob", "same", 4), 0);
        expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
        assert_memory_not_equal(server.mask, before, sizeof(before));
        memcpy(before, server.mask, sizeof(before));
    }
    usher_client_destroy(client);
    server_fini(&server);
}

/* Of many Pings at once the last is answered, and a Pong never stands inside of a message. */
static void pings_are_answered_between_messages(void **state)
{
    enum { LARGE = 6 * 1024 * 1024 };
    struct server server;
    server_open(&server);
    struct usher_options options = server_options(&server);
    const struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = LARGE + 100};
    struct usher_client *client = online(&server, &options, &welcome);
    char *payload = calloc(1, LARGE);
    assert_int_equal(usher_post(client, "bob", payload, LARGE), 0);
    struct buffer pings = {0};
    for (uint8_t i = 0; i < 100; i++)
        put_frame(&pings, 0x89, &i, 1);
    say_bytes(&server, &pings);
    for (int i = 0; i < 20; i++)
        fake_tick(client); /* the socket is full, the Pings are read */
    assert_true(client->connection.output.size > 0);
    expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    UNTIL(&server, client, server.pongs > 0);
    assert_int_equal(server.pongs, 1);
    assert_int_equal(server.pong[0], 99);
    say_frame(&server, 0x89, NULL, 0);
    UNTIL(&server, client, server.pongs > 1);
    assert_int_equal(server.pong_bytes, 0);
    free(payload);
    usher_client_destroy(client);
    server_fini(&server);
}

/* A connection that breaks inside of a message: what the server cannot have seen whole is sent
 * anew, what it may have seen is not. */
static void a_frame_that_left_whole_is_not_sent_again(void **state)
{
    enum { LARGE = 6 * 1024 * 1024 };
    struct server server;
    server_open(&server);
    struct usher_options options = server_options(&server);
    options.outgoing_bytes_max = 2 * LARGE;
    const struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = LARGE + 100};
    struct usher_client *client = online(&server, &options, &welcome);
    char *payload = calloc(1, LARGE);
    uint64_t small, large, last;
    assert_int_equal(usher_send(client, "bob", "small", 5, USHER_ACCEPTED, &small), 0);
    assert_int_equal(usher_send(client, "bob", payload, LARGE, USHER_ACCEPTED, &large), 0);
    assert_int_equal(usher_send(client, "bob", "last", 4, USHER_ACCEPTED, &last), 0);
    assert_true(client->connection.output.size > 0);
    fake_hang_up(&server.fake);
    expect_event(client, USHER_DISCONNECTED);
    char key[25];
    struct buffer out = {0};
    accept_request(&server, client, key);
    say_101(&out, key);
    say_bytes(&server, &out);
    welcome_it(&server, client, &welcome, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    assert_int_equal(expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND), large);
    assert_int_equal(expect_frame(&server, client, USHER__V1__CLIENT_FRAME__BODY_SEND), last);
    free(payload);
    usher_client_destroy(client);
    server_fini(&server);
}

/* A frame too large to be held is passed over, in however many pieces it comes. */
static void a_large_message_in_pieces_is_passed_over(void **state)
{
    struct server server;
    struct buffer packed = {0};
    char text[5000];
    server_open(&server);
    struct usher_options options = server_options(&server);
    options.incoming_frame_bytes_max = 1000;
    struct usher_client *client = online(&server, &options, &EPOCH_7);
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    pack_message(&packed, 1, text);
    pack_message(&packed, 2, "small");
    for (size_t at = 0; at < packed.size; at += 100) {
        size_t size = packed.size - at < 100 ? packed.size - at : 100;
        say_frame(&server, (uint8_t)((at == 0 ? 2 : 0) | (at + size == packed.size ? 0x80 : 0)),
                  packed.data + at, size);
    }
    assert_int_equal(expect_event(client, USHER_ERROR).code, USHER_ERROR_TOO_LARGE);
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_payload(&event, "small");
    buffer_fini(&packed);
    usher_client_destroy(client);
    server_fini(&server);
}

/* --- the end ---------------------------------------------------------------------------------- */

/* Without usher's own Close the code tells; a code that is no reason of usher's is a lost
 * connection. */
static void the_code_stands_for_a_close_that_did_not_come(void **state)
{
    static const struct {
        const char *close;
        size_t size;
        int reason, error; /* of the CLOSE, 0: none; of the DISCONNECTED */
        bool will_retry;
        const char *text;
    } ROWS[] = {
        {"\x0f\xa1taken\x1b[1m", 11, USHER_CLOSE_REPLACED, -ECONNABORTED, false,
         "closed the connection of alice: REPLACED (taken?[1m)"},
        {"\x0f\xac", 2, USHER_CLOSE_OVERLOADED, -ECONNABORTED, true, "OVERLOADED; come back later"},
        {"\x0f\xa4", 2, USHER_CLOSE_AUTH_FAILED, -ECONNABORTED, false, "AUTH_FAILED"},
        {"\x03\xe9going", 7, 0, -ESHUTDOWN, true, "closed the WebSocket with 1001 going"},
        {"\x0f\xa0", 2, 0, -ESHUTDOWN, true, "closed the WebSocket with 4000:"},
        {"\x13\x88", 2, 0, -EPROTO, true, "is it an usher broker?"}, /* 5000 is no code */
        {"", 0, 0, -ESHUTDOWN, true, "see the broker's log"},
    };
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(*ROWS); i++) {
        struct server server;
        server_open(&server);
        struct usher_options options = server_options(&server);
        struct usher_client *client = online(&server, &options, &EPOCH_7);
        say_frame(&server, 0x88, ROWS[i].close, ROWS[i].size);
        if (ROWS[i].reason != 0)
            assert_int_equal(expect_event(client, USHER_CLOSE).code, ROWS[i].reason);
        struct usher_event event = expect_event(client, USHER_DISCONNECTED);
        assert_int_equal(event.error, ROWS[i].error);
        assert_int_equal(event.will_retry, ROWS[i].will_retry);
        assert_non_null(strstr(usher_client_error_text(client), ROWS[i].text));
        server_receive(&server);
        while (take_message(&server))
            ;
        assert_int_equal(server.closes, 1); /* it is answered */
        usher_client_destroy(client);
        server_fini(&server);
    }
}

/* Who stops says so. */
static void a_client_that_goes_says_so(void **state)
{
    struct server server;
    server_open(&server);
    struct usher_options options = server_options(&server);
    struct usher_client *client = online(&server, &options, &EPOCH_7);
    usher_client_stop(client);
    UNTIL(&server, NULL, server.closes == 1);
    assert_int_equal(server.close_code, 1000);
    usher_client_destroy(client);
    server_fini(&server);
}

/* Behind half of a message a Close would be taken for its rest. */
static void a_client_that_goes_amid_a_message_says_nothing(void **state)
{
    enum { LARGE = 6 * 1024 * 1024, HEADER = 14 };
    struct server server;
    server_open(&server);
    struct usher_options options = server_options(&server);
    const struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = LARGE + 100};
    struct usher_client *client = online(&server, &options, &welcome);
    char *payload = calloc(1, LARGE);
    uint64_t before = client->connection.wire_written;
    assert_int_equal(usher_post(client, "bob", payload, LARGE), 0);
    uint64_t sent = client->connection.wire_written - before;
    assert_in_range(sent, 1, LARGE - 1);
    server_receive(&server); /* there is room again */
    usher_client_destroy(client);
    UNTIL(&server, NULL, server.raw.size >= HEADER + sent);
    uint64_t end_ms = fake_now_ms() + 100; /* and nothing behind it */
    while (fake_now_ms() < end_ms)
        server_receive(&server);
    assert_int_equal(server.raw.size, HEADER + sent);
    free(payload);
    server_fini(&server);
}

/* What counts as sent is bytes of frames, up to the byte, and neither headers nor Pongs. */
static void what_left_is_told_by_the_byte(void **state)
{
    static const uint8_t PING[] = {0x89, 5, 1, 2, 3, 4, 5};
    static const uint8_t FRAMES[] = {2, 7, 7, 0, 1, 7}; /* 3, 1 and 2 bytes */
    static const struct websocket_batch BATCH = {.bytes_max = 4};
    /* The Pong, a message of 3 + 1 bytes, one of 2. */
    static const struct {
        size_t header, payload, frames;
    } PIECES[] = {{6, 5, 0}, {6, 4, 4}, {6, 2, 2}};
    struct websocket websocket;
    struct websocket_masks masks = {.left = 0};
    struct buffer output = {0};
    struct url url;
    uint8_t ping[sizeof(PING)];
    size_t payload;
    assert_null(url_read("ws://h", &url));
    assert_int_equal(websocket_begin(&websocket, &url, &masks, &output), 0);
    assert_int_equal(websocket_sent(&websocket, &output, output.size), 0); /* the request */
    output.size = 0;
    websocket.open = true;
    memcpy(ping, PING, sizeof(ping));
    assert_int_equal(websocket_take(&websocket, ping, sizeof(ping), &payload), 0);
    buffer_append(&output, FRAMES, sizeof(FRAMES));
    assert_int_equal(websocket_wrap(&websocket, &output, &BATCH), 0);
    assert_int_equal(output.size, websocket.framing + sizeof(FRAMES));
    for (size_t i = 0; i < 3; i++)
        for (size_t at = 0; at < PIECES[i].header + PIECES[i].payload; at++) {
            size_t counts = at >= PIECES[i].header && PIECES[i].frames > 0;
            assert_int_equal(websocket_sent(&websocket, &output, 1), counts);
            buffer_consume(&output, 1);
        }
    assert_int_equal(output.size, 0);
    assert_int_equal(websocket.framing, 0);
    buffer_fini(&output);
}

/* --- who does not become a WebSocket ---------------------------------------------------------- */

static const struct {
    const char *answer;
    int error;
    const char *text;
} NO_UPGRADES[] = {
    {"HTTP/1.1 403 Forbidden\r\n\r\n", -EACCES, "with 403: a proxy forbids it, or ws.origins"},
    {"HTTP/1.1 404 Not Found\r\n\r\n", -EPROTO,
     "refuses the WebSocket /usher with 404: check the path"},
    {"HTTP/1.1 426 Upgrade Required\r\n\r\nlisten.ws", -EPROTO, "with 426: check the port"},
    {"HTTP/1.1 401 x\r\n\r\n", -EPROTO, "a proxy wants to know"},
    {"HTTP/1.1 502 x\r\n\r\n", -EPROTO, "a proxy finds no broker"},
    {"HTTP/1.1 301 x\r\nLocation: ws://x\r\n\r\n", -EPROTO, "it leads elsewhere"},
    {"HTTP/1.1 200 OK\r\n\r\n", -EPROTO, "with 200: is it an usher broker?"},
    {CUSTOMS "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n"
             "Sec-WebSocket-Protocol: usher.v1\r\n\r\n",
     -EPROTO, "sent the wrong Sec-WebSocket-Accept"},
    {CUSTOMS "\r\n", -EPROTO, "sent the wrong Sec-WebSocket-Accept"},
    {"\x04\x42\x02\x08\x03", -EPROTO, "sent what is no HTTP"},
    {"", -ESHUTDOWN, "closed the connection in place of a WebSocket"},
};

/* Each is told in words, and not a byte of the Login leaves. */
static void who_is_no_websocket_is_told(void **state)
{
    for (size_t i = 0; i < sizeof(NO_UPGRADES) / sizeof(*NO_UPGRADES); i++) {
        struct server server;
        struct usher_client *client;
        char key[25];
        server_open(&server);
        struct usher_options options = server_options(&server);
        options.token = "secret";
        options.token_size = 6;
        assert_int_equal(usher_client_create(&options, &client), 0);
        assert_int_equal(usher_client_start(client), 0);
        accept_request(&server, client, key);
        fake_bytes(&server.fake, NO_UPGRADES[i].answer, strlen(NO_UPGRADES[i].answer));
        shutdown(server.fake.peer, SHUT_WR);
        struct usher_event event = expect_event(client, USHER_DISCONNECTED);
        assert_int_equal(event.error, NO_UPGRADES[i].error);
        assert_true(event.will_retry);
        if (strstr(usher_client_error_text(client), NO_UPGRADES[i].text) == NULL)
            fail_msg("\"%s\" instead of \"%s\"", usher_client_error_text(client),
                     NO_UPGRADES[i].text);
        server_receive(&server);
        assert_int_equal(server.raw.size, 0);
        usher_client_destroy(client);
        server_fini(&server);
    }
}

/* A 503 is a Close with OVERLOADED, and he comes back when he is told. */
static void a_full_broker_is_overloaded(void **state)
{
    static const char FULL[] = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\n";
    struct server server;
    struct usher_client *client;
    char key[25];
    server_open(&server);
    struct usher_options options = server_options(&server);
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    accept_request(&server, client, key);
    fake_bytes(&server.fake, FULL, strlen(FULL));
    struct usher_event event = expect_event(client, USHER_CLOSE);
    assert_int_equal(event.code, USHER_CLOSE_OVERLOADED);
    assert_int_equal(event.retry_after_ms, 2000);
    event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.error, -ECONNABORTED);
    assert_true(event.will_retry);
    assert_in_range(event.retry_after_ms, 2000, 2020);
    assert_int_equal(usher_client_state(client), USHER_STATE_WAITING);
    usher_client_destroy(client);
    server_fini(&server);
}

/* A request without an answer, and a head that drips, have as long as any greeting. */
static void a_silent_server_is_left(void **state)
{
    for (int drips = 0; drips < 2; drips++) {
        struct server server;
        struct usher_client *client;
        char key[25];
        server_open(&server);
        struct usher_options options = server_options(&server);
        options.connect_timeout_ms = 150;
        options.reconnect = false;
        assert_int_equal(usher_client_create(&options, &client), 0);
        assert_int_equal(usher_client_start(client), 0);
        accept_request(&server, client, key);
        fake_bytes(&server.fake, CUSTOMS "X: ", strlen(CUSTOMS) + 3);
        uint64_t began_ms = fake_now_ms();
        while (usher_client_state(client) != USHER_STATE_ENDED) {
            assert_in_range(fake_now_ms() - began_ms, 0, 1000);
            if (drips)
                (void)send(server.fake.peer, "x", 1, MSG_NOSIGNAL);
            fake_tick(client);
        }
        assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -ETIMEDOUT);
        usher_client_destroy(client);
        server_fini(&server);
    }
}

/* A server that means no good: the connection ends, with the code that RFC 6455 has for it. */
static void bad_frames_end_the_connection(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        int error;
        unsigned code;
    } ROWS[] = {
        {"\x82\x82\0\0\0\0\x01\xaa", 8, -EPROTO, 1002},
        {"\xc2\x00", 2, -EPROTO, 1002},
        {"\x81\x02hi", 4, -ENOTSUP, 1003},
        {"\x83\x00", 2, -EPROTO, 1002},
        {"\x80\x00", 2, -EPROTO, 1002},
        {"\x09\x00", 2, -EPROTO, 1002},
        {"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 10, -EPROTO, 1002},
        {"\x82\x02\x05\x12", 4, -EPROTO, 1002},
        {"\x88\x01\x03", 3, -EPROTO, 1002},
        {"\x88\x03\x0f\xa1\xff", 5, -EILSEQ, 1007},
    };
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(*ROWS); i++) {
        struct server server;
        struct buffer packed = {0};
        server_open(&server);
        struct usher_options options = server_options(&server);
        struct usher_client *client = online(&server, &options, &EPOCH_7);
        pack_message(&packed, 1, "before it");
        struct buffer all = {0};
        put_frame(&all, 0x82, packed.data, packed.size);
        buffer_append(&all, ROWS[i].bytes, ROWS[i].size);
        say_bytes(&server, &all);
        struct usher_event event = expect_event(client, USHER_MESSAGE); /* what was good counts */
        assert_payload(&event, "before it");
        assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, ROWS[i].error);
        assert_non_null(strstr(usher_client_error_text(client), "is it an usher broker?"));
        UNTIL(&server, NULL, server.closes == 1);
        assert_int_equal(server.close_code, ROWS[i].code);
        buffer_fini(&packed);
        usher_client_destroy(client);
        server_fini(&server);
    }
}

/* Pings, empty pieces and empty messages without end: they cost what they cost to be read, keep
 * nothing, and the program gets its turn. */
static void floods_keep_nothing(void **state)
{
    static const char *const FLOODS[] = {"\x89\x01x", "\x82\x00\x8a", "\x00\x00\x00"};
    static const size_t SIZES[] = {3, 2, 2};
    for (size_t i = 0; i < 3; i++) {
        struct server server;
        server_open(&server);
        struct usher_options options = server_options(&server);
        struct usher_client *client = online(&server, &options, &EPOCH_7);
        struct buffer flood = {0};
        if (i == 2)
            say_frame(&server, 0x02, NULL, 0);
        for (int k = 0; k < 10000; k++)
            buffer_append(&flood, FLOODS[i], SIZES[i]);
        fake_pour(&server.fake, client, flood.data, flood.size);
        for (int k = 0; k < 20; k++)
            fake_tick(client);
        assert_int_equal(usher_client_state(client), USHER_STATE_ONLINE);
        assert_int_equal(client->connection.input.size, 0);
        assert_in_range(client->connection.output.capacity, 0, 4096);
        buffer_fini(&flood);
        usher_client_destroy(client);
        server_fini(&server);
    }
}

/* --- options ---------------------------------------------------------------------------------- */

static void urls_stand_in_place_of_the_rest(void **state)
{
    struct server server;
    struct usher_client *client;
    char url[64];
    server_open(&server);
    struct usher_options options = server_options(&server);
    snprintf(url, sizeof(url), "tcp://127.0.0.1:%u/", (unsigned)server.fake.port);
    options.url = url;
    options.host = "nobody.invalid";
    options.port = 1;
    client = go_online(&server.fake, &options, &EPOCH_7);
    usher_client_destroy(client);
    options.tls = true; /* who asks for TLS does not go without */
    assert_int_equal(usher_client_create(&options, &client), -EINVAL);
    options.url = server.url;
    assert_int_equal(usher_client_create(&options, &client), -EINVAL);
    options.url = "wss://127.0.0.1";
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(client->options.port, 443);
    assert_true(client->options.tls && client->url.websocket);
    usher_client_destroy(client);
    options.tls = false;
    options.url = "http://127.0.0.1";
    assert_int_equal(usher_client_create(&options, &client), -EINVAL);
    options.url = "";
    assert_int_equal(usher_client_create(&options, &client), -EINVAL);
    server_fini(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_life_byte_by_byte),
        cmocka_unit_test(what_one_flush_has_is_one_message),
        cmocka_unit_test(a_message_holds_what_the_broker_takes),
        cmocka_unit_test(messages_are_never_long_for_nothing),
        cmocka_unit_test(every_frame_has_a_mask_of_its_own),
        cmocka_unit_test(pings_are_answered_between_messages),
        cmocka_unit_test(a_frame_that_left_whole_is_not_sent_again),
        cmocka_unit_test(a_large_message_in_pieces_is_passed_over),
        cmocka_unit_test(the_code_stands_for_a_close_that_did_not_come),
        cmocka_unit_test(a_client_that_goes_says_so),
        cmocka_unit_test(a_client_that_goes_amid_a_message_says_nothing),
        cmocka_unit_test(what_left_is_told_by_the_byte),
        cmocka_unit_test(who_is_no_websocket_is_told),
        cmocka_unit_test(a_full_broker_is_overloaded),
        cmocka_unit_test(a_silent_server_is_left),
        cmocka_unit_test(bad_frames_end_the_connection),
        cmocka_unit_test(floods_keep_nothing),
        cmocka_unit_test(urls_stand_in_place_of_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
