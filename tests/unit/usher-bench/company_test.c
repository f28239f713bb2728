/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/broker_frame.h"
#include "proto/frame.h"
#include "usher-bench/company.h"
#include "usher-bench/run.h"

/* What members of a room and watchers of friends make of what a broker sends, right and wrong. */

enum { SIZE = 16, ROOM = 7, ONLINE = 1, OFFLINE = 0, COMPLETE = 1, PARTIAL = 2 };

struct stage {
    struct bench_options options;
    struct crowd crowd;
    struct run run;
    const struct scenario *scenario;
    struct buffer out, items;
};

static void open_stage(struct stage *stage, const struct scenario *scenario, uint32_t users)
{
    memset(stage, 0, sizeof(*stage));
    stage->scenario = scenario;
    stage->options = (struct bench_options){
        .prefix = "u", .room = "r:", .users = users, .size_bytes = SIZE, .rooms = 1, .watch = 2};
    stage->run = (struct run){.options = &stage->options, .crowd_count = 1};
    stage->crowd = (struct crowd){
        .options = &stage->options, .events = &scenario->events, .context = &stage->run};
    assert_int_equal(crowd_open(&stage->crowd, 0, users), 0);
    assert_int_equal(scenario->open(&stage->run, &stage->crowd), 0);
}

static void close_stage(struct stage *stage)
{
    crowd_close(&stage->crowd);
    buffer_fini(&stage->out);
    buffer_fini(&stage->items);
}

/* The frame that was written comes to that user. */
static void deliver(struct stage *stage, uint32_t user)
{
    struct bytes frame;
    size_t used;
    struct bytes input = {stage->out.data, stage->out.size};
    assert_int_equal(frame_next(input, 1 << 20, &frame, &used), 1);
    assert_true(
        stage->scenario->events.on_company(&stage->crowd, &stage->crowd.users[user], frame));
    stage->out.size = stage->items.size = 0;
}

static void state(struct stage *stage, uint32_t user, uint64_t offset, uint32_t replay)
{
    const struct room_state_fields fields = {.name = bytes_of_text("r:0"),
                                             .room = ROOM,
                                             .incarnation = 1,
                                             .offset = offset,
                                             .replay = replay};
    broker_frame_room_state(&stage->out, 0, &fields);
    deliver(stage, user);
}

static void add_message(struct stage *stage, uint32_t sender, uint32_t seq)
{
    uint8_t payload[SIZE];
    char name[8] = {'u', (char)('0' + sender)};
    const struct stamp stamp = {.sender = sender, .seq = seq};
    stamp_write(payload, &stamp);
    broker_frame_room_message(&stage->items, bytes_of_text(name), bytes_of_text(NULL),
                              (struct bytes){payload, SIZE}, 1);
}

static void messages(struct stage *stage, uint32_t user, uint64_t offset)
{
    broker_frame_room_messages(&stage->out, ROOM, offset,
                               (struct bytes){stage->items.data, stage->items.size});
    deliver(stage, user);
}

static void one(struct stage *stage, uint32_t user, uint64_t offset, uint32_t sender, uint32_t seq)
{
    add_message(stage, sender, seq);
    messages(stage, user, offset);
}

static void open_room(struct stage *stage, uint32_t users)
{
    open_stage(stage, &scenario_room, users);
    for (uint32_t i = 0; i < users; i++)
        state(stage, i, 4, 0);
    assert_int_equal(stage->crowd.reached, users);
}

static void compare(struct stage *stage)
{
    stage->scenario->enter(&stage->run, &stage->crowd, PHASE_LOGOUT);
}

static void test_what_is_right_is_counted(void **unused)
{
    struct stage stage;
    open_room(&stage, 2);
    for (uint32_t user = 0; user < 2; user++) {
        add_message(&stage, 0, 0);
        add_message(&stage, 1, 0);
        messages(&stage, user, 5);
        one(&stage, user, 7, 0, 1);
    }
    compare(&stage);
    assert_int_equal(stage.crowd.check.received, 6);
    assert_int_equal(stage.crowd.company.frames, 4);
    assert_true(check_clean(&stage.crowd.check));
    assert_int_equal(stage.crowd.company.gaps, 0);
    assert_int_equal(stage.crowd.company.uneven, 0);
    close_stage(&stage);
}

static void test_a_gap_is_found(void **unused)
{
    struct stage stage;
    open_room(&stage, 1);
    one(&stage, 0, 6, 0, 0);
    assert_int_equal(stage.crowd.company.gaps, 1);
    close_stage(&stage);
}

/* PARTIAL allows one, and says how many are missing with the next message. */
static void test_a_gap_that_is_announced(void **unused)
{
    struct stage stage;
    open_room(&stage, 2);
    state(&stage, 1, 9, PARTIAL);
    one(&stage, 1, 8, 0, 0);
    assert_int_equal(stage.crowd.company.gaps, 0);
    assert_int_equal(stage.crowd.check.missed, 3);
    one(&stage, 1, 10, 0, 1);
    assert_int_equal(stage.crowd.company.gaps, 1);
    close_stage(&stage);
}

static void test_what_comes_twice_is_found(void **unused)
{
    struct stage stage;
    open_room(&stage, 1);
    one(&stage, 0, 5, 0, 0);
    one(&stage, 0, 5, 0, 0);
    assert_int_equal(stage.crowd.check.doubled, 1);
    assert_int_equal(stage.crowd.check.received, 1);
    close_stage(&stage);
}

static void test_a_publisher_out_of_order_is_found(void **unused)
{
    struct stage stage;
    open_room(&stage, 1);
    one(&stage, 0, 5, 0, 1);
    one(&stage, 0, 6, 0, 0);
    assert_int_equal(stage.crowd.check.disordered, 1);
    close_stage(&stage);
}

static void test_what_nobody_sent_is_found(void **unused)
{
    struct stage stage;
    open_room(&stage, 2);
    one(&stage, 0, 5, 3, 0); /* no member */
    assert_int_equal(stage.crowd.check.strange, 1);
    broker_frame_room_message(&stage.items, bytes_of_text("u0"), bytes_of_text(NULL),
                              bytes_of_text("something else!!"), 1);
    messages(&stage, 0, 6);
    assert_int_equal(stage.crowd.check.strange, 2);
    add_message(&stage, 0, 0);
    broker_frame_room_messages(&stage.out, ROOM + 1, 7,
                               (struct bytes){stage.items.data, stage.items.size});
    deliver(&stage, 0); /* of another room */
    assert_int_equal(stage.crowd.check.strange, 3);
    close_stage(&stage);
}

/* Same offsets, other messages; and as many messages in another order. */
static void test_members_who_see_different_things_are_found(void **unused)
{
    for (unsigned fault = 0; fault < 2; fault++) {
        struct stage stage;
        open_room(&stage, 3);
        for (uint32_t user = 0; user < 3; user++) {
            bool turned = fault == 0 && user == 2;
            one(&stage, user, 5, turned ? 1 : 0, 0);
            one(&stage, user, 6, turned ? 0 : 1, 0);
            if (fault == 0 || user != 1)
                one(&stage, user, 7, 0, 1);
        }
        compare(&stage);
        assert_int_equal(stage.crowd.company.uneven, 1);
        close_stage(&stage);
    }
}

/* Who was away is given what he has missed, and the rest is told to be gone. */
static void test_who_comes_back(void **unused)
{
    struct stage stage;
    open_stage(&stage, &scenario_room, 3);
    stage.options.away = 1;
    for (uint32_t i = 0; i < 3; i++)
        state(&stage, i, 4, 0);
    stage.scenario->enter(&stage.run, &stage.crowd, PHASE_TRAFFIC);
    assert_int_equal(stage.crowd.reached, 2);
    state(&stage, 2, 8, PARTIAL);
    assert_int_equal(stage.crowd.reached, 3);
    one(&stage, 2, 7, 0, 2);
    one(&stage, 2, 8, 0, 3);
    assert_int_equal(stage.crowd.company.unrecovered, 2);
    assert_int_equal(stage.crowd.company.recovered, 2);
    assert_int_equal(stage.crowd.check.received, 0);
    one(&stage, 2, 9, 0, 4);
    assert_int_equal(stage.crowd.check.received, 1);
    assert_int_equal(stage.crowd.check.missed, 0);
    assert_int_equal(stage.crowd.company.gaps, 0);
    close_stage(&stage);
}

/* --- friends ---------------------------------------------------------------------------------- */

/* Of nine who watch two each, u0 watches u3 and u6. */
static void friend(struct stage *stage, const char *name, uint32_t is)
{
    broker_frame_friend(&stage->items, bytes_of_text(name), is, 1, bytes_of_text(NULL));
}

static void friends(struct stage *stage)
{
    broker_frame_friends(&stage->out, false, (struct bytes){stage->items.data, stage->items.size});
    deliver(stage, 0);
}

static void test_friends_come_to_be_known(void **unused)
{
    struct stage stage;
    open_stage(&stage, &scenario_friends, 9);
    friend(&stage, "u3", OFFLINE);
    friend(&stage, "u6", ONLINE);
    friends(&stage);
    assert_int_equal(stage.crowd.reached, 1);
    friend(&stage, "u3", ONLINE);
    friend(&stage, "u6", ONLINE);
    friends(&stage);
    assert_int_equal(stage.crowd.reached, 2);
    assert_int_equal(stage.crowd.check.received, 4);
    assert_int_equal(stage.crowd.company.frames, 2);
    assert_int_equal(stage.crowd.company.flaps, 0);
    friend(&stage, "u4", ONLINE); /* whom he does not watch */
    friends(&stage);
    assert_int_equal(stage.crowd.check.strange, 1);
    friend(&stage, "u3", OFFLINE);
    friends(&stage);
    assert_int_equal(stage.crowd.company.flaps, 1);
    assert_int_equal(stage.crowd.reached, 1);
    close_stage(&stage);
}

static void test_a_herd_is_told_once(void **unused)
{
    struct stage stage;
    open_stage(&stage, &scenario_friends, 9);
    stage.crowd.phase = PHASE_HERD;
    stage.scenario->enter(&stage.run, &stage.crowd, PHASE_HERD);
    friend(&stage, "u3", ONLINE);
    friends(&stage);
    friend(&stage, "u6", ONLINE);
    friends(&stage);
    assert_int_equal(stage.crowd.company.beyond, 0);
    assert_int_equal(stage.crowd.reached, 2);
    friend(&stage, "u6", OFFLINE);
    friends(&stage);
    assert_int_equal(stage.crowd.company.beyond, 1);
    assert_int_equal(stage.crowd.company.flaps, 1);
    close_stage(&stage);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void test_frames_that_cannot_be(void **unused)
{
    struct company_frame frame;
    struct company_fields fields = {0};
    struct bytes rest, item;
    assert_int_equal(company_frame_read(bytes_of_text(""), &frame), 0);
    assert_int_equal(company_frame_read(bytes_of_text("\x1a\x01\x08"), &frame), 0); /* a Message */
    assert_true(company_frame_read(bytes_of_text("\x52\x05\x08"), &frame) < 0);
    assert_int_equal(company_frame_read(bytes_of_text("\x08\x05\x52\x02\x08\x07"), &frame), 1);
    assert_int_equal(frame.id, 5);
    assert_int_equal(frame.body, COMPANY_ROOM_MESSAGES);
    assert_int_equal(company_next(&frame.bytes, ROOM_MESSAGES_ITEM, &fields, &item), 0);
    assert_int_equal(fields.number[ROOM_MESSAGES_ROOM], 7);
    rest = bytes_of_text("\x08");
    assert_true(company_next(&rest, ROOM_MESSAGES_ITEM, &fields, &item) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_right_is_counted),
        cmocka_unit_test(test_a_gap_is_found),
        cmocka_unit_test(test_a_gap_that_is_announced),
        cmocka_unit_test(test_what_comes_twice_is_found),
        cmocka_unit_test(test_a_publisher_out_of_order_is_found),
        cmocka_unit_test(test_what_nobody_sent_is_found),
        cmocka_unit_test(test_members_who_see_different_things_are_found),
        cmocka_unit_test(test_who_comes_back),
        cmocka_unit_test(test_friends_come_to_be_known),
        cmocka_unit_test(test_a_herd_is_told_once),
        cmocka_unit_test(test_frames_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
