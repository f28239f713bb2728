/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/handover.h"
#include "unit/watch/scene.h"

/* A shard that goes over to another process: whatever has happened before, what its watchers are
 * told afterwards is what they would have been told where it was. So there are two scenes, and the
 * tapes of both are compared: line by line, but not in which order different targets come, since
 * nobody was promised that. */

enum {
    SEEDS = 600,
    BEFORE = 60,
    AFTER = 60,
    NAMES = 6,
    WATCHERS = 4,
    ARENA_BYTES = 4 * 1024 * 1024,
    LINES_MAX = 256,
};

static const char *const names[NAMES] = {"bob", "cid", "dan", "eva", "fay", "gus"};

/* What happens, and what the store has: the same for both scenes. */
struct script {
    uint32_t state, serial;
    uint32_t pairs[WATCHERS][NAMES]; /* serials; 0: he does not watch him */
    struct row {
        uint8_t state; /* enum watch_state */
        uint64_t epoch, since_ms;
    } rows[NAMES];
    uint64_t held_seq; /* an event that is late: of that name and kind */
    uint32_t held_name;
    uint8_t held_kind;
};

static uint32_t draw(struct script *script, uint32_t below)
{
    script->state = script->state * 1664525 + 1013904223;
    return (script->state >> 8) % below;
}

static void change_pair(struct scene *scene, struct script *script)
{
    uint32_t who = draw(script, WATCHERS), whom = draw(script, NAMES);
    uint32_t *serial = &script->pairs[who][whom];
    uint16_t kind = *serial != 0 ? MESSAGE_UNWATCH : MESSAGE_WATCH;
    uint32_t which = *serial != 0 ? *serial : ++script->serial;
    struct watch_message *message = watch_message_create(kind, ANN + who, 1, strlen(names[whom]));
    struct bytes text = bytes_of_text(names[whom]);
    message->asks = draw(script, 2) == 0;
    watch_message_add(message, watch_hash(&scene->settings, text), who * 100 + whom, which, text);
    *serial = *serial != 0 ? 0 : which;
    give(scene, &message->header);
    if (strstr(scene->tape, " full\n") != NULL)
        *serial = 0;
}

/* The next one of the stream; the store has it in any case. */
static uint8_t change_row(struct scene *scene, struct script *script, uint32_t whom)
{
    struct row *row = &script->rows[whom];
    uint8_t kind = row->state == WATCH_OFFLINE  ? ONLINE
                   : draw(script, 3) == 0       ? OFFLINE
                   : draw(script, 4) == 0       ? ONLINE /* a takeover */
                   : row->state == WATCH_ONLINE ? DETACHED
                                                : RESUMED;
    row->epoch += kind == ONLINE;
    row->state = kind == OFFLINE ? WATCH_OFFLINE : kind == DETACHED ? WATCH_AWAY : WATCH_ONLINE;
    if (kind == ONLINE)
        row->since_ms = 100 * (scene->seq + 1);
    return kind;
}

static void happens_to(struct scene *scene, struct script *script)
{
    uint32_t whom = draw(script, NAMES);
    uint8_t kind = change_row(scene, script, whom);
    switch (draw(script, 8)) {
    case 0: /* it found no room: a stale shard will find it in the store */
        scene->seq++;
        break;
    case 1: /* it is on its way */
        script->held_seq = ++scene->seq;
        script->held_name = whom;
        script->held_kind = kind;
        break;
    default:
        give(scene, event(scene, names[whom], kind, script->rows[whom].epoch));
        break;
    }
}

static void comes_late(struct scene *scene, struct script *script)
{
    if (script->held_seq == 0)
        return;
    uint64_t seq = scene->seq;
    scene->seq = script->held_seq - 1;
    struct message *message =
        event(scene, names[script->held_name], script->held_kind, script->rows[0].epoch);
    scene->seq = seq;
    script->held_seq = 0;
    give(scene, message);
}

static void says(struct scene *scene, struct script *script)
{
    static const char *const texts[] = {"in a game", "", "afk"};
    uint32_t whom = draw(script, NAMES);
    uint64_t epoch = script->rows[whom].epoch;
    uint32_t back = draw(script, 4) == 0;
    say(scene, names[whom], epoch > back ? epoch - back : 1, texts[draw(script, 3)],
        draw(script, 4) == 0, draw(script, 4) == 0);
}

/* The store says what it has, or that it cannot. */
static void answers(struct scene *scene, struct script *script)
{
    struct watch_look_message *asked = scene->asked;
    bool fails = draw(script, 3) == 0;
    if (asked == NULL)
        return;
    scene->asked = NULL;
    asked->failed = fails;
    asked->presence_seq = scene->seq;
    for (uint32_t i = 0; i < asked->count; i++) {
        uint32_t whom = 0;
        while (strcmp(asked->rows[i].user, names[whom]) != 0)
            whom++;
        asked->rows[i].state = script->rows[whom].state;
        asked->rows[i].epoch = script->rows[whom].epoch;
        asked->rows[i].since_ms =
            script->rows[whom].state != WATCH_OFFLINE ? script->rows[whom].since_ms : 0;
    }
    give(scene, &asked->header);
}

static void is_stale(struct scene *scene)
{
    struct watch_stale_message *stale = message_create(MESSAGE_WATCH_STALE, sizeof(*stale));
    stale->number = 0;
    give(scene, &stale->header);
}

static void time_passes(struct scene *scene, struct script *script)
{
    scene->now_ms += draw(script, 1500);
    if (scene->timer_ms == 0 || scene->timer_ms > scene->now_ms)
        return;
    scene->timer_ms = 0;
    give(scene, message_create(MESSAGE_TICK, sizeof(struct message)));
}

static void happen(struct scene *scene, struct script *script)
{
    scene->size = 0;
    scene->tape[0] = '\0';
    switch (draw(script, 11)) {
    case 0:
    case 1:
    case 2:
        change_pair(scene, script);
        break;
    case 3:
    case 4:
    case 5:
        happens_to(scene, script);
        break;
    case 6:
        comes_late(scene, script);
        break;
    case 7:
        says(scene, script);
        break;
    case 8:
    case 9:
        answers(scene, script);
        break;
    default:
        if (draw(script, 3) == 0)
            is_stale(scene);
        else
            time_passes(scene, script);
        break;
    }
}

/* --- tapes ------------------------------------------------------------------------------------ */

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint32_t split(char *text, const char *at, char *parts[LINES_MAX])
{
    char *rest = NULL;
    uint32_t count = 0;
    for (char *part = strtok_r(text, at, &rest); part != NULL; part = strtok_r(NULL, at, &rest)) {
        assert_true(count < LINES_MAX);
        parts[count++] = part;
    }
    qsort((void *)parts, count, sizeof(*parts), compare);
    return count;
}

/* Without timers, each of which may be armed for what is no more; who is asked for by name. */
static void sort(const struct scene *scene, char *to)
{
    char text[8192], asked[1024] = "";
    char *lines[LINES_MAX], *words[LINES_MAX];
    assert_true(scene->size < sizeof(text));
    memcpy(text, scene->tape, scene->size + 1);
    uint32_t count = split(text, "\n", lines);
    *to = '\0';
    for (uint32_t i = 0; i < count; i++)
        if (strncmp(lines[i], "look", 4) == 0)
            strcpy(asked, lines[i]);
        else if (strncmp(lines[i], "timer", 5) != 0)
            strcat(strcat(to, lines[i]), "\n");
    count = split(asked, " ", words);
    for (uint32_t i = 0; i < count; i++)
        strcat(strcat(to, words[i]), " ");
}

static void same(const struct scene *one, const struct scene *other, uint32_t seed, unsigned step)
{
    char first[8192], second[8192];
    sort(one, first);
    sort(other, second);
    if (strcmp(first, second) != 0)
        fail_msg("seed %u, step %u:\n--- where it was:\n%s\n--- where it is:\n%s", seed, step,
                 first, second);
    assert_int_equal(one->asked != NULL, other->asked != NULL);
}

/* --- going over ------------------------------------------------------------------------------- */

static void copy_world(struct scene *to, const struct scene *from)
{
    to->limits = from->limits;
    to->settings.friends_show_away = from->settings.friends_show_away;
    to->now_ms = from->now_ms;
    to->seq = from->seq;
}

/* As records, and out of them; how many there were. */
static uint32_t move(struct scene *from, struct scene *to)
{
    struct arena arena;
    struct watch_walk walk = {0};
    uint32_t count = 0;
    assert_int_equal(arena_init(&arena, ARENA_BYTES), 0);
    copy_world(to, from);
    for (; !walk.over; count++) {
        Usher__V1__HandoverShard shard = USHER__V1__HANDOVER_SHARD__INIT;
        arena_reset(&arena);
        assert_true(watch_move_out(&from->place, &walk, &arena, &shard));
        give(to, watch_move_in(&shard));
        assert_int_equal(to->told, 0);
    }
    arena_fini(&arena);
    return count;
}

/* Watchers hold the record that the shard has: over there it is found by name. */
static void find_all(const struct scene *one, const struct scene *other)
{
    for (uint32_t i = 0; i < NAMES; i++) {
        struct bytes name = bytes_of_text(names[i]);
        uint64_t hash = watch_hash(&one->settings, name);
        const struct watch_record *before = watch_record_of(&one->place, hash, name);
        const struct watch_record *after = watch_record_of(&other->place, hash, name);
        assert_int_equal(before != NULL, after != NULL);
        if (before == NULL)
            continue;
        assert_true(watch_record_equal(before, after));
        assert_int_equal(before->since_ms, after->since_ms);
        assert_true(bytes_equal(watch_record_name(after), name));
    }
}

static void goes_on(uint32_t seed)
{
    void *first = NULL, *second = NULL;
    setup(&first);
    setup(&second);
    struct scene *one = first, *other = second;
    struct script script = {.state = seed};
    one->settings.friends_show_away = seed % 2 == 0;
    one->limits.friends_watchers = seed % 3 == 0 ? 2 : 100;
    uint32_t before = draw(&script, BEFORE);
    for (uint32_t i = 0; i < before; i++)
        happen(one, &script);
    while (one->asked != NULL) /* the queries have nothing left to do */
        answers(one, &script);
    move(one, other);
    find_all(one, other);
    struct script again = script;
    for (unsigned i = 0; i < AFTER; i++) {
        happen(one, &script);
        happen(other, &again);
        same(one, other, seed, i);
    }
    find_all(one, other);
    teardown(&first);
    teardown(&second);
}

static void whatever_follows_is_the_same(void **state)
{
    for (uint32_t seed = 1; seed <= SEEDS; seed++)
        goes_on(seed);
}

/* One with very many watchers, and very many with none but one: each of them comes over, in its
 * order, and none of the records is large. */
static void a_large_one_is_several_records(void **state)
{
    enum { CROWD = 70000, TARGETS = 9000 };
    void *second = NULL;
    struct scene *one = *state;
    setup(&second);
    struct scene *other = second;
    one->limits.friends_watchers = CROWD;
    for (uint32_t i = 1; i <= CROWD; i++)
        watch(one, i, i, "bob");
    for (uint32_t i = 1; i <= TARGETS; i++) {
        char name[16];
        snprintf(name, sizeof(name), "user%u", i);
        watch(one, i, CROWD + i, name);
    }
    while (one->asked != NULL)
        answer(one, 0, WATCH_ONLINE, 3);
    assert_in_range(move(one, other), 5, 7);
    uint32_t told = 0;
    bool more = true;
    give(other, event(other, "bob", OFFLINE, 3));
    while (more) {
        for (const char *line = other->tape; *line != '\0' && *line != 'm';
             line = strchr(line, '\n') + 1)
            assert_int_equal(atoi(line), ++told);
        more = strstr(other->tape, "more\n") != NULL;
        give(other, message_create(MESSAGE_WATCH_MORE, sizeof(struct message)));
    }
    assert_int_equal(told, CROWD);
    give(other, event(other, "user9000", OFFLINE, 3));
    EXPECT(other, "9000 0/79000 user9000 OFFLINE since 200\n");
    teardown(&second);
}

/* The store is not asked again before its time, and then it is. */
static void who_waits_for_the_store_goes_on_waiting(void **state)
{
    void *second = NULL;
    struct scene *one = *state;
    setup(&second);
    struct scene *other = second;
    watch(one, ANN, 1, "bob");
    one->asked->failed = true;
    answer(one, 0, WATCH_OFFLINE, 0);
    EXPECT(one, "timer +1000\n");
    one->now_ms += 400;
    move(one, other);
    EXPECT(other, "timer +600\n");
    other->now_ms = other->timer_ms;
    give(other, message_create(MESSAGE_TICK, sizeof(struct message)));
    EXPECT(other, "look bob\n");
    answer(other, 0, WATCH_ONLINE, 3);
    EXPECT(other, "901 0/1 bob ONLINE since 50\n");
    teardown(&second);
}

/* What would be lost does not go. */
static void what_is_asked_must_be_answered_first(void **state)
{
    struct scene *scene = *state;
    struct arena arena;
    struct watch_walk walk = {0};
    Usher__V1__HandoverShard shard = USHER__V1__HANDOVER_SHARD__INIT;
    assert_int_equal(arena_init(&arena, ARENA_BYTES), 0);
    assert_true(watch_move_out(&scene->place, &walk, &arena, &shard)); /* nobody was watched */
    assert_true(walk.over);
    watch(scene, ANN, 1, "bob");
    assert_false(watch_move_out(&scene->place, &walk, &arena, &shard));
    answer(scene, 0, WATCH_ONLINE, 3);
    assert_true(watch_move_out(&scene->place, &walk, &arena, &shard));
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_follows_is_the_same),
        cmocka_unit_test_setup_teardown(a_large_one_is_several_records, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_the_store_goes_on_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_asked_must_be_answered_first, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
