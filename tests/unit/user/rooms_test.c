/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/user/stage_rooms.h"

/* The rooms of a user: what he is told in which state, what he asks for, and what becomes of it. */

/* --- Join ------------------------------------------------------------------------------------- */

static void a_join_goes_to_the_room_and_is_answered_once(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    ask_join(stage, 7, "talk");
    EXPECT(stage, "room talk join #7 epoch=1 create=may join=may", "10 consumed");
    room_says(stage, (struct says){.request = 7, .joined = true, .offset = 4});
    EXPECT(stage, "10 room_state #7 room=12816 JOINED NONE life=50");
    room_posts(stage, ROOM_MESSAGES, 5, 2);
    EXPECT(stage, "10 room_messages first=5 n=2");
    assert_int_equal(his(stage)->offset, 6);
    ask_join(stage, 8, "nothing");
    EXPECT(stage, "10 error #8 NO_ROOM", "10 consumed");
    ask_join(stage, 8, "a b");
    EXPECT(stage, "10 error #8 INVALID_NAME", "10 consumed");
    ask_join(stage, 8, "shut");
    EXPECT(stage, "room shut join #8 epoch=1 create=not join=not", "10 consumed");
    room_says(stage, (struct says){.request = 8, .code = USHER__V1__ERROR__CODE__NO_ROOM});
    EXPECT(stage, "10 error #8 NO_ROOM");
}

static void rooms_per_user_at_n_and_one_more(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t id = 1; id <= 3; id++) {
        ask_join(stage, id, "talk");
        EXPECT(stage,
               id == 1   ? "room talk join #1 epoch=1 create=may join=may"
               : id == 2 ? "room talk join #2 epoch=1 create=may join=may"
                         : "room talk join #3 epoch=1 create=may join=may",
               "10 consumed");
    }
    /* Those that wait count, too. The room alone knows whether he is in it already. */
    ask_join(stage, 4, "talk4");
    EXPECT(stage, "room talk4 join #4 epoch=1 create=not join=may again_only", "10 consumed");
    room_says(stage, (struct says){.request = 4, .code = RESULT_ROOMS_FULL});
    EXPECT(stage, "10 error #4 ROOM_FULL");
    for (uint64_t id = 1; id <= 3; id++)
        room_says(stage, (struct says){.room = ROOM + id, .request = id, .joined = true});
    ask_join(stage, 5, "talk5");
    EXPECT(stage, "room talk5 join #5 epoch=1 create=not join=may again_only", "10 consumed");
    room_says(stage, (struct says){.request = 5, .code = RESULT_ROOMS_FULL});
    ask_leave(stage, 6, ROOM + 1);
    ask_join(stage, 7, "talk6");
    EXPECT(stage, "room talk6 join #7 epoch=1 create=may join=may", "10 consumed");
}

/* As many as he may be in at once and 16, within ten seconds. */
static void joins_at_n_and_one_more(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    for (uint64_t id = 1; id <= 3 + 16; id++) {
        ask_join(stage, id, "talk");
        room_says(stage, (struct says){.request = id, .code = USHER__V1__ERROR__CODE__NO_ROOM});
    }
    ask_join(stage, 90, "talk");
    EXPECT(stage, "10 error #90 RATE_LIMITED retry=527", "10 consumed");
    COUNTED(stage, room_joins_limited, 1);
    stage->now_ms += 527;
    ask_join(stage, 91, "talk");
    EXPECT(stage, "room talk join #91 epoch=1 create=may join=may", "10 consumed");
    stage->limits.rooms_publish_per_second = 0;
    ask_join(stage, 92, "talk");
    EXPECT(stage, "room talk join #92 epoch=1 create=may join=may", "10 consumed");
}

/* --- Publish and Leave ------------------------------------------------------------------------ */

static void publish_rate_at_n_and_one_more(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 0, false);
    for (uint64_t id = 1; id <= 4; id++)
        ask_publish(stage, id, ROOM, "");
    EXPECT(stage, "to 801 publish #4 'hi'", "10 consumed");
    ask_publish(stage, 5, ROOM, "");
    EXPECT(stage, "10 error #5 RATE_LIMITED retry=250", "10 consumed");
    COUNTED(stage, room_messages_limited, 1);
    /* Nor has he more by leaving and coming again. */
    ask_leave(stage, 6, ROOM);
    EXPECT(stage, "to 801 leave epoch=1 ASKED", "10 done #6 epoch=0",
           "10 room_state room=12816 LEFT NONE life=50", "10 consumed");
    room_says(stage, (struct says){.joined = true});
    ask_publish(stage, 7, ROOM, "");
    EXPECT(stage, "10 error #7 RATE_LIMITED retry=250", "10 consumed");
    stage->now_ms += 250;
    ask_publish(stage, 8, ROOM, "");
    EXPECT(stage, "to 801 publish #8 'hi'", "10 consumed");
    ask_publish(stage, 9, 4711, "");
    EXPECT(stage, "10 error #9 NOT_MEMBER", "10 consumed");
    ask_leave(stage, 10, 4711);
    EXPECT(stage, "10 error #10 NOT_MEMBER", "10 consumed");
}

static void publish_by_name_has_one_rate_for_all(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    ask_publish(stage, 1, 0, "open1");
    EXPECT(stage, "room open1 publish #1 'hi'", "10 consumed");
    ask_publish(stage, 2, 0, "open2");
    ask_publish(stage, 3, 0, "open3");
    ask_publish(stage, 4, 0, "open4");
    ask_publish(stage, 5, 0, "open5");
    EXPECT(stage, "10 error #5 RATE_LIMITED retry=250", "10 consumed");
}

/* --- gaps ------------------------------------------------------------------------------------- */

static void what_is_old_is_cut_or_dropped(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    room_posts(stage, ROOM_MESSAGES, 3, 2);
    EXPECT_NOTHING(stage);
    room_posts(stage, ROOM_MESSAGES, 3, 4);
    EXPECT(stage, "10 room_messages first=5 n=2");
    assert_int_equal(his(stage)->offset, 6);
    room_posts(stage, ROOM_MESSAGES, 7, 16);
    assert_int_equal(his(stage)->offset, 22);
}

static void a_gap_is_pulled_and_live_ones_wait(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 0, false);
    room_posts(stage, ROOM_MESSAGES, 2, 1);
    EXPECT(stage, "to 801 pull 2 epoch=1 at=0");
    room_posts(stage, ROOM_MESSAGES, 3, 1);
    EXPECT_NOTHING(stage);
    room_says(stage, (struct says){.pull = 1, .offset = 9, .silent = true}); /* an earlier one */
    EXPECT_NOTHING(stage);
    room_says(stage, (struct says){.pull = 2, .offset = 2, .silent = true, .behind = true});
    EXPECT(stage, "to 801 pull 3 epoch=1 at=2");
    room_says(stage, (struct says){.pull = 3, .offset = 3, .silent = true});
    EXPECT_NOTHING(stage);
    assert_int_equal(his(stage)->state, MEMBER_LIVE);
    room_posts(stage, ROOM_MESSAGES, 4, 1);
    EXPECT(stage, "10 room_messages first=4 n=1");
}

static void a_hint_pulls_also_the_roster(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 0, false);
    room_says(stage, (struct says){.owed = true, .offset = 1});
    EXPECT(stage, "to 801 pull 2 epoch=1 at=0 roster");
    room_says(stage, (struct says){.owed = true, .offset = 1});
    EXPECT_NOTHING(stage);
}

static void one_pull_at_a_time(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 0, false);
    room_says(stage,
              (struct says){.room = OTHER_ROOM, .joined = true, .offset = 5, .behind = true});
    EXPECT(stage, "10 room_state room=12816 JOINED NONE life=50", "to 802 pull 2 epoch=1 at=5");
    room_posts(stage, ROOM_MESSAGES, 2, 1);
    EXPECT_NOTHING(stage);
    room_says(stage, (struct says){.room = OTHER_ROOM, .pull = 2, .offset = 9, .silent = true});
    EXPECT(stage, "to 801 pull 2 epoch=1 at=0");
    /* Who leaves while he pulls lets the next one. */
    room_says(stage, (struct says){.room = OTHER_ROOM, .owed = true});
    EXPECT_NOTHING(stage);
    ask_leave(stage, 9, ROOM);
    EXPECT(stage, "to 801 leave epoch=1 ASKED", "10 done #9 epoch=0",
           "10 room_state room=12816 LEFT NONE life=50", "to 802 pull 3 epoch=1 at=9 roster",
           "10 consumed");
}

/* The connection has been written out. */
static void until_it_pulls_with_the_roster(struct stage *stage)
{
    stage->output = 0;
    for (unsigned i = 0; i < 3 && his(stage)->state != MEMBER_PULLING; i++)
        writable(stage);
    assert_int_equal(his(stage)->state, MEMBER_PULLING);
    assert_non_null(strstr(stage->tape, "roster"));
}

/* More waits in the connection than it takes: what is live is dropped, and asked for later. */
static void a_slow_connection_is_behind(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 0, false);
    stage->output = 20000; /* above the window */
    room_posts(stage, ROOM_MESSAGES, 1, 1);
    room_posts(stage, ROOM_MESSAGES, 2, 1);
    EXPECT_NOTHING(stage);
    assert_int_equal(his(stage)->state, MEMBER_BEHIND);
    room_posts(stage, ROOM_EVENT, 0, 0);
    EXPECT_NOTHING(stage);
    until_it_pulls_with_the_roster(stage);
    /* The answer finds it full again. It is asked for anew, and with the roster once more. */
    stage->session.output = 20000;
    stage->output = 20000;
    room_says(stage, (struct says){.pull = his(stage)->pull, .offset = 2, .bytes = 100});
    EXPECT_NOTHING(stage);
    assert_int_equal(his(stage)->offset, 1);
    until_it_pulls_with_the_roster(stage);
    assert_true(his(stage)->pull >= 3);
    room_posts(stage, ROOM_EVENT, 0, 0);
    room_says(stage, (struct says){.pull = his(stage)->pull, .offset = 2, .silent = true});
    assert_non_null(strstr(stage->tape, "roster")); /* the event passed by while he pulled */
}

/* --- the connection, the session -------------------------------------------------------------- */

/* Above the mark for long he would be closed; so what a room says stays below it. */
static void what_rooms_say_stays_below_the_mark(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 0, false);
    struct room_bundle *bundle = bundle_of(ROOM_MESSAGES, 1, 16);
    uint32_t size = bundle->size, most = (uint32_t)stage->limits.limits_output_soft_bytes;
    shared_release(&bundle->shared);
    stage->output = most - size; /* nothing of it is read */
    writable(stage);
    room_posts(stage, ROOM_MESSAGES, 1, 16);
    EXPECT(stage, "10 room_messages first=1 n=16");
    stage->output = most - size + 1;
    writable(stage);
    room_posts(stage, ROOM_MESSAGES, 17, 16);
    EXPECT_NOTHING(stage);
    assert_int_equal(his(stage)->state, MEMBER_BEHIND);
}

static void away_and_back_named_and_not(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    stage_conn_end(stage, 10, LOSS_GONE);
    EXPECT(stage, "10 release", "to 801 away epoch=1",
           "store DETACH DETACHED LOST epoch=1 until=5060000");
    stage_commit(stage, 0);
    room_posts(stage, ROOM_MESSAGES, 5, 1);
    room_posts(stage, ROOM_EVENT, 0, 0);
    EXPECT_NOTHING(stage);
    back(stage, 20, 1, ROOM, LIFE, 2);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "to 801 pull 3 epoch=1 at=2 resumed");
    room_posts(stage, ROOM_MESSAGES, 3, 1); /* live, before the room has answered */
    EXPECT_NOTHING(stage);
    room_says(stage, (struct says){.pull = 3, .offset = 7});
    EXPECT(stage, "20 room_state room=12816 JOINED NONE life=50");
    room_posts(stage, ROOM_MESSAGES, 8, 1);
    EXPECT(stage, "20 room_messages first=8 n=1");
    stage_conn_end(stage, 20, LOSS_GONE);
    stage_commit(stage, 0);
    back(stage, 30, 0, 0, 0, 0);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=1 COMPLETE next=1",
           "to 801 pull 5 epoch=1 at=8 fresh");
    room_says(stage, (struct says){.pull = 3, .offset = 99}); /* for a connection that is gone */
    EXPECT_NOTHING(stage);
    assert_int_equal(his(stage)->offset, 8);
}

static void positions_of_rooms_that_are_over(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    stage_detach(stage);
    room_posts(stage, ROOM_CLOSED, 4, 0);
    EXPECT_NOTHING(stage);
    back(stage, 20, 2, ROOM, LIFE, 4);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 room_state room=12816 CLOSED NONE life=50",
           "20 room_state room=12816 CLOSED NONE life=50");
    assert_null(stage->session.company); /* nothing is left of it */
    stage_detach(stage);
    back(stage, 30, 3, 4711, 9, UINT64_MAX);
    EXPECT(stage, "30 welcomed", "30 welcome #1 epoch=1 COMPLETE next=1",
           "30 room_state room=75376 CLOSED NONE life=9",
           "30 room_state room=75376 CLOSED NONE life=9",
           "30 room_state room=75376 CLOSED NONE life=9");
}

static void a_takeover_leaves_and_carries(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    room_says(stage, (struct says){.room = OTHER_ROOM, .joined = true, .offset = 1, .carry = true});
    stage_login(stage, 20, true);
    assert_non_null(strstr(stage->tape, "to 802 pull 1 epoch=1 new=2 at=0 fresh\n"
                                        "to 801 leave epoch=1 TAKEOVER\n"
                                        "to 802 pull 3 epoch=2 at=1 fresh\n"));
    assert_null(his(stage));
    /* What was on its way for the old login. */
    room_posts(stage, ROOM_MESSAGES, 5, 1);
    EXPECT_NOTHING(stage);
    room_says(stage, (struct says){.room = OTHER_ROOM, .pull = 1, .offset = 9});
    EXPECT_NOTHING(stage);
    room_says(stage, (struct says){.epoch = 1, .joined = true}); /* a Join of before */
    EXPECT(stage, "to 801 leave epoch=1 TAKEOVER");
    room_says(stage, (struct says){.epoch = 1, .joined = true, .carry = true}); /* a RoomAdd */
    EXPECT(stage, "to 801 pull 0 epoch=1 new=2 at=0 fresh");
    assert_int_equal(his(stage)->state, MEMBER_BEHIND);
    room_says(stage, (struct says){.epoch = 1, .code = USHER__V1__ERROR__CODE__BUSY});
    EXPECT_NOTHING(stage);
}

static void the_end_of_a_session_says_why(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    put_logout(stage, 3);
    stage_play(stage, 10);
    stage_commit(stage, 0);
    assert_non_null(strstr(stage->tape, "to 801 leave epoch=1 LOGOUT"));
    assert_null(stage->session.company);
    be_member(stage, 4, true);
    stage_receive(stage, &kick_create(0)->header);
    stage_commit(stage, 0);
    assert_non_null(strstr(stage->tape, "to 801 leave epoch=2 KICKED"));
    be_member(stage, 4, false);
    stage_detach(stage);
    stage_tick(stage, 0);
    stage_commit(stage, 0);
    assert_non_null(strstr(stage->tape, "to 801 leave epoch=3 EXPIRED"));
}

/* A Join whose answer comes when nobody is connected. */
static void an_answer_that_finds_nobody_comes_with_the_resume(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    ask_join(stage, 7, "talk");
    stage_detach(stage);
    room_says(stage, (struct says){.request = 7, .joined = true, .offset = 4});
    EXPECT(stage, "to 801 away epoch=1");
    back(stage, 20, 0, 0, 0, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "to 801 pull 2 #7 epoch=1 at=4 fresh");
    room_says(stage, (struct says){.request = 7, .pull = 2, .offset = 4});
    EXPECT(stage, "20 room_state #7 room=12816 JOINED NONE life=50");
    assert_int_equal(his(stage)->request, 0);
}

/* And it is answered also when he is out of the room before it could be. */
static void a_join_is_answered_in_any_case(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    ask_join(stage, 7, "talk");
    stage_detach(stage);
    room_says(stage, (struct says){.request = 7, .joined = true, .offset = 4});
    back(stage, 20, 0, 0, 0, 0);
    ask_leave(stage, 8, ROOM);
    EXPECT(stage, "20 error #7 NOT_MEMBER", "to 801 leave epoch=1 ASKED", "20 done #8 epoch=0",
           "20 room_state room=12816 LEFT NONE life=50", "20 consumed");
    assert_null(requests_find(stage->session.requests, 7));
}

/* What the first one named would not be what the second one's answer counts from. */
static void a_join_that_names_nothing_is_not_answered_by_another(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    ask_join(stage, 7, "talk");
    ask_join(stage, 8, "talk");
    stage_detach(stage);
    room_says(stage, (struct says){.request = 7, .joined = true, .offset = 4});
    EXPECT(stage, "to 801 away epoch=1");
    room_says(stage, (struct says){.request = 8, .joined = true, .again = true, .offset = 4});
    EXPECT_NOTHING(stage);
    assert_null(requests_find(stage->session.requests, 8));
    assert_int_equal(his(stage)->request, 7);
    back(stage, 20, 0, 0, 0, 0);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "to 801 pull 2 #7 epoch=1 at=4 fresh", "20 error #8 BUSY retry=1000");
}

/* --- closing ---------------------------------------------------------------------------------- */

static void closed_says_whether_something_is_missing(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    room_posts(stage, ROOM_CLOSED, 4, 0);
    EXPECT(stage, "10 room_state room=12816 CLOSED NONE life=50");
    assert_null(stage->session.company);
    room_says(stage, (struct says){.joined = true, .offset = 4});
    room_posts(stage, ROOM_CLOSED, 5, 0);
    EXPECT(stage, "10 room_state room=12816 CLOSED PARTIAL life=50");
    room_posts(stage, ROOM_MESSAGES, 5, 1);
    EXPECT_NOTHING(stage);
}

/* --- services --------------------------------------------------------------------------------- */

static void order(struct stage *stage, enum message_kind kind, uint64_t room, uint64_t epoch)
{
    struct room_member_message *message =
        room_member_create(kind, bytes_of_text("talk"), bytes_of_text("out"));
    message->room = room;
    message->asker = OTHER;
    message->token = 44;
    message->epoch = epoch;
    stage_receive(stage, &message->header);
}

static void invited_and_expelled(void **state)
{
    struct stage *stage = *state;
    order(stage, MESSAGE_ROOM_INVITE, ROOM, 0);
    EXPECT(stage, "to 901 result #44 NOT_ONLINE epoch=0", "retire");
    be_member(stage, 4, false);
    order(stage, MESSAGE_ROOM_INVITE, ROOM, 9);
    EXPECT(stage, "to 901 result #44 STALE_EPOCH epoch=1");
    order(stage, MESSAGE_ROOM_INVITE, 0, 1);
    EXPECT(stage, "to 901 result #44 NO_ROOM epoch=1");
    order(stage, MESSAGE_ROOM_EXPEL, OTHER_ROOM, 1);
    EXPECT(stage, "to 901 result #44 NOT_MEMBER epoch=1");
    order(stage, MESSAGE_ROOM_EXPEL, ROOM, 1);
    EXPECT(stage, "to 801 leave #44 epoch=1 SERVICE",
           "10 room_state room=12816 REMOVED NONE life=50");
    assert_null(stage->session.company);
    /* Who is away hears of it when he comes back and names it. */
    room_says(stage, (struct says){.joined = true, .offset = 4});
    stage_detach(stage);
    order(stage, MESSAGE_ROOM_EXPEL, ROOM, 0);
    EXPECT(stage, "to 801 leave #44 epoch=1 SERVICE");
    back(stage, 20, 1, ROOM, LIFE, 4);
    EXPECT(stage, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "20 room_state room=12816 REMOVED NONE life=50");
}

/* Who is away and is added to and removed from rooms for ever holds no more than a few of them. */
static void what_he_was_in_does_not_grow(void **state)
{
    struct stage *stage = *state;
    be_member(stage, 4, false);
    stage_detach(stage);
    for (uint64_t i = 0; i < 1000; i++) {
        room_says(stage, (struct says){.room = 10000 + i, .joined = true});
        order(stage, MESSAGE_ROOM_EXPEL, 10000 + i, 0);
    }
    assert_true(stage->session.company->rooms->capacity <= 8);
    assert_non_null(his(stage));
}

/* --- what it costs ---------------------------------------------------------------------------- */

static void who_is_in_no_room_pays_a_pointer(void **state)
{
    struct stage *stage = *state;
    stage_login(stage, 10, true);
    assert_null(stage->session.company);
    ask_join(stage, 7, "nothing");
    assert_null(stage->session.company);
    be_member(stage, 4, false);
    assert_non_null(stage->session.company);
    ask_leave(stage, 8, ROOM);
    assert_null(stage->session.company);
    ask_join(stage, 9, "talk");
    room_says(stage, (struct says){.request = 9, .joined = true});
    stage->now_ms += 20000; /* nothing is spent any more */
    ask_leave(stage, 10, ROOM);
    assert_null(stage->session.company);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        rooms_unit_test(a_join_goes_to_the_room_and_is_answered_once),
        rooms_unit_test(rooms_per_user_at_n_and_one_more),
        rooms_unit_test(joins_at_n_and_one_more),
        rooms_unit_test(publish_rate_at_n_and_one_more),
        rooms_unit_test(publish_by_name_has_one_rate_for_all),
        rooms_unit_test(what_is_old_is_cut_or_dropped),
        rooms_unit_test(a_gap_is_pulled_and_live_ones_wait),
        rooms_unit_test(a_hint_pulls_also_the_roster),
        rooms_unit_test(one_pull_at_a_time),
        rooms_unit_test(a_slow_connection_is_behind),
        rooms_unit_test(what_rooms_say_stays_below_the_mark),
        rooms_unit_test(away_and_back_named_and_not),
        rooms_unit_test(positions_of_rooms_that_are_over),
        rooms_unit_test(a_takeover_leaves_and_carries),
        rooms_unit_test(the_end_of_a_session_says_why),
        rooms_unit_test(an_answer_that_finds_nobody_comes_with_the_resume),
        rooms_unit_test(a_join_is_answered_in_any_case),
        rooms_unit_test(a_join_that_names_nothing_is_not_answered_by_another),
        rooms_unit_test(closed_says_whether_something_is_missing),
        rooms_unit_test(invited_and_expelled),
        rooms_unit_test(what_he_was_in_does_not_grow),
        rooms_unit_test(who_is_in_no_room_pays_a_pointer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
