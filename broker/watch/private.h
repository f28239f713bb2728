/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WATCH_PRIVATE_H
#define USHER_WATCH_PRIVATE_H

/* Private to watch/: the targets of a shard. Those that wait for something stand in a list by their
 * numbers, once. Numbers in links are one more than the target's, and 0 is none. */

#include "watch/watch.h"

/* A pair, as the shard has it: 16 bytes. */
struct watcher {
    actor_handle user;
    uint32_t position, serial;
};

enum looks {
    LOOKS_NOT,
    LOOKS_QUEUED, /* the store is to be asked */
    LOOKS_ASKED,
    LOOKS_AGAIN, /* it is asked, and is to be asked again: the answer may be too old */
};

struct target {
    struct watch_record *record; /* as his watchers know him; before `known` it is only his name */
    struct watch_status_message *status; /* what he says of himself; NULL: nothing */
    struct watcher *watchers;
    uint32_t count, capacity;
    uint32_t told; /* so many of them have been posted `record`, while he is being told */
    uint32_t next; /* with the same bucket, or free */
    uint32_t telling_next, look_next;
    uint64_t seq;   /* of the stream: what stands here is true for it */
    uint64_t epoch; /* of the session that he has or had */
    uint64_t since_ms;
    uint8_t state; /* enum watch_state, of the session */
    uint8_t looks; /* enum looks */
    bool known;    /* the store was asked, and events have been followed since */
    bool telling;
};

struct target_list {
    uint32_t first, last;
};

struct watch_shard {
    struct target *targets;
    uint32_t size, top; /* places, and those that were ever used */
    uint32_t free;
    uint32_t count;
    uint32_t *buckets; /* NULL: none yet */
    uint32_t bucket_count;
    struct target_list telling, look;
    bool looking;           /* a watch_look_message is on its way */
    uint64_t look_again_ms; /* not before; 0: at once */
    uint64_t timer_ms;
};

/* --- targets.c -------------------------------------------------------------------------------- */

/* NULL: nobody of that name is a target. Valid until the next claim. */
struct target *target_find(const struct watch_shard *shard, uint64_t hash, struct bytes name);
/* One will be asked for soon: one of the WATCH_FETCH_STEPS, each of which makes use of the memory
 * that the one before has sent for. Several, all at once. */
void target_fetch(const struct watch_shard *shard, uint64_t hash, unsigned step);
void targets_fetch(const struct watch_shard *shard, const struct watch_pair *pairs, uint32_t count);
/* Finds or makes it. */
struct target *target_claim(struct watch_shard *shard, const struct settings *settings,
                            uint64_t hash, struct bytes name);

static inline struct target *target_at(const struct watch_shard *shard, uint32_t number)
{
    CHECK(number < shard->top && shard->targets[number].record != NULL);
    return &shard->targets[number];
}

static inline uint32_t target_number(const struct watch_shard *shard, const struct target *target)
{
    return (uint32_t)(target - shard->targets);
}

/* Frees it, when nobody watches him and nothing else is held of him or waits. */
void target_drop_unused(struct watch_shard *shard, struct target *target, uint64_t hash);

/* So many will be added. */
void target_expect_watchers(struct target *target, uint32_t count);
void target_add_watcher(struct target *target, struct watcher watcher);

/* False: that pair is not there. */
bool target_remove_watcher(struct target *target, struct watcher watcher);

void target_set_status(struct target *target, struct watch_status_message *status);

/* Appends him, unless he stands there; the first of the list, or NULL. */
void target_queue_telling(struct watch_shard *shard, struct target *target);
void target_queue_look(struct watch_shard *shard, struct target *target);
struct target *target_first_telling(struct watch_shard *shard);
void target_end_telling(struct watch_shard *shard);
struct target *target_take_look(struct watch_shard *shard); /* LOOKS_ASKED from then on */

void targets_fini(struct watch_shard *shard);

/* --- moved.c ---------------------------------------------------------------------------------- */

/* What came over is its own now. */
void watch_moved(struct watch_shard *shard, const struct message *message, struct turn *turn);

#endif
