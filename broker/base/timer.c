/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/check.h"

/* A min-heap under a leaf lock. There is no cancelling on purpose: most timers (resume windows,
 * deadlines) belong to an actor that another thread may be running, and a handle into the heap
 * would tie the two together. The caller's key names the thing and its generation; a stale key
 * expires, finds nothing and is forgotten. What that costs is memory until the due time, which the
 * limit bounds.
 *
 * Invariant, under the lock: no entry is due before its parent (i - 1) / 2; count <= capacity <=
 * limit. */

enum {
    CAPACITY_FIRST = 64
};

struct entry {
    uint64_t due_ms;
    uint64_t key;
};

struct timers {
    size_t limit; /* set once */
    pthread_mutex_t lock;
    struct entry *entries; /* under the lock, as all below */
    size_t count;
    size_t capacity;
};

struct timers *timers_create(size_t limit)
{
    struct timers *timers = calloc(1, sizeof(*timers));
    if (timers == NULL) {
        return NULL;
    }
    timers->limit = limit;
    CHECK(pthread_mutex_init(&timers->lock, NULL) == 0);
    return timers;
}

void timers_destroy(struct timers *timers)
{
    if (timers != NULL) {
        pthread_mutex_destroy(&timers->lock);
        free(timers->entries);
        free(timers);
    }
}

/* Room for one more; 0, -ENOSPC or -ENOMEM. */
static int make_room(struct timers *timers)
{
    if (timers->count >= timers->limit) {
        return -ENOSPC;
    }
    if (timers->count < timers->capacity) {
        return 0;
    }
    size_t capacity = timers->capacity > 0 ? timers->capacity * 2 : CAPACITY_FIRST;
    if (capacity > timers->limit) {
        capacity = timers->limit;
    }
    struct entry *entries = reallocarray(timers->entries, capacity, sizeof(*entries));
    if (entries == NULL) {
        return -ENOMEM;
    }
    timers->entries = entries;
    timers->capacity = capacity;
    return 0;
}

/* Moves a hole up from `at` until `entry` fits into it. Gives where that is. */
static size_t sift_up(struct entry *entries, size_t at, struct entry entry)
{
    while (at > 0 && entry.due_ms < entries[(at - 1) / 2].due_ms) {
        entries[at] = entries[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    entries[at] = entry;
    return at;
}

/* Moves a hole down from the top until `entry` fits into it. */
static void sift_down(struct entry *entries, size_t count, struct entry entry)
{
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && entries[child + 1].due_ms < entries[child].due_ms) {
            child++;
        }
        if (entry.due_ms <= entries[child].due_ms) {
            break;
        }
        entries[at] = entries[child];
        at = child;
    }
    entries[at] = entry;
}

int timers_add(struct timers *timers, uint64_t due_ms, uint64_t key, bool *earliest)
{
    pthread_mutex_lock(&timers->lock);
    bool first = false;
    int error = make_room(timers);
    if (error == 0) {
        struct entry entry = {.due_ms = due_ms, .key = key};
        first = sift_up(timers->entries, timers->count, entry) == 0;
        timers->count++;
    }
    pthread_mutex_unlock(&timers->lock);
    if (earliest != NULL) {
        *earliest = first;
    }
    return error;
}

size_t timers_expire(struct timers *timers, uint64_t now_ms, uint64_t *keys, size_t max)
{
    pthread_mutex_lock(&timers->lock);
    size_t taken = 0;
    while (taken < max && timers->count > 0 && timers->entries[0].due_ms <= now_ms) {
        keys[taken++] = timers->entries[0].key;
        timers->count--;
        if (timers->count > 0) {
            sift_down(timers->entries, timers->count, timers->entries[timers->count]);
        }
    }
    pthread_mutex_unlock(&timers->lock);
    return taken;
}

uint64_t timers_next_ms(struct timers *timers)
{
    pthread_mutex_lock(&timers->lock);
    uint64_t next_ms = timers->count > 0 ? timers->entries[0].due_ms : UINT64_MAX;
    pthread_mutex_unlock(&timers->lock);
    return next_ms;
}

size_t timers_count(struct timers *timers)
{
    pthread_mutex_lock(&timers->lock);
    size_t count = timers->count;
    pthread_mutex_unlock(&timers->lock);
    return count;
}
