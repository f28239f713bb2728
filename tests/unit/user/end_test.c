/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/bounce.h"
#include "unit/actors/stage_user.h"

/* How connections and sessions end, what the store has to say about it, and what becomes of a
 * message whose user is gone. */

/* --- a connection ends ------------------------------------------------------------------------ */

static void every_loss_has_its_close_and_its_cause(void **state)
{
    static const struct {
        enum loss loss;
        const char *close; /* NULL: nobody is there to read one */
        const char *change;
    } rows[] = {
        {LOSS_GONE, NULL, "store DETACH DETACHED LOST epoch=1 until=5060000"},
        {LOSS_PROTOCOL, "10 close PROTOCOL_ERROR",
         "store DETACH DETACHED PROTOCOL epoch=2 until=5060000"},
        {LOSS_TOO_LARGE, "10 close PROTOCOL_ERROR",
         "store DETACH DETACHED PROTOCOL epoch=3 until=5060000"},
        {LOSS_SILENT, "10 close HEARTBEAT_TIMEOUT",
         "store DETACH DETACHED HEARTBEAT epoch=4 until=5060000"},
        {LOSS_SLOW, "10 close SLOW_CONSUMER",
         "store DETACH DETACHED SLOW_CONSUMER epoch=5 until=5060000"},
    };
    struct stage *stage = *state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        stage_login(stage, 10, true);
        stage_conn_end(stage, 10, rows[i].loss);
        if (rows[i].close != NULL)
            EXPECT(stage, rows[i].close, "10 release", rows[i].change);
        else
            EXPECT(stage, "10 release", rows[i].change);
        assert_int_equal(stage->change->record.state, SESSION_DETACHED);
        stage_commit(stage, 0);
        EXPECT_NOTHING(stage);
        COUNTED(stage, sessions_online, 0);
        COUNTED(stage, sessions_detached, 1);
    }
    COUNTED(stage, detached, 5);
    COUNTED(stage, closed_heartbeat, 1);
    COUNTED(stage, closed_slow_consumer, 1);
}

static void the_late_end_of_another_connection_does_nothing(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_login(stage, 20, true);
    stage_conn_end(stage, 10, LOSS_GONE);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.conn, 20);
    stage_detach(stage);
    stage_conn_end(stage, 20, LOSS_SILENT); /* it is told twice */
    EXPECT_NOTHING(stage);
    stage_conn_end(stage, 0, LOSS_GONE);
    EXPECT_NOTHING(stage);
    COUNTED(stage, events_stale, 3);
}

static void a_detach_that_is_not_stored_is_tried_again(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_conn_end(stage, 10, LOSS_SILENT);
    stage_commit(stage, -EIO);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.status, SESSION_IS_ONLINE); /* as the store has it */
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 1000);
    stage_deliver(stage, 5, "meanwhile");
    EXPECT(stage, "to 901 result #5 OK epoch=1 asker=9");
    stage_tick(stage, 0);
    EXPECT(stage, "store DETACH DETACHED HEARTBEAT epoch=1 until=5060000");
    stage_commit(stage, -EIO);
    stage_tick(stage, 0);
    stage_commit(stage, 0);
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
    assert_int_equal(stage->session.deadline_ms, stage->now_ms + 60000); /* a full window */
    COUNTED(stage, detached, 1);
}

/* Silent for so long, when that may be so. */
static void lose_silent(struct stage *stage, uint64_t conn)
{
    struct conn_end_message *end = conn_end_create(conn, LOSS_SILENT);
    end->limit = "session.heartbeat_ms";
    end->bound = 30000;
    end->value = 91234;
    stage_receive(stage, &end->header);
}

static void is_noted(struct stage *stage, uint64_t value)
{
    const struct change_note *note = &stage->change->note;
    if (value == 0) {
        assert_null(note->limit);
        assert_int_equal(note->bound, 0);
    } else {
        assert_string_equal(note->limit, "session.heartbeat_ms");
        assert_int_equal(note->bound, 30000);
    }
    assert_int_equal(note->value, value);
}

/* What the history is told is the first loss, however often it takes to store it, also of one of
 * whom nothing else is known; and not of the next. */
static void a_retry_says_why_the_connection_was_lost(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    lose_silent(stage, 10);
    for (int i = 0; i < 3; i++) {
        is_noted(stage, 91234);
        assert_string_equal(stage->change->event.address, "10.0.0.10:7");
        stage_commit(stage, -EIO);
        stage_tick(stage, 0);
    }
    is_noted(stage, 91234);
    stage_commit(stage, 0);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    stage_conn_end(stage, 20, LOSS_GONE);
    is_noted(stage, 0);
    assert_string_equal(stage->change->note.detail, "the client closed the connection");
    stage_commit(stage, -EIO);
    stage_tick(stage, 0);
    assert_string_equal(stage->change->note.detail, "the client closed the connection");
    stage_commit(stage, -EIO);
    stage_resume(stage, 30, 0); /* he is back before it is stored */
    stage_commit(stage, 0);
    assert_false(stage->session.noted);
    session_set_details(&stage->session, "", "");
    assert_null(stage->session.details);
    lose_silent(stage, 30);
    stage_commit(stage, -EIO);
    assert_string_equal(session_address(&stage->session), "");
    assert_string_equal(session_client(&stage->session), "");
    stage_tick(stage, 0);
    is_noted(stage, 91234);
    stage_commit(stage, -EIO); /* it is freed with the session */
}

static void who_comes_back_before_the_retry_ends_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_conn_end(stage, 10, LOSS_GONE);
    stage_commit(stage, -EIO);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1");
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.conn, 20);
    COUNTED(stage, sessions_online, 1);
}

/* --- the window ends -------------------------------------------------------------------------- */

static void the_window_ends_the_session(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 60000);
    stage->now_ms = STAGE_NOW_MS + 59999;
    stage_bare(stage, MESSAGE_TICK); /* some other tick, a moment too early */
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "retire");
    assert_int_equal(stage->session.status, SESSION_NONE);
    COUNTED(stage, expired, 1);
    COUNTED(stage, sessions_detached, 0);
}

static void an_expiry_that_is_not_stored_is_tried_again(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_tick(stage, 0);
    stage_commit(stage, -ENOSPC);
    EXPECT_NOTHING(stage);
    EXPECT_TICK_FOR(stage, stage->now_ms + 1000);
    stage_resume(stage, 20, 0); /* until it is stored, the session is there */
    stage_commit(stage, -ENOSPC);
    EXPECT(stage, "20 unbind error #1 UNAVAILABLE retry=1018");
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "retire");
}

/* --- the token ends (auth.session_ends) ------------------------------------------------------- */

enum { TOKEN_MS = 90000 };

static void login_for(struct stage *stage, uint64_t conn, uint64_t token_ms)
{
    stage->settings.ends_with_token = true;
    stage->token_ends_ms = stage->wall_ms + token_ms;
    stage_login(stage, conn, true);
}

static void a_session_ends_with_its_token(void **state)
{
    struct stage *stage = *state;
    stage->settings.ends_with_token = true;
    stage->token_ends_ms = STAGE_WALL_MS + TOKEN_MS;
    stage_attach(stage, 10, true);
    assert_int_equal(stage->change->record.token_ends_ms, STAGE_WALL_MS + TOKEN_MS);
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=1 FRESH next=1 token=90000");
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + TOKEN_MS);
    stage->now_ms = STAGE_NOW_MS + TOKEN_MS - 1;
    stage_bare(stage, MESSAGE_TICK); /* some other tick, a moment too early */
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE TOKEN_EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "10 close TOKEN_EXPIRED", "10 release", "retire");
    COUNTED(stage, token_expired, 1);
    COUNTED(stage, expired, 0);
    COUNTED(stage, sessions_online, 0);
}

static void without_the_option_it_is_only_remembered(void **state)
{
    struct stage *stage = *state;
    login_for(stage, 10, TOKEN_MS);
    stage->settings.ends_with_token = false;
    stage_login(stage, 20, true);
    EXPECT(stage, "10 close REPLACED do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=2 FRESH next=1");
    stage->now_ms += TOKEN_MS;
    stage->wall_ms += TOKEN_MS;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    stage_conn_end(stage, 20, LOSS_GONE);
    assert_int_equal(stage->change->record.token_ends_ms, STAGE_WALL_MS + TOKEN_MS);
    stage_commit(stage, 0);
}

/* While it is detached too, and earlier than its window; up to then it can be resumed. */
static void who_is_away_has_his_token_s_time(void **state)
{
    struct stage *stage = *state;
    login_for(stage, 10, TOKEN_MS);
    stage->now_ms += TOKEN_MS - 1000;
    stage->wall_ms += TOKEN_MS - 1000;
    stage_conn_end(stage, 10, LOSS_GONE);
    assert_int_equal(stage->change->record.token_ends_ms, STAGE_WALL_MS + TOKEN_MS);
    stage_commit(stage, 0);
    stage->now_ms += 999;
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1 token=1");
    stage_detach(stage);
    stage->now_ms += 1;
    stage_resume(stage, 30, 0);
    EXPECT(stage, "30 unbind error #1 RESUME_REJECTED");
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE TOKEN_EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "retire");
    COUNTED(stage, sessions_detached, 0);
    COUNTED(stage, token_expired, 1);
}

/* The newest login decides, for better or worse. */
static void a_takeover_brings_its_own_token(void **state)
{
    struct stage *stage = *state;
    login_for(stage, 10, TOKEN_MS);
    login_for(stage, 20, 2 * TOKEN_MS);
    stage_tick(stage, 0); /* the first one's */
    EXPECT_NOTHING(stage);
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 2 * TOKEN_MS);
    stage->token_ends_ms = 0; /* with open authentication */
    stage_login(stage, 30, true);
    EXPECT(stage, "20 close REPLACED do_not_return", "20 release", "30 welcomed",
           "30 welcome #1 epoch=3 FRESH next=1");
    stage->now_ms += 10 * TOKEN_MS;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
}

/* A wall clock that is set ends nobody's session and prolongs none. */
static void the_wall_clock_does_not_matter(void **state)
{
    struct stage *stage = *state;
    login_for(stage, 10, TOKEN_MS);
    stage->wall_ms += (uint64_t)365 * 86400 * 1000;
    stage->now_ms += TOKEN_MS - 1;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    stage->wall_ms = 1000;
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE TOKEN_EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
}

static void an_end_that_is_not_stored_is_tried_again(void **state)
{
    struct stage *stage = *state;
    login_for(stage, 10, TOKEN_MS);
    stage_tick(stage, 0);
    stage_commit(stage, -ENOSPC);
    EXPECT_NOTHING(stage); /* as long as nobody can log in, nobody is thrown out either */
    assert_int_equal(stage->session.conn, 10);
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + TOKEN_MS + 1000);
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE TOKEN_EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "10 close TOKEN_EXPIRED", "10 release", "retire");
    COUNTED(stage, token_expired, 1);
}

/* Over a restart the end is what the store says of it, also when it has passed meanwhile. */
static void a_restart_forgets_no_token(void **state)
{
    struct stage *stage = *state;
    stage->settings.ends_with_token = true;
    stage->token_ends_ms = STAGE_WALL_MS + 20000;
    stage_restore(stage, 6, true);
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 20000);
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE TOKEN_EXPIRED epoch=6 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "retire");
    stage->token_ends_ms = STAGE_WALL_MS - 1;
    stage_restore(stage, 7, true);
    stage_resume(stage, 20, 0);
    EXPECT(stage, "20 unbind error #1 RESUME_REJECTED");
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE TOKEN_EXPIRED epoch=7 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "retire");
}

/* Nobody can come back then, with whatever token; and no tick is asked for again and again. */
static void a_broker_that_stops_ends_nobody_s_session(void **state)
{
    struct stage *stage = *state;
    login_for(stage, 10, TOKEN_MS);
    stage_stop(stage);
    stage_commit(stage, 0);
    stage->now_ms += TOKEN_MS;
    stage->timer_ms = 0;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
    assert_int_equal(stage->timer_ms, 0);
}

/* --- Logout ----------------------------------------------------------------------------------- */

static void a_logout_is_done_then_closed(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_send(stage, 7, "bob", "in flight");
    put_logout(stage, 5);
    stage_play(stage, 10);
    EXPECT(stage, "forward bob deliver #7 from=ann 'in flight'", "10 consumed",
           "store END OFFLINE LOGOUT epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "10 done #5 epoch=1", "10 close LOGGED_OUT", "10 release", "retire");
    COUNTED(stage, logouts, 1);
    COUNTED(stage, sessions_online, 0);
}

static void a_logout_without_an_id_is_closed(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_logout(stage, 0);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    EXPECT(stage, "10 close LOGGED_OUT", "10 release", "retire");
}

static void a_logout_that_is_not_stored_leaves_the_session(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 6, "one");
    put_logout(stage, 5);
    stage_play(stage, 10);
    stage_commit(stage, -EIO);
    EXPECT(stage, "10 error #5 UNAVAILABLE retry=1000");
    assert_int_equal(stage->session.inbox->count, 1);
    stage->now_ms += 1000;
    put_logout(stage, 5);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    EXPECT(stage, "10 done #5 epoch=1", "10 close LOGGED_OUT", "10 release", "retire");
}

/* While the store fails a Logout is one more transaction, so it is tried when its time has come. */
static void a_logout_before_its_time_is_no_try(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_logout(stage, 5);
    stage_play(stage, 10);
    stage_commit(stage, -EIO);
    EXPECT(stage, "10 error #5 UNAVAILABLE retry=1000");
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 1000);
    stage->now_ms += 999;
    put_logout(stage, 6);
    put_logout(stage, 7);
    stage_play(stage, 10);
    EXPECT(stage, "10 error #6 RATE_LIMITED retry=1", "10 error #7 RATE_LIMITED retry=1",
           "10 consumed");
    stage->now_ms++;
    put_logout(stage, 8);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed", "store END OFFLINE LOGOUT epoch=1 removed");
    stage_commit(stage, -EIO);
    EXPECT(stage, "10 error #8 UNAVAILABLE retry=1000");
    stage_tick(stage, 0); /* of the first time */
    stage_tick(stage, 0); /* nobody but him asks for it */
    EXPECT_NOTHING(stage);
    put_logout(stage, 9);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    EXPECT(stage, "10 done #9 epoch=1", "10 close LOGGED_OUT", "10 release", "retire");
}

/* His connection is lost while he waits to log out: that is stored as always. */
static void a_logout_that_waits_holds_up_no_loss(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_logout(stage, 5);
    stage_play(stage, 10);
    stage_commit(stage, -EIO);
    stage_conn_end(stage, 10, LOSS_GONE);
    stage_commit(stage, 0);
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
    assert_int_equal(stage->session.deadline_ms, stage->now_ms + 60000);
}

/* --- Kick ------------------------------------------------------------------------------------- */

static void a_kick_answers_and_closes(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_receive(stage, &kick_create(1)->header);
    EXPECT(stage, "store END OFFLINE KICKED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #44 OK epoch=1", "10 close KICKED retry=500 do_not_return",
           "10 release", "retire");
    COUNTED(stage, kicked, 1);
    COUNTED(stage, sessions_online, 0);
}

static void a_kick_of_a_detached_session_ends_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_receive(stage, &kick_create(0)->header);
    EXPECT(stage, "store END OFFLINE KICKED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #44 OK epoch=1", "retire");
    COUNTED(stage, sessions_detached, 0);
}

static void a_kick_of_another_epoch_spares_this_one(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_login(stage, 20, true);
    stage_receive(stage, &kick_create(1)->header);
    EXPECT(stage, "to 901 result #44 STALE_EPOCH epoch=2");
    stage_receive(stage, &kick_create(3)->header);
    EXPECT(stage, "to 901 result #44 STALE_EPOCH epoch=2");
    assert_int_equal(stage->session.conn, 20);
}

static void a_kick_that_is_not_stored_leaves_the_session(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_receive(stage, &kick_create(0)->header);
    stage_commit(stage, -EIO);
    EXPECT(stage, "to 901 result #44 UNAVAILABLE epoch=1");
    assert_int_equal(stage->session.conn, 10);
}

/* --- the inbox is given up -------------------------------------------------------------------- */

static void whoever_asked_for_delivered_hears_that_it_was_not(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 5, "sent, not acknowledged");
    stage_detach(stage);
    stage_deliver_until(stage, 6, "not sent");
    stage_deliver_until(stage, 0, "nobody asks");
    stage_tick(stage, 0); /* their age comes before the end of the window */
    EXPECT(stage, "to 901 result #5 UNDELIVERED epoch=0 asker=9",
           "to 901 result #6 UNDELIVERED epoch=0 asker=9");
    stage_deliver_until(stage, 7, "at the end");
    stage->limits.limits_inbox_age_ms = 0; /* no limit */
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE EXPIRED epoch=1 removed");
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #7 UNDELIVERED epoch=0 asker=9", "retire");
}

static void each_end_gives_the_inbox_up(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 5, "one");
    put_logout(stage, 9);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    EXPECT(stage, "10 done #9 epoch=1", "10 close LOGGED_OUT", "10 release",
           "to 901 result #5 UNDELIVERED epoch=0 asker=9", "retire");
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 6, "two");
    stage_receive(stage, &kick_create(0)->header);
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #44 OK epoch=2", "10 close KICKED retry=500 do_not_return",
           "10 release", "to 901 result #6 UNDELIVERED epoch=0 asker=9", "retire");
}

static void a_message_lives_as_long_as_its_age(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 5, "one");
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 30000);
    stage->now_ms += 10000;
    stage_deliver_until(stage, 6, "two");
    stage->now_ms = STAGE_NOW_MS + 29999;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "to 901 result #5 UNDELIVERED epoch=0 asker=9");
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 40000); /* of the next one */
    assert_int_equal(stage->session.inbox->count, 1);
}

/* --- an actor without a session --------------------------------------------------------------- */

static void a_message_for_nobody_is_answered_and_the_actor_goes(void **state)
{
    struct stage *stage = *state;
    stage_deliver(stage, 5, "hi");
    EXPECT(stage, "to 901 result #5 NOT_ONLINE epoch=0 asker=9", "retire");
    stage_receive(stage, &kick_create(0)->header);
    EXPECT(stage, "to 901 result #44 NOT_ONLINE epoch=0", "retire");
    stage_bare(stage, MESSAGE_TICK);
    EXPECT(stage, "retire");
    stage_result(stage, 7, 1, 0);
    EXPECT(stage, "retire");
    stage_call_result(stage, 7, 1, 1, 0);
    EXPECT(stage, "retire");
    put_ping(stage, 1, 1);
    stage_play(stage, 10);
    EXPECT(stage, "10 consumed", "retire");
}

/* --- a socket that can be written again ------------------------------------------------------- */

static void only_the_bound_connection_is_flushed(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t conn = 10; conn <= 20; conn += 10) {
        struct writable_message *writable = message_create(MESSAGE_WRITABLE, sizeof(*writable));
        writable->conn = conn;
        writable->go_on = false;
        stage_receive(stage, &writable->header);
        if (conn == 10)
            EXPECT(stage, "10 flush");
        else
            EXPECT_NOTHING(stage);
    }
}

/* --- bounced ---------------------------------------------------------------------------------- */

static void stage_bounce(struct stage *stage, struct message *message)
{
    stage_begin(stage);
    bounce(message, &stage->turn);
    stage_end(stage);
}

static void stage_bounce_bare(struct stage *stage, enum message_kind kind)
{
    stage_bounce(stage, message_create(kind, sizeof(struct message)));
}

static void who_waits_for_a_bounced_message_is_answered(void **state)
{
    struct stage *stage = *state;
    stage_bounce(stage, &deliver_from_bob(stage, 5, "hi")->header);
    EXPECT(stage, "to 901 result #5 NOT_ONLINE epoch=0 asker=9");
    stage_bounce(stage, &deliver_from_bob(stage, 0, "hi")->header);
    EXPECT_NOTHING(stage);
    stage_bounce(stage, &kick_create(3)->header);
    EXPECT(stage, "to 901 result #44 NOT_ONLINE epoch=0");
    stage_bounce(stage, &resume_create(stage, 30, 0)->header);
    EXPECT(stage, "30 unbind error #1 RESUME_REJECTED");
    put_ping(stage, 1, 1);
    stage_bounce(stage, &frames_create(stage, 30, true)->header);
    EXPECT(stage, "30 consumed");
    struct user_call_message *call = user_call_create(bytes_of_text("ann"), bytes_of_text("shop"),
                                                      bytes_of_text("buy"), bytes_of_text("x"));
    call->call = 3;
    call->deadline_ms = stage->now_ms + 10;
    stage_bounce(stage, &call->header);
    EXPECT(stage, "call shop.buy user=ann call=3 epoch=0 due=+10 'x'");
    struct link_request_message *request = message_create(MESSAGE_LINK_REQUEST, sizeof(*request));
    request->exchange = 50;
    request->size = 0;
    stage_bounce(stage, &request->header);
    EXPECT(stage, "answer 50 refused STALE_LINK");
    COUNTED(stage, events_stale, 7);
}

static void nobody_waits_for_the_others(void **state)
{
    static const enum message_kind kinds[] = {
        MESSAGE_MORE_FRAMES, MESSAGE_CONN_END,   MESSAGE_WRITABLE, MESSAGE_CALL_RESULT,
        MESSAGE_RESULT,      MESSAGE_LINK_GONE,  MESSAGE_PRESENCE, MESSAGE_QUERY_RESULT,
        MESSAGE_JOINED,      MESSAGE_PUSHED_ALL, MESSAGE_TICK,     MESSAGE_RESTORE,
        MESSAGE_STOP};
    struct stage *stage = *state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        stage_bounce_bare(stage, kinds[i]);
        EXPECT_NOTHING(stage);
    }
}

/* A link id whose slot now belongs to a user. */
static void a_backend_request_to_a_user_is_refused(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    struct link_request_message *request = message_create(MESSAGE_LINK_REQUEST, sizeof(*request));
    request->exchange = 50;
    request->size = 0;
    stage_receive(stage, &request->header);
    EXPECT(stage, "answer 50 refused STALE_LINK");
    assert_int_equal(stage->session.conn, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(every_loss_has_its_close_and_its_cause),
        stage_test(the_late_end_of_another_connection_does_nothing),
        stage_test(a_detach_that_is_not_stored_is_tried_again),
        stage_test(a_retry_says_why_the_connection_was_lost),
        stage_test(who_comes_back_before_the_retry_ends_it),
        stage_test(the_window_ends_the_session),
        stage_test(an_expiry_that_is_not_stored_is_tried_again),
        stage_test(a_session_ends_with_its_token),
        stage_test(without_the_option_it_is_only_remembered),
        stage_test(who_is_away_has_his_token_s_time),
        stage_test(a_takeover_brings_its_own_token),
        stage_test(the_wall_clock_does_not_matter),
        stage_test(an_end_that_is_not_stored_is_tried_again),
        stage_test(a_restart_forgets_no_token),
        stage_test(a_broker_that_stops_ends_nobody_s_session),
        stage_test(a_logout_is_done_then_closed),
        stage_test(a_logout_without_an_id_is_closed),
        stage_test(a_logout_that_is_not_stored_leaves_the_session),
        stage_test(a_logout_before_its_time_is_no_try),
        stage_test(a_logout_that_waits_holds_up_no_loss),
        stage_test(a_kick_answers_and_closes),
        stage_test(a_kick_of_a_detached_session_ends_it),
        stage_test(a_kick_of_another_epoch_spares_this_one),
        stage_test(a_kick_that_is_not_stored_leaves_the_session),
        stage_test(whoever_asked_for_delivered_hears_that_it_was_not),
        stage_test(each_end_gives_the_inbox_up),
        stage_test(a_message_lives_as_long_as_its_age),
        stage_test(a_message_for_nobody_is_answered_and_the_actor_goes),
        stage_test(only_the_bound_connection_is_flushed),
        stage_test(who_waits_for_a_bounced_message_is_answered),
        stage_test(nobody_waits_for_the_others),
        stage_test(a_backend_request_to_a_user_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
