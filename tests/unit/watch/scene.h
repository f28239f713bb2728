/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_WATCH_SCENE_H
#define USHER_TESTS_WATCH_SCENE_H

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
    uint64_t timer_ms; /* the last one asked for; 0: none on its way */
    uint32_t told;
    size_t size;
    char tape[TAPE_BYTES];
};

__attribute__((format(printf, 2, 3))) static inline void put(struct scene *scene,
                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    scene->size +=
        (size_t)vsnprintf(scene->tape + scene->size, TAPE_BYTES - scene->size, format, arguments);
    va_end(arguments);
    assert_true(scene->size < TAPE_BYTES);
}

static inline void put_watched(struct scene *scene, uint64_t to, const struct watched *pair,
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

static inline void put_many(struct scene *scene, uint64_t to, const struct message *message)
{
    const struct watched_many_message *many = (const struct watched_many_message *)message;
    for (uint32_t i = 0; i < many->count; i++)
        put_watched(scene, to, &many->pairs[i], message_held(message, i));
}

static inline void perform(struct scene *scene, const struct effect *effect)
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
    if (effect->kind == EFFECT_TIMER) {
        scene->timer_ms = effect->value;
        put(scene, "timer +%lld\n", (long long)(effect->value - scene->now_ms));
        return;
    }
    if (effect->message->kind == MESSAGE_WATCHED)
        put_watched(scene, effect->value, &((const struct watched_message *)effect->message)->pair,
                    message_shared(effect->message));
    else if (effect->message->kind == MESSAGE_WATCHED_MANY)
        put_many(scene, effect->value, effect->message);
    else
        put(scene, effect->message->kind == MESSAGE_WATCH_MORE ? "more\n" : "?\n");
    message_destroy(effect->message);
}

static inline void begin(struct scene *scene)
{
    scene->size = 0;
    scene->told = 0;
    scene->tape[0] = '\0';
    turn_begin(&scene->turn, SELF, "!w0", scene->now_ms, 5000);
}

static inline void end(struct scene *scene)
{
    watch_finish(&scene->place, &scene->turn);
    for (size_t i = 0; i < scene->turn.count; i++)
        perform(scene, &scene->turn.effects[i]);
    turn_reset(&scene->turn);
}

static inline void give(struct scene *scene, struct message *message)
{
    begin(scene);
    watch_receive(&scene->place, message, &scene->turn);
    end(scene);
}

#define EXPECT(scene_, text_) assert_string_equal((scene_)->tape, text_)

static inline void add_pair(const struct scene *scene, struct watch_message *message,
                            uint32_t serial, const char *name)
{
    struct bytes text = bytes_of_text(name);
    watch_message_add(message, watch_hash(&scene->settings, text), 0, serial, text);
}

static inline struct watch_message *pair(const struct scene *scene, uint16_t kind,
                                         actor_handle watcher, uint32_t serial, const char *name)
{
    struct watch_message *message = watch_message_create(kind, watcher, 1, strlen(name));
    add_pair(scene, message, serial, name);
    return message;
}

static inline void watch(struct scene *scene, actor_handle watcher, uint32_t serial,
                         const char *name)
{
    give(scene, &pair(scene, MESSAGE_WATCH, watcher, serial, name)->header);
}

static inline void unwatch(struct scene *scene, actor_handle watcher, uint32_t serial,
                           const char *name)
{
    give(scene, &pair(scene, MESSAGE_UNWATCH, watcher, serial, name)->header);
}

enum { ONLINE = 1, DETACHED, RESUMED, OFFLINE }; /* PresenceEvent.Kind */

static inline struct message *event(struct scene *scene, const char *name, uint8_t kind,
                                    uint64_t epoch)
{
    struct presence_event stored = {
        .seq = ++scene->seq, .time_ms = 100 * scene->seq, .epoch = epoch, .kind = kind};
    strcpy(stored.user, name);
    return &watch_event_create(&stored)->header;
}

static inline void say(struct scene *scene, const char *name, uint64_t epoch, const char *text,
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
static inline void answer(struct scene *scene, uint64_t presence_seq, enum watch_state looks,
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

static inline int setup(void **state)
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

static inline int teardown(void **state)
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

#endif
