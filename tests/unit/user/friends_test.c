/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/user/friends_stage.h"

/* The watcher's side of friends: what he tells the shards, and what of their answers his client is
 * told, and when. */

static struct stage *with_bob(void **state)
{
    struct stage *stage = begin(state);
    play_watch(stage, 7, "bob", "");
    EXPECT(stage, "to 700 watch bob 0/1", "10 done #7 epoch=1", "10 consumed");
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "");
    EXPECT(stage, "10 friends snapshot bob ONLINE");
    stage_tick(stage, 0); /* that of a snapshot that does not wait for ever */
    EXPECT_NOTHING(stage);
    stage->now_ms += 1000;
    return stage;
}

static void a_snapshot_comes_when_all_are_known(void **state)
{
    struct stage *stage = begin(state);
    play_watch(stage, 7, "bob cid", "");
    EXPECT(stage, "to 700 watch cid 1/2", "to 700 watch bob 0/1", "10 done #7 epoch=1",
           "10 consumed");
    shard_says(stage, 1, 2, "cid", WATCH_OFFLINE, "");
    EXPECT_NOTHING(stage);
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "hi");
    EXPECT(stage, "10 friends snapshot bob ONLINE 'hi' cid OFFLINE");
    assert_int_equal(pairs(stage), 2);
}

/* A store that does not answer holds up the others for a second. */
static void a_snapshot_does_not_wait_for_ever(void **state)
{
    struct stage *stage = begin(state);
    play_watch(stage, 7, "bob cid", "");
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "");
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, ""); /* not told of yet: the snapshot says it */
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "10 friends snapshot bob OFFLINE");
    shard_says(stage, 1, 2, "cid", WATCH_ONLINE, "");
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "10 friends snapshot bob OFFLINE cid ONLINE");
}

static void changes_are_gathered(void **state)
{
    struct stage *stage = with_bob(state);
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    EXPECT_NOTHING(stage);
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "a");
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "b");
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "10 friends bob ONLINE 'b'");
    stage->now_ms += 1000;
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "b");
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage); /* as the client knows him */
}

/* Time passes, with its ticks, until one of them says something: then true. */
static bool pass(struct stage *stage, uint64_t ms)
{
    uint64_t until_ms = stage->now_ms + ms;
    while (stage->timer_ms != 0 && stage->timer_ms <= until_ms) {
        stage_tick(stage, 0);
        if (stage->size > 0)
            return true;
    }
    stage->now_ms = until_ms;
    return false;
}

/* Twelve who come one after the other are a crowd for a list: they are told together. */
static void a_crowd_is_told_together(void **state)
{
    struct stage *stage = begin(state);
    stage->limits.friends_targets = 20;
    play_watch(stage, 7, "a b c d e f g h i j k l m n o p q r s t", "");
    for (uint32_t i = 0; i < 20; i++)
        shard_says(stage, i, i + 1, (char[]){(char)('a' + i), '\0'}, WATCH_OFFLINE, "");
    pass(stage, 2000);
    for (uint32_t i = 0; i < 12; i++) {
        assert_false(pass(stage, BATCH_MS / 8 - 1));
        shard_says(stage, i, i + 1, (char[]){(char)('a' + i), '\0'}, WATCH_ONLINE, "");
    }
    assert_true(pass(stage, BATCH_MS));
    EXPECT(stage, "10 friends a ONLINE b ONLINE c ONLINE d ONLINE e ONLINE f ONLINE g ONLINE "
                  "h ONLINE i ONLINE j ONLINE k ONLINE l ONLINE");
}

/* However many come, nobody waits for more than eight times as long. */
static void a_crowd_without_end_is_told_of(void **state)
{
    struct stage *stage = begin(state);
    stage->limits.friends_targets = 100;
    stage->limits.limits_frame_bytes = 65536;
    char names[512] = "", name[8];
    for (uint32_t i = 0; i < 100; i++)
        snprintf(names + 4 * i, 5, "u%02u ", i);
    names[399] = '\0';
    play_watch(stage, 7, names, "");
    for (uint32_t i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "u%02u", i);
        shard_says(stage, i, i + 1, name, WATCH_OFFLINE, "");
    }
    pass(stage, 2000);
    uint64_t from_ms = stage->now_ms;
    uint32_t i = 0;
    do {
        snprintf(name, sizeof(name), "u%02u", i);
        shard_says(stage, i, i + 1, name, WATCH_ONLINE, "");
    } while (!pass(stage, BATCH_MS / 10) && ++i < 100);
    assert_true(i < 100);
    assert_true(stage->now_ms - from_ms > 4 * BATCH_MS);
    assert_true(stage->now_ms - from_ms <= 9 * BATCH_MS);
}

/* While many log in the shards hear of a Watch later, and of who is taken back meanwhile never. */
static void in_a_crowd_a_watch_waits(void **state)
{
    struct stage *stage = begin(state);
    atomic_store(&stage->counters.crowd_until_ms, stage->now_ms + 100);
    play_watch(stage, 7, "bob cid", "");
    EXPECT(stage, "10 done #7 epoch=1", "10 consumed");
    assert_int_equal(pairs(stage), 2);
    play_watch(stage, 8, "", "cid");
    EXPECT(stage, "10 done #8 epoch=1", "10 consumed");
    assert_int_equal(pairs(stage), 1);
    assert_int_equal(stage->timer_ms, stage->now_ms + BATCH_MS);
    atomic_store(&stage->counters.crowd_until_ms, stage->now_ms + BATCH_MS + 100);
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
    stage_tick(stage, 0);
    EXPECT(stage, "to 700 watch bob 0/1");
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "");
    EXPECT(stage, "10 friends snapshot bob ONLINE");
    atomic_store(&stage->counters.crowd_until_ms, UINT64_MAX);
    play_watch(stage, 9, "dan", "");
    for (unsigned batches = 0; batches < 8; batches++) {
        if (batches > 0)
            EXPECT_NOTHING(stage);
        stage_tick(stage, 0);
    }
    EXPECT(stage, "to 700 watch dan 1/3"); /* a crowd without end */
    stage_conn_end(stage, 10, LOSS_GONE);
    stage_commit(stage, 0);
}

/* The clock of a thread may be behind the one that armed it. */
static void an_early_tick_is_asked_for_again(void **state)
{
    struct stage *stage = with_bob(state);
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    uint64_t due_ms = stage->now_ms + BATCH_MS;
    assert_int_equal(stage->timer_ms, due_ms);
    stage->timer_ms = 0;
    stage->now_ms = due_ms - 1;
    stage_bare(stage, MESSAGE_TICK);
    EXPECT_NOTHING(stage);
    assert_int_equal(stage->timer_ms, due_ms);
    stage_tick(stage, 0);
    EXPECT(stage, "10 friends bob OFFLINE");
}

static void at_once_is_at_once(void **state)
{
    struct stage *stage = with_bob(state);
    stage->limits.friends_batch_ms = 0;
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    EXPECT(stage, "10 friends bob OFFLINE");
}

static void what_is_late_of_a_pair_meets_nobody(void **state)
{
    struct stage *stage = with_bob(state);
    play_watch(stage, 8, "", "bob");
    EXPECT(stage, "to 700 unwatch bob 0/1", "10 done #8 epoch=1", "10 friends snapshot",
           "10 consumed");
    assert_int_equal(pairs(stage), 0);
    stage->now_ms += 1000;
    play_watch(stage, 9, "bob", "");
    EXPECT(stage, "to 700 watch bob 0/2", "10 done #9 epoch=1", "10 consumed");
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "of before");
    EXPECT_NOTHING(stage);
    shard_says(stage, 0, 2, "bob", WATCH_ONLINE, "now");
    EXPECT(stage, "10 friends snapshot bob ONLINE 'now'");
}

/* What was gathered of him is not told either. */
static void what_is_taken_away_is_told_no_more(void **state)
{
    struct stage *stage = with_bob(state);
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    give_list(stage, 50, REMOVE, 1, "bob");
    EXPECT(stage, "to 700 unwatch bob 0/1", "to 901 listed #50 OK 1", "10 friends snapshot");
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "");
    EXPECT_NOTHING(stage);
    assert_int_equal(pairs(stage), 0);
}

static void a_list_waits_for_the_shards(void **state)
{
    struct stage *stage = begin(state);
    give_list(stage, 50, SET, 1, "bob a/b cid");
    EXPECT(stage, "to 700 watch cid 1/2 asks", "to 700 watch bob 0/1 asks");
    shard_answers(stage, 0, 1, WATCHED_TAKEN);
    EXPECT_NOTHING(stage);
    shard_answers(stage, 1, 2, WATCHED_FULL);
    EXPECT(stage, "to 901 listed #50 OK 1 1 MALFORMED 2 FULL");
    assert_int_equal(pairs(stage), 1);
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "");
    EXPECT(stage, "10 friends snapshot bob ONLINE");
    stage->now_ms += 1000;
    give_list(stage, 51, ADD, 0, "bob");
    EXPECT(stage, "to 901 listed #51 OK 1", "10 friends snapshot bob ONLINE");
    give_list(stage, 52, SET, 2, "bob");
    EXPECT(stage, "to 901 listed #52 STALE_EPOCH 0");
    give_list(stage, 53, SET, 1, "a b c d");
    EXPECT(stage, "to 901 listed #53 FULL 0");
    give_list(stage, 54, ADD, 1, "c d e");
    EXPECT(stage, "to 901 listed #54 FULL 0");
    stage->limits.friends_pairs = 2;
    give_list(stage, 55, ADD, 1, "c d");
    EXPECT(stage, "to 901 listed #55 FULL 0");
    COUNTED(stage, friends_targets_full, 2);
    COUNTED(stage, friends_pairs_full, 1);
    assert_int_equal(pairs(stage), 1);
}

static void a_watch_is_all_or_nothing(void **state)
{
    struct stage *stage = with_bob(state);
    play_watch(stage, 8, "c d e", "");
    EXPECT(stage, "10 error #8 ROOM_FULL", "10 consumed");
    play_watch(stage, 9, "c d e", "bob");
    EXPECT(stage, "to 700 unwatch bob 0/1", "to 700 watch d 1/3", "to 700 watch c 0/2",
           "to 700 watch e 2/4", "10 done #9 epoch=1", "10 consumed");
    play_watch(stage, 10, "c c", "d c");
    EXPECT(stage, "to 700 unwatch d 1/3", "10 done #10 epoch=1", "10 consumed");
    play_watch(stage, 11, "x y/z", "");
    EXPECT(stage, "10 error #11 INVALID_NAME", "10 consumed");
    stage->limits.friends_pairs = 2;
    play_watch(stage, 12, "x", "");
    EXPECT(stage, "10 error #12 BUSY retry=100", "10 consumed");
    assert_int_equal(pairs(stage), 2);
    stage->settings.friends_mode = FRIENDS_BACKEND;
    play_watch(stage, 13, "x", "");
    EXPECT(stage, "10 error #13 FORBIDDEN", "10 consumed");
}

static void nothing_is_gathered_without_a_connection(void **state)
{
    struct stage *stage = with_bob(state);
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    stage_conn_end(stage, 10, LOSS_GONE);
    stage_commit(stage, 0);
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "new");
    EXPECT_NOTHING(stage);
    stage_resume(stage, 20, 0);
    stage_commit(stage, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 friends snapshot bob ONLINE 'new'");
    stage_tick(stage, 0);
    EXPECT_NOTHING(stage);
}

static void a_takeover_keeps_what_services_made(void **state)
{
    struct stage *stage = with_bob(state);
    give_list(stage, 50, ADD, 1, "cid");
    shard_says(stage, 1, 2, "cid", WATCH_ONLINE, "");
    put_status(stage, 8, "here", false);
    stage_login(stage, 20, false);
    EXPECT(stage, "10 close REPLACED do_not_return", "10 release", "20 welcomed",
           "20 welcome #1 epoch=2 FRESH next=1", "to 700 status gone epoch=1 ''",
           "to 700 unwatch bob 0/1", "20 friends snapshot cid ONLINE");
    assert_int_equal(pairs(stage), 1);
}

static void the_end_takes_all_back(void **state)
{
    struct stage *stage = with_bob(state);
    give_list(stage, 50, ADD, 1, "cid");
    put_status(stage, 8, "here", false);
    put_logout(stage, 9);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    EXPECT(stage, "10 done #9 epoch=1", "10 close LOGGED_OUT", "10 release",
           "to 700 status gone epoch=1 ''", "to 700 unwatch cid 1/2", "to 700 unwatch bob 0/1",
           "to 901 listed #50 NOT_ONLINE 0", "retire");
    assert_int_equal(pairs(stage), 0);
}

static void a_status_is_said_once_a_second(void **state)
{
    struct stage *stage = begin(state);
    put_status(stage, 7, "a", false);
    EXPECT(stage, "10 done #7 epoch=1", "to 700 status  epoch=1 'a'", "10 consumed");
    put_status(stage, 8, "b", false);
    EXPECT(stage, "10 done #8 epoch=1", "10 consumed");
    put_status(stage, 9, "c", true);
    EXPECT(stage, "10 done #9 epoch=1", "10 consumed");
    stage_tick(stage, 0);
    EXPECT(stage, "to 700 status  epoch=1 invisible 'c'");
    stage->now_ms += 1000;
    put_status(stage, 10, "", false);
    EXPECT(stage, "10 done #10 epoch=1", "to 700 status gone epoch=1 ''", "10 consumed");
    char text[130];
    memset(text, 'x', 129);
    text[129] = '\0';
    put_status(stage, 11, text, false);
    EXPECT(stage, "10 error #11 TOO_LARGE", "10 consumed");
    stage->settings.friends_mode = FRIENDS_OFF;
    put_status(stage, 12, "d", false);
    EXPECT(stage, "10 error #12 FORBIDDEN", "10 consumed");
}

/* Who does not read has one state of each waiting, the newest. */
static void what_is_due_waits_for_room(void **state)
{
    struct stage *stage = with_bob(state);
    stage->limits.friends_batch_ms = 0;
    stage->output = 60000;
    shard_says(stage, 0, 1, "bob", WATCH_OFFLINE, "");
    EXPECT(stage, "10 friends bob OFFLINE");
    for (unsigned i = 0; i < 100; i++) {
        shard_says(stage, 0, 1, "bob", i % 2 ? WATCH_OFFLINE : WATCH_ONLINE, "");
        EXPECT_NOTHING(stage);
    }
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "last");
    stage->output = 0;
    writable(stage, false);
    EXPECT(stage, "10 flush", "goes on");
    writable(stage, true);
    EXPECT(stage, "10 friends bob ONLINE 'last'");
}

/* There is room again, and more are coming: then it is time that is waited for, and no turn runs
 * until it is over. */
static void a_crowd_that_waited_for_room_waits_for_time(void **state)
{
    struct stage *stage = begin(state);
    stage->limits.friends_targets = 20;
    play_watch(stage, 7, "a b c d e f g h i j k l m n o p q r s t", "");
    for (uint32_t i = 0; i < 20; i++)
        shard_says(stage, i, i + 1, (char[]){(char)('a' + i), '\0'}, WATCH_OFFLINE, "");
    pass(stage, 2000);
    stage->output = 60000;
    for (uint32_t i = 0; i < 18; i++) {
        shard_says(stage, i, i + 1, (char[]){(char)('a' + i), '\0'}, WATCH_ONLINE, "");
        if (i == 8) {
            stage_tick(stage, 0); /* more may come */
            stage_tick(stage, 0); /* none has, and there is no room */
            EXPECT_NOTHING(stage);
        }
    }
    stage->output = 0;
    writable(stage, false);
    EXPECT(stage, "10 flush");
    assert_true(pass(stage, BATCH_MS));
    EXPECT(stage, "10 friends a ONLINE b ONLINE c ONLINE d ONLINE e ONLINE f ONLINE g ONLINE "
                  "h ONLINE i ONLINE j ONLINE k ONLINE l ONLINE m ONLINE n ONLINE o ONLINE "
                  "p ONLINE q ONLINE r ONLINE");
}

static void a_user_without_friends_has_nothing(void **state)
{
    struct stage *stage = begin(state);
    assert_null(stage->session.company);
    shard_says(stage, 0, 1, "bob", WATCH_ONLINE, "");
    EXPECT_NOTHING(stage);
    assert_null(stage->session.company);
    stage_bare(stage, MESSAGE_TICK);
    assert_null(stage->session.company);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        stage_test(a_snapshot_comes_when_all_are_known),
        stage_test(a_snapshot_does_not_wait_for_ever),
        stage_test(changes_are_gathered),
        stage_test(a_crowd_is_told_together),
        stage_test(a_crowd_without_end_is_told_of),
        stage_test(in_a_crowd_a_watch_waits),
        stage_test(an_early_tick_is_asked_for_again),
        stage_test(at_once_is_at_once),
        stage_test(what_is_late_of_a_pair_meets_nobody),
        stage_test(what_is_taken_away_is_told_no_more),
        stage_test(a_list_waits_for_the_shards),
        stage_test(a_watch_is_all_or_nothing),
        stage_test(nothing_is_gathered_without_a_connection),
        stage_test(a_takeover_keeps_what_services_made),
        stage_test(the_end_takes_all_back),
        stage_test(a_status_is_said_once_a_second),
        stage_test(what_is_due_waits_for_room),
        stage_test(a_crowd_that_waited_for_room_waits_for_time),
        stage_test(a_user_without_friends_has_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
