/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/broker_frame.h"
#include "unit/actors/stage_user.h"

/* Calls of a user to services: limits, deadlines, answers in time, late and lost. */

static void a_call_is_answered_by_reply(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 7, 0);
    stage_play(stage, 10);
    EXPECT(stage, "call shop.buy user=ann #7 call=1 epoch=1 due=+5000 'p'", "10 consumed");
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 5000);
    stage_call_result(stage, 7, 1, 1, 0);
    EXPECT(stage, "10 reply #7 status=2 'sold'");
    stage_call_result(stage, 7, 1, 1, 0);
    EXPECT_NOTHING(stage);
    COUNTED(stage, calls_answered, 1);
    COUNTED(stage, replies_late, 1);
}

/* However it came this far: a client gets no frame that it was not told of. */
static void a_reply_fits_the_frame_or_is_an_error(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint32_t more = 0; more < 2; more++) {
        uint8_t payload[2048] = {0};
        struct bytes reply = {payload, stage->limits.limits_frame_bytes};
        while (broker_frame_reply_size(7, 2, reply) > stage->limits.limits_frame_bytes + more)
            reply.size--;
        put_call(stage, 7, 0);
        stage_play(stage, 10);
        struct call_result_message *result = call_result_create(0, 2, reply);
        result->request = 7;
        result->call = 1 + more;
        result->epoch = 1;
        stage_receive(stage, &result->header);
        if (more == 0)
            assert_non_null(strstr(stage->tape, "10 reply #7 status=2 <"));
        else
            EXPECT(stage, "10 error #7 TOO_LARGE");
    }
}

/* However often it asks for one that is a little earlier: those of a step share it. */
static void far_ticks_come_in_steps(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 1, 5099);
    stage_play(stage, 10);
    assert_int_equal(stage->timer_ms, STAGE_NOW_MS + 5100);
    put_call(stage, 2, 5051);
    stage_play(stage, 10);
    assert_int_equal(stage->timer_ms, STAGE_NOW_MS + 5100);
    put_call(stage, 3, 777); /* a near one is what was asked for */
    stage_play(stage, 10);
    assert_int_equal(stage->timer_ms, STAGE_NOW_MS + 777);
}

static void a_call_without_an_id_is_one_way(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 0, 0);
    stage_play(stage, 10);
    EXPECT(stage, "call shop.buy user=ann call=0 epoch=1 due=+5000 'p'", "10 consumed");
    assert_null(stage->session.requests);
    assert_int_equal(stage->timer_ms, 0);
}

static void the_timeout_is_the_clients_within_limits(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 1, 1);
    put_call(stage, 2, 20000);
    put_call(stage, 3, 20001);
    stage_play(stage, 10);
    EXPECT(stage, "call shop.buy user=ann #1 call=1 epoch=1 due=+1 'p'",
           "call shop.buy user=ann #2 call=2 epoch=1 due=+20000 'p'",
           "call shop.buy user=ann #3 call=3 epoch=1 due=+20000 'p'", "10 consumed");
}

static void each_call_has_its_own_deadline(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 1, 300);
    put_call(stage, 2, 100);
    put_send(stage, 3, "bob", "a Send has none");
    stage_play(stage, 10);
    assert_int_equal(stage->timer_ms, STAGE_NOW_MS + 100);
    stage_tick(stage, 0);
    EXPECT(stage, "10 error #2 TIMEOUT");
    assert_int_equal(stage->timer_ms, STAGE_NOW_MS + 300);
    stage->now_ms = STAGE_NOW_MS + 299;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "10 error #1 TIMEOUT");
    COUNTED(stage, calls_timed_out, 2);
    stage_result(stage, 3, 1, 0);
    EXPECT(stage, "10 done #3 epoch=33");
}

/* The id is free after the TIMEOUT: the late reply must not answer the next call under it. */
static void a_late_reply_is_dropped(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 7, 100);
    stage_play(stage, 10);
    stage_tick(stage, 0);
    EXPECT(stage, "10 error #7 TIMEOUT");
    put_call(stage, 7, 0);
    stage_play(stage, 10);
    stage_call_result(stage, 7, 1, 1, 0);
    EXPECT_NOTHING(stage);
    put_send(stage, 8, "bob", "hi");
    stage_play(stage, 10);
    stage_call_result(stage, 8, 1, 1, 0); /* an id that names a Send now */
    EXPECT_NOTHING(stage);
    stage_call_result(stage, 7, 2, 1, 0);
    EXPECT(stage, "10 reply #7 status=2 'sold'");
    COUNTED(stage, replies_late, 2);
}

static void a_reply_to_an_older_epoch_is_dropped(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 7, 0);
    stage_play(stage, 10);
    stage_login(stage, 20, true);
    stage_call_result(stage, 7, 1, 1, 0);
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0); /* nor does its deadline say anything */
    EXPECT_NOTHING(stage);
}

static void calls_in_flight_are_limited(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_calls_per_user = 3;
    stage_login(stage, 10, true);
    for (uint64_t id = 1; id <= stage->limits.limits_calls_per_user; id++)
        put_call(stage, id, 0);
    stage_play(stage, 10);
    assert_int_equal(requests_calls(stage->session.requests), 3);
    put_call(stage, 4, 0);
    put_call(stage, 0, 0);
    put_send(stage, 5, "bob", "is no call");
    stage_play(stage, 10);
    EXPECT(stage, "10 error #4 BUSY", "forward bob deliver #5 from=ann 'is no call'",
           "10 consumed");
    stage_call_result(stage, 1, 1, 1, 0);
    put_call(stage, 4, 0);
    stage_play(stage, 10);
    EXPECT(stage, "call shop.buy user=ann #4 call=4 epoch=1 due=+5000 'p'", "10 consumed");
}

/* Over all users; each way in which a call ends gives its place back. */
static void calls_of_all_users_are_limited(void **state)
{
    struct stage *stage = *state;
    atomic_store(&stage->counters.calls_waiting, stage->limits.link_calls_max - 1); /* of others */
    stage_login(stage, 10, true);
    put_call(stage, 1, 100);
    put_call(stage, 2, 0);
    stage_play(stage, 10);
    EXPECT(stage, "call shop.buy user=ann #1 call=1 epoch=1 due=+100 'p'", "10 error #2 BUSY",
           "10 consumed");
    stage_tick(stage, 0); /* timed out */
    put_call(stage, 2, 0);
    stage_play(stage, 10);
    stage_call_result(stage, 2, 2, 1, 0); /* answered */
    EXPECT(stage, "10 reply #2 status=2 'sold'");
    put_call(stage, 3, 0);
    stage_play(stage, 10);
    stage_login(stage, 20, true); /* dropped with its epoch */
    put_call(stage, 4, 0);
    put_call(stage, 0, 0); /* one way: takes no place, and finds none free */
    put_logout(stage, 9);
    stage_play(stage, 20);
    stage_commit(stage, 0); /* dropped with the session */
    assert_int_equal(atomic_load(&stage->counters.calls_waiting), stage->limits.link_calls_max - 1);
    COUNTED(stage, calls, 4);
    atomic_store(&stage->counters.calls_waiting, 0);
}

static void a_traceparent_goes_with_the_call_if_it_is_one(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_traced_call(stage, 7, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    stage_play(stage, 10);
    EXPECT(stage,
           "call shop.buy user=ann #7 call=1 epoch=1 due=+5000 '' "
           "trace=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
           "10 consumed");
    COUNTED(stage, traceparents_invalid, 0);
    put_traced_call(stage, 8, "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01");
    stage_play(stage, 10);
    EXPECT(stage, "call shop.buy user=ann #8 call=2 epoch=1 due=+5000 ''", "10 consumed");
    COUNTED(stage, traceparents_invalid, 1);
}

static void a_call_that_cannot_be_is_refused(void **state)
{
    char method[130];
    memset(method, 'm', sizeof(method));
    method[129] = '\0';
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage->limits.limits_frame_bytes = 1 << 16;
    size_t largest = stage->limits.link_frame_bytes - 512;
    put_call_of(stage, 1, "", "buy", 1, 0);
    put_call_of(stage, 2, "a shop", "buy", 1, 0);
    put_call_of(stage, 3, "shop", method, 1, 0);
    put_call_of(stage, 4, "shop", "buy", largest + 1, 0);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #1 INVALID_NAME", "10 error #2 INVALID_NAME",
           "10 error #3 INVALID_NAME", "10 error #4 TOO_LARGE", "10 consumed");
    assert_null(stage->session.requests);
    method[128] = '\0';
    put_call_of(stage, 3, "shop", method, largest, 0);
    stage_play(stage, 10);
    assert_int_equal(requests_calls(stage->session.requests), 1);
    COUNTED(stage, messages_refused, 4);
    COUNTED(stage, calls, 1);
}

static void a_call_under_an_id_in_flight_is_a_protocol_error(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "hi");
    put_call(stage, 7, 0);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #7 from=ann 'hi'", "10 error #7 PROTOCOL",
           "10 close PROTOCOL_ERROR", "10 release", "10 consumed",
           "store DETACH DETACHED PROTOCOL epoch=1 until=5060000");
}

static void every_failure_of_a_service_has_its_answer(void **state)
{
    static const struct {
        uint16_t code;
        const char *line;
    } rows[] = {
        {USHER__V1__ERROR__CODE__NO_SERVICE, "10 error #7 NO_SERVICE retry=1000"},
        {USHER__V1__ERROR__CODE__SERVICE_LOST, "10 error #7 SERVICE_LOST retry=1000"},
        {USHER__V1__ERROR__CODE__BUSY, "10 error #7 BUSY retry=100"},
    };
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_call(stage, 7, 0);
        stage_play(stage, 10);
        stage_call_result(stage, 7, i + 1, 1, rows[i].code);
        EXPECT(stage, rows[i].line);
    }
    COUNTED(stage, calls_lost, 3);
    COUNTED(stage, calls_answered, 0);
}

static void replies_and_timeouts_wait_for_a_resume(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 7, 100);
    put_call(stage, 8, 0);
    stage_play(stage, 10);
    stage_detach(stage);
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
    stage_call_result(stage, 8, 2, 1, 0);
    EXPECT_NOTHING(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1", "20 error #7 TIMEOUT",
           "20 reply #8 status=2 'sold'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_call_is_answered_by_reply),
        stage_test(a_reply_fits_the_frame_or_is_an_error),
        stage_test(far_ticks_come_in_steps),
        stage_test(a_call_without_an_id_is_one_way),
        stage_test(the_timeout_is_the_clients_within_limits),
        stage_test(each_call_has_its_own_deadline),
        stage_test(a_late_reply_is_dropped),
        stage_test(a_reply_to_an_older_epoch_is_dropped),
        stage_test(calls_in_flight_are_limited),
        stage_test(calls_of_all_users_are_limited),
        stage_test(a_traceparent_goes_with_the_call_if_it_is_one),
        stage_test(a_call_that_cannot_be_is_refused),
        stage_test(a_call_under_an_id_in_flight_is_a_protocol_error),
        stage_test(every_failure_of_a_service_has_its_answer),
        stage_test(replies_and_timeouts_wait_for_a_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
