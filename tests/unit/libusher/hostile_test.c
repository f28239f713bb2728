/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>

#include "libusher/session.h"
#include "unit/libusher/fake_broker.h"

/* A broker, or somebody in its place, that means no good: what it can make a client do, and for how
 * long. Lengths and frames are in limits_test.c. */

static const struct fake_welcome EPOCH_7 = {.epoch = 7};

static void retry_after_of_years_is_an_hour(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_close(&fake, USHER_CLOSE_SHUTDOWN, UINT32_MAX, false);
    expect_event(client, USHER_CLOSE);
    assert_int_equal(expect_event(client, USHER_DISCONNECTED).retry_after_ms, 3600 * 1000);
    assert_in_range(usher_client_timeout_ms(client), 3590 * 1000, 3600 * 1000);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* Welcome and Close, again and again: the pauses grow, and no two clients have the same ones. */
static void a_broker_that_drops_whom_it_welcomes_is_not_hammered(void **state)
{
    enum { ROUNDS = 8 };
    uint64_t pauses[2][ROUNDS];
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.backoff_min_ms = 2;
    options.backoff_max_ms = 100;
    for (int run = 0; run < 2; run++) {
        struct usher_client *client;
        assert_int_equal(usher_client_create(&options, &client), 0);
        assert_int_equal(usher_client_start(client), 0);
        for (uint64_t round = 0; round < ROUNDS; round++) {
            fake_accept(&fake, client);
            const Usher__V1__ClientFrame *frame = fake_take(&fake, client, FAKE_PATIENCE_MS);
            assert_non_null(frame);
            struct fake_welcome welcome = {.id = frame->id, .epoch = 7 + round};
            fake_say_welcome(&fake, &welcome);
            fake_say_close(&fake, USHER_CLOSE_INTERNAL, 0, false);
            expect_event(client, USHER_WELCOME);
            expect_event(client, USHER_CLOSE);
            pauses[run][round] = expect_event(client, USHER_DISCONNECTED).retry_after_ms;
            assert_in_range(pauses[run][round], 0, 2u << round < 100 ? 2u << round : 100);
        }
        assert_int_equal(client->attempts, ROUNDS);
        usher_client_destroy(client);
    }
    assert_memory_not_equal(pauses[0], pauses[1], sizeof(pauses[0]));
    fake_fini(&fake);
}

/* A session that is not resumed becomes a Login, once; a refusal of that one is the end. */
static void refusals_do_not_go_round(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    uint64_t id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME)->id;
    fake_say_error(&fake, id, USHER_ERROR_RESUME_REJECTED, 0);
    id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN)->id;
    fake_say_error(&fake, id, USHER_ERROR_RESUME_REJECTED, 0);
    assert_null(fake_take(&fake, client, 50));
    assert_true(fake_is_alone(&fake, client, 50));
    assert_int_equal(usher_client_state(client), USHER_STATE_ENDED);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* Numbers that go back or stand still are nobody's: a message is given once. */
static void numbers_do_not_go_back(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_message(&fake, 5, "bob", "five");
    fake_say_message(&fake, 5, "bob", "again");
    fake_say_message(&fake, 1, "bob", "back");
    fake_say_message(&fake, 0, "bob", "none"); /* has no number, and is none of these */
    fake_say_message(&fake, UINT64_MAX, "bob", "the last that there can be");
    fake_say_message(&fake, 6, "bob", "behind it");
    assert_int_equal(expect_event(client, USHER_MESSAGE).missed, 4);
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_true(event.transient && event.seq == 0 && event.missed == 0);
    event = expect_event(client, USHER_MESSAGE);
    assert_true(event.seq == UINT64_MAX);
    assert_true(event.missed == UINT64_MAX - 6);
    expect_no_event(client);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* Who keeps a client busy does not keep it waiting: the time for a Welcome is the time for it. */
static void what_comes_before_a_welcome_does_not_put_it_off(void **state)
{
    static const char *const dripped[] = {"\x02\x3a\x00",  /* Pongs, whole */
                                          "\x7f\x12\x7d"}; /* the beginning of a Welcome */
    for (size_t i = 0; i < 2; i++) {
        struct fake fake;
        fake_open(&fake);
        struct usher_options options = fake_options(&fake);
        options.connect_timeout_ms = 150;
        options.reconnect = false;
        struct usher_client *client;
        assert_int_equal(usher_client_create(&options, &client), 0);
        assert_int_equal(usher_client_start(client), 0);
        fake_accept(&fake, client);
        uint64_t began_ms = fake_now_ms();
        uint8_t byte = 0;
        for (int n = 0; usher_client_state(client) != USHER_STATE_ENDED; n++) {
            assert_in_range(fake_now_ms() - began_ms, 0, 1000);
            if (i == 0 || n < 1)
                (void)send(fake.peer, dripped[i], 3, MSG_NOSIGNAL);
            else if (n % 8 == 0)
                (void)send(fake.peer, &byte, 1, MSG_NOSIGNAL);
            fake_tick(client);
        }
        assert_int_equal(expect_event(client, USHER_DISCONNECTED).error, -ETIMEDOUT);
        usher_client_destroy(client);
        fake_fini(&fake);
    }
}

/* Errors and Pongs to nobody, as many as the wire brings, of a program that takes nothing. */
static void a_flood_waits_in_the_broker(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.events_max = 16;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    static const uint8_t error[] = {0x04, 0x32, 0x02, 0x08, 0x07}; /* BUSY, to nobody */
    size_t sent = 0;
    uint64_t end_ms = fake_now_ms() + 300;
    while (fake_now_ms() < end_ms) {
        if (send(fake.peer, error, sizeof(error), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
            sent++;
        (void)usher_client_process(client);
    }
    assert_in_range(client->events.count, 16, 17);
    assert_in_range(client->connection.input.capacity, 0, 256 * 1024);
    assert_true(sent > 1000);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What one large frame needed is given back when it is gone. */
static void room_for_a_large_frame_is_given_back(void **state)
{
    enum { LARGE = 2 * 1024 * 1024 };
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = LARGE};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    char *text = malloc(LARGE);
    assert_non_null(text);
    memset(text, 'x', LARGE);
    text[LARGE - 100] = '\0';
    Usher__V1__Message message = USHER__V1__MESSAGE__INIT;
    message.seq = 1;
    message.payload = (ProtobufCBinaryData){LARGE - 100, (uint8_t *)text};
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_MESSAGE);
    frame.message = &message;
    struct buffer out = {0};
    fake_pack(&out, &frame);
    fake_pour(&fake, client, out.data, out.size);
    assert_int_equal(expect_event(client, USHER_MESSAGE).payload_size, LARGE - 100);
    expect_no_event(client);
    assert_in_range(client->connection.input.capacity, 0, 256 * 1024);
    buffer_fini(&out);
    free(text);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* The text for a person is one line that steers no terminal, whatever the broker's words are. */
static void words_of_a_broker_steer_nobody(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    Usher__V1__Close body = USHER__V1__CLOSE__INIT;
    body.reason = USHER__V1__CLOSE__REASON__KICKED;
    body.detail = (char *)(uintptr_t) "a\nb\x1b[1mc\xc2\x9b"
                                      "1md\xe2\x80\xae"
                                      "e\xe2\x80\xa8"
                                      "f\x7fg";
    body.do_not_return = true;
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_CLOSE);
    frame.close = &body;
    fake_say(&fake, &frame);
    expect_event(client, USHER_CLOSE);
    assert_non_null(strstr(usher_client_error_text(client), "(a?b?[1mc?1md?e?f?g)"));
    usher_client_destroy(client);
    fake_fini(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retry_after_of_years_is_an_hour),
        cmocka_unit_test(a_broker_that_drops_whom_it_welcomes_is_not_hammered),
        cmocka_unit_test(refusals_do_not_go_round),
        cmocka_unit_test(numbers_do_not_go_back),
        cmocka_unit_test(what_comes_before_a_welcome_does_not_put_it_off),
        cmocka_unit_test(a_flood_waits_in_the_broker),
        cmocka_unit_test(room_for_a_large_frame_is_given_back),
        cmocka_unit_test(words_of_a_broker_steer_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
