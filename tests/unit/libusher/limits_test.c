/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "libusher/session.h"
#include "unit/libusher/fake_broker.h"

/* Broken and hostile bytes, and every limit of the options at n and n + 1. */

static const struct fake_welcome EPOCH_7 = {.epoch = 7};

static void frames_may_come_byte_by_byte(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    char text[300];
    memset(text, 'x', sizeof(text));
    Usher__V1__Message message = USHER__V1__MESSAGE__INIT;
    message.seq = 1;
    message.payload.data = (uint8_t *)text;
    message.payload.len = sizeof(text); /* its length takes two bytes */
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_MESSAGE);
    frame.message = &message;
    struct buffer out = {0};
    fake_pack(&out, &frame);
    struct usher_event event;
    for (size_t i = 0; i < out.size; i++) {
        assert_int_equal(usher_client_next(client, &event), 0);
        fake_bytes(&fake, out.data + i, 1);
        fake_tick(client);
    }
    event = expect_event(client, USHER_MESSAGE);
    assert_int_equal(event.payload_size, sizeof(text));
    assert_memory_equal(event.payload, text, sizeof(text));
    buffer_fini(&out);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void many_frames_may_come_at_once(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    for (uint64_t seq = 1; seq <= 500; seq++)
        fake_say_message(&fake, seq, "bob", "m");
    for (uint64_t seq = 1; seq <= 500; seq++)
        assert_int_equal(expect_event(client, USHER_MESSAGE).seq, seq);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What the client says of bytes that it may not take. */
static void loses_after(const void *data, size_t size, int error)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_bytes(&fake, data, size);
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.error, error);
    assert_true(event.will_retry);
    fake_accept(&fake, client);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void garbage_ends_the_connection(void **state)
{
    loses_after("\xff\xff\xff\xff\xff\xff\xff", 7, -EPROTO); /* a length without an end */
    loses_after("\x02\xff\xff", 3, -EPROTO);                 /* not protobuf */
    loses_after("\x04\x12\x00\x12\x00", 5, -EPROTO);         /* a second Welcome */
    static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
                               "Server: something else altogether\r\n\r\n";
    static_assert(sizeof(http) > 1 + 'H', "the first byte announces that many");
    loses_after(http, sizeof(http) - 1, -EPROTO);
}

static void unknown_bodies_are_passed_over(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_bytes(&fake, "\x00", 1);                 /* no body */
    fake_bytes(&fake, "\x03\x9a\x06\x00", 4);     /* body 99 */
    fake_bytes(&fake, "\x04\x18\x01\x18\x02", 1); /* a frame cut by the next line */
    fake_bytes(&fake, "\x9a\x06\x01x", 4);
    expect_no_event(client);
    fake_say_message(&fake, 1, "bob", "still here");
    expect_event(client, USHER_MESSAGE);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_message_before_welcome_ends_the_connection(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    fake_say_message(&fake, 1, "bob", "early");
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -EPROTO);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* Packs a frame of exactly this size around a payload of x: a message of that seq, or if that is 0
 * the reply to `id`. */
static void pack_frame_of(struct buffer *out, uint64_t seq, uint64_t id, size_t frame_bytes)
{
    uint8_t *text = calloc(1, frame_bytes + 1);
    assert_non_null(text);
    memset(text, 'x', frame_bytes);
    Usher__V1__Message message = USHER__V1__MESSAGE__INIT;
    Usher__V1__Reply reply = USHER__V1__REPLY__INIT;
    ProtobufCBinaryData *payload = seq != 0 ? &message.payload : &reply.payload;
    Usher__V1__BrokerFrame frame = fake_frame(id, seq != 0 ? USHER__V1__BROKER_FRAME__BODY_MESSAGE
                                                           : USHER__V1__BROKER_FRAME__BODY_REPLY);
    message.seq = seq;
    if (seq != 0)
        frame.message = &message;
    else
        frame.reply = &reply;
    *payload = (ProtobufCBinaryData){frame_bytes, text};
    while (usher__v1__broker_frame__get_packed_size(&frame) > frame_bytes)
        payload->len--;
    assert_int_equal(usher__v1__broker_frame__get_packed_size(&frame), frame_bytes);
    fake_pack(out, &frame);
    free(text);
}

static void say_frame_of(struct fake *fake, struct usher_client *client, uint64_t seq, uint64_t id,
                         size_t frame_bytes)
{
    struct buffer out = {0};
    pack_frame_of(&out, seq, id, frame_bytes);
    fake_pour(fake, client, out.data, out.size);
    buffer_fini(&out);
}

static void an_incoming_frame_is_as_large_as_the_welcome_says(void **state)
{
    enum { TOLD = 3 * 1024 * 1024 };
    for (size_t over = 0; over <= 1; over++) {
        struct fake fake;
        fake_open(&fake);
        struct usher_options options = fake_options(&fake);
        struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = TOLD};
        struct usher_client *client = go_online(&fake, &options, &welcome);
        say_frame_of(&fake, client, 1, 0, TOLD + over);
        if (over == 0)
            assert_in_range(expect_event(client, USHER_MESSAGE).payload_size, TOLD - 20, TOLD);
        else
            assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -EMSGSIZE);
        usher_client_destroy(client);
        fake_fini(&fake);
    }
}

/* Also before the next one: what an earlier connection was told is no matter. */
static void before_welcome_frames_are_small(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = 1024 * 1024};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    fake_hang_up(&fake);
    expect_event(client, USHER_DISCONNECTED);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    say_frame_of(&fake, client, 1, 0, 64 * 1024 + 1);
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -EMSGSIZE);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* A message that the client will not hold is acknowledged like one, so that it never comes again,
 * and what is behind it arrives. */
static void a_message_that_is_too_large_is_passed_over(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    options.incoming_frame_bytes_max = 4000;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    say_frame_of(&fake, client, 1, 0, 4000);
    say_frame_of(&fake, client, 2, 0, 4001);
    say_frame_of(&fake, client, 2, 0, 50000); /* again, as after a resume */
    fake_say_message(&fake, 3, "bob", "small");
    assert_int_equal(expect_event(client, USHER_MESSAGE).seq, 1);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.code, USHER_ERROR_TOO_LARGE);
    assert_int_equal(event.id, 0);
    assert_int_equal(event.seq, 2);
    assert_string_equal(event.detail,
                        "passed over: a frame of 4001 bytes, and incoming_frame_bytes_max is 4000");
    event = expect_event(client, USHER_MESSAGE);
    assert_payload(&event, "small");
    assert_int_equal(event.missed, 0);
    assert_int_equal(usher_client_state(client), USHER_STATE_ONLINE);
    uint64_t acked = 0;
    while (acked < 2)
        acked = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_ACK)->ack->seq;
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_reply_that_is_too_large_is_an_error(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.incoming_frame_bytes_max = 4000;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    assert_int_equal(usher_call(client, "echo", "say", "hi", 2, 500, &id), 0);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_CALL);
    say_frame_of(&fake, client, 0, id, 30000);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, id);
    assert_int_equal(event.code, USHER_ERROR_TOO_LARGE);
    assert_int_equal(event.seq, 0);
    fake_say_message(&fake, 1, "bob", "behind it");
    expect_event(client, USHER_MESSAGE);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* Whatever comes in however small pieces: what is passed over is never held. */
static void what_is_passed_over_takes_no_memory(void **state)
{
    enum { LARGE = 8 * 1024 * 1024 };
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.incoming_frame_bytes_max = 4000;
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = LARGE};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    say_frame_of(&fake, client, 1, 0, LARGE);
    assert_int_equal(expect_event(client, USHER_ERROR).seq, 1);
    fake_say_message(&fake, 2, "bob", "behind it");
    expect_event(client, USHER_MESSAGE);
    assert_in_range(client->connection.input.capacity, 0, 256 * 1024);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What is too large to be held and is no message within what the Welcome told ends the connection.
 */
static void only_messages_and_replies_are_passed_over(void **state)
{
    static const uint8_t heads[][9] = {
        {0x80, 0x90, 0x01, 0x1a, 0xfb, 0x8f, 0x01, 0x12, 5}, /* a message without a seq in front */
        {0x80, 0x90, 0x01, 0x12, 0xfb, 0x8f, 0x01, 0x08, 5}, /* a Welcome */
        {0x80, 0x90, 0x01, 0x4a, 0xfb, 0x8f, 0x01, 0x08, 5}, /* nothing that there is */
        {0x81, 0x80, 0x04, 0x1a, 0xfc, 0xff, 0x03, 0x08, 1}, /* 64 KiB and one byte */
    };
    for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
        uint8_t bytes[100] = {0};
        struct fake fake;
        fake_open(&fake);
        struct usher_options options = fake_options(&fake);
        options.incoming_frame_bytes_max = 4000;
        struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
        memcpy(bytes, heads[i], sizeof(heads[i]));
        fake_bytes(&fake, bytes, sizeof(bytes));
        assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -EMSGSIZE);
        usher_client_destroy(client);
        fake_fini(&fake);
    }
}

/* Two-byte fields that nobody knows, by the hundred thousand. */
static void a_frame_costs_no_more_than_its_bytes(void **state)
{
    enum { BODY = 1024 * 1024 };
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = 2 * BODY};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    uint8_t *bytes = malloc(BODY + 10);
    size_t prefix = varint_write(bytes, BODY);
    assert_non_null(bytes);
    for (size_t i = 0; i < BODY; i += 2)
        memcpy(bytes + prefix + i, "\x78\x01", 2); /* field 15, a varint */
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    fake_pour(&fake, client, bytes, prefix + BODY);
    fake_say_message(&fake, 1, "bob", "behind it");
    expect_event(client, USHER_MESSAGE);
    getrusage(RUSAGE_SELF, &after);
    assert_in_range(after.ru_maxrss, 0, before.ru_maxrss + 24 * BODY / 1024);
    free(bytes);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void an_outgoing_frame_has_the_brokers_limit(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = 100};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    char text[100] = {0};
    /* send {to "bob" 5, payload 2 + n}, its header 2: with n 91 exactly 100 without an id */
    assert_int_equal(usher_post(client, "bob", text, 92), -EMSGSIZE);
    assert_int_equal(usher_post(client, "bob", text, 91), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_int_equal(usher__v1__client_frame__get_packed_size(frame), 100);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void early_requests_that_are_too_large_fail_at_welcome(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    char text[200] = {0};
    uint64_t large;
    uint64_t small;
    assert_int_equal(usher_send(client, "bob", text, 200, USHER_DELIVERED, &large), 0);
    assert_int_equal(usher_send(client, "bob", text, 10, USHER_DELIVERED, &small), 0);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    assert_null(fake_take(&fake, client, 20)); /* nothing before Welcome */
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = 100};
    fake_say_welcome(&fake, &welcome);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, large);
    assert_int_equal(event.code, USHER_ERROR_TOO_LARGE);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND)->id, small);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void requests_in_flight_have_a_limit(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.in_flight_max = 3;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    for (int i = 0; i < 3; i++)
        assert_int_equal(usher_ping(client, &id), 0);
    assert_int_equal(usher_ping(client, NULL), -ENOBUFS);
    assert_int_equal(usher_post(client, "bob", "x", 1), 0); /* is not in flight */
    fake_say_pong(&fake, id);
    assert_int_equal(expect_event(client, USHER_PONG).id, id);
    assert_int_equal(usher_ping(client, NULL), 0);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void waiting_bytes_have_a_limit(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.outgoing_bytes_max = 150;
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    /* length 1, body header 2, to 5, payload 2 + 40: fifty bytes */
    char text[40] = {0};
    for (int i = 0; i < 3; i++)
        assert_int_equal(usher_post(client, "bob", text, sizeof(text)), 0);
    assert_int_equal(usher_post(client, "bob", "", 0), -ENOBUFS);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    fake_say_welcome(&fake, &EPOCH_7);
    expect_event(client, USHER_WELCOME);
    assert_int_equal(usher_post(client, "bob", text, sizeof(text)), 0);
    for (int i = 0; i < 4; i++)
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* It would be told to come again later, and later, and later. */
static void one_frame_always_fits(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.outgoing_bytes_max = 150;
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    char text[1000] = {0};
    assert_int_equal(usher_post(client, "bob", text, sizeof(text)), 0);
    assert_int_equal(usher_post(client, "bob", "", 0), -ENOBUFS);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    fake_say_welcome(&fake, &EPOCH_7);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void reading_pauses_when_events_are_not_taken(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.events_max = 4;
    struct fake_welcome welcome = {.epoch = 7, .heartbeat_ms = 60};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    for (uint64_t seq = 1; seq <= 10; seq++)
        fake_say_message(&fake, seq, "bob", "m");
    /* Longer than two heartbeats: the silence is the program's, the connection stays. */
    uint64_t until_ms = fake_now_ms() + 200;
    while (fake_now_ms() < until_ms)
        fake_tick(client);
    assert_int_equal(usher_client_state(client), USHER_STATE_ONLINE);
    struct usher_event event;
    /* What was read before the pause is given without another call for the socket. */
    for (uint64_t seq = 1; seq <= 10; seq++) {
        assert_int_equal(usher_client_next(client, &event), 1);
        assert_int_equal(event.seq, seq);
    }
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_request_without_an_answer_times_out(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.request_timeout_ms = 50;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    assert_int_equal(usher_send(client, "bob", "x", 1, USHER_ACCEPTED, &id), 0);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, id);
    assert_int_equal(event.code, USHER_ERROR_NO_ANSWER);
    fake_say_done(&fake, id, 1); /* too late */
    expect_no_event(client);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* A broker in a thread of its own, for the calls that block. */
static void *answer_in_thread(void *argument)
{
    struct fake *fake = argument;
    fake_accept(fake, NULL);
    uint64_t id = fake_expect(fake, NULL, USHER__V1__CLIENT_FRAME__BODY_LOGIN)->id;
    struct fake_welcome welcome = {.id = id, .epoch = 7};
    fake_say_welcome(fake, &welcome);
    id = fake_expect(fake, NULL, USHER__V1__CLIENT_FRAME__BODY_SEND)->id;
    fake_say_message(fake, 1, "bob", "meanwhile");
    fake_say_done(fake, id, 3);
    id = fake_expect(fake, NULL, USHER__V1__CLIENT_FRAME__BODY_CALL)->id;
    fake_say_reply(fake, id, 0, "hello");
    return NULL;
}

static void blocking_calls_leave_other_events_queued(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, answer_in_thread, &fake), 0);
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    struct usher_event event;
    assert_int_equal(usher_login(client, 3000, &event), 0);
    assert_int_equal(event.type, USHER_WELCOME);
    assert_int_equal(usher_send_wait(client, "bob", "x", 1, USHER_ACCEPTED, 3000, &event), 0);
    assert_int_equal(event.type, USHER_DONE);
    assert_int_equal(usher_call_wait(client, "echo", "say", "hello", 5, 3000, &event), 0);
    assert_payload(&event, "hello");
    event = expect_event(client, USHER_MESSAGE);
    assert_payload(&event, "meanwhile");
    assert_int_equal(usher_answer_wait(client, 4711, 1000, &event), -ENOENT);
    pthread_join(thread, NULL);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void wrong_options_are_refused(void **state)
{
    struct usher_options options;
    struct usher_client *client = NULL;
    usher_options_init(&options);
    assert_int_equal(usher_client_create(&options, &client), -EINVAL); /* no name */
    options.username = "alice";
    options.manual_acks = true; /* without acks */
    assert_int_equal(usher_client_create(&options, &client), -EINVAL);
    options.manual_acks = false;
    options.events_max = 0;
    assert_int_equal(usher_client_create(&options, &client), -EINVAL);
    assert_null(client);
    usher_client_destroy(NULL);
}

static void names_are_those_of_the_contract(void **state)
{
    for (int code = USHER_ERROR_PROTOCOL; code <= USHER_ERROR_NOT_MEMBER; code++)
        assert_string_equal(
            usher_error_name(code),
            protobuf_c_enum_descriptor_get_value(&usher__v1__error__code__descriptor, code)->name);
    for (int reason = USHER_CLOSE_REPLACED; reason <= USHER_CLOSE_TOKEN_EXPIRED; reason++)
        assert_string_equal(
            usher_close_name(reason),
            protobuf_c_enum_descriptor_get_value(&usher__v1__close__reason__descriptor, reason)
                ->name);
    assert_string_equal(usher_error_name(USHER_ERROR_NOT_MEMBER + 1), "UNKNOWN");
    assert_string_equal(usher_error_name(INT64_MIN), "UNKNOWN");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first, before others have raised the peak */
        cmocka_unit_test(a_frame_costs_no_more_than_its_bytes),
        cmocka_unit_test(frames_may_come_byte_by_byte),
        cmocka_unit_test(many_frames_may_come_at_once),
        cmocka_unit_test(garbage_ends_the_connection),
        cmocka_unit_test(unknown_bodies_are_passed_over),
        cmocka_unit_test(a_message_before_welcome_ends_the_connection),
        cmocka_unit_test(an_incoming_frame_is_as_large_as_the_welcome_says),
        cmocka_unit_test(before_welcome_frames_are_small),
        cmocka_unit_test(a_message_that_is_too_large_is_passed_over),
        cmocka_unit_test(a_reply_that_is_too_large_is_an_error),
        cmocka_unit_test(what_is_passed_over_takes_no_memory),
        cmocka_unit_test(only_messages_and_replies_are_passed_over),
        cmocka_unit_test(an_outgoing_frame_has_the_brokers_limit),
        cmocka_unit_test(early_requests_that_are_too_large_fail_at_welcome),
        cmocka_unit_test(requests_in_flight_have_a_limit),
        cmocka_unit_test(waiting_bytes_have_a_limit),
        cmocka_unit_test(one_frame_always_fits),
        cmocka_unit_test(reading_pauses_when_events_are_not_taken),
        cmocka_unit_test(a_request_without_an_answer_times_out),
        cmocka_unit_test(blocking_calls_leave_other_events_queued),
        cmocka_unit_test(wrong_options_are_refused),
        cmocka_unit_test(names_are_those_of_the_contract),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
