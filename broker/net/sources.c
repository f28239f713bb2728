/* SPDX-License-Identifier: Apache-2.0 */
#include "net/sources.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/source.h"

/* A table of the sources that have a connection now, so its size is bounded by the number of
 * connections that have not logged in. A source counts for wider ones too (base/source.h); each
 * entry knows the next wider one. Chained by index, because a connection remembers the index of
 * its source and the array may move. The hash has a random key: who owns many addresses cannot aim
 * at one chain.
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
    const struct limits *limits;
    uint64_t hash_key[2];
    struct lock lock;
    /* under lock */
    struct source *items;
    uint32_t made, capacity, free;
    uint32_t buckets[BUCKETS];
};

struct sources *sources_create(const struct limits *limits, const struct env *env)
{
    struct sources *sources = calloc(1, sizeof(*sources));
    if (sources == NULL)
        return NULL;
    sources->limits = limits;
    sources->free = SOURCE_NONE;
    memset(sources->buckets, 0xff, sizeof(sources->buckets));      /* SOURCE_NONE each */
    env_random(env, sources->hash_key, sizeof(sources->hash_key)); /* the limit may come later */
    lock_init(&sources->lock);
    return sources;
}

void sources_destroy(struct sources *sources)
{
    if (sources == NULL)
        return;
    lock_destroy(&sources->lock);
    free(sources->items);
    free(sources);
}

static uint32_t *bucket_of(struct sources *sources, uint64_t key)
{
    return &sources->buckets[hash_keyed(sources->hash_key, &key, sizeof(key)) % BUCKETS];
}

/* Under lock. A zeroed entry in its bucket, or SOURCE_NONE. */
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
    CHECK(lock_held(&sources->lock) && item->count == 0);
    uint32_t *link = bucket_of(sources, item->key);
    while (*link != index) {
        CHECK(*link != SOURCE_NONE);
        link = &sources->items[*link].next;
    }
    *link = item->next;
    item->next = sources->free;
    sources->free = index;
}

/* Under lock: its entry, a new one if need be; SOURCE_NONE without memory. */
static uint32_t find(struct sources *sources, uint64_t key)
{
    CHECK(lock_held(&sources->lock));
    uint32_t *bucket = bucket_of(sources, key);
    uint32_t index = *bucket;
    while (index != SOURCE_NONE && sources->items[index].key != key)
        index = sources->items[index].next;
    return index != SOURCE_NONE ? index : add(sources, key, bucket);
}

/* Under lock. */
static void give_steps(struct sources *sources, uint32_t source)
{
    CHECK(lock_held(&sources->lock));
    while (source != SOURCE_NONE) {
        CHECK(source < sources->made);
        struct source *item = &sources->items[source];
        uint32_t wider = item->wider;
        CHECK(item->count > 0);
        if (--item->count == 0)
            drop(sources, source);
        source = wider;
    }
}

/* Under lock. The widest first, so that each finds the one that it counts for too. Without memory
 * for one of them none is counted: who is counted in a source is counted in its wider ones, or they
 * would be given back once too often. */
static bool take_steps(struct sources *sources, const uint64_t *steps, unsigned count, uint32_t max,
                       uint32_t *source)
{
    bool fits = true;
    uint32_t wider = SOURCE_NONE;
    uint32_t found[SOURCE_STEPS];
    for (unsigned step = count; step-- > 0;) {
        found[step] = find(sources, steps[step]);
        if (found[step] == SOURCE_NONE) {
            give_steps(sources, wider);
            wider = SOURCE_NONE;
            break;
        }
        struct source *item = &sources->items[found[step]];
        item->wider = wider;
        fits = fits && item->count < source_allowed(max, step);
        item->count++;
        wider = found[step];
    }
    *source = wider;
    return fits;
}

/* `max` 0: it is not counted. */
static bool take(struct sources *sources, uint64_t key, uint32_t max, uint32_t *source)
{
    uint64_t steps[SOURCE_STEPS];
    unsigned count = source_steps(key, steps);
    *source = SOURCE_NONE;
    if (count == 0 || max == 0)
        return true;
    lock_take(&sources->lock);
    bool fits = take_steps(sources, steps, count, max, source);
    if (!fits) {
        give_steps(sources, *source);
        *source = SOURCE_NONE;
    }
    lock_give(&sources->lock);
    return fits;
}

bool sources_take(struct sources *sources, const struct sockaddr *address, uint32_t *source)
{
    uint32_t max = limits_prelogin_per_source(sources->limits);
    return take(sources, source_of_sockaddr(address), max, source);
}

bool sources_take_text(struct sources *sources, const char *peer, uint32_t *source)
{
    uint32_t max = limits_prelogin_per_source(sources->limits);
    return take(sources, source_of_text(peer, strlen(peer)), max, source);
}

static uint32_t take_beyond(struct sources *sources, uint64_t key)
{
    uint32_t source;
    uint32_t max = limits_prelogin_per_source(sources->limits) != 0 ? UINT32_MAX : 0;
    (void)take(sources, key, max, &source);
    return source;
}

uint32_t sources_take_peer(struct sources *sources, const char *peer, int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    if (limits_prelogin_per_source(sources->limits) == 0)
        return SOURCE_NONE;
    if (peer != NULL)
        return take_beyond(sources, source_of_text(peer, strlen(peer)));
    return getpeername(fd, (struct sockaddr *)&address, &size) == 0
               ? sources_take_beyond(sources, (struct sockaddr *)&address)
               : SOURCE_NONE;
}

uint32_t sources_take_beyond(struct sources *sources, const struct sockaddr *address)
{
    return take_beyond(sources, source_of_sockaddr(address));
}

void sources_give(struct sources *sources, uint32_t source)
{
    if (source == SOURCE_NONE)
        return;
    lock_take(&sources->lock);
    give_steps(sources, source);
    lock_give(&sources->lock);
}

/* --- who goes for a newcomer ------------------------------------------------------------------ */

/* A source with more is one that has much: of it the young may go too, and for it nobody of a
 * source with less. So many log in at a time behind one address without being taken for a
 * flood. */
enum { MUCH = 8 };

/* Under lock: the narrowest that has too many, or SOURCE_NONE. */
static uint32_t find_over(const struct sources *sources, uint32_t source)
{
    CHECK(lock_held(&sources->lock));
    uint32_t max = limits_prelogin_per_source(sources->limits);
    unsigned step = 0;
    while (source != SOURCE_NONE && max != 0) {
        if (sources->items[source].count > source_allowed(max, step++))
            return source;
        source = sources->items[source].wider;
    }
    return SOURCE_NONE;
}

bool sources_is_over(struct sources *sources, uint32_t source)
{
    lock_take(&sources->lock);
    bool over = find_over(sources, source) != SOURCE_NONE;
    lock_give(&sources->lock);
    return over;
}

/* Under lock. How much it has, measured by what it may have: the most of it and of the wider
 * ones. */
static uint32_t weight_of(const struct sources *sources, uint32_t source)
{
    uint32_t weight = 0;
    for (unsigned step = 0; source != SOURCE_NONE; step++) {
        uint32_t here = sources->items[source].count >> step;
        weight = here > weight ? here : weight;
        source = sources->items[source].wider;
    }
    return weight;
}

/* Under lock. */
static bool counts_for(const struct sources *sources, uint32_t source, uint32_t wide)
{
    while (source != SOURCE_NONE && source != wide)
        source = sources->items[source].wider;
    return source != SOURCE_NONE;
}

/* Whether somebody of a source of that weight goes for one of another. */
static bool may_go(uint32_t weight, uint32_t comes, uint32_t stranger_ms, uint32_t age_ms)
{
    if (weight > MUCH && weight > comes)
        return stranger_ms >= age_ms / 4;
    return stranger_ms >= age_ms && (comes <= MUCH || weight >= comes);
}

/* Under lock. */
static size_t choose_heaviest(const struct sources *sources, uint32_t newcomer,
                              const struct stranger *strangers, size_t count, uint32_t age_ms)
{
    CHECK(lock_held(&sources->lock));
    uint32_t comes = weight_of(sources, newcomer);
    uint32_t most = 0;
    size_t chosen = count;
    for (size_t i = 0; i < count; i++) {
        uint32_t weight = weight_of(sources, strangers[i].source);
        bool is_next = chosen == count || weight > most ||
                       (weight == most && strangers[i].age_ms > strangers[chosen].age_ms);
        if (!is_next || !may_go(weight, comes, strangers[i].age_ms, age_ms))
            continue;
        most = weight;
        chosen = i;
    }
    return chosen;
}

/* Under lock. */
static size_t choose_within(const struct sources *sources, uint32_t full,
                            const struct stranger *strangers, size_t count, uint32_t age_ms)
{
    CHECK(lock_held(&sources->lock) && full < sources->made);
    size_t chosen = count;
    for (size_t i = 0; i < count; i++)
        if (strangers[i].age_ms >= age_ms &&
            (chosen == count || strangers[i].age_ms > strangers[chosen].age_ms) &&
            counts_for(sources, strangers[i].source, full))
            chosen = i;
    return chosen;
}

size_t sources_choose(struct sources *sources, uint32_t newcomer, bool within,
                      const struct stranger *strangers, size_t count, uint32_t age_ms)
{
    lock_take(&sources->lock);
    uint32_t full = within ? find_over(sources, newcomer) : SOURCE_NONE;
    size_t chosen = count;
    if (!within)
        chosen = choose_heaviest(sources, newcomer, strangers, count, age_ms);
    else if (full != SOURCE_NONE)
        chosen = choose_within(sources, full, strangers, count, age_ms);
    lock_give(&sources->lock);
    return chosen;
}
