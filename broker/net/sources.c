/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sources.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/source.h"

/* A table of the sources that have a connection now, so its size is bounded by the number of
 * connections that have not logged in. A source counts for wider ones too (base/source.h); each entry
 * knows the next wider one. Chained by index, because a connection remembers the index
 * of its source and the array may move. The hash has a random key: who owns many addresses cannot
 * aim at one chain.
 *
 * It is touched when a connection is accepted, logs in or ends before that, never by traffic; so
 * one lock does for all I/O threads. */

enum { BUCKETS = 1024 };

struct source {
    uint64_t key;
    uint32_t count; /* 0: free */
    uint32_t next;  /* in its bucket, or of the free ones */
    uint32_t wider; /* the source that it counts for too, or SOURCE_NONE */
};

struct sources {
    _Atomic uint32_t max; /* relaxed in effect: an older one holds for a connection more */
    uint64_t hash_key[2];
    pthread_mutex_t lock;
    /* under lock */
    struct source *items;
    uint32_t made, capacity, free;
    uint32_t buckets[BUCKETS];
};

struct sources *sources_create(uint32_t max, const struct env *env)
{
    struct sources *sources = calloc(1, sizeof(*sources));
    if (sources == NULL)
        return NULL;
    sources->max = max;
    sources->free = SOURCE_NONE;
    memset(sources->buckets, 0xff, sizeof(sources->buckets)); /* SOURCE_NONE each */
    env_random(env, sources->hash_key, sizeof(sources->hash_key)); /* max may be set later */
    pthread_mutex_init(&sources->lock, NULL);
    return sources;
}

void sources_set_max(struct sources *sources, uint32_t max)
{
    sources->max = max;
}

void sources_destroy(struct sources *sources)
{
    if (sources == NULL)
        return;
    pthread_mutex_destroy(&sources->lock);
    free(sources->items);
    free(sources);
}

static uint32_t *bucket_of(struct sources *sources, uint64_t key)
{
    return &sources->buckets[siphash13(sources->hash_key, &key, sizeof(key)) % BUCKETS];
}

/* A zeroed entry in its bucket, or SOURCE_NONE. */
static uint32_t add(struct sources *sources, uint64_t key, uint32_t *bucket)
{
    uint32_t index = sources->free;
    if (index != SOURCE_NONE) {
        sources->free = sources->items[index].next;
    } else {
        if (sources->made == sources->capacity) {
            uint32_t capacity = sources->capacity ? sources->capacity * 2 : 64;
            struct source *items = realloc(sources->items, capacity * sizeof(*items));
            if (items == NULL)
                return SOURCE_NONE;
            sources->items = items;
            sources->capacity = capacity;
        }
        index = sources->made++;
    }
    sources->items[index] = (struct source){.key = key, .next = *bucket};
    *bucket = index;
    return index;
}

/* Under lock: nobody counts for it any more. */
static void drop(struct sources *sources, uint32_t index)
{
    struct source *item = &sources->items[index];
    uint32_t *link = bucket_of(sources, item->key);
    while (*link != index)
        link = &sources->items[*link].next;
    *link = item->next;
    item->next = sources->free;
    sources->free = index;
}

/* Under lock: its entry, a new one if need be; SOURCE_NONE without memory. */
static uint32_t find(struct sources *sources, uint64_t key)
{
    uint32_t *bucket = bucket_of(sources, key);
    uint32_t index = *bucket;
    while (index != SOURCE_NONE && sources->items[index].key != key)
        index = sources->items[index].next;
    return index != SOURCE_NONE ? index : add(sources, key, bucket);
}

/* Under lock. The widest first, so that each finds the one that it counts for too. */
static bool take_steps(struct sources *sources, const uint64_t *steps, unsigned count, uint32_t max,
                       uint32_t *source)
{
    bool fits = true;
    uint32_t wider = SOURCE_NONE;
    uint32_t found[SOURCE_STEPS];
    for (unsigned step = count; step-- > 0;) {
        found[step] = find(sources, steps[step]);
        if (found[step] == SOURCE_NONE)
            continue;
        struct source *item = &sources->items[found[step]];
        item->wider = wider;
        fits = fits && item->count < source_allowed(max, step);
        item->count++;
        wider = found[step];
    }
    *source = wider;
    return fits;
}

/* Under lock. */
static void give_steps(struct sources *sources, uint32_t source)
{
    while (source != SOURCE_NONE) {
        struct source *item = &sources->items[source];
        uint32_t wider = item->wider;
        CHECK(item->count > 0);
        if (--item->count == 0)
            drop(sources, source);
        source = wider;
    }
}

static bool take(struct sources *sources, uint64_t key, uint32_t max, uint32_t *source)
{
    uint64_t steps[SOURCE_STEPS];
    unsigned count = source_steps(key, steps);
    *source = SOURCE_NONE;
    if (count == 0 || sources->max == 0)
        return true;
    pthread_mutex_lock(&sources->lock);
    bool fits = take_steps(sources, steps, count, max, source);
    if (!fits) {
        give_steps(sources, *source);
        *source = SOURCE_NONE;
    }
    pthread_mutex_unlock(&sources->lock);
    return fits;
}

bool sources_take(struct sources *sources, const struct sockaddr *address, uint32_t *source)
{
    return take(sources, source_of_sockaddr(address), sources->max, source);
}

uint32_t sources_take_peer(struct sources *sources, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    uint32_t source = SOURCE_NONE;
    if (sources->max != 0 && getpeername(fd, (struct sockaddr *)&address, &size) == 0)
        (void)take(sources, source_of_sockaddr((struct sockaddr *)&address), UINT32_MAX, &source);
    return source;
}

void sources_give(struct sources *sources, uint32_t source)
{
    if (source == SOURCE_NONE)
        return;
    pthread_mutex_lock(&sources->lock);
    give_steps(sources, source);
    pthread_mutex_unlock(&sources->lock);
}
