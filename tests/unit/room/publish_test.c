/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/room/stage_room.h"

/* The order, what leaves together, what is kept, and what who has missed something is given. */

/* Takes so many of u1 in one turn, each of that size. */
static void say_many(struct stage *stage, uint32_t count, size_t size)
{
    char *payload = malloc(size + 1);
    assert_non_null(payload);
    memset(payload, 'x', size + 1);
    begin(stage);
    for (uint32_t i = 0; i < count; i++) {
        struct room_publish_message *publish = publish_of(1, payload, size);
        publish->call.request = 0;
        assert_true(room_receive(&stage->room, &publish->call.header, &stage->turn));
    }
    finish(stage);
    free(payload);
}

static uint32_t bundles_of(struct stage *stage, uint32_t number)
{
    uint32_t count = stage->posts[number];
    stage->posts[number] = 0;
    return count;
}

static void each_gets_the_next_offset(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    enter(stage, 2);
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\nu1 < {1 a}\nu2 < {1 a}\n");
    say(stage, 2, "b");
    TAPE(stage, "u2 result #9 OK 2\nu1 < {2 b}\nu2 < {2 b}\n");
    COUNTED(stage, room_messages, 2);
}

static void what_comes_in_one_turn_leaves_in_bundles(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    say_many(stage, 16, 1);
    assert_int_equal(bundles_of(stage, 1), 1);
    say_many(stage, 17, 1);
    assert_int_equal(bundles_of(stage, 1), 2);
    assert_int_equal(stage->room->offset, 33);
    /* 16 KiB of items, with what a frame needs beside them; and some more. */
    size_t half = ROOM_BUNDLE_BYTES_MAX / 2 - 40;
    say_many(stage, 2, half);
    assert_int_equal(bundles_of(stage, 1), 1);
    say_many(stage, 2, half + 40);
    assert_int_equal(bundles_of(stage, 1), 2);
}

/* put_frames looks at each: no frame is larger than its member takes. */
static void no_bundle_is_larger_than_a_frame(void **state)
{
    struct stage *stage = *state;
    stage->limits.limits_frame_bytes = 1024;
    enter(stage, 1);
    for (size_t size = 1; size < 1024; size += 37)
        say_many(stage, 16, size);
    size_t most = 1024 - 40 - 2;
    char payload[1024] = "";
    receive(stage, &publish_of(1, payload, most + 1)->call.header);
    TAPE(stage, "u1 result #9 TOO_LARGE\n");
    COUNTED(stage, room_messages_refused, 1 + 16);
    stage->room->offset = stage->room->sealed = UINT32_MAX; /* its number is long, and it fits */
    say_many(stage, 1, most);
    COUNTED(stage, room_messages_refused, 1 + 16);
}

static void who_may_not_publish(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    say(stage, 2, "a");
    TAPE(stage, "u2 result #9 NOT_MEMBER\n");
    struct room_publish_message *old = publish_of(1, "a", 1);
    old->call.asker_epoch = 7; /* another login than the one that joined */
    receive(stage, &old->call.header);
    TAPE(stage, "u1 result #9 NOT_MEMBER\n");
    set_class(stage, "match create=client join=any roster=none publish=backend");
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 FORBIDDEN\n");
    struct room_publish_message *service = publish_of(1, "a", 1);
    service->call.from_service = true;
    service->call.asker = SERVICE;
    receive(stage, &service->call.header);
    TAPE(stage, "s answer #9 OK at=1 of=1\nu1 < {1 a}\n");
    set_class(stage, "match create=client join=any roster=none publish=any");
    struct room_publish_message *stranger = publish_of(5, "b", 1);
    stranger->member_only = false;
    receive(stage, &stranger->call.header);
    TAPE(stage, "u5 result #9 OK 2\nu1 < {2 b}\n");
}

/* --- deliveries_per_second -------------------------------------------------------------------- */

static void deliveries_at_n_and_one_more(void **state)
{
    struct stage *stage = *state;
    stage->limits.rooms_deliveries_per_second = 10;
    enter(stage, 1);
    enter(stage, 2);
    for (unsigned i = 0; i < 5; i++) { /* each is two deliveries */
        say(stage, 1, "a");
        assert_non_null(strstr(stage->tape, "u1 result #9 OK"));
    }
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 RATE_LIMITED\n");
    COUNTED(stage, room_deliveries_limited, 1);
    stage->now_ms += 199;
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 RATE_LIMITED\n");
    stage->now_ms += 1;
    say(stage, 1, "a");
    assert_non_null(strstr(stage->tape, "u1 result #9 OK 6"));
    assert_int_equal(stage->room->offset, 6);
    /* A room that is larger than a second's deliveries says something, too. */
    stage->now_ms += 10000;
    for (uint32_t i = 3; i <= 50; i++)
        enter(stage, i);
    say(stage, 1, "a");
    assert_non_null(strstr(stage->tape, "u1 result #9 OK 7"));
    stage->now_ms += 4999;
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 RATE_LIMITED\n");
    stage->now_ms += 1;
    say(stage, 1, "a");
    assert_non_null(strstr(stage->tape, "u1 result #9 OK 8"));
}

/* --- tick ------------------------------------------------------------------------------------- */

static void what_comes_within_a_tick_leaves_together(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none tick=50ms history=8/60s");
    enter(stage, 1);
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\n");
    pass(stage, 49);
    TAPE(stage, "");
    say(stage, 1, "b");
    enter(stage, 2); /* he has them by his position, and cuts the bundle */
    TAPE(stage, "u2 joined at=2 live {JOINED NONE at=2 of=0}\n");
    bare(stage, MESSAGE_TICK); /* too early: it is asked for again */
    stage->timer_ms = NOW_MS + 50;
    TAPE(stage, "");
    pass(stage, 1);
    TAPE(stage, "u1 < {1 a b}\nu2 < {1 a b}\n");
    say(stage, 1, "c");
    pass(stage, 50);
    TAPE(stage, "u1 < {3 c}\nu2 < {3 c}\n");
}

static void an_early_tick_is_armed_again(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none tick=50ms");
    enter(stage, 1);
    say(stage, 1, "a");
    assert_int_equal(stage->timer_ms, NOW_MS + 50);
    stage->timer_ms = 0;
    bare(stage, MESSAGE_TICK);
    assert_int_equal(stage->timer_ms, NOW_MS + 50);
    pass(stage, 50);
    TAPE(stage, "u1 < {1 a}\n");
}

/* Whoever fills a tick is told to wait; nobody loses anything. */
static void so_many_bundles_wait_and_one_more(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none tick=50ms");
    enter(stage, 1);
    say_many(stage, ROOM_WAITING_MAX * ROOM_BUNDLE_MAX, 1);
    COUNTED(stage, room_messages_refused, 0);
    say_many(stage, 1, 1); /* it seals the last one */
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 BUSY\n");
    stage->quiet = true;
    pass(stage, 50);
    while (stage->more)
        stage_more(stage);
    assert_int_equal(stage->posts[1], ROOM_WAITING_MAX + 1);
    say(stage, 1, "a");
    assert_non_null(strstr(stage->tape, "u1 result #9 OK"));
}

/* --- history ---------------------------------------------------------------------------------- */

static void join_at(struct stage *stage, uint32_t number, uint64_t incarnation, uint64_t offset)
{
    struct room_join_message *join = join_of(number, 1);
    join->recover = true;
    join->incarnation = incarnation;
    join->offset = offset;
    receive(stage, &join->call.header);
}

static void history_at_n_messages_and_one_more(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    for (unsigned i = 0; i < 8; i++)
        say(stage, 1, &"abcdefghi"[i]);
    pull(stage, 1, 0);
    assert_non_null(strstr(stage->tape, "u1 pulled #3 at=8 live {1 <9>} {2 <8>} {3 cdefghi}"));
    join_at(stage, 2, 0, 0); /* from the oldest one */
    TAPE(stage, "u2 joined at=0 {JOINED COMPLETE at=8 of=0}\n");
    say(stage, 1, "j");
    join_at(stage, 3, 0, 0);
    TAPE(stage, "u3 joined at=1 {JOINED PARTIAL at=9 of=0}\n");
    pull(stage, 1, 0);
    assert_non_null(strstr(stage->tape, "u1 pulled #3 at=9 live {JOINED PARTIAL at=9 of=0} {2 "));
    pull(stage, 1, 1);
    assert_non_null(strstr(stage->tape, "u1 pulled #3 at=9 live {2 "));
    COUNTED(stage, room_partial, 2);
}

/* Bundles go whole; what counts is n messages. */
static void history_counts_messages_and_not_bundles(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none history=4/60s");
    enter(stage, 1);
    say_many(stage, 3, 1);
    say_many(stage, 2, 1);
    assert_int_equal(stage->room->kept_messages, 5);
    pull(stage, 1, 1);
    TAPE(stage, "u1 pulled #3 at=5 live {2 x x} {4 x x}\n");
    pull(stage, 1, 0);
    TAPE(stage, "u1 pulled #3 at=5 live {JOINED PARTIAL at=5 of=0} {2 x x} {4 x x}\n");
}

static void positions_that_are_none(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    say(stage, 1, "a");
    join_at(stage, 2, 1, 1);
    TAPE(stage, "u2 joined at=1 live {JOINED COMPLETE at=1 of=0}\n");
    join_at(stage, 3, 1, 2); /* of the future */
    TAPE(stage, "u3 joined at=0 {JOINED PARTIAL at=1 of=0}\n");
    join_at(stage, 4, 1, UINT64_MAX);
    TAPE(stage, "u4 joined at=0 {JOINED PARTIAL at=1 of=0}\n");
    join_at(stage, 5, 77, 1); /* of another life */
    TAPE(stage, "u5 joined at=0 {JOINED PARTIAL at=1 of=0}\n");
}

static void history_grows_old(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none history=8/2s");
    enter(stage, 1);
    say(stage, 1, "a");
    pass(stage, 1000);
    say(stage, 1, "b");
    pass(stage, 999);
    assert_int_equal(history_first(stage->room), 1);
    pass(stage, 1);
    assert_int_equal(history_first(stage->room), 2);
    pass(stage, 1000);
    assert_int_equal(history_first(stage->room), 3);
    assert_int_equal(stage->room->kept_bytes, 0);
}

static void history_has_so_many_bytes(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none history=256/60s");
    enter(stage, 1);
    stage->quiet = true;
    for (unsigned i = 0; i < 40; i++)
        say_many(stage, 1, 16000);
    assert_true(stage->room->kept_bytes <= ROOM_HISTORY_BYTES_MAX);
    assert_true(stage->room->kept_bytes > ROOM_HISTORY_BYTES_MAX - 17000);
    for (unsigned i = 0; i < 600; i++)
        say_many(stage, 1, 1);
    assert_int_equal(stage->room->kept_messages, 256);
}

static void a_replay_comes_in_windows(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    stage->quiet = true;
    for (unsigned i = 0; i < 6; i++)
        say_many(stage, 1, 1000);
    struct room_pull_message *some = pull_of(stage, 1, 0);
    some->bytes_max = 2500;
    receive(stage, &some->header);
    TAPE(stage, "u1 pulled #3 at=2 {1 <1000>} {2 <1000>}\n");
    some = pull_of(stage, 1, 2);
    some->bytes_max = 10; /* at least one, or he would never come to the end */
    receive(stage, &some->header);
    TAPE(stage, "u1 pulled #3 at=3 {3 <1000>}\n");
    some = pull_of(stage, 1, 3);
    receive(stage, &some->header);
    TAPE(stage, "u1 pulled #3 at=6 live {4 <1000>} {5 <1000>} {6 <1000>}\n");
    pull(stage, 1, 6);
    TAPE(stage, "u1 pulled #3 at=6 live\n");
    say_many(stage, 3, 1);
    pull(stage, 1, 7); /* in the middle of a bundle: it is cut */
    TAPE(stage, "u1 pulled #3 at=9 live {8 x x}\n");
}

static void without_history_what_is_missed_is_gone(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none");
    enter(stage, 1);
    say(stage, 1, "a");
    pull(stage, 1, 0);
    TAPE(stage, "u1 pulled #3 at=1 live {JOINED PARTIAL at=1 of=0}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        room_test(each_gets_the_next_offset),
        room_test(what_comes_in_one_turn_leaves_in_bundles),
        room_test(no_bundle_is_larger_than_a_frame),
        room_test(who_may_not_publish),
        room_test(deliveries_at_n_and_one_more),
        room_test(what_comes_within_a_tick_leaves_together),
        room_test(an_early_tick_is_armed_again),
        room_test(so_many_bundles_wait_and_one_more),
        room_test(history_at_n_messages_and_one_more),
        room_test(history_counts_messages_and_not_bundles),
        room_test(positions_that_are_none),
        room_test(history_grows_old),
        room_test(history_has_so_many_bytes),
        room_test(a_replay_comes_in_windows),
        room_test(without_history_what_is_missed_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
