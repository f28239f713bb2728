/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.pb-c.h"
#include "base/memory.h"

/* A shard of who watches whom, alone: events, watchers and answers of the store go in, and what it
 * asks for stands on a tape, a line for each effect:
 *
 *   901 0/1 bob ONLINE 'hi'     a watcher is told of his pair 0/1
 *   901 0/1 taken               the same without a state; full
 *   look bob cid                the store is asked; the question is kept for `answer`
 *   more                        a post to itself
 *   timer +1000 */

enum { ANN = 901, EVE = 902, SELF = 7, TAPE_BYTES = 1 << 20 };

struct scene {
    struct limits limits;
    struct settings settings;
    struct counters counters;
    struct metrics *metrics;
    struct turn turn;
    struct watch_place place;
    struct watch_look_message *asked;
    uint64_t now_ms, seq;
    uint32_t told;
    size_t size;
    char tape[TAPE_BYTES];
};

__attribute__((format(printf, 2, 3))) static void put(struct scene *scene, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    scene->size +=
        (size_t)vsnprintf(scene->tape + scene->size, TAPE_BYTES - scene->size, format, arguments);
    va_end(arguments);
    assert_true(scene->size < TAPE_BYTES);
}

static void put_watched(struct scene *scene, uint64_t to, const struct watched *pair,
                        const struct shared *held)
{
    static const char *const words[] = {"OFFLINE", "ONLINE", "AWAY"};
    const struct watch_record *record = (const struct watch_record *)held;
    scene->told++;
    put(scene, "%u %u/%u ", (unsigned)to, pair->position, pair->serial);
    if (pair->what != WATCHED_STATE) {
        assert_null(held);
        put(scene, "%s\n", pair->what == WATCHED_TAKEN ? "taken" : "full");
        return;
    }
    struct bytes name = watch_record_name(record), status = watch_record_status(record);
    put(scene, "%.*s %s", (int)name.size, (const char *)name.data, words[record->state]);
    if (status.size > 0)
        put(scene, " '%.*s'", (int)status.size, (const char *)status.data);
    if (record->since_ms != 0)
        put(scene, " since %llu", (unsigned long long)record->since_ms);
    put(scene, "\n");
}

static void put_many(struct scene *scene, uint64_t to, const struct message *message)
{
    const struct watched_many_message *many = (const struct watched_many_message *)message;
    for (uint32_t i = 0; i < many->count; i++)
        put_watched(scene, to, &many->pairs[i], message_held(message, i));
}

static void perform(struct scene *scene, const struct effect *effect)
{
    if (effect->kind == EFFECT_LOOK_UP) {
        assert_null(scene->asked);
        scene->asked = (struct watch_look_message *)effect->message;
        put(scene, "look");
        for (uint32_t i = 0; i < scene->asked->count; i++)
            put(scene, " %s", scene->asked->rows[i].user);
        put(scene, "\n");
        return;
    }
    if (effect->kind == EFFECT_TIMER)
        put(scene, "timer +%lld\n", (long long)(effect->value - scene->now_ms));
    else if (effect->message->kind == MESSAGE_WATCHED)
        put_watched(scene, effect->value, &((const struct watched_message *)effect->message)->pair,
                    message_shared(effect->message));
    else if (effect->message->kind == MESSAGE_WATCHED_MANY)
        put_many(scene, effect->value, effect->message);
    else
        put(scene, effect->message->kind == MESSAGE_WATCH_MORE ? "more\n" : "?\n");
    message_destroy(effect->message);
}

static void begin(struct scene *scene)
{
    scene->size = 0;
    scene->told = 0;
    scene->tape[0] = '\0';
    turn_begin(&scene->turn, SELF, "!w0", scene->now_ms, 5000);
}

static void end(struct scene *scene)
{
    watch_finish(&scene->place, &scene->turn);
    for (size_t i = 0; i < scene->turn.count; i++)
        perform(scene, &scene->turn.effects[i]);
    turn_reset(&scene->turn);
}

static void give(struct scene *scene, struct message *message)
{
    begin(scene);
    watch_receive(&scene->place, message, &scene->turn);
    end(scene);
}

#define EXPECT(scene_, text_) assert_string_equal((scene_)->tape, text_)

static void add_pair(const struct scene *scene, struct watch_message *message, uint32_t serial,
                     const char *name)
{
    struct bytes text = bytes_of_text(name);
    watch_message_add(message, watch_hash(&scene->settings, text), 0, serial, text);
}

static struct watch_message *pair(const struct scene *scene, uint16_t kind, actor_handle watcher,
                                  uint32_t serial, const char *name)
{
    struct watch_message *message = watch_message_create(kind, watcher, 1, strlen(name));
    add_pair(scene, message, serial, name);
    return message;
}

static void watch(struct scene *scene, actor_handle watcher, uint32_t serial, const char *name)
{
    give(scene, &pair(scene, MESSAGE_WATCH, watcher, serial, name)->header);
}

static void unwatch(struct scene *scene, actor_handle watcher, uint32_t serial, const char *name)
{
    give(scene, &pair(scene, MESSAGE_UNWATCH, watcher, serial, name)->header);
}

enum { ONLINE = 1, DETACHED, RESUMED, OFFLINE }; /* PresenceEvent.Kind */

static struct message *event(struct scene *scene, const char *name, uint8_t kind, uint64_t epoch)
{
    struct presence_event stored = {
        .seq = ++scene->seq, .time_ms = 100 * scene->seq, .epoch = epoch, .kind = kind};
    strcpy(stored.user, name);
    return &watch_event_create(&stored)->header;
}

static void say(struct scene *scene, const char *name, uint64_t epoch, const char *text,
                bool invisible, bool gone)
{
    struct watch_status_message *status =
        watch_status_create(bytes_of_text(name), bytes_of_text(text));
    status->epoch = epoch;
    status->invisible = invisible;
    status->gone = gone;
    give(scene, &status->header);
}

/* Of all that was asked: that state. */
static void answer(struct scene *scene, uint64_t presence_seq, enum watch_state looks,
                   uint64_t epoch)
{
    struct watch_look_message *asked = scene->asked;
    assert_non_null(asked);
    scene->asked = NULL;
    asked->presence_seq = presence_seq;
    for (uint32_t i = 0; i < asked->count; i++) {
        asked->rows[i].state = (uint8_t)looks;
        asked->rows[i].epoch = epoch;
        asked->rows[i].since_ms = looks == WATCH_ONLINE ? 50 : 0;
    }
    give(scene, &asked->header);
}

static int setup(void **state)
{
    static actor_handle shards[WATCH_SHARDS];
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_non_null(scene);
    shards[0] = SELF;
    scene->limits.friends_watchers = 10000;
    scene->settings.watch_shards = shards;
    scene->metrics = metrics_create(1);
    scene->now_ms = 1000000;
    scene->turn = (struct turn){.limits = &scene->limits,
                                .settings = &scene->settings,
                                .counters = &scene->counters,
                                .metrics = scene->metrics,
                                .name = "!w0"};
    *state = scene;
    return 0;
}

static int teardown(void **state)
{
    struct scene *scene = *state;
    if (scene->asked != NULL)
        message_destroy(&scene->asked->header);
    watch_clear(&scene->place);
    turn_fini(&scene->turn);
    metrics_destroy(scene->metrics);
    free(scene);
    return 0;
}

static void the_first_state_is_the_stores(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    EXPECT(scene, "look bob\n");
    watch(scene, EVE, 4, "bob"); /* meanwhile: the same answer will do */
    EXPECT(scene, "");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE since 50\n902 0/4 bob ONLINE since 50\n");
    watch(scene, EVE, 5, "cid");
    answer(scene, 0, WATCH_OFFLINE, 0);
    EXPECT(scene, "902 0/5 cid OFFLINE\n");
    give(scene, event(scene, "bob", OFFLINE, 3));
    EXPECT(scene, "901 0/1 bob OFFLINE since 100\n902 0/4 bob OFFLINE since 100\n");
    watch(scene, ANN, 2, "bob"); /* known: at once */
    EXPECT(scene, "901 0/2 bob OFFLINE since 100\n");
}

/* What comes before the answer is told by nobody before it; behind the stamp it is what counts. */
static void no_event_is_told_before_the_first_state(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    give(scene, event(scene, "bob", ONLINE, 3));
    EXPECT(scene, "");
    give(scene, event(scene, "bob", OFFLINE, 3));
    EXPECT(scene, "");
    give(scene, event(scene, "bob", ONLINE, 4));
    answer(scene, 1, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE since 300\n");
}

/* The store had seen more than has come through the mailbox: what comes of it is passed over. */
static void what_the_stamp_covers_is_passed_over(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    struct message *first = event(scene, "bob", ONLINE, 3);
    struct message *second = event(scene, "bob", OFFLINE, 3);
    give(scene, first);
    answer(scene, 2, WATCH_OFFLINE, 0);
    EXPECT(scene, "901 0/1 bob OFFLINE\n");
    give(scene, second);
    EXPECT(scene, "");
    give(scene, event(scene, "bob", ONLINE, 4));
    EXPECT(scene, "901 0/1 bob ONLINE since 300\n");
}

static void a_lost_connection_is_shown_only_if_that_is_wanted(void **state)
{
    struct scene *scene = *state;
    for (unsigned show = 0; show < 2; show++) {
        scene->settings.friends_show_away = show != 0;
        watch(scene, ANN, 1, "bob");
        answer(scene, scene->seq, WATCH_ONLINE, 3);
        give(scene, event(scene, "bob", DETACHED, 3));
        EXPECT(scene, show == 0 ? "" : "901 0/1 bob AWAY since 600\n");
        give(scene, event(scene, "bob", RESUMED, 3));
        EXPECT(scene, show == 0 ? "" : "901 0/1 bob ONLINE since 700\n");
        give(scene, event(scene, "bob", ONLINE, 4)); /* a takeover */
        EXPECT(scene, "");
        give(scene, event(scene, "bob", DETACHED, 4));
        give(scene, event(scene, "bob", OFFLINE, 4));
        EXPECT(scene,
               show == 0 ? "901 0/1 bob OFFLINE since 500\n" : "901 0/1 bob OFFLINE since 1000\n");
        unwatch(scene, ANN, 1, "bob");
    }
}

static void a_status_ends_with_the_login_that_said_it(void **state)
{
    struct scene *scene = *state;
    say(scene, "bob", 3, "early", false, false); /* before anybody watches */
    EXPECT(scene, "");
    watch(scene, ANN, 1, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE 'early' since 50\n");
    say(scene, "bob", 3, "more", false, false);
    EXPECT(scene, "901 0/1 bob ONLINE 'more' since 5000\n");
    give(scene, event(scene, "bob", ONLINE, 4));
    EXPECT(scene, "901 0/1 bob ONLINE since 100\n");
    say(scene, "bob", 3, "late", false, false);
    EXPECT(scene, "");
    say(scene, "bob", 4, "hidden", true, false);
    EXPECT(scene, "901 0/1 bob OFFLINE since 5000\n");
    give(scene, event(scene, "bob", DETACHED, 4));
    give(scene, event(scene, "bob", OFFLINE, 4));
    EXPECT(scene, "");
    say(scene, "bob", 4, "", false, true);
    EXPECT(scene, "");
    give(scene, event(scene, "bob", ONLINE, 5));
    EXPECT(scene, "901 0/1 bob ONLINE since 400\n");
}

/* While nobody watches no events come, so an answer that was asked for before may be too old. */
static void who_comes_back_is_looked_up_anew(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    unwatch(scene, ANN, 1, "bob");
    scene->seq++; /* an event that nobody posts */
    watch(scene, ANN, 2, "bob");
    EXPECT(scene, "");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "look bob\n");
    answer(scene, 1, WATCH_OFFLINE, 0);
    EXPECT(scene, "901 0/2 bob OFFLINE\n");
    unwatch(scene, ANN, 2, "bob");
    watch(scene, ANN, 3, "bob");
    EXPECT(scene, "look bob\n");
}

static void a_stale_shard_asks_for_all(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    scene->seq++; /* bob's OFFLINE, for which there was no room */
    atomic_store(&scene->counters.watch_stale, 1 | 4);
    struct watch_stale_message *stale = message_create(MESSAGE_WATCH_STALE, sizeof(*stale));
    stale->number = 0;
    give(scene, &stale->header);
    EXPECT(scene, "look bob\n");
    assert_int_equal(atomic_load(&scene->counters.watch_stale), 4);
    give(scene, event(scene, "bob", ONLINE, 4)); /* newer than the answer will be */
    answer(scene, 1, WATCH_OFFLINE, 0);
    EXPECT(scene, "");
    give(scene, event(scene, "bob", OFFLINE, 4));
    EXPECT(scene, "901 0/1 bob OFFLINE since 300\n");
    stale = message_create(MESSAGE_WATCH_STALE, sizeof(*stale));
    stale->number = 0;
    give(scene, &stale->header);
    answer(scene, 4, WATCH_ONLINE, 5);
    EXPECT(scene, "901 0/1 bob ONLINE since 50\n");
}

static void a_store_that_fails_is_asked_again(void **state)
{
    struct scene *scene = *state;
    watch(scene, ANN, 1, "bob");
    scene->asked->failed = true;
    answer(scene, 0, WATCH_OFFLINE, 0);
    EXPECT(scene, "timer +1000\n");
    watch(scene, EVE, 1, "cid");
    EXPECT(scene, "");
    scene->now_ms += 1000;
    give(scene, message_create(MESSAGE_TICK, sizeof(struct message)));
    EXPECT(scene, "look bob cid\n");
    answer(scene, 0, WATCH_OFFLINE, 0);
    EXPECT(scene, "901 0/1 bob OFFLINE\n902 0/1 cid OFFLINE\n");
}

static void watchers_are_limited(void **state)
{
    struct scene *scene = *state;
    scene->limits.friends_watchers = 1;
    struct watch_message *message = pair(scene, MESSAGE_WATCH, ANN, 1, "bob");
    message->asks = true;
    give(scene, &message->header);
    EXPECT(scene, "901 0/1 taken\nlook bob\n");
    watch(scene, EVE, 1, "bob");
    EXPECT(scene, "902 0/1 full\n");
    unwatch(scene, EVE, 1, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/1 bob ONLINE since 50\n");
    unwatch(scene, ANN, 1, "bob");
    watch(scene, EVE, 2, "bob");
    answer(scene, 0, WATCH_ONLINE, 3);
    EXPECT(scene, "902 0/2 bob ONLINE since 50\n");
    assert_int_equal(metrics_read(scene->metrics, METRIC_friends_watchers_full), 1);
}

/* Several at once are answered at once, each in its own way. */
static void several_are_answered_together(void **state)
{
    struct scene *scene = *state;
    scene->limits.friends_watchers = 1;
    watch(scene, EVE, 1, "bob");
    watch(scene, ANN, 1, "cid");
    answer(scene, 0, WATCH_ONLINE, 3);
    answer(scene, 0, WATCH_ONLINE, 3);
    unwatch(scene, ANN, 1, "cid");
    watch(scene, ANN, 2, "dan");
    answer(scene, 0, WATCH_OFFLINE, 0);
    scene->limits.friends_watchers = 2;
    watch(scene, EVE, 2, "dan");
    struct watch_message *message = watch_message_create(MESSAGE_WATCH, ANN, 4, 12);
    message->asks = true;
    add_pair(scene, message, 7, "bob");
    add_pair(scene, message, 8, "dan");
    add_pair(scene, message, 9, "new");
    add_pair(scene, message, 10, "cid");
    give(scene, &message->header);
    EXPECT(scene, "901 0/7 bob ONLINE since 50\n901 0/8 full\n901 0/9 taken\n901 0/10 taken\n"
                  "look new cid\n");
    message = watch_message_create(MESSAGE_UNWATCH, ANN, 2, 6);
    add_pair(scene, message, 7, "bob");
    add_pair(scene, message, 9, "new");
    give(scene, &message->header);
    answer(scene, scene->seq, WATCH_ONLINE, 3);
    EXPECT(scene, "901 0/10 cid ONLINE since 50\n");
}

/* 10,000 watchers: no turn tells more than 4,096, nobody is left out, whoever leaves between. */
static void many_are_told_in_slices(void **state)
{
    struct scene *scene = *state;
    enum { MANY = 10000, SLICE = 4096 };
    uint8_t *seen = calloc(MANY + 1, 1);
    begin(scene);
    for (uint32_t i = 1; i <= MANY; i++)
        watch_receive(&scene->place, &pair(scene, MESSAGE_WATCH, 1000 + i, i, "bob")->header,
                      &scene->turn);
    end(scene);
    answer(scene, 0, WATCH_ONLINE, 3);
    uint32_t told = scene->told;
    assert_int_equal(told, SLICE);
    for (unsigned turns = 0; strstr(scene->tape, "more") != NULL; turns++) {
        assert_true(scene->told <= SLICE && turns < 4);
        for (char *line = scene->tape; *line != '\0' && *line != 'm'; line = strchr(line, '\n') + 1)
            seen[atoi(strchr(line, '/') + 1)] = 1;
        /* One who has been told, and one who has not. */
        begin(scene);
        for (uint32_t i = 0; i < 2; i++)
            watch_receive(&scene->place,
                          &pair(scene, MESSAGE_UNWATCH, 1000 + (i ? MANY - turns : 1 + turns),
                                i ? MANY - turns : 1 + turns, "bob")
                               ->header,
                          &scene->turn);
        watch_receive(&scene->place, message_create(MESSAGE_WATCH_MORE, sizeof(struct message)),
                      &scene->turn);
        end(scene);
    }
    for (char *line = scene->tape; *line != '\0'; line = strchr(line, '\n') + 1)
        seen[atoi(strchr(line, '/') + 1)] = 1;
    for (uint32_t i = 1; i <= MANY - 2; i++)
        assert_true(seen[i]);
    free(seen);
}

/* All that it held is given back. */
static void nothing_is_left_of_who_is_not_watched(void **state)
{
    struct scene *scene = *state;
    char name[16];
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 1000; i++) {
            snprintf(name, sizeof(name), "u%u", i);
            watch(scene, ANN, i + 1, name);
            if (scene->asked != NULL)
                answer(scene, 0, WATCH_ONLINE, 3);
        }
        while (scene->asked != NULL)
            answer(scene, 0, WATCH_ONLINE, 3);
        for (uint32_t i = 0; i < 1000; i++) {
            snprintf(name, sizeof(name), "u%u", i);
            unwatch(scene, ANN, i + 1, name);
            give(scene, event(scene, name, OFFLINE, 3));
            EXPECT(scene, "");
        }
    }
    watch(scene, ANN, 1, "u7");
    EXPECT(scene, "look u7\n");
}

/* By a command that names this actor as if it were a user. */
static void it_is_nobodys_friend(void **state)
{
    struct scene *scene = *state;
    struct deliver_message *message = deliver_create(bytes_of_text("x"), bytes_of_text("y"));
    message->sender = ANN;
    message->request = 7;
    give(scene, &message->header);
    EXPECT(scene, "?\n"); /* the refusal */
}

#define scene_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scene_test(the_first_state_is_the_stores),
        scene_test(no_event_is_told_before_the_first_state),
        scene_test(what_the_stamp_covers_is_passed_over),
        scene_test(a_lost_connection_is_shown_only_if_that_is_wanted),
        scene_test(a_status_ends_with_the_login_that_said_it),
        scene_test(who_comes_back_is_looked_up_anew),
        scene_test(a_stale_shard_asks_for_all),
        scene_test(a_store_that_fails_is_asked_again),
        scene_test(watchers_are_limited),
        scene_test(several_are_answered_together),
        scene_test(many_are_told_in_slices),
        scene_test(nothing_is_left_of_who_is_not_watched),
        scene_test(it_is_nobodys_friend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
