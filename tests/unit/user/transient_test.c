/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refuse.h"
#include "unit/actors/stage_user.h"

/* Now or never: a transient message goes to the connection when nothing waits for its user, and is
 * dropped otherwise. It has no number, and no inbox ever holds it. */

static void nothing_is_held(const struct stage *stage)
{
    assert_null(stage->session.inbox);
    assert_int_equal(stage->session.next_seq, 1);
}

static void it_goes_out_without_a_number(void **state)
{
    for (int acks = 0; acks < 2; acks++) {
        struct stage *stage = *state;
        stage_login(stage, 10, acks);
        stage_transient(stage, 7, "at 3");
        EXPECT(stage, "10 message 0 from=bob 'at 3'", "to 901 result #7 OK epoch=1 asker=9");
        nothing_is_held(stage);
        stage_deliver(stage, 8, "hi");
        EXPECT(stage, "to 901 result #8 OK epoch=1 asker=9", "10 message 1 from=bob 'hi'");
        COUNTED(stage, transient_delivered, 1);
        COUNTED(stage, transient_dropped, 0);
        COUNTED(stage, messages_accepted, 1);
        COUNTED(stage, messages_delivered, 1);
        stage_teardown(state);
        stage_setup(state);
    }
}

static void who_wants_no_answer_gets_none(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_transient(stage, 0, "at 3");
    EXPECT(stage, "10 message 0 from=bob 'at 3'");
    stage_detach(stage);
    stage_transient(stage, 0, "at 4");
    EXPECT_NOTHING(stage);
    COUNTED(stage, transient_dropped, 1);
}

static void who_is_away_misses_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_transient(stage, 7, "at 3");
    EXPECT(stage, "to 901 result #7 DROPPED epoch=1 asker=9");
    nothing_is_held(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1");
    COUNTED(stage, transient_dropped, 1);
    COUNTED(stage, messages_refused, 0);
}

static void who_is_nobody_is_not_online(void **state)
{
    struct stage *stage = *state;
    stage_transient(stage, 7, "at 3");
    EXPECT(stage, "to 901 result #7 NOT_ONLINE epoch=0 asker=9", "retire");
    COUNTED(stage, transient_dropped, 0);
}

/* One byte in the socket that is not sent, or in the connection, or a message in the inbox. */
static void it_never_waits_behind_anything(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_inbox_bytes = 4000;
    stage_login(stage, 10, true);
    stage->unsent = 1;
    stage_transient(stage, 7, "at 3");
    EXPECT(stage, "to 901 result #7 DROPPED epoch=1 asker=9");
    stage->unsent = 0;
    stage_transient(stage, 8, "at 4");
    EXPECT(stage, "10 message 0 from=bob 'at 4'", "to 901 result #8 OK epoch=1 asker=9");
    /* More than the window is in the connection: an ordinary one waits, and is not overtaken. */
    stage->output = stage->session.output = 2000;
    stage_deliver(stage, 0, "waits");
    EXPECT_NOTHING(stage);
    stage->output = stage->session.output = 0;
    stage_transient(stage, 9, "at 5");
    EXPECT(stage, "to 901 result #9 DROPPED epoch=1 asker=9", "goes on");
    COUNTED(stage, transient_dropped, 2);
}

/* A Reply that waits for room goes before it, too. */
static void it_does_not_pass_a_reply_that_waits(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 3, 0);
    stage_play(stage, 10);
    stage->output = stage->session.output = 2000;
    stage_call_result(stage, 3, 1, 1, 0);
    EXPECT_NOTHING(stage);
    stage->output = stage->session.output = 0;
    stage_transient(stage, 7, "at 3");
    EXPECT(stage, "to 901 result #7 DROPPED epoch=1 asker=9", "goes on");
}

/* What a turn has handed out itself does not count: all of it leaves in one write. */
static void several_go_in_one_turn(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_begin(stage);
    output_look(&stage->session, &stage->turn, 0);
    for (uint64_t i = 1; i <= 3; i++) {
        struct deliver_message *message = deliver_from_bob(stage, 0, "x");
        message->transient = i != 2;
        user_receive(&stage->session, &message->header, &stage->turn);
    }
    stage_end(stage);
    EXPECT(stage, "10 message 0 from=bob 'x'", "10 message 1 from=bob 'x'",
           "10 message 0 from=bob 'x'");
}

static void it_may_wait_n_ms_for_its_turn(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t late = 0; late < 2; late++) {
        struct deliver_message *message = deliver_from_bob(stage, 7, "at 3");
        message->transient = true;
        stage->now_ms += stage->limits.limits_transient_age_ms + late;
        stage_receive(stage, &message->header);
        assert_int_equal(strstr(stage->tape, "DROPPED") != NULL, late);
    }
    /* The sender's thread may have read the clock after this one. */
    struct deliver_message *message = deliver_from_bob(stage, 7, "at 3");
    message->transient = true;
    message->arrived_ms = stage->now_ms + 1;
    stage_receive(stage, &message->header);
    EXPECT(stage, "10 message 0 from=bob 'at 3'", "to 901 result #7 OK epoch=1 asker=9");
}

/* As egress refuses it where the receiver's mailbox or the memory is full. */
static void who_is_too_full_misses_it(void **state)
{
    struct stage *stage = *state;
    for (int transient = 0; transient < 2; transient++) {
        struct deliver_message *message = deliver_from_bob(stage, 7, "at 3");
        message->transient = transient;
        stage_begin(stage);
        refuse_message(&stage->turn, message, USHER__V1__ERROR__CODE__BUSY);
        stage_end(stage);
        EXPECT(stage, transient ? "to 901 result #7 DROPPED epoch=0 asker=9"
                                : "to 901 result #7 BUSY epoch=0 asker=9");
        COUNTED(stage, transient_dropped, transient);
        COUNTED(stage, messages_refused, 1);
    }
}

static void it_is_as_large_as_any_other(void **state)
{
    struct stage *stage = *state;
    char text[1100];
    memset(text, 'x', sizeof(text) - 1);
    stage_login(stage, 10, true);
    size_t most = 0;
    for (size_t size = 900; size < sizeof(text); size++) {
        text[size] = '\0';
        stage_transient(stage, 7, text);
        text[size] = 'x';
        if (strstr(stage->tape, "TOO_LARGE") != NULL)
            break;
        most = size;
    }
    /* The same as for one with a number, redelivered. */
    text[most] = '\0';
    stage->limits.limits_inbox_bytes = 4000;
    stage_deliver(stage, 7, text);
    assert_null(strstr(stage->tape, "TOO_LARGE"));
    text[most] = 'x';
    text[most + 1] = '\0';
    stage_deliver(stage, 7, text);
    assert_non_null(strstr(stage->tape, "TOO_LARGE"));
}

static void a_push_of_another_epoch_is_stale(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    struct deliver_message *message = deliver_from_bob(stage, 7, "at 3");
    message->transient = message->from_service = true;
    message->epoch_wanted = 2;
    stage_receive(stage, &message->header);
    EXPECT(stage, "to 901 result #7 STALE_EPOCH epoch=0 asker=9");
}

/* --- several pushes at once ------------------------------------------------------------------- */

static void bundle(struct stage *stage)
{
    struct push pushes[] = {{bytes_of_text("arena"), bytes_of_text("at 3"), true, {0}},
                            {bytes_of_text("arena"), bytes_of_text("at 4"), true, {0}}};
    struct push_run run;
    assert_int_equal(push_begin_bundle(&run, pushes, 2, stage->wall_ms, stage->now_ms, 1), 0);
    struct bundle_message *message = push_next_bundle(&run);
    push_end(&run);
    stage_receive(stage, &message->header);
}

static void a_bundle_goes_or_is_dropped(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    bundle(stage);
    EXPECT(stage, "10 message 0 service=arena 'at 3'", "10 message 0 service=arena 'at 4'");
    COUNTED(stage, transient_delivered, 2);
    stage->unsent = 1;
    bundle(stage);
    EXPECT_NOTHING(stage);
    COUNTED(stage, transient_dropped, 2);
    stage->unsent = 0;
    stage_detach(stage);
    bundle(stage);
    EXPECT_NOTHING(stage);
    COUNTED(stage, transient_dropped, 4);
    nothing_is_held(stage);
}

/* --- the sender's side ------------------------------------------------------------------------ */

static void a_send_says_whether_it_went(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_transient(stage, 7, "bob", "at 3", 0);
    put_transient(stage, 8, "bob", "at 4", 0);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #7 from=ann 'at 3' transient",
           "forward bob deliver #8 from=ann 'at 4' transient", "10 consumed");
    stage_result(stage, 7, 1, 0);
    EXPECT(stage, "10 done #7 epoch=33");
    stage_result(stage, 8, 1, RESULT_DROPPED);
    EXPECT(stage, "10 done #8 epoch=33 dropped");
}

static void nobody_acknowledges_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_transient(stage, 7, "bob", "at 3", USHER__V1__SEND__UNTIL__DELIVERED);
    put_transient(stage, 0, "bob", "at 3", USHER__V1__SEND__UNTIL__DELIVERED);
    put_send(stage, 8, "bob", "hi"); /* the connection goes on */
    stage_play(stage, 10);
    EXPECT(stage, "10 error #7 PROTOCOL", "forward bob deliver #8 from=ann 'hi'", "10 consumed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(it_goes_out_without_a_number),
        stage_test(who_wants_no_answer_gets_none),
        stage_test(who_is_away_misses_it),
        stage_test(who_is_nobody_is_not_online),
        stage_test(it_never_waits_behind_anything),
        stage_test(it_does_not_pass_a_reply_that_waits),
        stage_test(several_go_in_one_turn),
        stage_test(it_may_wait_n_ms_for_its_turn),
        stage_test(who_is_too_full_misses_it),
        stage_test(it_is_as_large_as_any_other),
        stage_test(a_push_of_another_epoch_is_stale),
        stage_test(a_bundle_goes_or_is_dropped),
        stage_test(a_send_says_whether_it_went),
        stage_test(nobody_acknowledges_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
