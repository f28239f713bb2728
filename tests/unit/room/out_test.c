/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/room/stage_room.h"

/* The fan-out: slices, holes, who is gone, whose mailbox is full, and the end of a room. */

static void fill(struct stage *stage, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i <= to; i++)
        enter(stage, i);
}

static uint32_t posted(const struct stage *stage)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < USERS_MAX; i++)
        sum += stage->posts[i];
    return sum;
}

static void drain(struct stage *stage)
{
    while (stage->more)
        stage_more(stage);
}

static void slices(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none members=20000");
    stage->quiet = true;
    fill(stage, 1, ROOM_WHOLE);
    say(stage, 1, "a");
    assert_int_equal(posted(stage), ROOM_WHOLE);
    assert_false(stage->more);
    fill(stage, ROOM_WHOLE + 1, 10000);
    say(stage, 1, "b");
    assert_int_equal(posted(stage), ROOM_WHOLE + ROOM_SLICE);
    assert_true(stage->more);
    /* Meanwhile one comes, one goes before the fan-out has come to him, and more is said. */
    leave(stage, 9000, 1, 0);
    enter(stage, 10001);
    assert_non_null(strstr(stage->tape, "u10001 joined at=2 live"));
    say(stage, 1, "c");
    drain(stage);
    for (uint32_t i = ROOM_WHOLE + 1; i <= 10001; i++)
        assert_int_equal(stage->posts[i], i == 9000 ? 0 : 2);
    for (uint32_t i = 1; i <= ROOM_WHOLE; i++)
        assert_int_equal(stage->posts[i], 3);
    assert_int_equal(stage->room->out_count, 0);
}

/* No turn posts more than a slice, however many bundles wait. */
static void many_bundles_are_small_slices(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none members=20000 tick=50ms");
    stage->quiet = true;
    fill(stage, 1, 1000);
    for (unsigned i = 0; i < 16 * ROOM_BUNDLE_MAX; i++)
        say(stage, 1, "a");
    stage->now_ms += 50;
    bare(stage, MESSAGE_TICK);
    assert_int_equal(posted(stage), ROOM_POSTS);
    uint32_t before = posted(stage);
    while (stage->more) {
        stage_more(stage);
        assert_true(posted(stage) - before <= ROOM_POSTS);
        before = posted(stage);
    }
    assert_int_equal(before, 16 * 1000);
}

static void holes_are_closed_but_not_under_a_fan_out(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none members=20000");
    stage->quiet = true;
    fill(stage, 1, 10000);
    say(stage, 1, "a");
    assert_true(stage->more);
    stage->holds = true; /* turns go by without a slice */
    for (uint32_t i = 1; i <= 8000; i += 1)
        leave(stage, i, 1, 0);
    assert_int_equal(stage->room->places, 10000);
    stage->holds = false;
    drain(stage);
    for (uint32_t i = 8001; i <= 10000; i++)
        assert_int_equal(stage->posts[i], 1);
    bare(stage, MESSAGE_STOP);
    assert_int_equal(stage->room->places, 2000);
    for (uint32_t i = 8001; i <= 10000; i++) {
        struct member *member = members_find(stage->room, user(i));
        assert_non_null(member);
        assert_string_equal(member->name, who(user(i)));
    }
    assert_null(members_find(stage->room, user(1)));
    /* Below 64 holes, and below half, they stay. */
    for (uint32_t i = 8001; i < 8001 + 999; i++)
        leave(stage, i, 1, 0);
    assert_int_equal(stage->room->places, 2000);
    leave(stage, 9000, 1, 0);
    assert_int_equal(stage->room->places, 1000);
}

static void who_is_gone_is_dropped(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none owner=maker");
    fill(stage, 1, 3);
    stage->gone = 1 << 2;
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\nu1 < {1 a}\nu3 < {1 a}\n");
    stage_more(stage);
    TAPE(stage, "news 5 LEFT u2 LOST\n");
    assert_int_equal(stage->room->count, 2);
    COUNTED(stage, room_leaves, 1);
}

/* His Leave was posted before he went, so it comes before the room forgets him. */
static void who_said_why_is_not_lost(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none owner=maker");
    fill(stage, 1, 2);
    stage->gone = 1 << 2;
    say(stage, 1, "a");
    leave(stage, 2, 1, 7);
    TAPE(stage, "news 4 LEFT u2 LOGOUT\ns result #7 OK\n");
    stage_more(stage);
    TAPE(stage, "");
}

static void a_full_mailbox_is_hinted(void **state)
{
    struct stage *stage = *state;
    fill(stage, 1, 2);
    stage->full = 1 << 2;
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\nu1 < {1 a}\n");
    assert_int_equal(stage->room->owed, 1);
    stage->full = 0;
    stage_more(stage); /* also when nothing is ever said again */
    TAPE(stage, "");
    pass(stage, 249);
    TAPE(stage, "");
    pass(stage, 1);
    TAPE(stage, "u2 owed at=1\n");
    assert_int_equal(stage->room->owed, 0);
    pull(stage, 2, 0); /* with the roster: he may have missed some of that */
    TAPE(stage, "u2 pulled #3 at=1 live {JOINED COMPLETE at=1 of=0} {1 a}\n");
    pull(stage, 2, 1);
    TAPE(stage, "u2 pulled #3 at=1 live\n");
}

/* --- the end ---------------------------------------------------------------------------------- */

static void a_room_closes_behind_what_was_said(void **state)
{
    struct stage *stage = *state;
    fill(stage, 1, 3);
    away(stage, 2, 1);
    begin(stage);
    room_receive(&stage->room, &publish_of(1, "a", 1)->call.header, &stage->turn);
    room_receive(&stage->room, &command_of(ROOM_CLOSE, "done")->call.header, &stage->turn);
    room_receive(&stage->room, &publish_of(1, "b", 1)->call.header, &stage->turn);
    room_receive(&stage->room, &join_of(4, 1)->call.header, &stage->turn);
    finish(stage);
    TAPE(stage, "u1 result #9 OK 1\ns answer #7 OK\nu1 result #9 NO_ROOM\nu4 refused NO_ROOM\n"
                "u1 < {1 a}\nu1 < {CLOSED NONE at=1 of=0}\n"
                "u2 < {CLOSED NONE at=1 of=0}\n"
                "u3 < {1 a}\nu3 < {CLOSED NONE at=1 of=0}\nover\n");
    COUNTED(stage, rooms_closed, 1);
}

/* The frame behind it is for who has missed something. */
static void the_second_frame_says_partial(void **state)
{
    struct stage *stage = *state;
    stage->holds = true;
    enter(stage, 1);
    command(stage, ROOM_CLOSE, "");
    const struct room_bundle *bundle = stage->room->out[0];
    begin(stage);
    put_frames(stage, bundle->bytes + bundle->size, bundle->second_size);
    TAPE(stage, " {CLOSED PARTIAL at=0 of=0}");
    turn_reset(&stage->turn);
}

static void a_large_room_closes_in_slices(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none members=20000");
    stage->quiet = true;
    fill(stage, 1, 10000);
    say(stage, 1, "a");
    command(stage, ROOM_CLOSE, "");
    say(stage, 1, "b");
    assert_non_null(strstr(stage->tape, "NO_ROOM"));
    while (stage->room != NULL)
        stage_more(stage);
    for (uint32_t i = 1; i <= 10000; i++)
        assert_int_equal(stage->posts[i], 2);
}

/* Who leaves while the others are being told is no news any more, and nothing is put behind the
 * end: the fan-out knows it by its being the last. */
static void nothing_comes_behind_the_end(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=count members=20000 owner=maker");
    stage->quiet = true;
    fill(stage, 1, 5000);
    pass(stage, 5000);
    while (stage->room->out_count > 0)
        stage_more(stage);
    uint64_t news = stage->room->news_seq;
    command(stage, ROOM_CLOSE, "");
    assert_true(stage->room != NULL && stage->room->out_count == 1);
    leave(stage, 1, 1, 0);
    away(stage, 2, 1);
    assert_non_null(stage->room);
    assert_int_equal(stage->room->out[stage->room->out_count - 1]->kind, ROOM_CLOSED);
    assert_int_equal(stage->room->news_seq, news + 1);
    while (stage->room != NULL)
        stage_more(stage);
}

static void an_empty_room_is_closed_when_it_is_idle(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none idle=1s owner=maker");
    enter(stage, 1);
    pass(stage, 5000);
    leave(stage, 1, 1, 0);
    pass(stage, 999);
    assert_non_null(stage->room);
    enter(stage, 1); /* it begins anew */
    leave(stage, 1, 1, 0);
    pass(stage, 999);
    assert_non_null(stage->room);
    pass(stage, 1);
    TAPE(stage, "news 6 CLOSED  IDLE\nover\n");
    assert_null(stage->room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        room_test(slices),
        room_test(many_bundles_are_small_slices),
        room_test(holes_are_closed_but_not_under_a_fan_out),
        room_test(who_is_gone_is_dropped),
        room_test(who_said_why_is_not_lost),
        room_test(a_full_mailbox_is_hinted),
        room_test(a_room_closes_behind_what_was_said),
        room_test(the_second_frame_says_partial),
        room_test(a_large_room_closes_in_slices),
        room_test(nothing_comes_behind_the_end),
        room_test(an_empty_room_is_closed_when_it_is_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
