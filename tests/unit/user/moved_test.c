/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/user/moved_stage.h"

/* A user who goes over to another process: whatever has happened to him before, everything that
 * happens afterwards comes out as it would have where he was. So there are two stages, and the
 * tapes of both are compared. */

enum { SEEDS = 400, BEFORE = 30, AFTER = 30 };

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

static void clear_tape(struct stage *stage)
{
    stage->size = 0;
    stage->tape[0] = '\0';
}

static void come_back(struct stage *stage, struct script *script, bool acks)
{
    uint32_t which = draw(script, 3);
    uint64_t sent = delivery_sent_seq(&stage->session);
    script->conn += 10;
    if (which == 0)
        stage_attach(stage, script->conn, acks);
    else
        stage_resume(stage, script->conn, which == 1 ? sent : sent / 2);
}

static void ask(struct stage *stage, struct script *script)
{
    switch (draw(script, 4)) {
    case 0:
        put_call(stage, script->id++, 5000);
        break;
    case 1:
        put_send(stage, script->id++, "bob", "hello");
        break;
    case 2:
        put_ack(stage, delivery_acked_seq(&stage->session) + draw(script, 3));
        break;
    default:
        put_ping(stage, script->id++, 7);
        break;
    }
    stage_play(stage, stage->session.conn);
}

/* His tick may come a little too early, and find nothing due. */
static void time_passes(struct stage *stage, uint64_t passed_ms)
{
    stage->now_ms += passed_ms;
    if (stage->timer_ms != 0 && stage->timer_ms <= stage->now_ms)
        stage_tick(stage, stage->now_ms - stage->timer_ms);
}

/* One thing that may happen to him; the same for the same script and user. */
static void happen(struct stage *stage, struct script *script)
{
    static const char *const texts[] = {"a", "something longer", ""};
    bool connected = stage->session.conn != 0;
    clear_tape(stage);
    stage->now_ms += draw(script, 3);
    switch (draw(script, 7)) {
    case 0:
        if (connected)
            stage_conn_end(stage, stage->session.conn, LOSS_GONE);
        break;
    case 1:
        come_back(stage, script, true);
        break;
    case 2:
    case 3:
        stage_deliver(stage, draw(script, 2) == 0 ? 0 : script->id++, texts[draw(script, 3)]);
        break;
    case 4:
        time_passes(stage, draw(script, 40000));
        break;
    case 5:
        stage_deliver_until(stage, script->id++, texts[draw(script, 3)]);
        break;
    default:
        if (connected)
            ask(stage, script);
        break;
    }
}

/* `before` he went so many were sent him again. */
static void same(struct stage *one, struct stage *other, uint64_t before, uint32_t seed,
                 unsigned step)
{
    if (strcmp(one->tape, other->tape) != 0)
        fail_msg("seed %u, step %u:\n--- where he was:\n%s--- where he is:\n%s", seed, step,
                 one->tape, other->tape);
    assert_int_equal(one->session.conn, other->session.conn);
    assert_int_equal(one->session.epoch, other->session.epoch);
    assert_int_equal(one->session.next_seq, other->session.next_seq);
    assert_int_equal(one->session.status, other->session.status);
    assert_int_equal(one->session.rate.allowance.due_ns, other->session.rate.allowance.due_ns);
    assert_int_equal(one->session.since_ms, other->session.since_ms);
    assert_int_equal(metrics_read(one->metrics, METRIC_messages_redelivered) - before,
                     metrics_read(other->metrics, METRIC_messages_redelivered));
    assert_int_equal(one->session.listener, other->session.listener);
    assert_int_equal(requests_count(one->session.requests),
                     requests_count(other->session.requests));
}

static bool goes_on(uint32_t seed)
{
    void *first = NULL, *second = NULL;
    stage_setup(&first);
    stage_setup(&second);
    struct stage *one = first, *other = second;
    struct script script = {.state = seed, .conn = 10, .id = 100};
    if (seed % 4 == 0) { /* of him it is not known what he has had */
        stage_restore(one, 1, true);
        atomic_store(&one->counters.epoch_last, 1);
    } else {
        stage_login(one, 10, seed % 3 != 0);
    }
    for (unsigned i = 0; i < draw(&script, BEFORE) + 1 && one->session.status != SESSION_NONE;
         i++) {
        happen(one, &script);
        commit(one);
    }
    bool there = one->session.status != SESSION_NONE;
    if (there)
        move(one, other, true, NULL);
    struct script again = script;
    uint64_t before = metrics_read(one->metrics, METRIC_messages_redelivered);
    for (unsigned i = 0; there && i < AFTER && one->session.status != SESSION_NONE; i++) {
        happen(one, &script);
        happen(other, &again);
        same(one, other, before, seed, i);
        commit(one);
        commit(other);
        same(one, other, before, seed, i);
    }
    stage_teardown(&first);
    stage_teardown(&second);
    return there;
}

static void whatever_follows_is_the_same(void **state)
{
    unsigned went = 0;
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        went += goes_on(seed);
    assert_true(went > SEEDS / 2);
}

/* His connection could not come over: that is stored as any loss is, when time has passed. */
static void who_lost_his_connection_is_detached(void **state)
{
    void *second = NULL;
    struct stage *one = *state;
    stage_setup(&second);
    struct stage *other = second;
    stage_login(one, 10, true);
    stage_deliver(one, 0, "unacknowledged");
    move(one, other, false, NULL);
    EXPECT_NOTHING(other);
    assert_int_equal(other->session.conn, 0);
    stage_tick(other, 0);
    EXPECT(other, "store DETACH DETACHED SHUTDOWN epoch=1 until=5060000");
    stage_commit(other, 0);
    stage_resume(other, 20, 1);
    stage_commit(other, 0);
    EXPECT(other, "20 welcomed", "20 welcome #1 epoch=1 COMPLETE next=2");
    stage_teardown(&second);
}

/* What would be lost does not go. */
static void who_has_frames_left_cannot_go(void **state)
{
    struct stage *stage = *state;
    struct arena arena;
    struct buffer out = {0};
    assert_int_equal(arena_init(&arena, ARENA_BYTES), 0);
    assert_false(user_move_out(&stage->session, STAGE_SELF, "ann", &arena, &out)); /* nobody */
    stage_login(stage, 10, true);
    assert_true(user_move_out(&stage->session, STAGE_SELF, "ann", &arena, &out));
    stage->session.feeding = true;
    assert_false(user_move_out(&stage->session, STAGE_SELF, "ann", &arena, &out));
    stage->session.feeding = false;
    buffer_fini(&out);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_follows_is_the_same),
        cmocka_unit_test_setup_teardown(who_lost_his_connection_is_detached, stage_setup,
                                        stage_teardown),
        cmocka_unit_test_setup_teardown(who_has_frames_left_cannot_go, stage_setup, stage_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
