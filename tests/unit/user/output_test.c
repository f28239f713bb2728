/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/actors/stage_user.h"

/* What others send to a client whose connection is not empty: it waits for him, its senders are
 * refused when too much waits, and it goes on as he reads. */

/* So much is left in the connection after each turn from now on, and the session knows. */
static void leave(struct stage *stage, uint32_t output)
{
    stage->output = output;
    stage->session.output = output;
}

static void deliver_bytes(struct stage *stage, uint64_t request, size_t size)
{
    uint8_t payload[2048] = {0};
    assert_true(size <= sizeof(payload));
    struct deliver_message *message =
        deliver_create(bytes_of_text("bob"), (struct bytes){payload, size});
    assert_non_null(message);
    message->sender = OTHER;
    message->sender_epoch = 9;
    message->request = request;
    message->arrived_ms = stage->now_ms;
    stage_receive(stage, &message->header);
}

static void writable(struct stage *stage, bool go_on)
{
    struct writable_message *message = message_create(MESSAGE_WRITABLE, sizeof(*message));
    assert_non_null(message);
    message->conn = stage->session.conn;
    message->go_on = go_on;
    stage_receive(stage, &message->header);
}

static uint32_t waiting(const struct stage *stage)
{
    return stage->session.inbox != NULL ? stage->session.inbox->waiting : 0;
}

static void a_message_goes_out_up_to_the_window(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    leave(stage, stage->limits.limits_output_soft_bytes);
    stage_deliver(stage, 0, "fits");
    EXPECT(stage, "10 message 1 from=bob 'fits'");
    leave(stage, stage->limits.limits_output_soft_bytes + 1);
    stage_deliver(stage, 7, "waits");
    EXPECT(stage, "to 901 result #7 OK epoch=1 asker=9");
    assert_int_equal(waiting(stage), 1);
}

/* Nobody is thrown out by what others send: they are told to wait. */
static void who_sends_too_much_is_refused(void **state)
{
    for (int acks = 0; acks < 2; acks++) {
        struct stage *stage = *state;
        stage_login(stage, 10, acks);
        leave(stage, stage->limits.limits_output_soft_bytes + 1);
        for (uint64_t i = 1; i <= stage->limits.limits_inbox_messages; i++) {
            stage_deliver(stage, i, "x");
            assert_non_null(strstr(stage->tape, "OK epoch=1"));
        }
        stage_deliver(stage, 9, "x");
        EXPECT(stage, "to 901 result #9 INBOX_FULL epoch=0 asker=9");
        stage_teardown(state);
        stage_setup(state);
    }
}

static void a_turn_hands_out_what_the_window_takes(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_inbox_bytes = 4000;
    stage_login(stage, 10, true);
    leave(stage, 2000);
    for (uint64_t i = 1; i <= 4; i++)
        deliver_bytes(stage, 0, 500);
    leave(stage, 0);
    writable(stage, true);
    EXPECT(stage, "10 message 1 from=bob <500 bytes>", "10 message 2 from=bob <500 bytes>",
           "goes on");
    writable(stage, true);
    EXPECT(stage, "10 message 3 from=bob <500 bytes>", "10 message 4 from=bob <500 bytes>");
    assert_int_equal(stage->session.inbox->count, 4); /* until it is acknowledged */
    put_ack(stage, 4);
    stage_play(stage, 10);
    assert_null(stage->session.inbox);
}

static void what_waits_is_not_overtaken(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    leave(stage, 2000);
    stage_deliver(stage, 0, "one");
    leave(stage, 0);
    stage_deliver(stage, 0, "two"); /* the connection is empty, and one is before it */
    EXPECT(stage, "goes on");
    writable(stage, true);
    EXPECT(stage, "10 message 1 from=bob 'one'", "10 message 2 from=bob 'two'");
    assert_null(stage->session.inbox);
    stage_deliver(stage, 0, "three");
    EXPECT(stage, "10 message 3 from=bob 'three'");
}

static void a_socket_that_was_full_goes_on(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    leave(stage, 2000);
    stage_deliver(stage, 0, "one");
    EXPECT_NOTHING(stage); /* no turn is made for nothing: the socket will tell */
    stage->output = 1500;
    writable(stage, false);
    EXPECT(stage, "10 flush", "goes on");
    writable(stage, true);
    EXPECT_NOTHING(stage); /* too much is left, and the socket will tell again */
    stage->output = 1024;
    writable(stage, false);
    EXPECT(stage, "10 flush", "goes on");
    stage_deliver(stage, 0, "two");
    EXPECT_NOTHING(stage); /* one such turn is enough */
    leave(stage, 0);
    writable(stage, true);
    EXPECT(stage, "10 message 1 from=bob 'one'", "10 message 2 from=bob 'two'");
}

/* The turn to go on may find another connection, or none. */
static void a_late_turn_serves_whoever_is_there(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    leave(stage, 2000);
    stage_deliver(stage, 0, "one");
    stage->output = 0;
    writable(stage, false);
    EXPECT(stage, "10 flush", "goes on");
    stage_detach(stage);
    writable(stage, true);
    EXPECT_NOTHING(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 message 1 from=bob 'one'");
}

/* What is larger than the room beside answers goes to a connection that is empty. */
static void a_large_one_waits_for_an_empty_connection(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_output_bytes = 1024;
    stage->limits.limits_inbox_bytes = 4000;
    stage_login(stage, 10, false);
    leave(stage, 1);
    deliver_bytes(stage, 0, 900);
    EXPECT_NOTHING(stage);
    leave(stage, 0);
    writable(stage, false);
    EXPECT(stage, "10 flush", "goes on");
    writable(stage, true);
    EXPECT(stage, "10 message 1 from=bob <900 bytes>");
}

/* Larger than the whole inbox: for good where it would have to be kept, otherwise for now. */
static void what_no_inbox_can_hold_is_refused_for_good(void **state)
{
    struct stage *stage = *state;
    size_t size = stage->limits.limits_inbox_bytes - strlen("bob");
    stage_login(stage, 10, false);
    deliver_bytes(stage, 1, size + 1);
    EXPECT(stage, "to 901 result #1 OK epoch=1 asker=9", "10 message 1 from=bob <198 bytes>");
    leave(stage, 2000);
    deliver_bytes(stage, 2, size + 1);
    EXPECT(stage, "to 901 result #2 INBOX_FULL epoch=0 asker=9");
    stage->output = 0;
    stage_detach(stage);
    deliver_bytes(stage, 3, size + 1);
    EXPECT(stage, "to 901 result #3 TOO_LARGE epoch=0 asker=9");
    deliver_bytes(stage, 4, size);
    EXPECT(stage, "to 901 result #4 OK epoch=1 asker=9");
}

static void nothing_is_lost_on_a_dead_connection(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    leave(stage, SESSION_OUTPUT_SHUT);
    stage_deliver(stage, 0, "one");
    EXPECT_NOTHING(stage);
    stage->output = 0;
    stage_detach(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 message 1 from=bob 'one'");
}

static void without_acks_delivered_is_said_when_it_is_handed_out(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    leave(stage, 2000);
    stage_deliver_until(stage, 7, "one");
    EXPECT_NOTHING(stage);
    leave(stage, 0);
    writable(stage, true);
    EXPECT(stage, "10 message 1 from=bob 'one'", "to 901 result #7 OK epoch=1 asker=9");
}

/* Nobody can have seen what waits. */
static void an_ack_of_what_waits_is_a_protocol_error(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 0, "one");
    leave(stage, 2000);
    stage_deliver(stage, 0, "two");
    put_ack(stage, 1);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    put_ack(stage, 2);
    stage_play(stage, 10);
    assert_non_null(strstr(stage->tape, "10 close PROTOCOL_ERROR"));
}

/* But of what an earlier connection was given, although this one was not yet. */
static void an_ack_of_what_comes_again_counts(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_inbox_bytes = 4000;
    stage->limits.limits_output_soft_bytes = 100;
    stage_login(stage, 10, true);
    for (unsigned i = 0; i < 3; i++)
        deliver_bytes(stage, 0, 500);
    assert_int_equal(waiting(stage), 0);
    stage_detach(stage);
    stage->output = 600;
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    assert_int_equal(waiting(stage), 2);
    put_ack(stage, 2);
    stage_play(stage, 20);
    EXPECT(stage, "20 consumed");
    assert_int_equal(stage->session.inbox->count, 1);
    leave(stage, 0);
    writable(stage, true);
    EXPECT(stage, "20 message 3 from=bob <500 bytes> again");
}

static void what_grew_too_old_is_not_handed_out(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    leave(stage, 2000);
    stage_deliver(stage, 0, "old");
    stage->now_ms += stage->limits.limits_inbox_age_ms - 1;
    stage_deliver(stage, 0, "young");
    stage->now_ms++;
    leave(stage, 0);
    writable(stage, true);
    EXPECT(stage, "10 message 2 from=bob 'young'");
    COUNTED(stage, messages_refused, 1);
}

/* Its timer may be late: who comes back first does not get it either. */
static void a_resume_brings_nothing_too_old(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_deliver_until(stage, 7, "old");
    stage->now_ms += stage->limits.limits_inbox_age_ms;
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #7 UNDELIVERED epoch=0 asker=9", "20 welcomed",
           "20 welcome #1 epoch=1 PARTIAL next=2");
}

/* What grew too old is done with: to acknowledge it is no news, so it is no free request. */
static void an_ack_of_what_grew_too_old_is_not_free(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 0, "old");
    stage_tick(stage, 0);
    assert_null(stage->session.inbox);
    assert_int_equal(delivery_acked_seq(&stage->session), 1);
    stage->limits.limits_requests_per_second = 1;
    put_ping(stage, 0, 1);
    put_ack(stage, 1);
    stage_play(stage, 10);
    COUNTED(stage, requests_limited, 1);
}

/* --- answers ---------------------------------------------------------------------------------- */

static void a_reply_waits_as_messages_do(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    put_call(stage, 1, 0);
    put_call(stage, 2, 0);
    stage_play(stage, 10);
    leave(stage, stage->limits.limits_output_soft_bytes);
    stage_call_result(stage, 1, 1, 1, 0);
    EXPECT(stage, "10 reply #1 status=2 'sold'");
    leave(stage, stage->limits.limits_output_soft_bytes + 1);
    stage_call_result(stage, 2, 2, 1, 0);
    EXPECT_NOTHING(stage);
    stage->output = 0;
    writable(stage, false);
    EXPECT(stage, "10 flush", "goes on");
    writable(stage, true);
    EXPECT(stage, "10 reply #2 status=2 'sold'");
}

/* What he causes himself is not held back: it has room of its own. */
static void his_own_answers_go_out(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    leave(stage, 3000);
    put_ping(stage, 1, 1);
    put_send(stage, 2, "bob", "hi");
    stage_play(stage, 10);
    stage_result(stage, 2, 1, 0);
    EXPECT(stage, "10 done #2 epoch=33");
}

static void kept_answers_go_out_in_steps(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_output_soft_bytes = 10;
    stage_login(stage, 10, false);
    put_call(stage, 1, 0);
    put_call(stage, 2, 0);
    stage_play(stage, 10);
    stage_detach(stage);
    stage_call_result(stage, 1, 1, 1, 0);
    stage_call_result(stage, 2, 2, 1, 0);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1", "goes on");
    writable(stage, true);
    EXPECT(stage, "20 reply #1 status=2 'sold'", "goes on");
    writable(stage, true);
    EXPECT(stage, "20 reply #2 status=2 'sold'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_message_goes_out_up_to_the_window),
        stage_test(who_sends_too_much_is_refused),
        stage_test(a_turn_hands_out_what_the_window_takes),
        stage_test(what_waits_is_not_overtaken),
        stage_test(a_socket_that_was_full_goes_on),
        stage_test(a_late_turn_serves_whoever_is_there),
        stage_test(a_large_one_waits_for_an_empty_connection),
        stage_test(what_no_inbox_can_hold_is_refused_for_good),
        stage_test(nothing_is_lost_on_a_dead_connection),
        stage_test(without_acks_delivered_is_said_when_it_is_handed_out),
        stage_test(an_ack_of_what_waits_is_a_protocol_error),
        stage_test(an_ack_of_what_comes_again_counts),
        stage_test(what_grew_too_old_is_not_handed_out),
        stage_test(a_resume_brings_nothing_too_old),
        stage_test(an_ack_of_what_grew_too_old_is_not_free),
        stage_test(a_reply_waits_as_messages_do),
        stage_test(his_own_answers_go_out),
        stage_test(kept_answers_go_out_in_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
