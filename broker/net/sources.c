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
 * connections that have not logged in. Chained by index, because a connection remembers the index
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

static bool take(struct sources *sources, uint64_t key, uint32_t max, uint32_t *source)
{
    bool fits = true;
    *source = SOURCE_NONE;
    if (key == 0 || sources->max == 0)
        return true;
    pthread_mutex_lock(&sources->lock);
    uint32_t *bucket = bucket_of(sources, key);
    uint32_t index = *bucket;
    while (index != SOURCE_NONE && sources->items[index].key != key)
        index = sources->items[index].next;
    if (index == SOURCE_NONE)
        index = add(sources, key, bucket);
    if (index != SOURCE_NONE) {
        fits = sources->items[index].count < max;
        if (fits) {
            sources->items[index].count++;
            *source = index;
        }
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
    struct source *item = &sources->items[source];
    CHECK(item->count > 0);
    if (--item->count == 0) {
        uint32_t *link = bucket_of(sources, item->key);
        while (*link != source)
            link = &sources->items[*link].next;
        *link = item->next;
        item->next = sources->free;
        sources->free = source;
    }
    pthread_mutex_unlock(&sources->lock);
}
