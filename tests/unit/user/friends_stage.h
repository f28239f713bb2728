/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_USER_FRIENDS_STAGE_H
#define USHER_TESTS_USER_FRIENDS_STAGE_H

/* A watcher on the stage. The shards are one actor, 700; it is told in the order of the real ones.
 */

#include "actors/watch.h"
#include "unit/actors/stage_user.h"

enum { SHARD = 700, BATCH_MS = 250 };

static inline struct stage *begin(void **state)
{
    static actor_handle shards[WATCH_SHARDS];
    struct stage *stage = *state;
    for (unsigned i = 0; i < WATCH_SHARDS; i++)
        shards[i] = SHARD;
    stage->settings.friends_mode = FRIENDS_OPEN;
    stage->settings.watch_shards = shards;
    stage->limits.friends_targets = 3;
    stage->limits.friends_pairs = 100;
    stage->limits.friends_batch_ms = BATCH_MS;
    stage->limits.limits_frame_bytes = 16384;
    stage->limits.limits_output_bytes = 100000;
    stage->limits.limits_output_soft_bytes = 50000;
    stage_login(stage, 10, false);
    return stage;
}

static inline void put_watch(struct stage *stage, uint64_t id, const char *add, const char *remove)
{
    Usher__V1__Watch watch = USHER__V1__WATCH__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    char text[512], *names[2][128], *rest;
    size_t counts[2] = {0};
    const char *from[2] = {add, remove};
    snprintf(text, sizeof(text), "%s/%s", add, remove);
    char *at = text;
    for (unsigned i = 0; i < 2; i++) {
        char *list = at;
        at += strlen(from[i]);
        *at++ = '\0';
        for (char *name = strtok_r(list, " ", &rest); name; name = strtok_r(NULL, " ", &rest))
            names[i][counts[i]++] = name;
    }
    watch.n_add = counts[0];
    watch.add = names[0];
    watch.n_remove = counts[1];
    watch.remove = names[1];
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_WATCH;
    frame.watch = &watch;
    put_frame(stage, &frame);
}

static inline void play_watch(struct stage *stage, uint64_t id, const char *add, const char *remove)
{
    put_watch(stage, id, add, remove);
    stage_play(stage, 10);
}

static inline void write_status(struct stage *stage, uint64_t id, const char *text, bool invisible)
{
    Usher__V1__SetStatus status = USHER__V1__SET_STATUS__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    status.status = (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
    status.invisible = invisible;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SET_STATUS;
    frame.set_status = &status;
    put_frame(stage, &frame);
}

static inline void put_status(struct stage *stage, uint64_t id, const char *text, bool invisible)
{
    write_status(stage, id, text, invisible);
    stage_play(stage, 10);
}

static inline void shard_says(struct stage *stage, uint32_t position, uint32_t serial,
                              const char *name, enum watch_state looks, const char *status)
{
    struct watch_record *record =
        watch_record_create(bytes_of_text(name), (uint8_t)looks, 0, bytes_of_text(status));
    struct watched_message *message =
        message_create_holding(MESSAGE_WATCHED, sizeof(*message), &record->header);
    shared_release(&record->header);
    message->pair = (struct watched){position, serial, WATCHED_STATE, 0};
    stage_receive(stage, &message->header);
}

static inline void shard_answers(struct stage *stage, uint32_t position, uint32_t serial,
                                 enum watched_what what)
{
    struct watched_message *message = message_create(MESSAGE_WATCHED, sizeof(*message));
    message->pair = (struct watched){position, serial, what, 0};
    stage_receive(stage, &message->header);
}

/* Some names, apart by spaces. */
static inline void give_list(struct stage *stage, uint64_t request, uint32_t mode, uint64_t epoch,
                             const char *names)
{
    struct watch_list_message *message =
        message_create(MESSAGE_WATCH_LIST, sizeof(*message) + strlen(names) + 2);
    message->by = OTHER;
    message->request = request;
    message->epoch = epoch;
    message->mode = mode;
    message->count = message->size = 0;
    for (const char *at = names; *at != '\0'; message->count++) {
        size_t size = strcspn(at, " ");
        message->names[message->size++] = (uint8_t)size;
        memcpy(message->names + message->size, at, size);
        message->size += (uint32_t)size;
        at += size + (at[size] == ' ');
    }
    stage_receive(stage, &message->header);
}

enum { SET = USHER__V1__WATCH_LIST__MODE__SET, ADD, REMOVE };

static inline uint64_t pairs(struct stage *stage)
{
    assert_int_equal(metrics_read(stage->metrics, METRIC_friends_pairs),
                     atomic_load(&stage->counters.watch_pairs));
    return atomic_load(&stage->counters.watch_pairs);
}

static inline void writable(struct stage *stage, bool go_on)
{
    struct writable_message *message = message_create(MESSAGE_WRITABLE, sizeof(*message));
    message->conn = stage->session.conn;
    message->go_on = go_on;
    stage_receive(stage, &message->header);
}

#endif
