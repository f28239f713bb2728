/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/stored.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "unit/libusher/fake_broker.h"

/* Stored messages at the client: each is given once, whatever comes again; what is told to the
 * broker never runs ahead of the program, and never stays behind for ever. */

static const struct fake_welcome EPOCH_7 = {.epoch = 7};

static void say_stored(struct fake *fake, uint64_t seq, uint64_t mid)
{
    Usher__V1__Message message = USHER__V1__MESSAGE__INIT;
    message.seq = seq;
    message.mid = mid;
    message.service = (char *)(uintptr_t) "post";
    Usher__V1__BrokerFrame frame = fake_frame(0, USHER__V1__BROKER_FRAME__BODY_MESSAGE);
    frame.message = &message;
    fake_say(fake, &frame);
}

static void expect_mid(struct usher_client *client, uint64_t seq, uint64_t mid)
{
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_int_equal(event.seq, seq);
    assert_int_equal(event.mid, mid);
}

static void expect_ack(struct fake *fake, struct usher_client *client, uint64_t seq)
{
    assert_int_equal(fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_ACK)->ack->seq, seq);
}

/* All that was said is read, however long it takes from one socket to the other. */
static void let_read(struct fake *fake, struct usher_client *client)
{
    uint64_t deadline_ms = fake_now_ms() + FAKE_PATIENCE_MS;
    int unsent, unread;
    do {
        assert_true(fake_now_ms() < deadline_ms);
        fake_tick(client);
        assert_int_equal(ioctl(fake->peer, SIOCOUTQ, &unsent), 0);
        assert_int_equal(ioctl(usher_client_fd(client), FIONREAD, &unread), 0);
    } while (unsent > 0 || unread > 0);
}

/* The connection is lost, the session is not to be had any more: a login. Gives its last_mid. */
static uint64_t log_in_anew(struct fake *fake, struct usher_client *client, uint64_t epoch)
{
    fake_hang_up(fake);
    (void)expect_event(client, USHER_DISCONNECTED);
    fake_accept(fake, client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    fake_say_error(fake, frame->id, USHER_ERROR_RESUME_REJECTED, 0);
    frame = fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    uint64_t last_mid = frame->login->last_mid;
    fake_say_welcome(fake, &(struct fake_welcome){.id = frame->id, .epoch = epoch});
    (void)expect_event(client, USHER_WELCOME);
    return last_mid;
}

static void a_stored_send_says_so_and_gets_its_mid(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    assert_int_equal(usher_send_stored(client, "bob", "gift", 4, 0, 5, &id), -EINVAL);
    assert_int_equal(usher_send_stored(client, "bob", NULL, 4, 60, 5, &id), -EINVAL);
    assert_int_equal(usher_send_stored(client, "bob", "gift", 4, 3600, UINT64_MAX, &id), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_int_equal(frame->id, id);
    assert_int_equal(frame->send->keep_s, 3600);
    assert_true(frame->send->tag == UINT64_MAX);
    assert_false(frame->send->transient);
    Usher__V1__Done done = USHER__V1__DONE__INIT;
    done.mid = 1700000000123;
    Usher__V1__BrokerFrame answer = fake_frame(id, USHER__V1__BROKER_FRAME__BODY_DONE);
    answer.done = &done;
    fake_say(&fake, &answer);
    struct usher_event event = expect_event(client, USHER_DONE);
    assert_int_equal(event.id, id);
    assert_int_equal(event.mid, 1700000000123);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* It would be taken for a success that it is not. */
static void an_older_broker_does_not_store(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t stored, plain;
    assert_int_equal(usher_send_stored(client, "bob", "gift", 4, 3600, 0, &stored), 0);
    assert_int_equal(usher_send(client, "bob", "hi", 2, USHER_ACCEPTED, &plain), 0);
    fake_say_done(&fake, stored, 99);
    fake_say_done(&fake, plain, 99);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, stored);
    assert_int_equal(event.code, USHER_ERROR_NOT_STORED);
    assert_string_equal(usher_error_name(event.code), "NOT_STORED");
    assert_int_equal(event.epoch, 0);
    assert_int_equal(expect_event(client, USHER_DONE).id, plain);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_welcome_says_what_is_stored(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.last_mid = 41;
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_last_mid(client), 41);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&fake, client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    assert_int_equal(frame->login->last_mid, 41);
    Usher__V1__Welcome welcome = USHER__V1__WELCOME__INIT;
    welcome.epoch = 7;
    welcome.next_seq = 1;
    welcome.stored = USHER__V1__WELCOME__REPLAY__PARTIAL;
    welcome.stored_messages = 3;
    Usher__V1__BrokerFrame answer = fake_frame(frame->id, USHER__V1__BROKER_FRAME__BODY_WELCOME);
    answer.welcome = &welcome;
    fake_say(&fake, &answer);
    struct usher_event event = expect_event(client, USHER_WELCOME);
    assert_int_equal(event.stored, USHER_PARTIAL);
    assert_int_equal(event.stored_messages, 3);
    say_stored(&fake, 1, 41); /* of before */
    say_stored(&fake, 2, 42);
    expect_mid(client, 2, 42);
    assert_int_equal(usher_last_mid(client), 41); /* in hand is not processed */
    usher_client_leave(client);
    assert_int_equal(usher_last_mid(client), 42);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What was processed is not given again, and is acknowledged under its new number. */
static void it_is_given_once_over_all_sessions(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    say_stored(&fake, 1, 10);
    say_stored(&fake, 2, 20);
    expect_mid(client, 1, 10);
    expect_mid(client, 2, 20);
    expect_ack(&fake, client, 1);
    assert_int_equal(log_in_anew(&fake, client, 8), 20);
    say_stored(&fake, 1, 20); /* a broker that has not heard of it */
    expect_ack(&fake, client, 1);
    expect_no_event(client);
    say_stored(&fake, 2, 30);
    expect_mid(client, 2, 30);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* The older copies are in the program's hands and in the queue: the new ones are not given, and
 * not acknowledged before those are processed. */
static void what_comes_again_is_acknowledged_with_its_first_copy(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    say_stored(&fake, 1, 10);
    say_stored(&fake, 2, 20);
    let_read(&fake, client);
    assert_null(fake_take(&fake, client, 30)); /* both are here, none taken */
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    assert_int_equal(frame->resume->last_mid, 0);
    fake_say_error(&fake, frame->id, USHER_ERROR_RESUME_REJECTED, 0);
    frame = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    assert_int_equal(frame->login->last_mid, 0);
    fake_say_welcome(&fake, &(struct fake_welcome){.id = frame->id, .epoch = 8});
    say_stored(&fake, 1, 10);
    say_stored(&fake, 2, 20);
    let_read(&fake, client);
    assert_null(fake_take(&fake, client, 50));
    expect_mid(client, 1, 10);
    expect_mid(client, 2, 20);
    assert_null(fake_take(&fake, client, 50)); /* of two the first is processed */
    (void)expect_event(client, USHER_DISCONNECTED);
    expect_ack(&fake, client, 2);
    assert_int_equal(expect_event(client, USHER_WELCOME).epoch, 8);
    say_stored(&fake, 4, 30);
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_int_equal(event.mid, 30);
    assert_int_equal(event.missed, 1); /* seq 3 */
    usher_client_leave(client);
    expect_ack(&fake, client, 4);
    assert_int_equal(usher_last_mid(client), 30);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What was passed over before a repetition is counted before what comes next. */
static void a_gap_before_a_repetition_is_counted_once(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.last_mid = 20;
    options.acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    say_stored(&fake, 4, 10);
    say_stored(&fake, 5, 20);
    expect_ack(&fake, client, 5); /* there is nothing before it that is not processed */
    fake_say_message(&fake, 7, "bob", "hi");
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_int_equal(event.missed, 4);
    fake_say_message(&fake, 8, "bob", "hi");
    assert_int_equal(expect_event(client, USHER_MESSAGE).missed, 0);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void manual_acks_say_what_is_processed(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = options.manual_acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    say_stored(&fake, 1, 10);
    fake_say_message(&fake, 2, "bob", "hi");
    say_stored(&fake, 3, 30);
    say_stored(&fake, 4, 40);
    for (unsigned i = 0; i < 4; i++)
        (void)expect_event(client, USHER_MESSAGE);
    expect_no_event(client);
    assert_int_equal(usher_last_mid(client), 0);
    assert_int_equal(usher_ack(client, 2), 0);
    assert_int_equal(usher_last_mid(client), 10);
    assert_int_equal(usher_ack(client, 3), 0);
    assert_int_equal(usher_last_mid(client), 30);
    assert_int_equal(log_in_anew(&fake, client, 8), 30);
    say_stored(&fake, 1, 40); /* not acknowledged: again, also to who has it in hand */
    expect_mid(client, 1, 40);
    assert_int_equal(usher_ack(client, 1), 0);
    assert_int_equal(usher_last_mid(client), 40);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void too_many_marks_forget_the_oldest(void **state)
{
    struct stored stored;
    stored_init(&stored, 0);
    for (uint64_t i = 1; i <= STORED_MARKS_MAX + 2; i++) {
        assert_true(stored_take(&stored, i - 1, i, 100 + i));
        stored_mark(&stored, i, 100 + i);
    }
    stored_leave_marked(&stored, 2);
    assert_int_equal(stored.processed, 0); /* it may come twice; nothing is lost */
    stored_leave_marked(&stored, 3);
    assert_int_equal(stored.processed, 103);
    stored_leave_marked(&stored, STORED_MARKS_MAX + 2);
    assert_int_equal(stored.processed, 100 + STORED_MARKS_MAX + 2);
    assert_int_equal(stored.mark_count, 0);
    stored_fini(&stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stored_send_says_so_and_gets_its_mid),
        cmocka_unit_test(an_older_broker_does_not_store),
        cmocka_unit_test(a_welcome_says_what_is_stored),
        cmocka_unit_test(it_is_given_once_over_all_sessions),
        cmocka_unit_test(what_comes_again_is_acknowledged_with_its_first_copy),
        cmocka_unit_test(a_gap_before_a_repetition_is_counted_once),
        cmocka_unit_test(manual_acks_say_what_is_processed),
        cmocka_unit_test(too_many_marks_forget_the_oldest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
