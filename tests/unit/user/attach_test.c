/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/proof.h"
#include "unit/actors/stage_user.h"

#include "actors/proof.h"

/* Login, takeover, resume: one act, binding a connection to the user's session, and its two
 * steps, asked of the store and told to the client. */

/* --- login ------------------------------------------------------------------------------------ */

static void a_login_says_nothing_before_it_is_stored(void **state)
{
    struct stage *stage = *state;
    stage_attach(stage, 10, true);
    EXPECT(stage, "store ATTACH ONLINE LOGIN epoch=1");
    const struct session_record *record = &stage->change->record;
    assert_int_equal(record->epoch, 1);
    assert_int_equal(record->state, SESSION_ONLINE);
    assert_int_equal(record->since_ms, STAGE_WALL_MS);
    assert_true(record->acks);
    assert_string_equal(record->address, "10.0.0.10:7");
    assert_string_equal(record->client, "client of 10");
    assert_string_equal(record->transport, "tls");
    assert_string_equal(stage->change->event.address, "10.0.0.10:7");
    assert_string_equal(stage->change->event.client, "client of 10");
    uint8_t secret[SECRET_BYTES];
    memcpy(secret, record->secret, SECRET_BYTES);
    assert_int_not_equal(secret[0], 0);
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=1 FRESH next=1");
    assert_memory_equal(stage->secret, secret, SECRET_BYTES);
    assert_string_equal(session_address(&stage->session), "10.0.0.10:7");
    assert_string_equal(session_client(&stage->session), "client of 10");
    COUNTED(stage, logins, 1);
    COUNTED(stage, sessions_online, 1);
}

static uint64_t proof_of(const struct stage *stage, uint64_t epoch)
{
    return proof_of_resume(stage->settings.proof_key, epoch,
                           (struct bytes){stage->session.secret, SECRET_BYTES});
}

/* Before the Welcome, so that a resume at once finds it. */
static void each_secret_is_shown_before_anybody_is_told_it(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    assert_int_equal(stage->welcome_proof, proof_of(stage, 1));
    stage_attach(stage, 20, true);
    assert_int_equal(stage->proof, stage->welcome_proof); /* not stored yet: the old one is good */
    stage_commit(stage, 0);
    assert_int_equal(stage->welcome_proof, proof_of(stage, 2));
    stage_detach(stage);
    stage_resume(stage, 30, 0);
    stage_commit(stage, 0);
    assert_int_equal(stage->proof, proof_of(stage, 2));
}

static void epochs_go_on_from_the_last_one(void **state)
{
    struct stage *stage = *state;
    atomic_store(&stage->counters.epoch_last, 41);
    stage_attach(stage, 10, true);
    EXPECT(stage, "store ATTACH ONLINE LOGIN epoch=42");
    stage_commit(stage, -ENOSPC);
    stage_attach(stage, 10, true);
    EXPECT(stage, "store ATTACH ONLINE LOGIN epoch=43"); /* one that failed is used up */
}

static void a_first_login_that_is_not_stored_leaves_nobody(void **state)
{
    struct stage *stage = *state;
    stage_attach(stage, 10, true);
    stage_commit(stage, -EIO);
    EXPECT(stage, "10 unbind error #1 UNAVAILABLE retry=1018", "retire");
    assert_int_equal(stage->session.status, SESSION_NONE);
    COUNTED(stage, logins, 0);
    COUNTED(stage, sessions_online, 0);
}

/* --- takeover --------------------------------------------------------------------------------- */

static void the_old_connection_is_closed_before_the_welcome(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    uint8_t secret = stage->secret[0];
    stage_attach(stage, 20, true);
    EXPECT(stage, "store ATTACH ONLINE TAKEOVER epoch=2 previous=1");
    stage_commit(stage, 0);
    EXPECT(stage, "10 close REPLACED do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=2 FRESH next=1");
    assert_int_not_equal(stage->secret[0], secret); /* each epoch its own */
    COUNTED(stage, takeovers, 1);
    COUNTED(stage, logins, 2);
    COUNTED(stage, sessions_online, 1);
}

static void a_takeover_that_is_not_stored_disturbs_nobody(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    struct session before = stage->session;
    stage_attach(stage, 20, false);
    stage_commit(stage, -EIO);
    EXPECT(stage, "20 unbind error #1 UNAVAILABLE retry=1027");
    assert_memory_equal(&before, &stage->session, sizeof(before));
    put_ping(stage, 2, 3);
    stage_play(stage, 10);
    EXPECT(stage, "10 pong #2 stamp=3", "10 consumed");
    COUNTED(stage, takeovers, 0);
}

static void a_takeover_inherits_what_was_not_acknowledged(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    stage_deliver(stage, 6, "two");
    stage_deliver_until(stage, 7, "three");
    put_ack(stage, 1);
    stage_play(stage, 10);
    stage_attach(stage, 20, true);
    stage_commit(stage, 0);
    EXPECT(stage, "10 close REPLACED do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=2 FRESH next=1", "20 message 1 from=bob 'two' again",
           "20 message 2 from=bob 'three' again");
    put_ack(stage, 2);
    stage_play(stage, 20);
    EXPECT(stage, "to 901 result #7 OK epoch=2 asker=9", "20 consumed");
    stage_deliver(stage, 8, "four");
    EXPECT(stage, "to 901 result #8 OK epoch=2 asker=9", "20 message 3 from=bob 'four'");
}

/* Without acks what is handed over is done with, and DELIVERED is true then. */
static void a_takeover_without_acks_takes_the_inbox_over_once(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 7, "one");
    stage_attach(stage, 20, false);
    stage_commit(stage, 0);
    EXPECT(stage, "10 close REPLACED do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=2 FRESH next=1", "20 message 1 from=bob 'one' again",
           "to 901 result #7 OK epoch=2 asker=9");
    assert_null(stage->session.inbox);
}

static void a_takeover_of_a_detached_session_closes_nobody(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_deliver(stage, 5, "one");
    stage_attach(stage, 20, true);
    EXPECT(stage, "store ATTACH ONLINE TAKEOVER epoch=2 previous=1");
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=2 FRESH next=1",
           "20 message 1 from=bob 'one' again");
    COUNTED(stage, sessions_online, 1);
    COUNTED(stage, sessions_detached, 0);
}

/* The window of the old session was running; it must not end the new one. */
static void an_old_window_does_not_end_a_new_session(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_login(stage, 20, true);
    assert_int_equal(stage->session.deadline_ms, 0);
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.conn, 20);
}

/* --- stopping --------------------------------------------------------------------------------- */

static void a_stop_detaches_and_lets_nobody_in(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_stop(stage);
    EXPECT(stage, "10 close SHUTDOWN retry=700", "10 release",
           "store DETACH DETACHED SHUTDOWN epoch=1 until=5060000");
    stage_commit(stage, 0);
    EXPECT_NOTHING(stage);
    stage_attach(stage, 20, true);
    EXPECT(stage, "20 error #1 DRAINING retry=1018", "20 close SHUTDOWN retry=1018", "20 release");
    /* Nor rejected, right or wrong: the session will be there again. */
    stage_resume(stage, 30, 0);
    EXPECT(stage, "30 error #1 DRAINING retry=1027", "30 close SHUTDOWN retry=1027", "30 release");
    assert_int_equal(stage->session.epoch, 1);
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
}

static void a_stop_answers_what_is_in_flight(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    put_call(stage, 8, 0);
    put_send(stage, 7, "bob", "hi");
    stage_play(stage, 10);
    assert_int_equal(atomic_load(&stage->counters.calls_waiting), 1);
    stage_stop(stage);
    EXPECT(stage, "10 error #8 DRAINING", "10 error #7 DRAINING", "10 close SHUTDOWN retry=700",
           "10 release", "store DETACH DETACHED SHUTDOWN epoch=1 until=5060000");
    assert_int_equal(atomic_load(&stage->counters.calls_waiting), 0);
    stage_commit(stage, 0);
    stage_result(stage, 7, 1, 0); /* too late: it has had its answer */
    EXPECT_NOTHING(stage);
}

/* --- fights ----------------------------------------------------------------------------------- */

static void takeovers_from_one_address_are_damped(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_takeovers_per_minute = 2;
    stage_login(stage, 10, true); /* nobody is thrown out */
    stage_login(stage, 10, true);
    stage_login(stage, 10, true);
    stage_attach(stage, 10, true);
    EXPECT(stage, "10 unbind error #1 RATE_LIMITED retry=30000");
    assert_int_equal(stage->session.epoch, 3); /* and the one who is there stays */
    /* A resume throws somebody out as well. */
    stage_resume(stage, 10, 0);
    EXPECT(stage, "10 unbind error #1 RATE_LIMITED retry=30000");
    /* One who comes from elsewhere is not hindered. */
    stage_login(stage, 20, true);
    /* It passes, one after the other. */
    stage->now_ms += 30000;
    stage_login(stage, 10, true);
    stage_attach(stage, 10, true);
    EXPECT(stage, "10 unbind error #1 RATE_LIMITED retry=30000");
}

static void a_logout_does_not_end_a_fight(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_takeovers_per_minute = 1;
    stage->settings.spent_fights = spent_create(env_system());
    stage_login(stage, 20, true);
    stage_login(stage, 10, true);
    put_logout(stage, 1);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    stage_login(stage, 20, true);
    stage_attach(stage, 10, true);
    EXPECT(stage, "10 unbind error #1 RATE_LIMITED retry=60000");
    spent_destroy(stage->settings.spent_fights);
    stage->settings.spent_fights = NULL;
}

static void one_who_is_not_connected_is_never_damped(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_takeovers_per_minute = 1;
    for (unsigned i = 0; i < 5; i++) {
        stage_login(stage, 10, true);
        stage_detach(stage);
    }
    stage_login(stage, 10, true);
    stage_login(stage, 10, true);
    stage_attach(stage, 10, true);
    EXPECT(stage, "10 unbind error #1 RATE_LIMITED retry=60000");
}

/* --- restored --------------------------------------------------------------------------------- */

static struct deliver_message *saved_message(uint64_t seq, const char *payload, uint64_t age_ms,
                                             bool sent)
{
    struct deliver_message *message = deliver_create(bytes_of_text("bob"), bytes_of_text(payload));
    assert_non_null(message);
    message->seq = seq;
    message->arrived_ms = age_ms;
    message->sent = sent;
    return message;
}

static void restore_saved(struct stage *stage)
{
    struct restore_message *restore = restore_create(stage, 7, true);
    restore->saved = true;
    restore->unnumbered = false;
    restore->next_seq = 6;
    restore->inbox = saved_message(4, "four", 20000, true);
    restore->inbox->header.next = &saved_message(5, "five", 0, false)->header;
    stage_receive(stage, &restore->header);
}

static void a_saved_inbox_goes_on_where_it_was(void **state)
{
    struct stage *stage = *state;
    restore_saved(stage);
    stage_deliver(stage, 1, "six");
    stage_resume(stage, 10, 3);
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=7 COMPLETE next=4",
           "10 message 4 from=bob 'four' again", "10 message 5 from=bob 'five'",
           "10 message 6 from=bob 'six'");
}

static void a_saved_inbox_knows_what_cannot_be(void **state)
{
    struct stage *stage = *state;
    restore_saved(stage);
    stage_resume(stage, 10, 6); /* never sent */
    EXPECT(stage, "10 unbind error #1 RESUME_REJECTED");
    stage_resume(stage, 10, 2); /* 3 was acknowledged, or given up */
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=7 PARTIAL next=4",
           "10 message 4 from=bob 'four' again", "10 message 5 from=bob 'five'");
}

static void a_login_inherits_a_saved_inbox(void **state)
{
    struct stage *stage = *state;
    atomic_store(&stage->counters.epoch_last, 7);
    restore_saved(stage);
    stage_attach(stage, 10, true);
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=8 FRESH next=1",
           "10 message 1 from=bob 'four' again", "10 message 2 from=bob 'five' again");
}

/* What it had waited for before counts. */
static void a_saved_message_grows_old(void **state)
{
    struct stage *stage = *state;
    restore_saved(stage);
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 10000);
    stage_tick(stage, 0);
    stage_resume(stage, 10, 3);
    stage_commit(stage, 0);
    EXPECT(stage, "10 welcomed", "10 welcome #1 epoch=7 PARTIAL next=5",
           "10 message 5 from=bob 'five'");
}

static void a_stop_of_a_detached_session_changes_nothing(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_stop(stage);
    EXPECT_NOTHING(stage);
    stage_tick(stage, 60000); /* its window ends, and he could not come back in it */
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.status, SESSION_IS_DETACHED);
}

/* --- resume ----------------------------------------------------------------------------------- */

/* By login and resume, and of who is away what it was last. */
static void it_is_known_by_what_he_came(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_conn_end(stage, 10, LOSS_GONE);
    assert_string_equal(stage->change->record.transport, "tls");
    stage_commit(stage, 0);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    stage_conn_end(stage, 20, LOSS_GONE);
    assert_string_equal(stage->change->record.transport, "tcp");
    stage_commit(stage, 0);
}

static void a_resume_replays_what_comes_after_last_seq(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver_until(stage, 5, "one");
    stage_deliver(stage, 6, "two");
    stage_detach(stage);
    stage_deliver(stage, 7, "three");
    stage_resume(stage, 20, 1);
    EXPECT(stage, "store RESUME RESUMED UNKNOWN epoch=1");
    assert_string_equal(stage->change->record.address, "10.0.0.20:7");
    assert_string_equal(stage->change->record.transport, "tcp");
    assert_string_equal(stage->change->record.client, "client of 10");
    assert_int_equal(stage->change->record.state, SESSION_ONLINE);
    stage_commit(stage, 0);
    EXPECT(stage, "to 901 result #5 OK epoch=1 asker=9", /* last_seq acknowledges */
           "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=2",
           "20 message 2 from=bob 'two' again", "20 message 3 from=bob 'three'");
    assert_string_equal(session_address(&stage->session), "10.0.0.20:7");
    assert_string_equal(session_client(&stage->session), "client of 10");
    assert_int_equal(stage->session.inbox->count, 2);
    COUNTED(stage, resumes, 1);
    COUNTED(stage, sessions_online, 1);
    COUNTED(stage, sessions_detached, 0);
    COUNTED(stage, messages_redelivered, 1);
}

static void a_resume_with_nothing_to_replay_is_complete(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1");
    stage_tick(stage, 0); /* the window that was running */
    EXPECT_NOTHING(stage);
}

static void a_resume_from_before_what_was_acknowledged_is_partial(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    stage_deliver(stage, 6, "two");
    put_ack(stage, 1);
    stage_play(stage, 10);
    stage_detach(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 PARTIAL next=2",
           "20 message 2 from=bob 'two' again");
}

static void a_resume_after_messages_grew_too_old_is_partial(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_deliver_until(stage, 5, "one");
    stage->now_ms += 1000;
    stage_deliver(stage, 6, "two");
    stage->timer_ms = STAGE_NOW_MS + stage->limits.limits_inbox_age_ms;
    stage_tick(stage, 0);
    EXPECT(stage, "to 901 result #5 UNDELIVERED epoch=0 asker=9");
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 PARTIAL next=2",
           "20 message 2 from=bob 'two'");
}

/* It had processed the message, only its Ack was lost: nothing is missing. */
static void a_resume_from_behind_what_grew_too_old_is_complete(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    stage->timer_ms = STAGE_NOW_MS + stage->limits.limits_inbox_age_ms;
    stage_tick(stage, 0);
    assert_null(stage->session.inbox);
    stage_deliver(stage, 6, "two");
    stage_detach(stage);
    stage_resume(stage, 20, 1);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=2",
           "20 message 2 from=bob 'two' again");
}

/* The last message given up was the last of the inbox: the numbering alone shows it. */
static void a_resume_says_partial_once(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_detach(stage);
    stage_deliver(stage, 5, "one");
    stage->timer_ms = STAGE_NOW_MS + stage->limits.limits_inbox_age_ms;
    stage_tick(stage, 0);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 PARTIAL next=2");
    stage_resume(stage, 30, 1);
    stage_commit(stage, 0);
    EXPECT(stage, "20 close STALE_SESSION do_not_return", "20 release", "30 welcomed",
           "30 welcome #1 epoch=1 COMPLETE next=2");
}

static void without_acks_a_resume_brings_what_came_meanwhile(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    stage_deliver(stage, 5, "one"); /* handed to the socket: done with */
    stage_detach(stage);
    stage_deliver_until(stage, 6, "two");
    stage_resume(stage, 20, 1);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=2",
           "20 message 2 from=bob 'two'", "to 901 result #6 OK epoch=1 asker=9");
    assert_null(stage->session.inbox);
}

static void without_acks_what_the_socket_lost_makes_it_partial(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, false);
    stage_deliver(stage, 5, "one");
    stage_detach(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 PARTIAL next=2");
}

static void a_resume_takes_over_a_connection_that_is_still_bound(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_resume(stage, 20, 0);
    EXPECT(stage, "store RESUME RESUMED UNKNOWN epoch=1");
    stage_commit(stage, 0);
    EXPECT(stage, "10 close STALE_SESSION do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=1 COMPLETE next=1");
    COUNTED(stage, sessions_online, 1);
    /* The late end of the old one. */
    stage_conn_end(stage, 10, LOSS_GONE);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->session.conn, 20);
}

static void a_resume_that_is_not_stored_leaves_the_session_detached(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_deliver(stage, 5, "one");
    stage_detach(stage);
    struct session before = stage->session;
    stage_resume(stage, 20, 1);
    stage_commit(stage, -ENOSPC);
    EXPECT(stage, "20 unbind error #1 UNAVAILABLE retry=1018");
    assert_memory_equal(&before, &stage->session, sizeof(before));
    stage_resume(stage, 20, 0); /* nothing was acknowledged by the try */
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 message 1 from=bob 'one' again");
}

static void wrong_epoch(struct resume_message *resume)
{
    resume->epoch--;
}

static void epoch_to_come(struct resume_message *resume)
{
    resume->epoch++;
}

static void wrong_secret(struct resume_message *resume)
{
    resume->secret[SECRET_BYTES - 1] ^= 1;
}

static void no_secret(struct resume_message *resume)
{
    memset(resume->secret, 0, SECRET_BYTES);
}

static void seq_never_sent(struct resume_message *resume)
{
    resume->last_seq = 2;
}

static void a_resume_is_rejected_without_saying_why(void **state)
{
    static void (*const faults[])(struct resume_message *) = {
        wrong_epoch, epoch_to_come, wrong_secret, no_secret, seq_never_sent};
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    stage_login(stage, 20, true);
    stage_deliver(stage, 5, "one");
    struct session before = stage->session;
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
        struct resume_message *resume = resume_create(stage, 30, 1);
        faults[i](resume);
        stage_receive(stage, &resume->header);
        EXPECT(stage, "30 unbind error #1 RESUME_REJECTED");
        assert_memory_equal(&before, &stage->session, sizeof(before));
    }
    COUNTED(stage, resumes_rejected, 5);
    stage_resume(stage, 30, 1);
    EXPECT(stage, "store RESUME RESUMED UNKNOWN epoch=2");
}

/* The zeroed secret of nobody must not let anybody in. */
static void a_resume_of_nobody_is_rejected(void **state)
{
    struct stage *stage = *state;
    stage_resume(stage, 30, 0);
    EXPECT(stage, "30 unbind error #1 RESUME_REJECTED", "retire");
}

/* --- restored from the store ------------------------------------------------------------------ */

static void a_restored_session_waits_a_full_window(void **state)
{
    struct stage *stage = *state;
    atomic_store(&stage->counters.epoch_last, 50);
    stage_restore(stage, 50, true);
    EXPECT_NOTHING(stage); /* its event was stored with the restart */
    assert_int_equal(stage->proof, proof_of(stage, 50));
    EXPECT_TICK_FOR(stage, STAGE_NOW_MS + 60000);
    COUNTED(stage, sessions_detached, 1);
    stage_tick(stage, 0);
    EXPECT(stage, "store END OFFLINE EXPIRED epoch=50 removed");
}

/* The numbering of before is not known: it goes on from what the client has seen, without a gap,
 * since no loss is known. That there may be one is said until he has spoken: a Welcome can be lost.
 */
static void a_restored_session_is_resumed_partially(void **state)
{
    struct stage *stage = *state;
    stage_restore(stage, 50, true);
    stage_deliver(stage, 5, "one");
    EXPECT(stage, "to 901 result #5 OK epoch=50 asker=9");
    stage_resume(stage, 20, 70);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=50 PARTIAL next=71",
           "20 message 71 from=bob 'one' again");
    stage_resume(stage, 20, 70);
    stage_commit(stage, 0);
    EXPECT(stage, "20 close STALE_SESSION do_not_return", "20 release", "20 welcomed",
           "20 welcome #1 epoch=50 PARTIAL next=71", "20 message 71 from=bob 'one' again");
    stage_deliver(stage, 6, "two");
    EXPECT(stage, "to 901 result #6 OK epoch=50 asker=9", "20 message 72 from=bob 'two'");
    put_ack(stage, 72);
    stage_play(stage, 20);
    EXPECT(stage, "20 consumed");
    assert_null(stage->session.inbox);
    /* From now on it is like any other. */
    stage_detach(stage);
    stage_resume(stage, 30, 73);
    EXPECT(stage, "30 unbind error #1 RESUME_REJECTED");
    stage_resume(stage, 30, 72);
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=50 COMPLETE next=73");
    assert_string_equal(session_client(&stage->session), "stored");
}

/* What he says is his, up to half of what he may be told. */
static void after_a_crash_his_numbers_have_an_end(void **state)
{
    struct stage *stage = *state;
    stage_restore(stage, 50, true);
    for (int received = 0; received < 2; received++) {
        struct resume_message *resume = resume_create(stage, 20, NUMBER_START_MAX + 1);
        if (received) {
            resume->last_seq = 1;
            resume->received_seq = NUMBER_START_MAX + 1;
        }
        stage_receive(stage, &resume->header);
        EXPECT(stage, "20 unbind error #1 RESUME_REJECTED");
    }
    stage_resume(stage, 30, NUMBER_START_MAX);
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=50 PARTIAL next=4503599627370497");
    stage_deliver(stage, 0, "hi");
    EXPECT(stage, "30 message 4503599627370497 from=bob 'hi'");
}

/* He has more than he has processed: those numbers are taken. */
static void after_a_crash_what_he_has_keeps_its_numbers(void **state)
{
    struct stage *stage = *state;
    stage_restore(stage, 50, true);
    struct resume_message *resume = resume_create(stage, 20, 70);
    resume->received_seq = 73;
    stage_receive(stage, &resume->header);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=50 PARTIAL next=74");
    put_ack(stage, 73);
    stage_play(stage, 20);
    EXPECT(stage, "20 consumed");
    resume = resume_create(stage, 30, 73);
    resume->received_seq = 99; /* only then it counts */
    stage_receive(stage, &resume->header);
    stage_commit(stage, 0);
    EXPECT(stage, "20 close STALE_SESSION do_not_return", "20 release", "30 welcomed",
           "30 welcome #1 epoch=50 COMPLETE next=74");
}

/* Who is known by nothing costs nothing; by a letter he is known. */
static void details_are_kept_when_there_are_any(void **state)
{
    struct session session = {0};
    session_set_details(&session, "", "x");
    assert_string_equal(session_address(&session), "");
    assert_string_equal(session_client(&session), "x");
    session_set_details(&session, "", "");
    assert_null(session.details);
    assert_string_equal(session_client(&session), "");
}

static void has_rooms(const struct session *session, const char *rooms)
{
    assert_true(bytes_equal(session_rooms(session), bytes_of_text(rooms)));
}

static void the_rooms_of_a_token_say_where_one_may_go(void **state)
{
    struct session session = {0};
    static const struct {
        const char *rooms, *room;
        bool may;
    } rows[] = {
        {"", "lobby", false},        {"lobby", "lobby", true},    {"lobby", "lobb", false},
        {"lobby", "lobby2", false},  {"*", "lobby", true},        {"m:*", "m:7", true},
        {"m:*", "m:", true},         {"m:*", "m", false},         {"a m:* lobby", "lobby", true},
        {"a m:* lobby", "a", true},  {"a m:* lobby", "m", false}, {"a m:* lobby", "m:x", true},
        {"a m:* lobby", "b", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        session_set_rooms(&session, bytes_of_text(rows[i].rooms));
        assert_int_equal(session_may_join(&session, bytes_of_text(rows[i].room)), rows[i].may);
    }
    session_set_rooms(&session, (struct bytes){0});
    assert_null(session.details);
}

/* They are the login's: stored with it, kept over a resume from elsewhere and a start, and gone
 * with the next login. */
static void rooms_live_as_long_as_their_login(void **state)
{
    struct stage *stage = *state;
    stage->rooms = "lobby m:*";
    stage_attach(stage, 10, true);
    assert_true(bytes_equal(stage->change->record.rooms, bytes_of_text("lobby m:*")));
    has_rooms(&stage->session, ""); /* not before it is stored */
    stage_commit(stage, 0);
    has_rooms(&stage->session, "lobby m:*");
    assert_string_equal(session_client(&stage->session), "client of 10");
    stage_resume(stage, 20, 0);
    assert_true(bytes_equal(stage->change->record.rooms, bytes_of_text("lobby m:*")));
    stage_commit(stage, 0);
    has_rooms(&stage->session, "lobby m:*");
    assert_string_equal(session_address(&stage->session), "10.0.0.20:7");
    stage->rooms = "";
    stage_attach(stage, 30, true);
    assert_int_equal(stage->change->record.rooms.size, 0);
    stage_commit(stage, 0);
    has_rooms(&stage->session, "");
    assert_string_equal(session_client(&stage->session), "client of 30");
}

static void a_restored_session_has_its_rooms(void **state)
{
    struct stage *stage = *state;
    stage->rooms = "m:*";
    stage_restore(stage, 50, true);
    has_rooms(&stage->session, "m:*");
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    assert_true(session_may_join(&stage->session, bytes_of_text("m:1")));
}

/* A broken frame proves nothing; nor does a stop that saves the session. */
static void a_loss_is_told_until_he_speaks(void **state)
{
    struct stage *stage = *state;
    struct restore_message *restore = restore_create(stage, 50, true);
    restore->unnumbered = false;
    restore->loss_untold = true;
    restore->saved = true;
    restore->next_seq = 5;
    stage_receive(stage, &restore->header);
    for (uint64_t conn = 20; conn <= 30; conn += 10) {
        stage_resume(stage, conn, 4);
        stage_commit(stage, 0);
        assert_non_null(strstr(stage->tape, "PARTIAL next=5"));
        put_ack(stage, 99);
        stage_play(stage, conn);
        stage_commit(stage, 0);
    }
    stage_resume(stage, 40, 4);
    stage_commit(stage, 0);
    put_ping(stage, 0, 1);
    stage_play(stage, 40);
    stage_resume(stage, 50, 4);
    stage_commit(stage, 0);
    assert_non_null(strstr(stage->tape, "COMPLETE next=5"));
}

static void a_restored_session_keeps_its_secret_and_can_be_taken_over(void **state)
{
    struct stage *stage = *state;
    atomic_store(&stage->counters.epoch_last, 60);
    stage_restore(stage, 50, true);
    struct resume_message *resume = resume_create(stage, 20, 0);
    wrong_secret(resume);
    stage_receive(stage, &resume->header);
    EXPECT(stage, "20 unbind error #1 RESUME_REJECTED");
    stage_attach(stage, 20, true);
    EXPECT(stage, "store ATTACH ONLINE TAKEOVER epoch=61 previous=50");
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=61 FRESH next=1");
    stage_detach(stage);
    stage_resume(stage, 30, 0); /* not "restored" any more */
    stage_commit(stage, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=61 COMPLETE next=1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_login_says_nothing_before_it_is_stored),
        stage_test(each_secret_is_shown_before_anybody_is_told_it),
        stage_test(epochs_go_on_from_the_last_one),
        stage_test(a_first_login_that_is_not_stored_leaves_nobody),
        stage_test(the_old_connection_is_closed_before_the_welcome),
        stage_test(a_takeover_that_is_not_stored_disturbs_nobody),
        stage_test(a_takeover_inherits_what_was_not_acknowledged),
        stage_test(a_takeover_without_acks_takes_the_inbox_over_once),
        stage_test(a_takeover_of_a_detached_session_closes_nobody),
        stage_test(an_old_window_does_not_end_a_new_session),
        stage_test(a_stop_detaches_and_lets_nobody_in),
        stage_test(a_stop_answers_what_is_in_flight),
        stage_test(takeovers_from_one_address_are_damped),
        stage_test(a_logout_does_not_end_a_fight),
        stage_test(one_who_is_not_connected_is_never_damped),
        stage_test(a_saved_inbox_goes_on_where_it_was),
        stage_test(a_saved_inbox_knows_what_cannot_be),
        stage_test(a_login_inherits_a_saved_inbox),
        stage_test(a_saved_message_grows_old),
        stage_test(a_stop_of_a_detached_session_changes_nothing),
        stage_test(a_resume_replays_what_comes_after_last_seq),
        stage_test(it_is_known_by_what_he_came),
        stage_test(a_resume_with_nothing_to_replay_is_complete),
        stage_test(a_resume_from_before_what_was_acknowledged_is_partial),
        stage_test(a_resume_after_messages_grew_too_old_is_partial),
        stage_test(a_resume_from_behind_what_grew_too_old_is_complete),
        stage_test(a_resume_says_partial_once),
        stage_test(without_acks_a_resume_brings_what_came_meanwhile),
        stage_test(without_acks_what_the_socket_lost_makes_it_partial),
        stage_test(a_resume_takes_over_a_connection_that_is_still_bound),
        stage_test(a_resume_that_is_not_stored_leaves_the_session_detached),
        stage_test(a_resume_is_rejected_without_saying_why),
        stage_test(a_resume_of_nobody_is_rejected),
        stage_test(a_restored_session_waits_a_full_window),
        stage_test(a_restored_session_is_resumed_partially),
        stage_test(details_are_kept_when_there_are_any),
        stage_test(the_rooms_of_a_token_say_where_one_may_go),
        stage_test(rooms_live_as_long_as_their_login),
        stage_test(a_restored_session_has_its_rooms),
        stage_test(after_a_crash_his_numbers_have_an_end),
        stage_test(after_a_crash_what_he_has_keeps_its_numbers),
        stage_test(a_loss_is_told_until_he_speaks),
        stage_test(a_restored_session_keeps_its_secret_and_can_be_taken_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
