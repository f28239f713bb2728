/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/actors/stage_user.h"

/* Batches of frames: how many a turn handles, whose they are, what is wrong with them. */

static const char DETACH_PROTOCOL[] = "store DETACH DETACHED PROTOCOL epoch=1 until=5060000";

static void put_pings(struct stage *stage, uint64_t first, uint64_t last)
{
    for (uint64_t stamp = first; stamp <= last; stamp++)
        put_ping(stage, 0, stamp);
}

/* --- the budget ------------------------------------------------------------------------------- */

static void a_turn_handles_a_limited_number(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_pings(stage, 1, 4);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong stamp=1", "10 pong stamp=2", "10 pong stamp=3", "10 pong stamp=4",
           "10 consumed");
    put_pings(stage, 5, 13);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong stamp=5", "10 pong stamp=6", "10 pong stamp=7", "10 pong stamp=8",
           "to self more_frames");
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 pong stamp=9", "10 pong stamp=10", "10 pong stamp=11", "10 pong stamp=12",
           "to self more_frames");
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 pong stamp=13", "10 consumed");
    assert_null(stage->session.unread.first);
    COUNTED(stage, frames_in, 13);
}

static void batches_wait_in_order_and_share_the_budget(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_pings(stage, 1, 5);
    stage_play(stage, 10);
    put_pings(stage, 6, 7);
    stage_play(stage, 10); /* behind the first, not in its turn */
    EXPECT_NOTHING(stage);
    put_pings(stage, 8, 9);
    stage_play(stage, 10);
    EXPECT_NOTHING(stage);
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 pong stamp=5", "10 consumed", "10 pong stamp=6", "10 pong stamp=7",
           "10 consumed", "10 pong stamp=8", "to self more_frames");
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 pong stamp=9", "10 consumed");
    stage_bare(stage, MESSAGE_MORE_FRAMES); /* one reminder too many */
    EXPECT_NOTHING(stage);
}

/* --- whose they are --------------------------------------------------------------------------- */

static void frames_of_a_stale_connection_have_no_effect(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_login(stage, 20, true);
    put_send(stage, 7, "bob", "from the past");
    put_logout(stage, 8);
    put_bytes(stage, "\xff", 1);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    COUNTED(stage, frames_stale, 1);
    assert_int_equal(stage->session.conn, 20);
}

static void frames_of_a_detached_session_have_no_effect(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    put_send(stage, 7, "bob", "late");
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
}

static void waiting_frames_of_a_replaced_connection_have_no_effect(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_pings(stage, 1, 6);
    stage_play(stage, 10);
    stage_login(stage, 20, true);
    put_pings(stage, 7, 7);
    stage_play(stage, 20);
    EXPECT_NOTHING(stage); /* behind what waits */
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 consumed", "20 pong stamp=7", "20 consumed");
}

/* --- what is wrong with them ------------------------------------------------------------------ */

static void a_request_before_the_welcome_is_a_protocol_error(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "too early");
    put_ping(stage, 0, 1);
    stage_receive(stage, &frames_create(stage, 10, false)->header);
    EXPECT(stage, "10 error #7 PROTOCOL", "10 close PROTOCOL_ERROR", "10 release", "10 consumed",
           DETACH_PROTOCOL);
    COUNTED(stage, closed_protocol, 1);
}

/* The id of a broken frame is not believed. */
static void a_broken_frame_ends_the_connection(void **state)
{
    static const struct {
        const char *bytes;
        uint8_t size;
    } rows[] = {
        {"\x08", 1},                          /* cut off */
        {"\x08\x05\x22\x7f", 4},              /* a body longer than the frame */
        {"\x08\x05\x22\x04\x0a\x02\xc3(", 8}, /* a text that is not UTF-8 */
        {"\x08\x05\x22\x03\x0a\x01\0", 7},    /* a NUL */
        {"\x0a\x01x", 3},                     /* the id of another wire type */
    };
    struct stage *stage = *state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        atomic_store(&stage->counters.epoch_last, 0);
        stage->session.epoch = 0;
        stage_login(stage, 10, true);
        put_bytes(stage, rows[i].bytes, rows[i].size);
        put_ping(stage, 0, 1);
        stage_play(stage, 10);
        EXPECT(stage, "10 close PROTOCOL_ERROR", "10 release", "10 consumed", DETACH_PROTOCOL);
        stage_commit(stage, 0);
        EXPECT_NOTHING(stage);
    }
}

static void a_frame_without_a_known_body_is_answered(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_bytes(stage, "\x08\x05", 2);
    put_bytes(stage, "\x08\x06\x7a\x01x", 5);
    put_bytes(stage, "", 0);
    put_ping(stage, 0, 1);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #5 PROTOCOL", "10 error #6 PROTOCOL", "10 pong stamp=1", "10 consumed");
    COUNTED(stage, errors_protocol, 3);
}

static void a_second_login_ends_the_connection(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_login(stage, 5);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #5 PROTOCOL", "10 close PROTOCOL_ERROR", "10 release", "10 consumed",
           DETACH_PROTOCOL);
}

static void a_resume_on_a_live_connection_ends_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_bytes(stage, "\x08\x05\x1a\x00", 4);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #5 PROTOCOL", "10 close PROTOCOL_ERROR", "10 release", "10 consumed",
           DETACH_PROTOCOL);
}

static void an_ack_beyond_what_was_sent_ends_the_connection(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 5, "one");
    put_ack(stage, 2);
    stage_play(stage, 10);
    EXPECT(stage, "10 close PROTOCOL_ERROR", "10 release", "10 consumed", DETACH_PROTOCOL);
    stage_commit(stage, 0);
    assert_int_equal(stage->session.inbox->count, 1); /* it acknowledged nothing */
}

static void nothing_is_handled_after_a_protocol_error(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_pings(stage, 1, 3);
    put_login(stage, 5);
    put_pings(stage, 4, 9);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong stamp=1", "10 pong stamp=2", "10 pong stamp=3", "10 error #5 PROTOCOL",
           "10 close PROTOCOL_ERROR", "10 release", "10 consumed", DETACH_PROTOCOL);
}

/* --- Ping ------------------------------------------------------------------------------------- */

static void a_ping_is_answered_with_or_without_an_id(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_ping(stage, 5, 77);
    put_ping(stage, 0, 0);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong #5 stamp=77", "10 pong stamp=0", "10 consumed");
}

/* --- the end of the connection ---------------------------------------------------------------- */

static void the_end_waits_for_what_was_sent_before_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_pings(stage, 1, 5);
    put_send(stage, 0, "bob", "last words");
    stage_play(stage, 10);
    stage_conn_end(stage, 10, LOSS_GONE);
    EXPECT(stage, "to self conn_end 10");
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 pong stamp=5", "forward bob deliver from=ann 'last words'", "10 consumed");
    stage_conn_end(stage, 10, LOSS_GONE);
    EXPECT(stage, "10 release", "store DETACH DETACHED LOST epoch=1 until=5060000");
}

/* Its output is over the limit: what it goes on asking would only add to that. */
static void a_slow_reader_ends_at_once(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_pings(stage, 1, 5);
    stage_play(stage, 10);
    put_pings(stage, 6, 6);
    stage_play(stage, 10);
    stage_conn_end(stage, 10, LOSS_SLOW);
    EXPECT(stage, "10 consumed", "10 consumed", "10 close SLOW_CONSUMER", "10 release",
           "store DETACH DETACHED SLOW_CONSUMER epoch=1 until=5060000");
    stage_commit(stage, 0);
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT_NOTHING(stage);
}

/* --- Logout in the middle of a batch ---------------------------------------------------------- */

static void frames_behind_a_logout_wait_and_go_with_the_session(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_logout(stage, 5);
    put_send(stage, 6, "bob", "after the end");
    stage_play(stage, 10);
    EXPECT(stage, "to self more_frames", "store END OFFLINE LOGOUT epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "10 done #5 epoch=1", "10 close LOGGED_OUT", "10 release", "10 consumed",
           "retire");
}

static void frames_behind_a_logout_that_failed_go_on(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_logout(stage, 5);
    put_ping(stage, 6, 1);
    stage_play(stage, 10);
    stage_commit(stage, -EIO);
    EXPECT(stage, "10 error #5 UNAVAILABLE retry=1000");
    stage_bare(stage, MESSAGE_MORE_FRAMES);
    EXPECT(stage, "10 pong #6 stamp=1", "10 consumed");
}

/* --- too many of them ------------------------------------------------------------------------- */

static void a_flood_is_refused_and_then_ended(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_requests_per_second = 2;
    stage->limits.limits_turn_messages = 100;
    stage_login(stage, 10, true);
    put_ping(stage, 1, 1);
    put_ping(stage, 0, 2);
    put_ping(stage, 3, 3);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong #1 stamp=1", "10 pong stamp=2", "10 error #3 RATE_LIMITED retry=500",
           "10 consumed");
    COUNTED(stage, requests_limited, 1);
    stage->now_ms += 499;
    put_ping(stage, 4, 4);
    stage->now_ms++;
    stage_play(stage, 10); /* after the wait that it was told it passes */
    EXPECT(stage, "10 pong #4 stamp=4", "10 consumed");
    put_ping(stage, 0, 5); /* without an id it is dropped; the second refusal is the last */
    put_ping(stage, 6, 6);
    stage_play(stage, 10);
    EXPECT(stage, "10 close RATE_LIMITED retry=1000", "10 release", "10 consumed", DETACH_PROTOCOL);
    COUNTED(stage, closed_rate_limited, 1);
}

/* How many acknowledgements come is up to those who send. */
static void acks_of_new_messages_are_free(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_requests_per_second = 1;
    stage->limits.limits_turn_messages = 100;
    stage->limits.limits_inbox_messages = 100;
    stage->limits.limits_inbox_bytes = 1000;
    stage_login(stage, 10, true);
    for (unsigned i = 0; i < 50; i++)
        stage_deliver(stage, 0, "hi");
    for (uint64_t seq = 1; seq < 50; seq++)
        put_ack(stage, seq);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    COUNTED(stage, requests_limited, 0);
    put_ack(stage, 49);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    COUNTED(stage, requests_limited, 0);
    stage->limits.limits_requests_per_second = 1000; /* far from the end */
    stage->session.rate.allowance.due_ns = (stage->now_ms + 1000) * 1000000;
    put_ack(stage, 49);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed");
    COUNTED(stage, requests_limited, 1);
}

static void who_is_over_his_limit_may_leave(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_requests_per_second = 1;
    stage_login(stage, 10, true);
    put_ping(stage, 1, 1);
    put_logout(stage, 2);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong #1 stamp=1", "10 consumed", "store END OFFLINE LOGOUT epoch=1 removed");
    stage_commit(stage, 0);
    COUNTED(stage, requests_limited, 0);
    COUNTED(stage, logouts, 1);
}

/* Who could not leave, because the store fails, and asks again at once pays as for any request. */
static void a_logout_before_its_time_is_not_free(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_requests_per_second = 2;
    stage->limits.limits_turn_messages = 100;
    stage_login(stage, 10, true);
    put_logout(stage, 1);
    stage_play(stage, 10);
    stage_commit(stage, -EIO);
    for (uint64_t id = 2; id < 6; id++)
        put_logout(stage, id);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #2 RATE_LIMITED retry=1000", "10 error #3 RATE_LIMITED retry=1000",
           "10 error #4 RATE_LIMITED retry=500", "10 error #5 RATE_LIMITED retry=500",
           "10 close RATE_LIMITED retry=1000", "10 release", "10 consumed", DETACH_PROTOCOL);
    COUNTED(stage, requests_limited, 2);
}

/* However the session ends: what its user has spent is his. */
static void a_rate_outlives_the_session(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_requests_per_second = 2;
    stage->settings.spent_rates = spent_create(env_system());
    stage_login(stage, 10, true);
    put_ping(stage, 1, 1);
    put_ping(stage, 2, 2);
    put_logout(stage, 3);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    stage_login(stage, 20, true);
    put_ping(stage, 1, 1);
    stage_play(stage, 20);
    EXPECT(stage, "20 error #1 RATE_LIMITED retry=500", "20 consumed");
    put_logout(stage, 2);
    stage_play(stage, 20);
    stage_commit(stage, 0);
    stage->now_ms += 1000;
    stage_login(stage, 30, true);
    put_ping(stage, 1, 1);
    put_ping(stage, 2, 2);
    stage_play(stage, 30);
    EXPECT(stage, "30 pong #1 stamp=1", "30 pong #2 stamp=2", "30 consumed");
    put_logout(stage, 3);
    stage_play(stage, 30);
    stage_commit(stage, 0);
    spent_destroy(stage->settings.spent_rates);
    stage->settings.spent_rates = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_turn_handles_a_limited_number),
        stage_test(batches_wait_in_order_and_share_the_budget),
        stage_test(frames_of_a_stale_connection_have_no_effect),
        stage_test(frames_of_a_detached_session_have_no_effect),
        stage_test(waiting_frames_of_a_replaced_connection_have_no_effect),
        stage_test(a_request_before_the_welcome_is_a_protocol_error),
        stage_test(a_broken_frame_ends_the_connection),
        stage_test(a_frame_without_a_known_body_is_answered),
        stage_test(a_second_login_ends_the_connection),
        stage_test(a_resume_on_a_live_connection_ends_it),
        stage_test(an_ack_beyond_what_was_sent_ends_the_connection),
        stage_test(nothing_is_handled_after_a_protocol_error),
        stage_test(a_ping_is_answered_with_or_without_an_id),
        stage_test(the_end_waits_for_what_was_sent_before_it),
        stage_test(a_slow_reader_ends_at_once),
        stage_test(frames_behind_a_logout_wait_and_go_with_the_session),
        stage_test(frames_behind_a_logout_that_failed_go_on),
        stage_test(a_flood_is_refused_and_then_ended),
        stage_test(who_is_over_his_limit_may_leave),
        stage_test(a_logout_before_its_time_is_not_free),
        stage_test(a_rate_outlives_the_session),
        stage_test(acks_of_new_messages_are_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
