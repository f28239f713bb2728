/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/user/friends_stage.h"
#include "unit/user/moved_stage.h"

/* A watcher who goes over to another process: whatever has happened before, his client and the
 * shards are told afterwards what they would have been told where he was, at the same time. So
 * there are two stages, and what stands on the tapes of both is compared. The shards are played
 * here; they have answered whatever was asked when he goes. */

enum {
    SEEDS = 2000,
    STEPS = 40,
    NAMES = 26,
    CROWD = 9,
    PLACES = 64,
    FULL_BYTES = 3000,
    LOG_BYTES = 1 << 18
};

/* A pair, as the shard of its target has it. */
struct known_pair {
    uint32_t serial; /* 0: there is none */
    uint32_t name;
    bool unanswered, asks;
};

/* What happens; the same for both stages. */
struct script {
    uint32_t state;
    uint64_t conn, id, asked, asked_call; /* the Watch that friends.service is asked about */
    uint32_t asked_names;
    bool fills; /* the connection, by whatever his client is told */
    struct known_pair pairs[PLACES];
    uint32_t late_count; /* answers about pairs that he has taken back meanwhile */
    struct late {
        uint32_t position, serial;
    } late[PLACES];
    struct look {
        bool known;
        uint8_t state, status;
    } looks[NAMES];
    size_t size;
    char log[LOG_BYTES]; /* of the tapes of this step */
};

static uint32_t draw(struct script *script, uint32_t below)
{
    script->state = script->state * 1664525 + 1013904223;
    return (script->state >> 8) % below;
}

/* --- the shards ------------------------------------------------------------------------------- */

static const char *name_of(uint32_t name, char text[2])
{
    text[0] = (char)('a' + name);
    text[1] = '\0';
    return text;
}

static const char *status_of(const struct look *look)
{
    static const char *const texts[] = {"", "afk",
                                        "a text that is as long as they may be, to fill"};
    return texts[look->status];
}

static struct watch_record *record_of(const struct script *script, uint32_t name)
{
    char text[2];
    const struct look *look = &script->looks[name];
    return watch_record_create(bytes_of_text(name_of(name, text)), look->state,
                               1000 + 10 * name + look->state, bytes_of_text(status_of(look)));
}

/* The pairs of such a line of the tape: "to 700 watch a 0/1 b 1/2 asks". */
static void hear_pairs(struct script *script, const char *at, bool watch)
{
    char name;
    unsigned position, serial;
    int size;
    bool asks = strstr(at, " asks") != NULL && strstr(at, " asks") < strchr(at, '\n');
    for (; sscanf(at, " %c %u/%u%n", &name, &position, &serial, &size) == 3; at += size) {
        struct known_pair *pair = &script->pairs[position];
        if (watch) {
            assert_int_equal(pair->serial, 0);
            *pair = (struct known_pair){serial, (uint32_t)(name - 'a'), true, asks};
        } else if (pair->serial == serial) {
            if (pair->unanswered && pair->asks)
                script->late[script->late_count++] = (struct late){position, serial};
            assert_true(script->late_count < PLACES);
            script->looks[pair->name].known = false;
            *pair = (struct known_pair){0};
        }
    }
}

static void hear(struct script *script, const char *tape)
{
    for (const char *line = tape; *line != '\0'; line = strchr(line, '\n') + 1)
        if (strncmp(line, "to 700 watch ", 13) == 0)
            hear_pairs(script, line + 12, true);
        else if (strncmp(line, "to 700 unwatch ", 15) == 0)
            hear_pairs(script, line + 14, false);
}

/* What the last turn asked for is written down, and done. */
static void settle(struct stage *stage, struct script *script)
{
    bool more = false, again = true;
    while (again) {
        assert_true(script->size + stage->size < LOG_BYTES);
        memcpy(script->log + script->size, stage->tape, stage->size + 1);
        script->size += stage->size;
        hear(script, stage->tape);
        more = more || strstr(stage->tape, "goes on\n") != NULL;
        again = more || stage->change != NULL;
        if (stage->change != NULL) {
            stage_commit(stage, 0);
        } else if (more) {
            more = false;
            writable(stage, true);
        }
    }
}

static void tell(struct stage *stage, struct script *script, uint32_t position)
{
    const struct known_pair *pair = &script->pairs[position];
    struct watch_record *record = record_of(script, pair->name);
    struct watched_message *message =
        message_create_holding(MESSAGE_WATCHED, sizeof(*message), &record->header);
    shared_release(&record->header);
    message->pair = (struct watched){position, pair->serial, WATCHED_STATE, 0};
    if (script->fills && stage->session.conn != 0)
        stage->output = FULL_BYTES;
    stage_receive(stage, &message->header);
    settle(stage, script);
}

static void answer_pair(struct stage *stage, struct script *script, uint32_t position,
                        uint32_t chance)
{
    struct known_pair *pair = &script->pairs[position];
    if (pair->serial == 0 || !pair->unanswered)
        return;
    pair->unanswered = false;
    if (chance == 0) {
        shard_answers(stage, position, pair->serial, WATCHED_FULL);
        *pair = (struct known_pair){0};
        settle(stage, script);
    } else if (chance < 3) { /* the store is asked */
        if (!pair->asks)
            return;
        shard_answers(stage, position, pair->serial, WATCHED_TAKEN);
        settle(stage, script);
    } else {
        script->looks[pair->name].known = true;
        tell(stage, script, position);
    }
}

static void answer_some(struct stage *stage, struct script *script, bool all)
{
    while (script->late_count > 0) {
        struct late late = script->late[--script->late_count];
        shard_answers(stage, late.position, late.serial, WATCHED_TAKEN);
        settle(stage, script);
    }
    script->fills = draw(script, 4) == 0;
    for (uint32_t i = 0; i < PLACES; i++) {
        uint32_t chance = draw(script, 10);
        if (all || draw(script, 3) > 0)
            answer_pair(stage, script, i, chance);
    }
    script->fills = false;
}

/* Some look different, or are known at last; sometimes a crowd. */
static void change_looks(struct stage *stage, struct script *script)
{
    uint32_t from = draw(script, NAMES), count = draw(script, 2) == 0 ? CROWD : draw(script, 3);
    for (uint32_t one = 0; one < count; one++) {
        uint32_t name = (from + one) % NAMES;
        struct look *look = &script->looks[name];
        look->state = (uint8_t)draw(script, 3);
        look->status = (uint8_t)(look->state != WATCH_OFFLINE ? draw(script, 3) : 0);
        for (uint32_t i = 0; i < PLACES; i++) {
            if (script->pairs[i].serial == 0 || script->pairs[i].unanswered ||
                script->pairs[i].name != name)
                continue;
            look->known = true;
            tell(stage, script, i);
        }
    }
}

/* --- the client and the services -------------------------------------------------------------- */

/* Some of the names, apart by spaces. */
static uint32_t some_names(struct script *script, uint32_t one_in, char text[2 * NAMES + 1])
{
    uint32_t names = 0;
    *text = '\0';
    for (uint32_t i = 0; i < NAMES; i++) {
        char name[2];
        if (draw(script, one_in) != 0)
            continue;
        names |= 1U << i;
        strcat(strcat(text, *text != '\0' ? " " : ""), name_of(i, name));
    }
    return names;
}

static void watches(struct stage *stage, struct script *script)
{
    char add[2 * NAMES + 1], remove[2 * NAMES + 1];
    uint32_t names = some_names(script, 2, add);
    some_names(script, 5, remove);
    uint64_t call_last = atomic_load(&stage->counters.call_last);
    put_watch(stage, script->id, add, remove);
    stage_play(stage, stage->session.conn);
    if (atomic_load(&stage->counters.call_last) != call_last) {
        script->asked = script->id;
        script->asked_call = call_last + 1;
        script->asked_names = names;
    }
    script->id++;
    settle(stage, script);
}

/* friends.service lets him watch them. */
static void grants(struct stage *stage, struct script *script)
{
    char texts[NAMES][2], *targets[NAMES];
    uint8_t bytes[256];
    Usher__V1__WatchGrant grant = USHER__V1__WATCH_GRANT__INIT;
    if (script->asked == 0)
        return;
    grant.targets = targets;
    for (uint32_t i = 0; i < NAMES; i++)
        if ((script->asked_names & 1U << i) != 0)
            targets[grant.n_targets++] = (char *)(uintptr_t)name_of(i, texts[i]);
    size_t size = usher__v1__watch_grant__pack(&grant, bytes);
    struct call_result_message *result = call_result_create(0, 0, (struct bytes){bytes, size});
    result->request = script->asked;
    result->call = script->asked_call;
    result->epoch = stage->session.epoch;
    script->asked = 0;
    stage_receive(stage, &result->header);
    settle(stage, script);
}

static void listed(struct stage *stage, struct script *script)
{
    char list[2 * NAMES + 1];
    uint32_t mode = draw(script, 3);
    some_names(script, mode == 0 ? 2 : 4, list);
    give_list(stage, script->id++, mode, stage->session.epoch, list);
    settle(stage, script);
}

static void says(struct stage *stage, struct script *script)
{
    static const char *const texts[] = {"", "here", "there"};
    write_status(stage, script->id++, texts[draw(script, 3)], draw(script, 4) == 0);
    stage_play(stage, stage->session.conn);
    settle(stage, script);
}

static void comes_or_goes(struct stage *stage, struct script *script)
{
    stage->output = 0;
    if (stage->session.conn != 0 && draw(script, 2) == 0) {
        stage_conn_end(stage, stage->session.conn, LOSS_GONE);
    } else {
        script->conn += 10;
        if (draw(script, 3) == 0)
            stage_attach(stage, script->conn, false);
        else
            stage_resume(stage, script->conn, 0);
    }
    settle(stage, script);
}

static void time_passes(struct stage *stage, struct script *script)
{
    uint64_t until_ms = stage->now_ms + draw(script, draw(script, 2) == 0 ? 100 : 1500);
    while (stage->timer_ms != 0 && stage->timer_ms <= until_ms) {
        stage->now_ms = stage->timer_ms;
        stage_tick(stage, 0);
        settle(stage, script);
    }
    stage->now_ms = until_ms;
}

/* His client reads, or does so no more. */
static void reads(struct stage *stage, struct script *script)
{
    stage->output = draw(script, 2) * FULL_BYTES;
    writable(stage, false);
    settle(stage, script);
}

static void happen(struct stage *stage, struct script *script)
{
    bool connected = stage->session.conn != 0;
    script->size = 0;
    script->log[0] = '\0';
    switch (draw(script, 14)) {
    case 0:
    case 1:
        if (connected)
            watches(stage, script);
        break;
    case 2:
        listed(stage, script);
        break;
    case 3:
    case 4:
        answer_some(stage, script, false);
        break;
    case 5:
    case 6:
    case 7:
        change_looks(stage, script);
        break;
    case 8:
        if (connected)
            says(stage, script);
        break;
    case 9:
        comes_or_goes(stage, script);
        break;
    case 10:
        if (draw(script, 2) == 0)
            atomic_store(&stage->counters.crowd_until_ms, stage->now_ms + draw(script, 1000));
        grants(stage, script);
        break;
    case 11:
        if (connected)
            reads(stage, script);
        break;
    default:
        time_passes(stage, script);
        break;
    }
}

/* --- going over ------------------------------------------------------------------------------- */

struct found {
    const struct script *script;
    struct watch_record *records[NAMES]; /* made when they are asked for */
};

static void find(void *context, const struct bytes *names, uint32_t count,
                 struct watch_record **records)
{
    struct found *found = context;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = (uint32_t)(names[i].data[0] - 'a');
        assert_true(names[i].size == 1 && number < NAMES && found->script->looks[number].known);
        if (found->records[number] == NULL)
            found->records[number] = record_of(found->script, number);
        records[i] = found->records[number];
    }
}

static void go_over(struct stage *from, struct stage *to, const struct script *script)
{
    struct found found = {.script = script};
    const struct moved_records records = {find, &found};
    to->settings = from->settings;
    move(from, to, true, &records);
    assert_int_equal(pairs(from), pairs(to));
    for (uint32_t i = 0; i < NAMES; i++) {
        if (found.records[i] != NULL)
            assert_int_equal(atomic_load(&found.records[i]->header.holders), 2); /* he shares it */
        shared_release(found.records[i] != NULL ? &found.records[i]->header : NULL);
    }
}

static struct stage *set_up(void **state, uint32_t seed)
{
    stage_setup(state);
    struct stage *stage = begin(state);
    stage->limits.friends_targets = seed % 4 == 0 ? 15 : NAMES;
    stage->limits.friends_pairs = NAMES;
    stage->limits.friends_ask_ms = 3000;
    stage->limits.limits_frame_bytes = 600;
    stage->limits.limits_output_soft_bytes = 300;
    stage->settings.friends_mode = seed % 5 == 0 ? FRIENDS_SERVICE : FRIENDS_OPEN;
    stage->settings.friends_service = "friends";
    return stage;
}

static void same(struct stage *one, struct stage *other, const struct script *first,
                 const struct script *second, uint32_t seed, unsigned step)
{
    if (strcmp(first->log, second->log) != 0)
        fail_msg("seed %u, step %u:\n--- where he was:\n%s--- where he is:\n%s", seed, step,
                 first->log, second->log);
    assert_int_equal(pairs(one), pairs(other));
    assert_int_equal(one->session.conn, other->session.conn);
}

static void goes_on(uint32_t seed)
{
    void *one_state, *other_state;
    struct script *script = calloc(2, sizeof(*script));
    assert_non_null(script);
    struct script *again = script + 1;
    *script = (struct script){.state = seed, .conn = 10, .id = 100};
    struct stage *one = set_up(&one_state, seed), *other;
    stage_setup(&other_state);
    other = other_state;
    for (uint32_t left = draw(script, STEPS); left > 0; left--)
        happen(one, script);
    script->size = 0;
    answer_some(one, script, true);
    go_over(one, other, script);
    *again = *script;
    for (unsigned i = 0; i < STEPS && one->session.status != SESSION_NONE; i++) {
        happen(one, script);
        happen(other, again);
        same(one, other, script, again, seed, i);
    }
    stage_teardown(&one_state);
    stage_teardown(&other_state);
    free(script);
}

static void whatever_follows_is_the_same(void **state)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        goes_on(seed);
}

/* What his shards owe him is not on its way any more, so it must have come. */
static void a_list_must_be_answered_first(void **state)
{
    struct stage *stage = begin(state);
    struct arena arena;
    struct buffer out = {0};
    assert_int_equal(arena_init(&arena, ARENA_BYTES), 0);
    give_list(stage, 50, SET, 1, "bob");
    assert_false(user_move_out(&stage->session, STAGE_SELF, "ann", &arena, &out));
    shard_answers(stage, 0, 1, WATCHED_TAKEN);
    assert_true(user_move_out(&stage->session, STAGE_SELF, "ann", &arena, &out));
    buffer_fini(&out);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_follows_is_the_same),
        stage_test(a_list_must_be_answered_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
