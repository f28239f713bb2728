/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_UNIT_LIBUSHER_FAKE_BROKER_H
#define USHER_TESTS_UNIT_LIBUSHER_FAKE_BROKER_H

/* A broker that says exactly what a test tells it, on a real loopback socket. Every expectation
 * drives the client while it waits, so that most tests need no thread. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "client.pb-c.h"
#include "proto/bytes.h"
#include "proto/frame.h"
#include "proto/varint.h"
#include "usher.h"

enum {
    FAKE_PATIENCE_MS = 3000,
    FAKE_FRAME_BYTES_MAX = 8 * 1024 * 1024,
};

struct fake {
    int listener;
    int peer;
    uint16_t port;
    struct buffer input;
    Usher__V1__ClientFrame *frame; /* the last one taken */
};

static inline uint64_t fake_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* An address of this machine, in host order: 1 is 127.0.0.1, where the broker is. The others are in
 * a network of this process: at a port that was drawn for the broker nobody else is there. */
static inline uint32_t fake_host(uint8_t host)
{
    uint32_t net = (uint32_t)getpid() & 0x3fff;
    return host == 1 ? INADDR_LOOPBACK : 0x7f400000u + (net << 8) + host;
}

static inline void fake_open(struct fake *fake)
{
    *fake = (struct fake){.peer = -1};
    fake->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fake->listener >= 0);
    int on = 1; /* a test may listen at the same port again */
    setsockopt(fake->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(fake->listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fake->listener, 8), 0);
    socklen_t size = sizeof(address);
    assert_int_equal(getsockname(fake->listener, (struct sockaddr *)&address, &size), 0);
    fake->port = ntohs(address.sin_port);
}

static inline void fake_hang_up(struct fake *fake)
{
    if (fake->peer >= 0)
        close(fake->peer);
    fake->peer = -1;
    fake->input.size = 0;
}

static inline void fake_fini(struct fake *fake)
{
    fake_hang_up(fake);
    close(fake->listener);
    buffer_fini(&fake->input);
    if (fake->frame != NULL)
        usher__v1__client_frame__free_unpacked(fake->frame, NULL);
}

/* A little time passes, in which the client does what it can. */
static inline void fake_tick(struct usher_client *client)
{
    if (client != NULL)
        (void)usher_client_process(client);
    poll(NULL, 0, 1);
}

static inline void fake_accept(struct fake *fake, struct usher_client *client)
{
    fake_hang_up(fake);
    uint64_t deadline_ms = fake_now_ms() + FAKE_PATIENCE_MS;
    struct pollfd watched = {.fd = fake->listener, .events = POLLIN};
    while (poll(&watched, 1, 0) == 0) {
        assert_true(fake_now_ms() < deadline_ms);
        fake_tick(client);
    }
    fake->peer = accept(fake->listener, NULL, NULL);
    assert_true(fake->peer >= 0);
}

/* True if nobody connects for a while. */
static inline bool fake_is_alone(struct fake *fake, struct usher_client *client, int for_ms)
{
    uint64_t deadline_ms = fake_now_ms() + (uint64_t)for_ms;
    struct pollfd watched = {.fd = fake->listener, .events = POLLIN};
    while (fake_now_ms() < deadline_ms) {
        if (poll(&watched, 1, 0) != 0)
            return false;
        fake_tick(client);
    }
    return true;
}

/* Takes the next frame if it is there or comes within for_ms; else gives NULL. */
static inline const Usher__V1__ClientFrame *fake_take(struct fake *fake,
                                                      struct usher_client *client, int for_ms)
{
    uint64_t deadline_ms = fake_now_ms() + (uint64_t)for_ms;
    for (;;) {
        struct bytes input = {fake->input.data, fake->input.size};
        struct bytes frame;
        size_t used;
        if (input.size > 0 && frame_next(input, FAKE_FRAME_BYTES_MAX, &frame, &used) == 1) {
            if (fake->frame != NULL)
                usher__v1__client_frame__free_unpacked(fake->frame, NULL);
            fake->frame = usher__v1__client_frame__unpack(NULL, frame.size, frame.data);
            assert_non_null(fake->frame);
            buffer_consume(&fake->input, used);
            return fake->frame;
        }
        if (fake_now_ms() >= deadline_ms)
            return NULL;
        fake_tick(client);
        uint8_t *place = buffer_reserve(&fake->input, 65536);
        ssize_t count = recv(fake->peer, place, 65536, MSG_DONTWAIT);
        if (count > 0)
            fake->input.size += (size_t)count;
    }
}

static inline const Usher__V1__ClientFrame *
fake_expect(struct fake *fake, struct usher_client *client, Usher__V1__ClientFrame__BodyCase body)
{
    const Usher__V1__ClientFrame *frame = fake_take(fake, client, FAKE_PATIENCE_MS);
    assert_non_null(frame);
    assert_int_equal(frame->body_case, body);
    return frame;
}

static inline void fake_bytes(struct fake *fake, const void *data, size_t size)
{
    assert_int_equal(send(fake->peer, data, size, MSG_NOSIGNAL), size);
}

/* As many as do not fit a socket: the client reads meanwhile. */
static inline void fake_pour(struct fake *fake, struct usher_client *client, const uint8_t *data,
                             size_t size)
{
    uint64_t deadline_ms = fake_now_ms() + FAKE_PATIENCE_MS;
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(fake->peer, data + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0)
            sent += (size_t)count;
        else if (count < 0 && errno != EAGAIN)
            return; /* the client has had enough, as its events say */
        assert_true(fake_now_ms() < deadline_ms);
        (void)usher_client_process(client);
    }
}

/* Appends the frame with its length. */
static inline void fake_pack(struct buffer *out, const Usher__V1__BrokerFrame *frame)
{
    size_t size = usher__v1__broker_frame__get_packed_size(frame);
    uint8_t *place = buffer_reserve(out, varint_size(size) + size);
    assert_non_null(place);
    varint_write(place, size);
    usher__v1__broker_frame__pack(frame, place + varint_size(size));
    out->size += varint_size(size) + size;
}

static inline void fake_say(struct fake *fake, const Usher__V1__BrokerFrame *frame)
{
    struct buffer out = {0};
    fake_pack(&out, frame);
    fake_bytes(fake, out.data, out.size);
    buffer_fini(&out);
}

static inline Usher__V1__BrokerFrame fake_frame(uint64_t id, Usher__V1__BrokerFrame__BodyCase body)
{
    Usher__V1__BrokerFrame frame = USHER__V1__BROKER_FRAME__INIT;
    frame.id = id;
    frame.body_case = body;
    return frame;
}

struct fake_welcome {
    uint64_t id;
    uint64_t epoch;
    int replay;
    uint64_t next_seq;
    uint32_t heartbeat_ms;
    uint32_t frame_bytes_max;
};

static inline void fake_say_welcome(struct fake *fake, const struct fake_welcome *what)
{
    static uint8_t secret[] = {'s', 'e', 'c', 0, 'r', 'e', 't'};
    Usher__V1__Welcome welcome = USHER__V1__WELCOME__INIT;
    welcome.epoch = what->epoch;
    welcome.secret.data = secret;
    welcome.secret.len = sizeof(secret);
    welcome.replay = (Usher__V1__Welcome__Replay)what->replay;
    welcome.next_seq = what->next_seq != 0 ? what->next_seq : 1;
    welcome.heartbeat_ms = what->heartbeat_ms;
    welcome.frame_bytes_max = what->frame_bytes_max;
    Usher__V1__BrokerFrame frame = fake_frame(what->id, USHER__V1__BROKER_FRAME__BODY_WELCOME);
    frame.welcome = &welcome;
    fake_say(fake, &frame);
}

static inline void fake_say_message(struct fake *fake, uint64_t seq, const char *from,
                                    const char *text)
{
    Usher__V1__Message message = USHER__V1__MESSAGE__INIT;
    message.seq = seq;
    message.from = (char *)(uintptr_t)from;
    message.payload.data = (uint8_t *)(uintptr_t)text;
    message.payload.len = strlen(text);
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_MESSAGE);
    frame.message = &message;
    fake_say(fake, &frame);
}

static inline void fake_say_how(struct fake *fake, uint64_t id, uint64_t epoch, bool dropped)
{
    Usher__V1__Done done = USHER__V1__DONE__INIT;
    done.epoch = epoch;
    done.dropped = dropped;
    Usher__V1__BrokerFrame frame = fake_frame(id, USHER__V1__BROKER_FRAME__BODY_DONE);
    frame.done = &done;
    fake_say(fake, &frame);
}

static inline void fake_say_done(struct fake *fake, uint64_t id, uint64_t epoch)
{
    fake_say_how(fake, id, epoch, false);
}

static inline void fake_say_reply(struct fake *fake, uint64_t id, uint32_t status, const char *text)
{
    Usher__V1__Reply reply = USHER__V1__REPLY__INIT;
    reply.status = status;
    reply.payload.data = (uint8_t *)(uintptr_t)text;
    reply.payload.len = strlen(text);
    Usher__V1__BrokerFrame frame = fake_frame(id, USHER__V1__BROKER_FRAME__BODY_REPLY);
    frame.reply = &reply;
    fake_say(fake, &frame);
}

static inline void fake_say_error(struct fake *fake, uint64_t id, int code, uint32_t retry_after_ms)
{
    Usher__V1__Error error = USHER__V1__ERROR__INIT;
    error.code = (Usher__V1__Error__Code)code;
    error.detail = (char *)(uintptr_t) "because\x1b[31m";
    error.retry_after_ms = retry_after_ms;
    Usher__V1__BrokerFrame frame = fake_frame(id, USHER__V1__BROKER_FRAME__BODY_ERROR);
    frame.error = &error;
    fake_say(fake, &frame);
}

static inline void fake_say_close(struct fake *fake, int reason, uint32_t retry_after_ms,
                                  bool do_not_return)
{
    Usher__V1__Close body = USHER__V1__CLOSE__INIT;
    body.reason = (Usher__V1__Close__Reason)reason;
    body.retry_after_ms = retry_after_ms;
    body.do_not_return = do_not_return;
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    frame.close = &body;
    fake_say(fake, &frame);
}

static inline void fake_say_pong(struct fake *fake, uint64_t id)
{
    Usher__V1__Pong pong = USHER__V1__PONG__INIT;
    Usher__V1__BrokerFrame frame = fake_frame(id, USHER__V1__BROKER_FRAME__BODY_PONG);
    frame.pong = &pong;
    fake_say(fake, &frame);
}

/* --- the client's side ------------------------------------------------------------------- */

static inline struct usher_options fake_options(const struct fake *fake)
{
    struct usher_options options;
    usher_options_init(&options);
    options.port = fake->port;
    options.username = "alice";
    options.backoff_min_ms = 1;
    options.backoff_max_ms = 20;
    return options;
}

static inline struct usher_event expect_event(struct usher_client *client,
                                              enum usher_event_type type)
{
    struct usher_event event;
    assert_int_equal(usher_client_wait(client, FAKE_PATIENCE_MS, &event), 1);
    assert_string_equal(usher_event_name(event.type), usher_event_name(type));
    return event;
}

static inline void expect_no_event(struct usher_client *client)
{
    struct usher_event event;
    assert_int_equal(usher_client_wait(client, 30, &event), 0);
}

static inline void assert_payload(const struct usher_event *event, const char *text)
{
    assert_int_equal(event->payload_size, strlen(text));
    assert_memory_equal(event->payload, text, strlen(text));
}

/* A client that is online in the given epoch. */
static inline struct usher_client *go_online(struct fake *fake, const struct usher_options *options,
                                             const struct fake_welcome *what)
{
    struct usher_client *client;
    assert_int_equal(usher_client_create(options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(fake, client);
    struct fake_welcome welcome = *what;
    welcome.id = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN)->id;
    fake_say_welcome(fake, &welcome);
    assert_int_equal(expect_event(client, USHER_WELCOME).epoch, what->epoch);
    return client;
}

#endif
