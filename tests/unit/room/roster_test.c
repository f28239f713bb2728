/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/room/stage_room.h"

/* What members hear of each other; pages of members for services; and what a reload changes. */

static void changes_are_gathered(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list");
    enter(stage, 1);
    for (uint32_t i = 2; i <= 130; i++)
        enter(stage, i);
    leave(stage, 130, 1, 0);
    pass(stage, 249);
    assert_int_equal(stage->posts[1], 0);
    stage->quiet = true;
    pass(stage, 1);
    assert_int_equal(stage->posts[1], 3); /* 64, 64 and 2 in a frame */
    assert_int_equal(stage->posts[130], 0);
    pass(stage, 5000);
    assert_int_equal(stage->posts[1], 3);
}

static void who_changes_twice_is_told_once(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list");
    enter(stage, 1);
    enter(stage, 2);
    pass(stage, 300);
    away(stage, 2, 1);
    pull(stage, 2, 0);
    away(stage, 2, 1);
    pass(stage, 300);
    TAPE(stage, "u1 < {of=2 ~u2}\n");
}

/* Messages before the change are before it on the wire, too. */
static void events_leave_with_a_tick_and_without_messages(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list tick=50ms");
    enter(stage, 1);
    pass(stage, 50);
    TAPE(stage, "u1 < {of=1 +u1}\n");
    enter(stage, 2);
    say(stage, 1, "a");
    pass(stage, 50);
    TAPE(stage, "u1 < {1 a}\nu1 < {of=2 +u2}\nu2 < {1 a}\nu2 < {of=2 +u2}\n");
}

static void a_counted_roster_says_how_many(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=count");
    for (uint32_t i = 1; i <= 1000; i++)
        enter(stage, i);
    assert_non_null(strstr(stage->tape, "of=1000}"));
    pass(stage, 250);
    assert_int_equal(stage->posts[1], 1);
    away(stage, 7, 1); /* who is away is one of them */
    pass(stage, 1000);
    assert_int_equal(stage->posts[1], 1);
    assert_int_equal(stage->room->change_count, 0);
}

/* What one who comes and goes costs the others keeps to a quarter of the room's deliveries. */
static void a_storm_of_one_is_gathered_for_longer(void **state)
{
    struct stage *stage = *state;
    stage->limits.rooms_deliveries_per_second = 2000;
    set_class(stage, "match create=client join=any roster=count members=20000");
    stage->quiet = true;
    for (uint32_t i = 1; i <= 1000; i++)
        enter(stage, i);
    pass(stage, 10000);
    uint32_t before = stage->posts[1];
    for (unsigned i = 0; i < 1000; i++) { /* for ten seconds */
        enter(stage, 2000);
        leave(stage, 2000, 1, 0);
        pass(stage, 10);
    }
    uint32_t events = stage->posts[1] - before;
    assert_true(events >= 4 && events <= 5);
}

static void so_many_changes_do_not_wait(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=list members=1024");
    stage->quiet = true;
    enter(stage, 1);
    for (uint32_t i = 2; i <= 1024; i++)
        enter(stage, i);
    while (stage->more)
        stage_more(stage);
    assert_int_equal(stage->room->change_count, 0);
    assert_int_equal(stage->posts[1], 16);
}

static unsigned times(const char *text, const char *part)
{
    unsigned count = 0;
    while ((text = strstr(text, part)) != NULL) {
        count++;
        text++;
    }
    return count;
}

static struct room_join_message *join_long(uint32_t number)
{
    char name[USERNAME_BYTES_MAX + 1];
    memset(name, 'x', sizeof(name) - 1);
    snprintf(name, 8, "%06u", number);
    name[6] = 'x';
    name[USERNAME_BYTES_MAX] = '\0';
    struct room_join_message *join = room_join_create(bytes_of_text("match"), bytes_of_text(name));
    join->call.asker = join->user = user(number);
    join->call.may_create = join->may_join = ROOM_MAY;
    join->epoch = 1;
    return join;
}

/* put_frames says that each fits. */
static void a_roster_longer_than_a_frame_goes_on(void **state)
{
    static const uint32_t frames[] = {1024, 1100, 4096, 65536};
    for (size_t i = 0; i < sizeof(frames) / sizeof(frames[0]); i++) {
        struct stage *stage = *state;
        stage->limits.limits_frame_bytes = frames[i];
        set_class(stage, "match create=client join=any roster=list members=1024");
        for (uint32_t number = 1; number < 1024; number++) {
            stage->quiet = number > 2;
            receive(stage, &join_long(number)->call.header);
            while (stage->more)
                stage_more(stage);
        }
        away(stage, 1000, 1);
        receive(stage, &join_long(1024)->call.header);
        unsigned named = 0;
        for (uint32_t number = 1; number <= 1024; number++) {
            char name[8];
            snprintf(name, sizeof(name), "%06u", number);
            named += times(stage->tape, name);
        }
        assert_int_equal(named, 1024);
        assert_int_equal(times(stage->tape, "~001000"), 1); /* beyond the first frame, away */
        room_fini(&stage->room);
        teardown(state);
        setup(state);
    }
}

/* --- pages ------------------------------------------------------------------------------------ */

static void members_come_in_pages(void **state)
{
    struct stage *stage = *state;
    for (uint32_t i = 1; i <= 5; i++)
        enter(stage, i);
    away(stage, 2, 1);
    struct room_command_message *list = command_of(ROOM_MEMBERS, "");
    list->limit = 2;
    receive(stage, &list->call.header);
    TAPE(stage, "s answer #7 OK u1 u2~ next=2 news=0\n");
    leave(stage, 2, 1, 0); /* whoever goes meanwhile, and whoever comes */
    leave(stage, 3, 1, 0);
    enter(stage, 6);
    list = command_of(ROOM_MEMBERS, "2");
    list->limit = 2;
    receive(stage, &list->call.header);
    TAPE(stage, "s answer #7 OK u4 u5 next=5 news=0\n");
    command(stage, ROOM_MEMBERS, "5");
    TAPE(stage, "s answer #7 OK u6 next= news=0\n");
    command(stage, ROOM_MEMBERS, "99999999999999999999999999");
    TAPE(stage, "s answer #7 OK next= news=0\n");
    command(stage, ROOM_MEMBERS, "nonsense");
    TAPE(stage, "s answer #7 OK u1 u4 u5 u6 next= news=0\n");
    command(stage, ROOM_CLOSE, "");
    command(stage, ROOM_MEMBERS, "");
    TAPE(stage, "s answer #7 NO_ROOM\nover\n");
}

/* --- what a service opens --------------------------------------------------------------------- */

static void a_service_opens_with_fewer_members(void **state)
{
    struct stage *stage = *state;
    struct room_command_message *open = command_of(ROOM_OPEN, "");
    open->members_max = 1;
    receive(stage, &open->call.header);
    TAPE(stage, "s answer #7 OK at=0 of=0\n");
    enter(stage, 1);
    enter(stage, 2);
    TAPE(stage, "u2 refused ROOM_FULL\n");
    command(stage, ROOM_OPEN, "");
    TAPE(stage, "s answer #7 OK at=0 of=1\n");
}

/* --- a reload --------------------------------------------------------------------------------- */

static void the_class_changes_under_a_room(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    enter(stage, 2);
    set_class(stage, "match create=client join=any roster=list members=1");
    enter(stage, 3);
    TAPE(stage, "u3 refused ROOM_FULL\n");
    assert_int_equal(stage->room->count, 2); /* nobody is thrown out */
    enter(stage, 1);
    TAPE(stage, "u1 again at=0 live {JOINED COMPLETE at=0 of=2 u1 u2}\n");
    set_class(stage, "match create=client join=any roster=none members=5 tick=100ms");
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\n");
    pass(stage, 100);
    TAPE(stage, "u1 < {1 a}\nu2 < {1 a}\n");
}

static void a_class_that_is_gone_goes_on(void **state)
{
    struct stage *stage = *state;
    set_class(stage, "match create=client join=any roster=none members=2 idle=1s");
    enter(stage, 1);
    set_class(stage, "other create=client");
    say(stage, 1, "a");
    TAPE(stage, "u1 result #9 OK 1\nu1 < {1 a}\n");
    enter(stage, 2);
    enter(stage, 3);
    TAPE(stage, "u3 refused ROOM_FULL\n");
    leave(stage, 1, 1, 0);
    leave(stage, 2, 1, 0);
    pass(stage, 1000);
    assert_null(stage->room);
    enter(stage, 1); /* and a new one has none */
    TAPE(stage, "u1 refused NO_ROOM\nover\n");
}

static void a_history_that_a_reload_takes(void **state)
{
    struct stage *stage = *state;
    enter(stage, 1);
    say(stage, 1, "a");
    set_class(stage, "match create=client join=any roster=none");
    pull(stage, 1, 0);
    TAPE(stage, "u1 pulled #3 at=1 live {JOINED PARTIAL at=1 of=0}\n");
    set_class(stage, "match create=client join=any roster=none history=2/60s");
    say(stage, 1, "b");
    pull(stage, 1, 1);
    TAPE(stage, "u1 pulled #3 at=2 live {2 b}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        room_test(changes_are_gathered),
        room_test(who_changes_twice_is_told_once),
        room_test(events_leave_with_a_tick_and_without_messages),
        room_test(a_counted_roster_says_how_many),
        room_test(a_storm_of_one_is_gathered_for_longer),
        room_test(so_many_changes_do_not_wait),
        room_test(a_roster_longer_than_a_frame_goes_on),
        room_test(members_come_in_pages),
        room_test(a_service_opens_with_fewer_members),
        room_test(the_class_changes_under_a_room),
        room_test(a_class_that_is_gone_goes_on),
        room_test(a_history_that_a_reload_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
