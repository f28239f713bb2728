/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/room/stage_room.h"

/* Who comes and goes, of which login, and what he is told. */

static void the_first_join_opens_the_room(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    TAPE(stage, "u1 joined at=0 live {JOINED NONE at=0 of=0}\n");
    assert_int_equal(stage->room->incarnation, 1);
    say(stage, 1, "a");
    enter(stage, 2);
    TAPE(stage, "u2 joined at=1 live {JOINED NONE at=1 of=0}\n");
    COUNTED(stage, rooms_opened, 1);
    COUNTED(stage, room_joins, 2);
}

static void who_may_not_make_it_finds_none(void **state)
{
    struct stage *stage = *state;
    struct room_join_message *join = join_of(1, 1);
    join->call.may_create = ROOM_MAY_NOT;
    receive(stage, &join->call.header);
    TAPE(stage, "u1 refused NO_ROOM\nover\n");
}

static void who_is_not_let_in_is_told_so(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    struct room_join_message *join = join_of(2, 1);
    join->may_join = ROOM_MAY_NOT;
    receive(stage, &join->call.header);
    TAPE(stage, "u2 refused FORBIDDEN\n");
    join = join_of(3, 1);
    join->again_only = true;
    receive(stage, &join->call.header);
    TAPE(stage, "u3 refused ROOM_FULL\n");
    join = join_of(1, 1);
    join->again_only = true;
    receive(stage, &join->call.header);
    TAPE(stage, "u1 again at=0 live {JOINED COMPLETE at=0 of=0}\n");
}

static void members_at_n_and_one_more(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none members=3");
    for (uint32_t i = 1; i <= 3; i++)
        enter(stage, i);
    enter(stage, 4);
    TAPE(stage, "u4 refused ROOM_FULL\n");
    enter(stage, 3); /* who is in is not refused */
    TAPE(stage, "u3 again at=0 live {JOINED COMPLETE at=0 of=0}\n");
    leave(stage, 2, 1, 0);
    enter(stage, 4);
    TAPE(stage, "u4 joined at=0 live {JOINED NONE at=0 of=0}\n");
    assert_int_equal(stage->room->count, 3);
}

static void a_rejoin_changes_nothing_and_a_login_begins_anew(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list owner=maker");
    enter(stage, 1);
    say(stage, 1, "a");
    enter(stage, 1);
    TAPE(stage, "u1 again at=1 live {JOINED COMPLETE at=1 of=1 u1}\n");
    receive(stage, &join_of(1, 2)->call.header);
    TAPE(stage, "news 3 LEFT u1 TAKEOVER\n"
                "u1 joined at=1 live {JOINED NONE at=1 of=1 u1}\n"
                "news 4 JOINED u1 ASKED\n");
    assert_int_equal(stage->room->count, 1);
    /* A Join of the login before, which comes late, and its Leave. */
    enter(stage, 1);
    TAPE(stage, "u1 refused STALE_EPOCH\n");
    leave(stage, 1, 1, 0);
    assert_int_equal(stage->room->count, 1);
    away(stage, 1, 1);
    assert_int_equal(stage->room->away, 0);
    pull(stage, 1, 0); /* of epoch 1 */
    TAPE(stage, "");
}

/* Another user has the slot of one who is gone: he is not him. */
static void a_slot_is_not_a_member(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list owner=maker");
    enter(stage, 1);
    struct room_join_message *join = join_of(1, 5);
    join->user = join->call.asker = UINT64_C(2) << 32 | 1;
    receive(stage, &join->call.header);
    TAPE(stage, "news 3 LEFT u1 LOST\n"
                "u1' joined at=0 live {JOINED NONE at=0 of=1 u1}\n"
                "news 4 JOINED u1 ASKED\n");
    leave(stage, 1, 5, 0); /* whose login has by chance the same number */
    away(stage, 1, 5);
    pull(stage, 1, 0);
    TAPE(stage, "");
    assert_int_equal(stage->room->count, 1);
    assert_int_equal(stage->room->away, 0);
}

/* A login is over, and so is its actor; its Join was still under way, or is allowed late. */
static void there_is_one_of_a_name(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list owner=maker");
    receive(stage, &join_of(1, 3)->call.header);
    struct room_join_message *next = join_of(1, 5);
    next->user = next->call.asker = user(2);
    receive(stage, &next->call.header);
    TAPE(stage, "news 3 LEFT u1 LOST\n"
                "u2 joined at=0 live {JOINED NONE at=0 of=1 u1}\n"
                "news 4 JOINED u1 ASKED\n");
    struct room_join_message *late = join_of(1, 4);
    late->user = late->call.asker = user(3);
    receive(stage, &late->call.header);
    TAPE(stage, "u3 refused STALE_EPOCH\n");
    leave(stage, 1, 3, 0); /* the end of the first one comes now */
    assert_int_equal(stage->room->count, 1);
    assert_non_null(members_find(stage->room, user(2)));
}

static void a_service_carries(void **state)
{
    struct stage *stage = *state;
    struct room_join_message *join = join_of(1, 1);
    join->call.asker = SERVICE;
    join->call.request = 7;
    join->call.from_service = true;
    join->carry = true;
    receive(stage, &join->call.header);
    TAPE(stage, "u1 joined at=0 live carry {JOINED NONE at=0 of=0}\ns result #7 OK\n");
    struct room_pull_message *move = pull_of(stage, 1, 0);
    move->new_epoch = 4;
    move->fresh = true;
    receive(stage, &move->header);
    TAPE(stage, "u1 pulled #3 at=0 live carry {JOINED NONE at=0 of=0}\n");
    assert_int_equal(members_find(stage->room, user(1))->epoch, 4);
    leave(stage, 1, 1, 0); /* of the login before */
    assert_int_equal(stage->room->count, 1);
    leave(stage, 1, 4, 8);
    TAPE(stage, "s result #8 OK\n");
    assert_int_equal(stage->room->count, 0);
    leave(stage, 1, 4, 9);
    TAPE(stage, "s result #9 NOT_MEMBER\n");
}

static void away_and_back(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list owner=maker history=8/60s");
    enter(stage, 1);
    enter(stage, 2);
    pass(stage, 300);
    TAPE(stage, "u1 < {of=2 +u1 +u2}\nu2 < {of=2 +u1 +u2}\n");
    away(stage, 1, 1);
    TAPE(stage, "news 4 AWAY u1 UNKNOWN\n");
    away(stage, 1, 1); /* once */
    TAPE(stage, "");
    say(stage, 2, "a");
    TAPE(stage, "u2 result #9 OK 1\nu2 < {1 a}\n");
    pass(stage, 300);
    TAPE(stage, "u2 < {of=2 ~u1}\n");
    enter(stage, 3);
    TAPE(stage, "u3 joined at=1 live {JOINED NONE at=1 of=3 u1~ u2 u3}\nnews 5 JOINED u3 ASKED\n");
    struct room_pull_message *back = pull_of(stage, 1, 0);
    back->resumed = true;
    receive(stage, &back->header);
    TAPE(stage, "news 6 BACK u1 UNKNOWN\n"
                "u1 pulled #3 at=1 live {JOINED COMPLETE at=1 of=3 u1 u2 u3} {1 a}\n");
    pass(stage, 300);
    TAPE(stage, "u1 < {of=3 +u3 =u1}\nu2 < {of=3 +u3 =u1}\nu3 < {of=3 +u3 =u1}\n");
}

/* With an owner or without one, and both by one number. */
static void news_for_the_webhook(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none webhook=yes follow=messages");
    enter(stage, 1);
    TAPE(stage, "posted news 1 OPENED  ASKED\nu1 joined at=0 live {JOINED NONE at=0 of=0}\n"
                "posted news 2 JOINED u1 ASKED\n");
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\nposted news 3 MESSAGE u1 UNKNOWN\nu1 < {1 a}\n");
    set_class(stage, "match create=client join=any roster=none webhook=yes owner=maker");
    away(stage, 1, 1);
    TAPE(stage, "news 4 AWAY u1 UNKNOWN\nposted news 4 AWAY u1 UNKNOWN\n");
    set_class(stage, "match create=client join=any roster=none");
    leave(stage, 1, 1, 0);
    TAPE(stage, "");
}

/* --- the owner -------------------------------------------------------------------------------- */

static void ask(struct stage *stage, uint32_t number, bool creates)
{
    struct room_join_message *join = join_of(number, 1);
    join->call.may_create = creates ? ROOM_MAY_IF_OWNER : ROOM_MAY_NOT;
    join->may_join = ROOM_MAY_IF_OWNER;
    receive(stage, &join->call.header);
}

static void the_owner_says_yes_or_no(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=service join=service roster=none owner=maker");
    ask(stage, 1, true);
    TAPE(stage, "ask CREATE u1 call=1\n");
    assert_int_equal(stage->room->incarnation, 0);
    ask(stage, 1, true); /* of one user one waits */
    TAPE(stage, "u1 refused BUSY\n");
    answer_ask(stage, 1, 0, 0, "");
    TAPE(stage, "news 1 OPENED  ASKED\n"
                "u1 joined at=0 live {JOINED NONE at=0 of=0}\nnews 2 JOINED u1 ASKED\n");
    ask(stage, 2, false);
    TAPE(stage, "ask JOIN u2 call=3\n");
    answer_ask(stage, 3, 0, 4, "not you");
    TAPE(stage, "u2 refused FORBIDDEN\n");
    answer_ask(stage, 3, 0, 0, ""); /* late */
    TAPE(stage, "");
    COUNTED(stage, replies_late, 1);
    ask(stage, 2, false);
    answer_ask(stage, 4, USHER__V1__ERROR__CODE__NO_SERVICE, 0, "");
    TAPE(stage, "u2 refused NO_SERVICE\n");
    ask(stage, 3, false);
    pass(stage, 4999);
    assert_int_equal(stage->room->ask_count, 1);
    pass(stage, 1);
    TAPE(stage, "u3 refused TIMEOUT\n");
}

static void so_many_wait_for_the_owner_and_one_more(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=service join=service roster=none owner=maker");
    for (uint32_t i = 1; i <= ROOM_ASKS_MAX; i++)
        ask(stage, i, true);
    assert_int_equal(stage->room->ask_count, ROOM_ASKS_MAX);
    ask(stage, ROOM_ASKS_MAX + 1, true);
    TAPE(stage, "u1025 refused BUSY\n");
    pass(stage, 5000); /* all of them, and with them the room */
    assert_null(stage->room);
}

static void the_first_yes_makes_the_room_for_both(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=service join=service roster=none owner=maker");
    ask(stage, 1, true);
    ask(stage, 2, true);
    answer_ask(stage, 2, 0, 0, "");
    answer_ask(stage, 1, 0, 0, "");
    assert_int_equal(stage->room->count, 2);
    COUNTED(stage, rooms_opened, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        room_test(the_first_join_opens_the_room),
        room_test(who_may_not_make_it_finds_none),
        room_test(who_is_not_let_in_is_told_so),
        room_test(members_at_n_and_one_more),
        room_test(a_rejoin_changes_nothing_and_a_login_begins_anew),
        room_test(a_slot_is_not_a_member),
        room_test(there_is_one_of_a_name),
        room_test(a_service_carries),
        room_test(news_for_the_webhook),
        room_test(away_and_back),
        room_test(the_owner_says_yes_or_no),
        room_test(so_many_wait_for_the_owner_and_one_more),
        room_test(the_first_yes_makes_the_room_for_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
