/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/user/moved_stage.h"
#include "unit/user/stage_rooms.h"

/* The memberships of a user who goes over to another process: there are two stages, and whatever
 * has happened before, the tapes of both are the same afterwards. */

enum { SEEDS = 3000, BEFORE = 40, AFTER = 30, ROOMS = 6 };

struct script {
    uint32_t state;
    uint64_t conn, id;
};

static uint32_t draw(struct script *script, uint32_t below)
{
    script->state = script->state * 1664525 + 1013904223;
    return (script->state >> 8) % below;
}

static void commit(struct stage *stage)
{
    if (stage->change != NULL)
        stage_commit(stage, 0);
}

static const struct rooms *rooms_in(const struct stage *stage)
{
    return stage->session.company != NULL ? stage->session.company->rooms : NULL;
}

static void ask(struct stage *stage, struct script *script)
{
    static const char *const names[] = {"talk", "open", "shut", "none"};
    uint32_t room = ROOM + draw(script, ROOMS);
    switch (draw(script, 4)) {
    case 0:
        ask_leave(stage, script->id++, room);
        break;
    case 1:
        ask_publish(stage, script->id++, room, "");
        break;
    case 2:
        ask_publish(stage, script->id++, 0, names[draw(script, 4)]);
        break;
    default:
        ask_join(stage, script->id++, names[draw(script, 4)]);
        break;
    }
}

/* The answer to a Join, or to an invitation; of a room that he is in perhaps. */
static void room_answers(struct stage *stage, struct script *script)
{
    uint64_t back = draw(script, 4);
    struct says says = {.room = ROOM + draw(script, ROOMS),
                        .request = draw(script, 3) > 0 ? script->id - back : 0,
                        .offset = draw(script, 9),
                        .joined = true,
                        .carry = draw(script, 2) == 0,
                        .behind = draw(script, 3) == 0,
                        .recovers = draw(script, 3) == 0,
                        .partial = draw(script, 3) == 0,
                        .bytes = draw(script, 12) == 0 ? 900 : 0};
    if (draw(script, 5) == 0)
        says.code = draw(script, 2) == 0 ? USHER__V1__ERROR__CODE__FORBIDDEN : RESULT_ROOMS_FULL;
    says.joined = says.code == 0;
    says.again = says.joined && rooms_find(&stage->session, says.room, LIFE) != NULL;
    room_says(stage, says);
}

static void room_pulled(struct stage *stage, struct script *script)
{
    const struct rooms *rooms = rooms_in(stage);
    uint32_t which = draw(script, ROOMS), offset = draw(script, 9), behind = draw(script, 3);
    if (rooms == NULL || which >= rooms->count)
        return;
    const struct membership *membership = &rooms->memberships[which];
    room_says(stage, (struct says){.room = membership->room,
                                   .life = membership->incarnation,
                                   .request = membership->request,
                                   .pull = membership->pull,
                                   .offset = membership->offset + offset,
                                   .behind = behind == 0,
                                   .bytes = offset == 0 ? 900 : 0});
}

static void services_want(struct stage *stage, struct script *script)
{
    bool expels = draw(script, 2) == 0;
    struct room_member_message *message =
        room_member_create(expels ? MESSAGE_ROOM_EXPEL : MESSAGE_ROOM_INVITE, bytes_of_text("talk"),
                           (struct bytes){0});
    message->room = ROOM + draw(script, ROOMS);
    message->asker = OTHER;
    message->token = 5;
    message->epoch = 0;
    message->carry = draw(script, 2) == 0;
    stage_receive(stage, &message->header);
}

static void come_back(struct stage *stage, struct script *script)
{
    uint32_t room = ROOM + draw(script, ROOMS), offset = draw(script, 9);
    script->conn += 10;
    if (draw(script, 5) == 0)
        stage_attach(stage, script->conn, true);
    else
        back(stage, script->conn, draw(script, 2), room, LIFE, offset);
}

/* So much waits in the connection from now on. */
static void is_written(struct stage *stage, struct script *script)
{
    stage->output = draw(script, 2) == 0 ? 0 : draw(script, 20000);
    if (!stage->session.feeding && stage->session.conn != 0)
        writable(stage);
}

static void happen(struct stage *stage, struct script *script)
{
    bool connected = stage->session.conn != 0;
    stage->size = 0;
    stage->tape[0] = '\0';
    stage->now_ms += draw(script, 400);
    uint32_t which = draw(script, 12), first = 1 + draw(script, 9), count = 1 + draw(script, 3);
    switch (which) {
    case 0:
        if (connected)
            stage_conn_end(stage, stage->session.conn, LOSS_GONE);
        else
            come_back(stage, script);
        break;
    case 1:
        come_back(stage, script);
        break;
    case 2:
    case 3:
        room_posts(stage, ROOM_MESSAGES, first, count);
        break;
    case 4:
        room_posts(stage, draw(script, 6) == 0 ? ROOM_CLOSED : ROOM_EVENT, first, count);
        break;
    case 5:
        services_want(stage, script);
        break;
    case 6:
        room_pulled(stage, script);
        break;
    case 7:
        is_written(stage, script);
        break;
    case 8:
        room_says(stage, (struct says){.room = ROOM + draw(script, ROOMS), .owed = true});
        break;
    case 9:
    case 10:
        room_answers(stage, script);
        break;
    default:
        if (connected)
            ask(stage, script);
        break;
    }
    commit(stage);
}

static void go_on(struct stage *stage)
{
    writable(stage);
    commit(stage);
}

static void same(const struct stage *one, const struct stage *other, uint32_t seed, unsigned step)
{
    const struct rooms *his = rooms_in(one), *here = rooms_in(other);
    if (strcmp(one->tape, other->tape) != 0)
        fail_msg("seed %u, step %u:\n--- where he was:\n%s--- where he is:\n%s", seed, step,
                 one->tape, other->tape);
    assert_int_equal(his == NULL, here == NULL);
    if (his == NULL)
        return;
    assert_int_equal(his->count, here->count);
    assert_int_equal(his->capacity, here->capacity);
    assert_int_equal(his->asked, here->asked);
    assert_int_equal(his->behind, here->behind);
    assert_int_equal(his->pulling, here->pulling);
    assert_int_equal(his->left.due_ns, here->left.due_ns);
    for (uint32_t i = 0; i < his->count; i++) { /* what comes to the tape only rarely */
        assert_int_equal(his->memberships[i].rate.due_ns, here->memberships[i].rate.due_ns);
        assert_int_equal(his->memberships[i].partial, here->memberships[i].partial);
    }
}

static bool goes_on(struct stage *one, struct stage *other, uint32_t seed)
{
    struct script script = {.state = seed, .conn = 10, .id = 100};
    stage_login(one, 10, true);
    unsigned before = 1 + draw(&script, BEFORE);
    for (unsigned i = 0; i < before && one->session.status != SESSION_NONE; i++) {
        happen(one, &script);
        while (one->session.feeding)
            go_on(one);
    }
    if (one->session.status == SESSION_NONE)
        return false;
    move(one, other, true, NULL);
    EXPECT_NOTHING(other);
    struct script again = script;
    for (unsigned i = 0; i < AFTER && one->session.status != SESSION_NONE; i++) {
        happen(one, &script);
        happen(other, &again);
        same(one, other, seed, i);
        while (one->session.feeding) {
            go_on(one);
            go_on(other);
            same(one, other, seed, i);
        }
    }
    return true;
}

static void whatever_follows_is_the_same(void **state)
{
    unsigned went = 0;
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        void *one = NULL, *other = NULL;
        rooms_setup(&one);
        rooms_setup(&other);
        went += goes_on(one, other, seed);
        rooms_teardown(&one);
        rooms_teardown(&other);
    }
    assert_true(went > SEEDS / 2);
}

/* Without his connection he takes nothing of the room, which is told when the loss is stored. */
static void who_lost_his_connection_is_away(void **state)
{
    void *second = NULL;
    struct stage *one = *state;
    rooms_setup(&second);
    struct stage *other = second;
    be_member(one, 4, false);
    move(one, other, false, NULL);
    EXPECT_NOTHING(other);
    room_posts(other, ROOM_MESSAGES, 5, 1);
    EXPECT_NOTHING(other);
    stage_tick(other, 0);
    EXPECT(other, "to 801 away epoch=1", "store DETACH DETACHED SHUTDOWN epoch=1 until=5060000");
    stage_commit(other, 0);
    back(other, 20, 1, ROOM, LIFE, 4);
    EXPECT(other, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=1",
           "to 801 pull 3 epoch=1 at=4 resumed");
    rooms_teardown(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_follows_is_the_same),
        rooms_unit_test(who_lost_his_connection_is_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
