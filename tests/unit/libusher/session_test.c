/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "unit/libusher/fake_broker.h"

/* The client's session against a broker that follows a script: from login over messages and
 * answers to lost connections and all the ways back. */

static const struct fake_welcome EPOCH_7 = {.epoch = 7};

static void login_sends_exactly_these_bytes(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.token = "t\0k";
    options.token_size = 3;
    options.client = "pc";
    options.acks = true;
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    assert_int_equal(usher_client_start(client), -EALREADY);
    fake_accept(&fake, client);
    /* length, id 1, login {username, token, client, acks} */
    static const uint8_t expected[] = {22,  0x08, 1,   0x12, 18,   0x0a, 5,   'a',
                                       'l', 'i',  'c', 'e',  0x12, 3,    't', 0,
                                       'k', 0x1a, 2,   'p',  'c',  0x20, 1};
    uint8_t got[sizeof(expected) + 1];
    size_t size = 0;
    uint64_t deadline_ms = fake_now_ms() + FAKE_PATIENCE_MS;
    while (size < sizeof(expected) && fake_now_ms() < deadline_ms) {
        fake_tick(client);
        ssize_t count = recv(fake.peer, got + size, sizeof(got) - size, MSG_DONTWAIT);
        if (count > 0)
            size += (size_t)count;
    }
    assert_int_equal(size, sizeof(expected));
    assert_memory_equal(got, expected, sizeof(expected));
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void sends_are_answered_by_id(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t first;
    uint64_t second;
    assert_int_equal(usher_send(client, "bob", "one", 3, USHER_ACCEPTED, &first), 0);
    assert_int_equal(usher_send(client, "eve", "two", 3, USHER_DELIVERED, &second), 0);
    assert_int_not_equal(first, second);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_int_equal(frame->id, first);
    assert_string_equal(frame->send->to, "bob");
    assert_memory_equal(frame->send->payload.data, "one", 3);
    frame = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_int_equal(frame->send->until, USHER__V1__SEND__UNTIL__DELIVERED);

    fake_say_error(&fake, second, USHER_ERROR_NOT_ONLINE, 5); /* out of order */
    fake_say_done(&fake, first, 99);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, second);
    assert_string_equal(usher_error_name(event.code), "NOT_ONLINE");
    assert_string_equal(event.detail, "because\x1b[31m");
    event = expect_event(client, USHER_DONE);
    assert_int_equal(event.id, first);
    assert_int_equal(event.epoch, 99);

    fake_say_done(&fake, first, 99); /* a second answer is nobody's */
    expect_no_event(client);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void calls_get_the_reply_and_posts_have_no_id(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    assert_int_equal(usher_post(client, "bob", "hi", 2), 0);
    assert_int_equal(usher_post_call(client, "log", "note", "hi", 2), 0);
    assert_int_equal(usher_call(client, "echo", "say", "hi", 2, 500, &id), 0);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND)->id, 0);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_CALL)->id, 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_CALL);
    assert_int_equal(frame->id, id);
    assert_string_equal(frame->call->method, "say");
    assert_int_equal(frame->call->timeout_ms, 500);
    fake_say_reply(&fake, id, 3, "ih");
    struct usher_event event = expect_event(client, USHER_REPLY);
    assert_int_equal(event.code, 3);
    assert_payload(&event, "ih");
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_transient_send_says_whether_it_went(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    for (int dropped = 0; dropped < 2; dropped++) {
        uint64_t id;
        assert_int_equal(usher_send(client, "bob", "at 3", 4, USHER_TRANSIENT, &id), 0);
        const Usher__V1__ClientFrame *frame =
            fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
        assert_true(frame->send->transient);
        assert_int_equal(frame->send->until, USHER__V1__SEND__UNTIL__ACCEPTED);
        fake_say_how(&fake, id, 99, dropped);
        struct usher_event event = expect_event(client, USHER_DONE);
        assert_int_equal(event.id, id);
        assert_int_equal(event.dropped, dropped);
    }
    assert_int_equal(usher_post_transient(client, "bob", "at 4", 4), 0);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    assert_true(frame->send->transient && frame->id == 0);
    assert_int_equal(usher_send(client, "bob", "hi", 2, USHER_ACCEPTED, NULL), 0);
    assert_false(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND)->send->transient);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* It would come late: nothing is sent, before the Welcome, while the connection is away, and while
 * the broker does not read. */
static void a_transient_send_does_not_wait(void **state)
{
    static char text[60000];
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_post_transient(client, "bob", "x", 1), -ENOTCONN);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&fake, client);
    assert_int_equal(usher_post_transient(client, "bob", "x", 1), -EAGAIN);
    usher_client_destroy(client);
    options.outgoing_bytes_max = 100000;
    client = go_online(&fake, &options, &EPOCH_7);
    assert_int_equal(usher_post_transient(client, "bob", "x", 1), 0);
    while (usher_post(client, "bob", text, sizeof(text)) == 0)
        assert_int_equal(usher_client_process(client), 0);
    assert_int_equal(usher_post_transient(client, "bob", "x", 1), -EAGAIN);
    fake_hang_up(&fake);
    expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(usher_post_transient(client, "bob", "x", 1), -EAGAIN);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* What was not written whole when the connection was lost is not sent over the next one. */
static void a_transient_send_does_not_outlive_its_connection(void **state)
{
    static char text[1 << 22];
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct fake_welcome welcome = {.epoch = 7, .frame_bytes_max = 1 << 24};
    options.outgoing_bytes_max = 1 << 24;
    struct usher_client *client = go_online(&fake, &options, &welcome);
    uint64_t id, next;
    /* More than the socket takes, at once. */
    assert_int_equal(usher_send(client, "bob", text, sizeof(text), USHER_TRANSIENT, &id), 0);
    assert_true(usher_client_wants_write(client));
    assert_int_equal(usher_send(client, "bob", "hi", 2, USHER_ACCEPTED, &next), 0);
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, id);
    assert_int_equal(event.code, USHER_ERROR_NOT_SENT);
    welcome.id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME)->id;
    fake_say_welcome(&fake, &welcome);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND)->id, next);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* It has no number, changes none, and is not acknowledged. */
static void a_transient_message_is_given_between_others(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_message(&fake, 1, "bob", "one");
    fake_say_message(&fake, 0, "bob", "now");
    fake_say_message(&fake, 0, "bob", "now");
    fake_say_message(&fake, 2, "bob", "two");
    assert_false(expect_event(client, USHER_MESSAGE).transient);
    for (int i = 0; i < 2; i++) {
        struct usher_event event = expect_event(client, USHER_MESSAGE);
        assert_true(event.transient && event.seq == 0 && event.missed == 0 && event.epoch == 7);
        assert_payload(&event, "now");
    }
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_true(event.seq == 2 && event.missed == 0 && !event.transient);
    expect_no_event(client);
    uint64_t acked = 0;
    while (acked < 2) {
        const Usher__V1__ClientFrame *frame =
            fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_ACK);
        assert_true(frame->ack->seq > acked);
        acked = frame->ack->seq;
    }
    assert_int_equal(acked, 2);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_message_is_acknowledged_when_it_is_left(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_message(&fake, 1, "bob", "one");
    fake_say_message(&fake, 2, "bob", "two");
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_int_equal(event.seq, 1);
    assert_int_equal(event.epoch, 7);
    assert_string_equal(event.from, "bob");
    assert_payload(&event, "one");
    assert_null(fake_take(&fake, client, 30)); /* still held by the program */
    expect_event(client, USHER_MESSAGE);
    expect_no_event(client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_ACK);
    if (frame->ack->seq == 1)
        frame = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_ACK);
    assert_int_equal(frame->ack->seq, 2);
    assert_int_equal(frame->id, 0);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void manual_acks_are_the_programs_own(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    options.acks = true;
    options.manual_acks = true;
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_message(&fake, 1, "bob", "one");
    fake_say_message(&fake, 2, "bob", "two");
    expect_event(client, USHER_MESSAGE);
    expect_event(client, USHER_MESSAGE);
    expect_no_event(client);
    assert_null(fake_take(&fake, client, 30));
    assert_int_equal(usher_ack(client, 3), -EINVAL);
    assert_int_equal(usher_ack(client, 1), 0);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_ACK)->ack->seq, 1);
    /* Resume says what was processed, not what came; what came is not given twice. */
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    assert_int_equal(frame->resume->last_seq, 1);
    assert_int_equal(frame->resume->received_seq, 2); /* no other message may have that number */
    struct fake_welcome back = {
        .id = frame->id, .epoch = 7, .replay = USHER_COMPLETE, .next_seq = 2};
    fake_say_welcome(&fake, &back);
    fake_say_message(&fake, 2, "bob", "two");
    fake_say_message(&fake, 3, "bob", "three");
    expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(expect_event(client, USHER_WELCOME).replay, USHER_COMPLETE);
    struct usher_event event = expect_event(client, USHER_MESSAGE);
    assert_int_equal(event.seq, 3);
    assert_int_equal(event.missed, 0);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_lost_connection_is_resumed(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t sent;
    assert_int_equal(usher_send(client, "bob", "one", 3, USHER_ACCEPTED, &sent), 0);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    fake_say_message(&fake, 1, "bob", "one");
    fake_say_message(&fake, 2, "bob", "two");
    expect_event(client, USHER_MESSAGE); /* the second stays queued */
    fake_tick(client);
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    const Usher__V1__ClientFrame *frame =
        fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    assert_string_equal(frame->resume->username, "alice");
    assert_int_equal(frame->resume->epoch, 7);
    assert_int_equal(frame->resume->secret.len, 7);
    assert_memory_equal(frame->resume->secret.data, "sec\0ret", 7);
    assert_int_equal(frame->resume->last_seq, 2);
    struct fake_welcome back = {
        .id = frame->id, .epoch = 7, .replay = USHER_COMPLETE, .next_seq = 3};
    fake_say_welcome(&fake, &back);
    fake_say_message(&fake, 2, "bob", "two"); /* again: dropped */
    fake_say_message(&fake, 3, "bob", "three");
    fake_say_done(&fake, sent, 9); /* the answer comes to the session, not the connection */

    assert_int_equal(expect_event(client, USHER_MESSAGE).seq, 2);
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_true(event.will_retry);
    assert_int_equal(expect_event(client, USHER_WELCOME).replay, USHER_COMPLETE);
    assert_int_equal(expect_event(client, USHER_MESSAGE).seq, 3);
    assert_int_equal(expect_event(client, USHER_DONE).id, sent);
    assert_null(fake_take(&fake, client, 30)); /* and it was not sent twice */
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_gap_after_a_partial_resume_is_counted(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    uint64_t id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME)->id;
    struct fake_welcome back = {.id = id, .epoch = 7, .replay = USHER_PARTIAL, .next_seq = 5};
    fake_say_welcome(&fake, &back);
    fake_say_message(&fake, 5, "bob", "five");
    expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(expect_event(client, USHER_WELCOME).replay, USHER_PARTIAL);
    assert_int_equal(expect_event(client, USHER_MESSAGE).missed, 4);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_rejected_resume_becomes_a_login(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t sent;
    uint64_t waiting;
    assert_int_equal(usher_send(client, "bob", "one", 3, USHER_ACCEPTED, &sent), 0);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND);
    fake_hang_up(&fake);
    assert_false(expect_event(client, USHER_DISCONNECTED).do_not_return);
    assert_int_equal(usher_send(client, "bob", "two", 3, USHER_ACCEPTED, &waiting), 0);
    fake_accept(&fake, client);
    uint64_t id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME)->id;
    fake_say_error(&fake, id, USHER_ERROR_RESUME_REJECTED, 0);
    id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN)->id;
    struct fake_welcome fresh = {.id = id, .epoch = 8};
    fake_say_welcome(&fake, &fresh);
    /* What the old session sent has no answer any more; what never left is sent now. */
    struct usher_event event = expect_event(client, USHER_ERROR);
    assert_int_equal(event.id, sent);
    assert_int_equal(event.code, USHER_ERROR_NO_ANSWER);
    event = expect_event(client, USHER_WELCOME);
    assert_int_equal(event.replay, USHER_FRESH);
    assert_int_equal(event.epoch, 8);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_SEND)->id, waiting);
    fake_say_message(&fake, 1, "bob", "in the new epoch");
    assert_int_equal(expect_event(client, USHER_MESSAGE).epoch, 8);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_busy_broker_keeps_the_session_resumable(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    uint64_t id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME)->id;
    fake_say_error(&fake, id, USHER_ERROR_UNAVAILABLE, 10);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void ends_after(int reason, bool do_not_return, bool stays_away)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_close(&fake, reason, 0, do_not_return);
    assert_int_equal(expect_event(client, USHER_CLOSE).code, reason);
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.will_retry, !stays_away);
    if (!stays_away) {
        fake_accept(&fake, client);
    } else {
        assert_true(fake_is_alone(&fake, client, 60));
        assert_int_equal(usher_client_state(client), USHER_STATE_ENDED);
        assert_int_equal(usher_post(client, "bob", "x", 1), -ENOTCONN);
        assert_int_equal(usher_client_wait(client, -1, &event), -ENOTCONN);
    }
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* It is not asked for again: there is nothing to resume. */
static void after_the_end_of_its_token_a_client_logs_in(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_close(&fake, USHER_CLOSE_TOKEN_EXPIRED, 0, false);
    assert_int_equal(expect_event(client, USHER_CLOSE).code, USHER_CLOSE_TOKEN_EXPIRED);
    assert_true(expect_event(client, USHER_DISCONNECTED).will_retry);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_replaced_client_does_not_return(void **state)
{
    ends_after(USHER_CLOSE_REPLACED, true, true);
    ends_after(USHER_CLOSE_STALE_SESSION, false, true);
    ends_after(USHER_CLOSE_KICKED, true, true);
    ends_after(USHER_CLOSE_KICKED, false, false);
    ends_after(USHER_CLOSE_SHUTDOWN, false, false);
}

static void retry_after_is_honoured(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    fake_say_close(&fake, USHER_CLOSE_SHUTDOWN, 500, false);
    expect_event(client, USHER_CLOSE);
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_in_range(event.retry_after_ms, 500, 600);
    assert_true(fake_is_alone(&fake, client, 300));
    fake_accept(&fake, client);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_refused_login_ends(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&fake, client);
    uint64_t id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN)->id;
    fake_say_error(&fake, id, USHER_ERROR_UNAUTHENTICATED, 0);
    assert_int_equal(expect_event(client, USHER_ERROR).code, USHER_ERROR_UNAUTHENTICATED);
    assert_false(expect_event(client, USHER_DISCONNECTED).will_retry);
    assert_string_equal(usher_client_error_text(client),
                        "the broker refused alice: UNAUTHENTICATED (because?[31m); "
                        "check the token");
    assert_true(fake_is_alone(&fake, client, 50));
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* --- tokens of a source ------------------------------------------------------------------- */

struct wallet {
    const char *tokens[4]; /* NULL: -EAGAIN; "": gone for good */
    int asked;
    char held[16]; /* where the client sees it, until it asks again */
};

static int from_wallet(void *context, struct usher_token *token)
{
    struct wallet *wallet = context;
    assert_in_range(wallet->asked, 0, 3);
    const char *text = wallet->tokens[wallet->asked++];
    if (text == NULL)
        return -EAGAIN;
    if (text[0] == '\0')
        return -ENOKEY;
    snprintf(wallet->held, sizeof(wallet->held), "%s", text);
    *token = (struct usher_token){wallet->held, strlen(text)};
    return 0;
}

static struct usher_client *client_with(struct fake *fake, struct wallet *wallet)
{
    struct usher_options options = fake_options(fake);
    struct usher_client *client;
    options.token = "of the options";
    options.token_size = 14;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_client_set_token_source(client, from_wallet, wallet), 0);
    assert_int_equal(usher_client_start(client), 0);
    assert_int_equal(usher_client_set_token_source(client, NULL, NULL), -EALREADY);
    return client;
}

/* The client logs in with this token; gives the id. */
static uint64_t login_with(struct fake *fake, struct usher_client *client, const char *token)
{
    const Usher__V1__ClientFrame *frame =
        fake_expect(fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    assert_int_equal(frame->login->token.len, strlen(token));
    assert_memory_equal(frame->login->token.data, token, strlen(token));
    return frame->id;
}

static void each_login_asks_for_its_token(void **state)
{
    struct fake fake;
    struct wallet wallet = {.tokens = {"one", "two"}};
    fake_open(&fake);
    struct usher_client *client = client_with(&fake, &wallet);
    fake_accept(&fake, client);
    struct fake_welcome welcome = {.id = login_with(&fake, client, "one"), .epoch = 7};
    fake_say_welcome(&fake, &welcome);
    expect_event(client, USHER_WELCOME);
    fake_hang_up(&fake);
    fake_accept(&fake, client);
    uint64_t id = fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_RESUME)->id;
    assert_int_equal(wallet.asked, 1); /* a Resume needs none */
    fake_say_error(&fake, id, USHER_ERROR_RESUME_REJECTED, 0);
    login_with(&fake, client, "two");
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_source_without_a_token_is_asked_again(void **state)
{
    struct fake fake;
    struct wallet wallet = {.tokens = {NULL, "two"}};
    fake_open(&fake);
    struct usher_client *client = client_with(&fake, &wallet);
    fake_accept(&fake, client);
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.error, -EAGAIN);
    assert_true(event.will_retry);
    assert_string_equal(usher_client_error_text(client),
                        "there is no token for alice: asking again later");
    fake_accept(&fake, client);
    login_with(&fake, client, "two");
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_source_that_has_no_more_ends_the_client(void **state)
{
    struct fake fake;
    struct wallet wallet = {.tokens = {""}};
    fake_open(&fake);
    struct usher_client *client = client_with(&fake, &wallet);
    fake_accept(&fake, client);
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.error, -ENOKEY);
    assert_false(event.will_retry);
    assert_int_equal(usher_client_state(client), USHER_STATE_ENDED);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_refused_token_is_replaced_once(void **state)
{
    struct fake fake;
    struct wallet wallet = {.tokens = {"one", "two", "three"}};
    fake_open(&fake);
    struct usher_client *client = client_with(&fake, &wallet);
    fake_accept(&fake, client);
    fake_say_error(&fake, login_with(&fake, client, "one"), USHER_ERROR_UNAUTHENTICATED, 0);
    assert_int_equal(expect_event(client, USHER_ERROR).code, USHER_ERROR_UNAUTHENTICATED);
    assert_true(expect_event(client, USHER_DISCONNECTED).will_retry);
    fake_accept(&fake, client);
    fake_say_error(&fake, login_with(&fake, client, "two"), USHER_ERROR_UNAUTHENTICATED, 0);
    expect_event(client, USHER_ERROR);
    assert_false(expect_event(client, USHER_DISCONNECTED).will_retry);
    assert_int_equal(wallet.asked, 2);
    usher_client_destroy(client);
    fake_fini(&fake);
}

/* A broker may end a session with the token that began it. */
static void a_session_that_ends_with_its_token_begins_anew(void **state)
{
    struct fake fake;
    struct wallet wallet = {.tokens = {"one", "two", "three"}};
    fake_open(&fake);
    struct usher_client *client = client_with(&fake, &wallet);
    fake_accept(&fake, client);
    struct fake_welcome welcome = {.id = login_with(&fake, client, "one"), .epoch = 7};
    fake_say_welcome(&fake, &welcome);
    expect_event(client, USHER_WELCOME);
    fake_say_close(&fake, USHER_CLOSE_AUTH_FAILED, 0, false);
    expect_event(client, USHER_CLOSE);
    assert_true(expect_event(client, USHER_DISCONNECTED).will_retry);
    fake_accept(&fake, client);
    welcome = (struct fake_welcome){.id = login_with(&fake, client, "two"), .epoch = 8};
    fake_say_welcome(&fake, &welcome);
    assert_int_equal(expect_event(client, USHER_WELCOME).replay, USHER_FRESH);
    fake_say_close(&fake, USHER_CLOSE_AUTH_FAILED, 0, true); /* and this one is meant for good */
    expect_event(client, USHER_CLOSE);
    assert_false(expect_event(client, USHER_DISCONNECTED).will_retry);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void without_a_source_a_token_that_ends_is_the_end(void **state)
{
    ends_after(USHER_CLOSE_AUTH_FAILED, false, true);
}

static void logging_out_is_final(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    assert_int_equal(usher_logout(client, &id), 0);
    assert_int_equal(usher_post(client, "bob", "x", 1), -ENOTCONN);
    assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGOUT)->id, id);
    fake_say_done(&fake, id, 0);
    fake_hang_up(&fake); /* the Close is lost */
    assert_int_equal(expect_event(client, USHER_DONE).id, id);
    assert_false(expect_event(client, USHER_DISCONNECTED).will_retry);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void the_heartbeat_is_kept(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct fake_welcome welcome = {.epoch = 7, .heartbeat_ms = 300};
    struct usher_client *client = go_online(&fake, &options, &welcome);
    for (int i = 0; i < 3; i++) {
        uint64_t before_ms = fake_now_ms();
        assert_int_equal(fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_PING)->id, 0);
        assert_in_range(fake_now_ms() - before_ms, 150, 2000);
        fake_say_pong(&fake, 0);
    }
    expect_no_event(client); /* these Pongs are not the program's */
    assert_int_equal(usher_client_state(client), USHER_STATE_ONLINE);
    /* Then silence: lost after two. */
    struct usher_event event = expect_event(client, USHER_DISCONNECTED);
    assert_int_equal(event.error, -ETIMEDOUT);
    assert_non_null(strstr(usher_client_error_text(client), "two heartbeats"));
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void nobody_there_is_said_in_words(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    fake_fini(&fake); /* the port is free again */
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    struct usher_event event;
    assert_int_equal(usher_login(client, 2000, &event), -ECONNREFUSED);
    assert_non_null(strstr(usher_client_error_text(client), "is usherd running?"));
    assert_int_equal(usher_client_state(client), USHER_STATE_ENDED);
    usher_client_destroy(client);
}

static void a_silent_broker_does_not_hold_a_login(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client;
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_login(client, 50, NULL), -ETIMEDOUT);
    options.connect_timeout_ms = 50;
    usher_client_destroy(client);
    assert_int_equal(usher_client_create(&options, &client), 0);
    assert_int_equal(usher_login(client, 2000, NULL), -ETIMEDOUT);
    usher_client_destroy(client);
    fake_fini(&fake);
}

static void a_session_can_be_started_anew(void **state)
{
    struct fake fake;
    fake_open(&fake);
    struct usher_options options = fake_options(&fake);
    struct usher_client *client = go_online(&fake, &options, &EPOCH_7);
    uint64_t id;
    assert_int_equal(usher_ping(client, &id), 0);
    usher_client_stop(client);
    assert_int_equal(expect_event(client, USHER_ERROR).id, id);
    assert_int_equal(usher_client_start(client), 0);
    fake_accept(&fake, client);
    fake_expect(&fake, client, USHER__V1__CLIENT_FRAME__BODY_LOGIN);
    usher_client_destroy(client);
    fake_fini(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(login_sends_exactly_these_bytes),
        cmocka_unit_test(sends_are_answered_by_id),
        cmocka_unit_test(calls_get_the_reply_and_posts_have_no_id),
        cmocka_unit_test(a_transient_send_says_whether_it_went),
        cmocka_unit_test(a_transient_send_does_not_wait),
        cmocka_unit_test(a_transient_send_does_not_outlive_its_connection),
        cmocka_unit_test(a_transient_message_is_given_between_others),
        cmocka_unit_test(a_message_is_acknowledged_when_it_is_left),
        cmocka_unit_test(manual_acks_are_the_programs_own),
        cmocka_unit_test(a_lost_connection_is_resumed),
        cmocka_unit_test(a_gap_after_a_partial_resume_is_counted),
        cmocka_unit_test(a_rejected_resume_becomes_a_login),
        cmocka_unit_test(a_busy_broker_keeps_the_session_resumable),
        cmocka_unit_test(a_replaced_client_does_not_return),
        cmocka_unit_test(after_the_end_of_its_token_a_client_logs_in),
        cmocka_unit_test(retry_after_is_honoured),
        cmocka_unit_test(a_refused_login_ends),
        cmocka_unit_test(each_login_asks_for_its_token),
        cmocka_unit_test(a_source_without_a_token_is_asked_again),
        cmocka_unit_test(a_source_that_has_no_more_ends_the_client),
        cmocka_unit_test(a_refused_token_is_replaced_once),
        cmocka_unit_test(a_session_that_ends_with_its_token_begins_anew),
        cmocka_unit_test(without_a_source_a_token_that_ends_is_the_end),
        cmocka_unit_test(logging_out_is_final),
        cmocka_unit_test(the_heartbeat_is_kept),
        cmocka_unit_test(nobody_there_is_said_in_words),
        cmocka_unit_test(a_silent_broker_does_not_hold_a_login),
        cmocka_unit_test(a_session_can_be_started_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
