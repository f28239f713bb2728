/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timer.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/lock.h"

/* A min-heap under a leaf lock, with a table that says where the timer of each place stands in it.
 * A place has one timer, which is moved when it is set again: so the heap cannot be full, whoever
 * asks for how many timers, and there is no limit to be met. There is no cancelling on purpose:
 * most timers (resume windows, deadlines) belong to an actor that is gone when they mean nothing
 * any more, and the next owner of its place takes the timer over; until then a stale key expires,
 * finds nothing and is forgotten.
 *
 * Memory for all places is asked for at the creation, and used as far as the heap has ever grown.
 *
 * Invariant, under the lock: no entry is due before its parent (i - 1) / 2; at[place] is 0, or one
 * more than the index of the entry whose key has that place. */

struct entry {
    uint64_t due_ms;
    uint64_t key;
};

struct timers {
    uint32_t places; /* set once */
    struct lock lock;
    struct entry *entries; /* under the lock, as all below */
    uint32_t *at;
    size_t count;
};

struct timers *timers_create(uint32_t places)
{
    struct timers *timers = calloc(1, sizeof(*timers));
    if (timers == NULL)
        return NULL;
    timers->places = places;
    timers->entries = calloc(places, sizeof(*timers->entries));
    timers->at = calloc(places, sizeof(*timers->at));
    if (timers->entries == NULL || timers->at == NULL) {
        free(timers->entries);
        free(timers->at);
        free(timers);
        return NULL;
    }
    lock_init(&timers->lock);
    return timers;
}

void timers_destroy(struct timers *timers)
{
    if (timers != NULL) {
        lock_destroy(&timers->lock);
        free(timers->entries);
        free(timers->at);
        free(timers);
    }
}

static void put(struct timers *timers, size_t at, struct entry entry)
{
    timers->entries[at] = entry;
    timers->at[(uint32_t)entry.key] = (uint32_t)at + 1;
}

/* Moves a hole up from `at` until `entry` fits into it. Gives where that is. */
static size_t sift_up(struct timers *timers, size_t at, struct entry entry)
{
    CHECK(lock_held(&timers->lock) && at < timers->count);
    while (at > 0 && entry.due_ms < timers->entries[(at - 1) / 2].due_ms) {
        put(timers, at, timers->entries[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put(timers, at, entry);
    return at;
}

/* Moves a hole down from `at` until `entry` fits into it. */
static void sift_down(struct timers *timers, size_t at, struct entry entry)
{
    CHECK(lock_held(&timers->lock) && at < timers->count);
    const struct entry *entries = timers->entries;
    for (size_t child = 2 * at + 1; child < timers->count; child = 2 * at + 1) {
        if (child + 1 < timers->count && entries[child + 1].due_ms < entries[child].due_ms)
            child++;
        if (entry.due_ms <= entries[child].due_ms)
            break;
        put(timers, at, entries[child]);
        at = child;
    }
    put(timers, at, entry);
}

/* Where the timer of the key's place stands, plus one; 0: nowhere. The two tables agree on it. */
static uint32_t find(const struct timers *timers, uint64_t key)
{
    uint32_t at = timers->at[(uint32_t)key];
    CHECK(at <= timers->count);
    CHECK(at == 0 || (uint32_t)timers->entries[at - 1].key == (uint32_t)key);
    return at;
}

/* Every entry behind its parent, and known to its place. */
static bool is_whole(const struct timers *timers)
{
    for (size_t i = 0; i < timers->count; i++)
        if (timers->at[(uint32_t)timers->entries[i].key] != i + 1 ||
            timers->entries[i].due_ms < timers->entries[i > 0 ? (i - 1) / 2 : 0].due_ms)
            return false;
    return true;
}

bool timers_set(struct timers *timers, uint64_t due_ms, uint64_t key)
{
    CHECK((uint32_t)key < timers->places);
    lock_take(&timers->lock);
    struct entry entry = {.due_ms = due_ms, .key = key};
    uint64_t first_ms = timers->count > 0 ? timers->entries[0].due_ms : UINT64_MAX;
    uint32_t at = find(timers, key);
    if (at == 0) {
        timers->count++;
        CHECK(timers->count <= timers->places);
        sift_up(timers, timers->count - 1, entry);
    } else if (due_ms < timers->entries[at - 1].due_ms)
        sift_up(timers, at - 1, entry);
    else
        sift_down(timers, at - 1, entry);
    CHECK_SLOW(is_whole(timers));
    bool earlier = timers->entries[0].due_ms < first_ms;
    lock_give(&timers->lock);
    return earlier;
}

size_t timers_expire(struct timers *timers, uint64_t now_ms, uint64_t *keys, size_t max)
{
    lock_take(&timers->lock);
    size_t taken = 0;
    while (taken < max && timers->count > 0 && timers->entries[0].due_ms <= now_ms) {
        keys[taken] = timers->entries[0].key;
        CHECK(find(timers, keys[taken]) == 1);
        timers->at[(uint32_t)keys[taken++]] = 0;
        timers->count--;
        if (timers->count > 0)
            sift_down(timers, 0, timers->entries[timers->count]);
    }
    CHECK_SLOW(is_whole(timers));
    lock_give(&timers->lock);
    return taken;
}

uint64_t timers_next_ms(struct timers *timers)
{
    lock_take(&timers->lock);
    uint64_t next_ms = timers->count > 0 ? timers->entries[0].due_ms : UINT64_MAX;
    lock_give(&timers->lock);
    return next_ms;
}

size_t timers_count(struct timers *timers)
{
    lock_take(&timers->lock);
    size_t count = timers->count;
    lock_give(&timers->lock);
    return count;
}
