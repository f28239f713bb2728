/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "watch/private.h"

/* The targets of a shard by name: places in an array that never move to another number, chained by
 * their bucket. The names are chosen by strangers, so the hash is keyed. Whoever is not watched and
 * says nothing of himself has no place here.
 *
 * The watchers of a target are a plain array, as small as can be. One who leaves is looked for from
 * the end, which costs as much as telling all of them once; friends.watchers says how many there
 * are. Everything that is held here stands in the book of memory. */

enum { PLACES_MIN = 16, WATCHERS_MIN = 2 };

static void *resize(void *before, size_t size_before, size_t size)
{
    void *after;
    MEMORY_MUST((after = realloc(before, size)) != NULL, "friends");
    memory_account(MEMORY_OF_FRIENDS, (int64_t)size - (int64_t)size_before);
    return after;
}

/* --- the table -------------------------------------------------------------------------------- */

static uint32_t *bucket_of(const struct watch_shard *shard, uint64_t hash)
{
    /* The low bits chose the shard. */
    return &shard->buckets[(hash >> 32) & (shard->bucket_count - 1)];
}

void target_fetch(const struct watch_shard *shard, uint64_t hash, unsigned step)
{
    if (shard->bucket_count == 0)
        return;
    const uint32_t *bucket = bucket_of(shard, hash);
    if (step == 0)
        __builtin_prefetch(bucket);
    else if (*bucket != 0)
        __builtin_prefetch(step == 1 ? (const void *)&shard->targets[*bucket - 1]
                                     : shard->targets[*bucket - 1].record);
}

void targets_fetch(const struct watch_shard *shard, const struct watch_pair *pairs, uint32_t count)
{
    for (unsigned step = 0; step < WATCH_FETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++)
            target_fetch(shard, pairs[i].hash, step);
}

struct target *target_find(const struct watch_shard *shard, uint64_t hash, struct bytes name)
{
    uint32_t link = shard->bucket_count > 0 ? *bucket_of(shard, hash) : 0;
    while (link != 0) {
        struct target *target = target_at(shard, link - 1);
        if (bytes_equal(watch_record_name(target->record), name))
            return target;
        link = target->next;
    }
    return NULL;
}

/* Twice as many places; each target keeps its number, and its chain is made anew. */
static void grow(struct watch_shard *shard, const struct settings *settings)
{
    uint32_t size = shard->size > 0 ? shard->size * 2 : PLACES_MIN;
    shard->targets =
        resize(shard->targets, shard->size * sizeof(struct target), size * sizeof(struct target));
    shard->buckets =
        resize(shard->buckets, shard->bucket_count * sizeof(uint32_t), size * sizeof(uint32_t));
    memset(shard->buckets, 0, size * sizeof(uint32_t));
    shard->size = shard->bucket_count = size;
    for (uint32_t i = 0; i < shard->top; i++) {
        struct target *target = &shard->targets[i];
        if (target->record == NULL)
            continue;
        uint32_t *bucket =
            bucket_of(shard, watch_hash(settings, watch_record_name(target->record)));
        target->next = *bucket;
        *bucket = i + 1;
    }
}

struct target *target_claim(struct watch_shard *shard, const struct settings *settings,
                            uint64_t hash, struct bytes name)
{
    struct target *target = target_find(shard, hash, name);
    if (target != NULL)
        return target;
    if (shard->free == 0 && shard->top == shard->size)
        grow(shard, settings);
    uint32_t number = shard->free != 0 ? shard->free - 1 : shard->top++;
    target = &shard->targets[number];
    if (shard->free != 0)
        shard->free = target->next;
    *target = (struct target){
        .record = watch_record_create(name, WATCH_OFFLINE, 0, (struct bytes){0}),
    };
    uint32_t *bucket = bucket_of(shard, hash);
    target->next = *bucket;
    *bucket = number + 1;
    shard->count++;
    return target;
}

static void free_target(struct target *target)
{
    memory_account(MEMORY_OF_FRIENDS, -(int64_t)(target->capacity * sizeof(struct watcher)));
    free(target->watchers);
    target_set_status(target, NULL);
    shared_release(&target->record->header);
    *target = (struct target){0};
}

void target_drop_unused(struct watch_shard *shard, struct target *target, uint64_t hash)
{
    if (target->count > 0 || target->status != NULL || target->looks != LOOKS_NOT ||
        target->telling)
        return;
    uint32_t number = target_number(shard, target);
    uint32_t *link = bucket_of(shard, hash);
    while (*link != number + 1)
        link = &target_at(shard, *link - 1)->next;
    *link = target->next;
    free_target(target);
    target->next = shard->free;
    shard->free = number + 1;
    CHECK(shard->count > 0);
    shard->count--;
}

void targets_fini(struct watch_shard *shard)
{
    for (uint32_t i = 0; i < shard->top; i++)
        if (shard->targets[i].record != NULL)
            free_target(&shard->targets[i]);
    memory_account(MEMORY_OF_FRIENDS, -(int64_t)(shard->size * sizeof(struct target) +
                                                 shard->bucket_count * sizeof(uint32_t)));
    free(shard->targets);
    free(shard->buckets);
}

/* --- one of them ------------------------------------------------------------------------------ */

static void resize_watchers(struct target *target, uint32_t capacity)
{
    target->watchers = resize(target->watchers, target->capacity * sizeof(struct watcher),
                              capacity * sizeof(struct watcher));
    target->capacity = capacity;
}

void target_expect_watchers(struct target *target, uint32_t count)
{
    if (target->capacity - target->count < count)
        resize_watchers(target, target->count + count);
}

void target_add_watcher(struct target *target, struct watcher watcher)
{
    if (target->count == target->capacity)
        resize_watchers(target, target->capacity > 0 ? target->capacity + (target->capacity + 1) / 2
                                                     : WATCHERS_MIN);
    target->watchers[target->count++] = watcher;
}

/* Who has been told stands before who has not. */
static void take_out(struct target *target, uint32_t at)
{
    struct watcher *watchers = target->watchers;
    if (at < target->told) {
        watchers[at] = watchers[--target->told];
        at = target->told;
    }
    watchers[at] = watchers[--target->count];
}

bool target_remove_watcher(struct target *target, struct watcher watcher)
{
    uint32_t at = target->count;
    while (at > 0 && (target->watchers[at - 1].user != watcher.user ||
                      target->watchers[at - 1].serial != watcher.serial))
        at--;
    if (at == 0)
        return false;
    take_out(target, at - 1);
    if (target->count > 0)
        return true;
    memory_account(MEMORY_OF_FRIENDS, -(int64_t)(target->capacity * sizeof(struct watcher)));
    free(target->watchers);
    target->watchers = NULL;
    target->capacity = 0;
    return true;
}

void target_set_status(struct target *target, struct watch_status_message *status)
{
    if (target->status != NULL)
        message_destroy(&target->status->header);
    target->status = status;
}

/* --- those that wait -------------------------------------------------------------------------- */

void target_queue_telling(struct watch_shard *shard, struct target *target)
{
    uint32_t link = target_number(shard, target) + 1;
    target->told = 0;
    if (target->telling)
        return;
    target->telling = true;
    target->telling_next = 0;
    if (shard->telling.last != 0)
        target_at(shard, shard->telling.last - 1)->telling_next = link;
    else
        shard->telling.first = link;
    shard->telling.last = link;
}

struct target *target_first_telling(struct watch_shard *shard)
{
    return shard->telling.first != 0 ? target_at(shard, shard->telling.first - 1) : NULL;
}

void target_end_telling(struct watch_shard *shard)
{
    struct target *target = target_first_telling(shard);
    CHECK(target != NULL && target->telling);
    target->telling = false;
    target->told = 0;
    shard->telling.first = target->telling_next;
    if (shard->telling.first == 0)
        shard->telling.last = 0;
}

void target_queue_look(struct watch_shard *shard, struct target *target)
{
    uint32_t link = target_number(shard, target) + 1;
    if (target->looks == LOOKS_ASKED)
        target->looks = LOOKS_AGAIN;
    if (target->looks != LOOKS_NOT)
        return;
    target->looks = LOOKS_QUEUED;
    target->look_next = 0;
    if (shard->look.last != 0)
        target_at(shard, shard->look.last - 1)->look_next = link;
    else
        shard->look.first = link;
    shard->look.last = link;
}

struct target *target_take_look(struct watch_shard *shard)
{
    if (shard->look.first == 0)
        return NULL;
    struct target *target = target_at(shard, shard->look.first - 1);
    CHECK(target->looks == LOOKS_QUEUED);
    target->looks = LOOKS_ASKED;
    shard->look.first = target->look_next;
    if (shard->look.first == 0)
        shard->look.last = 0;
    return target;
}
