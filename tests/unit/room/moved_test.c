/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/varint.h"
#include "unit/room/stage_room.h"

/* A room that goes over to another process: whatever has happened in it before, everything that
 * happens afterwards comes out as it would have where it was. So there are two stages, and the
 * tapes of both are compared. */

enum { SEEDS = 1500, BEFORE = 40, AFTER = 40, USERS = 6, LEGS = 3 };

static const char *const classes[] = {
    "match create=client join=any roster=list history=8/60s owner=maker webhook=yes",
    "match create=client join=any roster=list history=0/60s tick=100ms owner=maker",
    "match create=client join=any roster=count history=30/2s tick=50ms members=4 idle=20s",
    ("match create=client join=any roster=none history=200/60s publish=any owner=maker "
     "follow=messages"),
    "ma* create=client join=any roster=list history=4/600s webhook=yes members=1000 idle=never",
    "mat* create=backend join=token publish=backend roster=count owner=other",
    "other create=client join=any",
};

struct script {
    uint32_t state;
};

static uint32_t draw(struct script *script, uint32_t below)
{
    script->state = script->state * 1664525 + 1013904223;
    return (script->state >> 8) % below;
}

/* A stage, and all that was on its tapes in this step. */
struct side {
    struct stage *stage;
    size_t size;
    char tape[TAPE_BYTES];
};

static void keep(struct side *side)
{
    size_t size = side->stage->size;
    assert_true(side->size + size < sizeof(side->tape));
    memcpy(side->tape + side->size, side->stage->tape, size);
    side->size += size;
    side->tape[side->size] = '\0';
    side->stage->size = 0;
    side->stage->tape[0] = '\0';
}

static void hand(struct side *side, struct message *message)
{
    receive(side->stage, message);
    keep(side);
}

/* Posts to itself are run at once: between two things that happen it is at rest. */
static void settle(struct side *side)
{
    while (side->stage->more) {
        stage_more(side->stage);
        keep(side);
    }
}

static void time_passes(struct side *side, uint64_t ms)
{
    struct stage *stage = side->stage;
    uint64_t until_ms = stage->now_ms + ms;
    while (stage->room != NULL && stage->timer_ms != 0 && stage->timer_ms <= until_ms) {
        if (stage->now_ms < stage->timer_ms) /* after a reload it may have been due before */
            stage->now_ms = stage->timer_ms;
        stage->timer_ms = 0;
        bare(stage, MESSAGE_TICK);
        keep(side);
        settle(side);
    }
    stage->now_ms = until_ms;
}

static void comes(struct side *side, struct script *script)
{
    static const uint8_t may[] = {ROOM_MAY, ROOM_MAY, ROOM_MAY_IF_OWNER, ROOM_MAY_NOT};
    struct room_join_message *join =
        join_of(1 + draw(script, USERS), 1 + draw(script, 8) / 7); /* of a later login, rarely */
    join->call.may_create = may[draw(script, 3)];
    join->may_join = may[draw(script, 4)];
    join->user_request = draw(script, 100);
    join->carry = draw(script, 3) == 0;
    join->again_only = draw(script, 8) == 0;
    join->recover = draw(script, 2) == 0;
    if (join->recover && draw(script, 2) == 0 && side->stage->room != NULL) {
        join->incarnation = side->stage->room->incarnation;
        join->offset = draw(script, (uint32_t)side->stage->room->offset + 2);
    }
    if (draw(script, 4) == 0) {
        join->call.asker = SERVICE;
        join->call.from_service = true;
        join->call.request = 50 + draw(script, 10);
    }
    hand(side, &join->call.header);
}

static void publishes(struct side *side, struct script *script)
{
    static const char texts[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    struct room_publish_message *publish =
        publish_of(1 + draw(script, USERS), texts, draw(script, sizeof(texts)));
    publish->time_ms = side->stage->now_ms;
    publish->call.request = draw(script, 2) * 9;
    publish->member_only = draw(script, 4) != 0;
    publish->call.from_service = draw(script, 6) == 0;
    if (publish->call.from_service)
        publish->call.asker = SERVICE;
    if (draw(script, 30) == 0) { /* more than fits a bundle */
        message_destroy(&publish->call.header);
        static char large[9000];
        memset(large, 'x', sizeof(large));
        publish = publish_of(1 + draw(script, USERS), large, sizeof(large));
    }
    hand(side, &publish->call.header);
}

static void pulls(struct side *side, struct script *script)
{
    struct stage *stage = side->stage;
    if (stage->room == NULL)
        return;
    struct room_pull_message *pull =
        pull_of(stage, 1 + draw(script, USERS), draw(script, (uint32_t)stage->room->offset + 2));
    pull->epoch = 1 + draw(script, 8) / 7;
    pull->new_epoch = draw(script, 10) == 0 ? 2 : 0;
    pull->bytes_max = draw(script, 2) == 0 ? 65536 : 100;
    pull->request = draw(script, 3) == 0 ? draw(script, 20) : 0;
    pull->fresh = draw(script, 5) == 0;
    pull->back = draw(script, 2) == 0;
    pull->resumed = draw(script, 3) == 0;
    hand(side, &pull->header);
}

static void is_commanded(struct side *side, struct script *script)
{
    static const char *const afters[] = {"", "1", "4"};
    struct room_command_message *message;
    switch (draw(script, 12)) {
    case 0:
        message = command_of(ROOM_CLOSE, "enough");
        break;
    case 1:
    case 2:
        message = command_of(ROOM_OPEN, draw(script, 2) == 0 ? "" : "match");
        message->call.may_create = ROOM_MAY;
        message->members_max = draw(script, 8);
        break;
    default:
        message = command_of(ROOM_MEMBERS, afters[draw(script, 3)]);
        message->limit = draw(script, 4);
        break;
    }
    hand(side, &message->call.header);
}

static void owner_answers(struct side *side, struct script *script)
{
    uint64_t last = atomic_load(&side->stage->counters.call_last);
    uint32_t back = draw(script, 4), word = draw(script, 4);
    struct call_result_message *result = call_result_create(
        word == 3 ? USHER__V1__ERROR__CODE__SERVICE_LOST : 0, word == 2, bytes_of_text("not you"));
    result->call = last > back ? last - back : 1;
    if (side->stage->room == NULL) /* it would bounce */
        message_destroy(&result->header);
    else
        hand(side, &result->header);
}

static void goes(struct side *side, struct script *script)
{
    uint32_t number = 1 + draw(script, USERS);
    uint64_t epoch = 1 + draw(script, 8) / 7;
    if (side->stage->room == NULL)
        return;
    if (draw(script, 3) == 0)
        leave(side->stage, number, epoch, draw(script, 2) * 7);
    else
        away(side->stage, number, epoch);
    keep(side);
}

/* A turn that sees it: ticks that find nothing to do come at different times. */
static void look(struct side *side)
{
    side->stage->timer_ms = 0;
    if (side->stage->room != NULL)
        hand(side, message_create(MESSAGE_TICK, sizeof(struct message)));
}

static void is_configured(struct side *side, struct script *script)
{
    set_class(side->stage, classes[draw(script, sizeof(classes) / sizeof(classes[0]))]);
    look(side);
}

/* Whose mailboxes are full, and who is not there any more. */
static void mailboxes_change(struct side *side, struct script *script)
{
    side->stage->full = draw(script, 2) == 0 ? 0 : draw(script, 1 << (USERS + 1));
    side->stage->gone = draw(script, 4) != 0 ? 0 : draw(script, 1 << (USERS + 1));
}

/* One thing that may happen in it; the same for the same script and room. */
static void happen(struct side *side, struct script *script)
{
    side->size = 0;
    side->tape[0] = '\0';
    switch (draw(script, 20)) {
    case 0:
    case 1:
    case 2:
    case 3:
        comes(side, script);
        break;
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
        publishes(side, script);
        break;
    case 9:
    case 10:
        pulls(side, script);
        break;
    case 11:
    case 12:
        goes(side, script);
        break;
    case 13:
        is_commanded(side, script);
        break;
    case 14:
        owner_answers(side, script);
        break;
    case 15:
        mailboxes_change(side, script);
        break;
    case 16:
        if (draw(script, 4) == 0)
            is_configured(side, script);
        break;
    case 17:
        time_passes(side, draw(script, 12) == 0 ? draw(script, 70000) : draw(script, 3000));
        break;
    default:
        time_passes(side, draw(script, 300));
        break;
    }
    settle(side);
}

/* --- over ------------------------------------------------------------------------------------- */

static void copy_world(struct stage *to, const struct stage *from, const char *class)
{
    to->limits = from->limits;
    to->now_ms = from->now_ms;
    to->full = from->full;
    to->gone = from->gone;
    set_class(to, class);
    atomic_store(&to->counters.incarnation_last, atomic_load(&from->counters.incarnation_last));
    atomic_store(&to->counters.call_last, atomic_load(&from->counters.call_last));
}

static Usher__V1__HandoverRecord *record_of(const struct room *room)
{
    struct buffer out = {0};
    uint64_t size = 0;
    assert_true(room_move_out(room, ROOM_SELF, "#match", &out));
    int head = varint_read((struct bytes){out.data, out.size}, &size);
    assert_int_equal(head + (int)size, out.size);
    Usher__V1__HandoverRecord *record =
        usher__v1__handover_record__unpack(NULL, (size_t)size, out.data + head);
    assert_non_null(record);
    assert_int_equal(record->room->handle, ROOM_SELF);
    assert_string_equal(record->room->name, "#match");
    buffer_fini(&out);
    return record;
}

/* As a record, and out of it. */
static void move(struct stage *from, struct stage *to)
{
    Usher__V1__HandoverRecord *record = record_of(from->room);
    receive(to, room_move_in(record->room));
    TAPE(to, ""); /* nobody hears of it */
    assert_false(to->more);
    usher__v1__handover_record__free_unpacked(record, NULL);
}

/* What operators see of it. */
static void same_numbers(const struct stage *one, const struct stage *other)
{
    struct room_place places[] = {{.room = one->room}, {.room = other->room}};
    uint64_t numbers[2][ROOM_NUMBERS];
    assert_int_equal(one->room == NULL, other->room == NULL);
    for (unsigned i = 0; i < 2 && one->room != NULL; i++) {
        room_show(&places[i]);
        room_show_numbers(&places[i], numbers[i]);
    }
    if (one->room != NULL)
        assert_memory_equal(numbers[0], numbers[1], sizeof(numbers[0]));
}

static void same(const struct side *one, const struct side *other, uint64_t before, uint32_t seed,
                 unsigned step)
{
    if (strcmp(one->tape, other->tape) != 0)
        fail_msg("seed %u, step %u:\n--- where it was:\n%s--- where it is:\n%s", seed, step,
                 one->tape, other->tape);
    same_numbers(one->stage, other->stage);
    assert_int_equal(metrics_read(one->stage->metrics, METRIC_room_messages_refused) - before,
                     metrics_read(other->stage->metrics, METRIC_room_messages_refused));
    assert_int_equal(metrics_read(one->stage->metrics, METRIC_room_members),
                     metrics_read(other->stage->metrics, METRIC_room_members));
}

static const char *class_of(struct script *script)
{
    return classes[draw(script, sizeof(classes) / sizeof(classes[0]) - 2)];
}

/* It goes from one to the other; false: it was over before that. */
static bool goes_on(struct side *one, struct side *other, uint32_t seed)
{
    struct script script = {.state = seed};
    const char *class = class_of(&script);
    set_class(one->stage, class);
    one->stage->limits.rooms_deliveries_per_second = seed % 3 == 0 ? 20 : 0;
    unsigned before = 1 + draw(&script, BEFORE);
    for (unsigned i = 0; i < before; i++)
        happen(one, &script);
    if (one->stage->room == NULL)
        return false;
    if (draw(&script, 2) == 0) /* the new process reads another configuration */
        class = classes[draw(&script, sizeof(classes) / sizeof(classes[0]))];
    copy_world(other->stage, one->stage, class);
    move(one->stage, other->stage);
    set_class(one->stage, class);
    look(one);
    look(other);
    struct script again = script;
    uint64_t refused = metrics_read(one->stage->metrics, METRIC_room_messages_refused);
    for (unsigned i = 0; i < AFTER; i++) {
        happen(one, &script);
        happen(other, &again);
        same(one, other, refused, seed, i);
    }
    return true;
}

static struct side *side_open(void)
{
    void *stage = NULL;
    struct side *side = calloc(1, sizeof(*side));
    assert_non_null(side);
    setup(&stage);
    side->stage = stage;
    return side;
}

static void side_close(struct side *side)
{
    void *stage = side->stage;
    teardown(&stage);
    free(side);
}

static void whatever_follows_is_the_same(void **state)
{
    unsigned went = 0;
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        struct side *one = side_open(), *other = side_open();
        went += goes_on(one, other, seed);
        side_close(one);
        side_close(other);
    }
    assert_true(went > SEEDS / 2);
}

/* --- what is not by chance -------------------------------------------------------------------- */

/* It says nothing where it is made: those whom it knows are perhaps yet to come. */
static void what_is_due_waits_for_the_tick(void **state)
{
    struct stage *stage = *state;
    struct side *other = side_open();
    set_class(stage, "match create=client join=any roster=none history=8/60s tick=100ms");
    enter(stage, 1);
    say(stage, 1, "hi");
    stage->now_ms += 5000; /* with the clock stopped */
    copy_world(other->stage, stage,
               "match create=client join=any roster=none history=8/60s tick=100ms");
    move(stage, other->stage);
    assert_int_equal(other->stage->timer_ms, NOW_MS + 100);
    other->stage->now_ms = other->stage->timer_ms + 5000;
    other->stage->timer_ms = 0;
    bare(other->stage, MESSAGE_TICK);
    TAPE(other->stage, "u1 < {1 hi}\n");
    side_close(other);
}

/* There and on, and what was published is one allocation each, for whom it waits and in the
 * history. */
static void bundles_stay_one(void **state)
{
    static const char class[] = "match create=client join=any roster=none history=8/60s tick=100ms";
    struct stage *stage = *state;
    struct side *legs[LEGS];
    set_class(stage, class);
    enter(stage, 1);
    for (unsigned i = 0; i < ROOM_BUNDLE_MAX + 1; i++)
        say(stage, 1, "hi");
    assert_int_equal(stage->room->out_count, 1);
    for (unsigned i = 0; i < LEGS; i++) {
        struct stage *from = i > 0 ? legs[i - 1]->stage : stage;
        legs[i] = side_open();
        copy_world(legs[i]->stage, from, class);
        move(from, legs[i]->stage);
        const struct room *room = legs[i]->stage->room;
        assert_int_equal(room->out_count, 1);
        assert_int_equal(room->kept_count, 1);
        assert_ptr_equal(room->out[0], history_at(room, 0));
        assert_int_equal(room->out[0]->items_at, from->room->out[0]->items_at);
        assert_int_equal(room->item_count, 1);
    }
    pass(legs[LEGS - 1]->stage, 100);
    TAPE(legs[LEGS - 1]->stage,
         "u1 < {1 hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi}\nu1 < {17 hi}\n");
    for (unsigned i = 0; i < LEGS; i++)
        side_close(legs[i]);
}

/* Nobody has been in it for as long as nobody has, and not since it went. */
static void who_is_idle_has_been_idle(void **state)
{
    static const char class[] = "match create=client join=any roster=none idle=20s";
    struct stage *stage = *state;
    struct side *other = side_open();
    set_class(stage, class);
    enter(stage, 1);
    leave(stage, 1, 1, 0);
    pass(stage, 15000);
    copy_world(other->stage, stage, class);
    move(stage, other->stage);
    pass(other->stage, 4999);
    assert_non_null(other->stage->room);
    pass(other->stage, 1);
    assert_null(other->stage->room);
    side_close(other);
}

/* The class is gone over there: it goes on by what it knew. */
static void a_class_that_is_gone_holds(void **state)
{
    struct stage *stage = *state;
    struct side *other = side_open();
    set_class(stage, "match create=client join=any roster=none history=8/60s members=2");
    enter(stage, 1);
    copy_world(other->stage, stage, "other create=client join=any");
    move(stage, other->stage);
    const struct room_class *class = &other->stage->room->class;
    assert_string_equal(class->pattern, "match");
    assert_int_equal(class->create, ROOM_CLIENT);
    assert_int_equal(class->join, ROOM_CLIENT);
    enter(other->stage, 2);
    TAPE(other->stage, "u2 joined at=0 live {JOINED NONE at=0 of=0}\n");
    side_close(other);
}

/* In the middle of something it does not go. */
static void who_is_busy_cannot_go(void **state)
{
    struct stage *stage = *state;
    struct buffer out = {0};
    enter(stage, 1);
    stage->gone = 1 << 1;
    say(stage, 1, "hi");
    assert_true(stage->more);
    assert_false(room_move_out(stage->room, ROOM_SELF, "#match", &out));
    stage_more(stage);
    assert_true(room_move_out(stage->room, ROOM_SELF, "#match", &out));
    buffer_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_follows_is_the_same),
        room_test(what_is_due_waits_for_the_tick),
        room_test(bundles_stay_one),
        room_test(who_is_idle_has_been_idle),
        room_test(a_class_that_is_gone_holds),
        room_test(who_is_busy_cannot_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
