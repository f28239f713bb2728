/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/source_rates.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "actors/spent.h"
#include "base/allowance.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/source.h"

/* Why per source: limits.requests_per_second is each user's, and one machine may log in as many.
 *
 * The table holds the sources that some session came from, so it is no larger than the number of
 * sessions. It is looked at when somebody logs in, resumes or ends, under one lock. An entry does
 * not move while somebody holds it, so a request needs neither the table nor the lock: the
 * allowance is one number, and whoever changes it by compare-and-swap has spent one. Of a source
 * that nobody holds any more only that number is remembered, as long as it matters (spent.c).
 *
 * The hash has a random key: who owns many addresses cannot aim at one chain. */

enum { BUCKETS = 4096, SECOND_US = 1000000, SECOND_MS = 1000 };

struct source_rate {
    _Atomic uint64_t due_ns; /* an allowance */
    _Atomic uint64_t told_ms;
    uint64_t source;
    unsigned step;             /* of source_steps */
    struct source_rate *wider; /* the one that it counts for too, held by this one; NULL: none */
    uint32_t holders;          /* under lock */
    struct source_rate *next;  /* in its bucket, under lock */
};

struct source_rates {
    const struct limits *limits;
    uint64_t hash_key[2];
    struct lock lock;
    struct source_rate *buckets[BUCKETS]; /* under lock */
    struct spent *spent;                  /* of sources that nobody holds */
};

struct source_rates *source_rates_create(const struct limits *limits, const struct env *env)
{
    struct source_rates *rates = calloc(1, sizeof(*rates));
    if (rates != NULL)
        rates->spent = spent_create(env);
    if (rates == NULL || rates->spent == NULL) {
        free(rates);
        return NULL;
    }
    rates->limits = limits;
    env_random(env, rates->hash_key, sizeof(rates->hash_key));
    lock_init(&rates->lock);
    return rates;
}

void source_rates_destroy(struct source_rates *rates)
{
    if (rates == NULL)
        return;
    for (unsigned i = 0; i < BUCKETS; i++)
        CHECK(rates->buckets[i] == NULL);
    lock_destroy(&rates->lock);
    spent_destroy(rates->spent);
    free(rates);
}

/* The link that points to the entry, or to NULL at the end of its bucket. */
static struct source_rate **find(struct source_rates *rates, uint64_t source)
{
    CHECK(lock_held(&rates->lock));
    uint64_t hash = hash_keyed(rates->hash_key, &source, sizeof(source));
    struct source_rate **link = &rates->buckets[hash % BUCKETS];
    while (*link != NULL && (*link)->source != source)
        link = &(*link)->next;
    return link;
}

static struct bytes source_name(const uint64_t *source)
{
    return (struct bytes){(const uint8_t *)source, sizeof(*source)};
}

/* Under lock; NULL without memory. */
static struct source_rate *create(struct source_rates *rates, uint64_t source, unsigned step)
{
    struct source_rate *rate = calloc(1, sizeof(*rate));
    if (rate == NULL)
        return NULL;
    rate->source = source;
    rate->step = step;
    atomic_init(&rate->due_ns, spent_take(rates->spent, source_name(&source)).due_ns);
    return rate;
}

/* Under lock; NULL without memory, or beyond the widest. A new entry holds the next wider one. */
static struct source_rate *hold(struct source_rates *rates, const uint64_t *steps, unsigned step,
                                unsigned count)
{
    if (step == count)
        return NULL;
    struct source_rate *rate = *find(rates, steps[step]);
    if (rate == NULL) {
        rate = create(rates, steps[step], step);
        if (rate == NULL)
            return NULL;
        rate->wider = hold(rates, steps, step + 1, count);
        rate->next = NULL;
        *find(rates, steps[step]) = rate;
    }
    CHECK(rate->holders < UINT32_MAX);
    rate->holders++;
    return rate;
}

/* Under lock. */
static void let_go(struct source_rates *rates, struct source_rate *rate)
{
    while (rate != NULL) {
        struct source_rate *wider = rate->wider;
        CHECK(rate->holders > 0);
        if (--rate->holders > 0)
            return;
        struct allowance allowance = {atomic_load_explicit(&rate->due_ns, memory_order_relaxed)};
        struct source_rate **link = find(rates, rate->source);
        CHECK(*link == rate);
        *link = rate->next;
        spent_put(rates->spent, source_name(&rate->source), allowance);
        free(rate);
        rate = wider;
    }
}

struct source_rate *source_rates_enter(struct source_rates *rates, struct bytes address)
{
    uint64_t steps[SOURCE_STEPS];
    unsigned count =
        rates != NULL ? source_steps(source_of_text(address.data, address.size), steps) : 0;
    if (count == 0)
        return NULL;
    lock_take(&rates->lock);
    struct source_rate *rate = hold(rates, steps, 0, count);
    lock_give(&rates->lock);
    if (rate == NULL)
        memory_refused();
    return rate;
}

void source_rates_leave(struct source_rates *rates, struct source_rate *rate)
{
    if (rate == NULL)
        return;
    lock_take(&rates->lock);
    let_go(rates, rate);
    lock_give(&rates->lock);
}

/* One of this entry alone. */
static uint32_t take_one(uint32_t per_second, struct source_rate *rate, uint64_t now_ms)
{
    struct allowance_terms terms =
        allowance_over(source_allowed(per_second, rate->step), SECOND_US);
    uint64_t due_ns = atomic_load_explicit(&rate->due_ns, memory_order_relaxed);
    for (;;) {
        struct allowance allowance = {due_ns};
        uint32_t wait_ms = allowance_wait_ms(&allowance, terms, now_ms);
        if (wait_ms != 0)
            return wait_ms;
        allowance_spend(&allowance, terms, now_ms);
        /* Relaxed: the number orders nothing else. */
        if (atomic_compare_exchange_weak_explicit(&rate->due_ns, &due_ns, allowance.due_ns,
                                                  memory_order_relaxed, memory_order_relaxed))
            return 0;
    }
}

uint32_t source_rate_take(const struct source_rates *rates, struct source_rate *rate,
                          uint64_t now_ms)
{
    uint32_t per_second = rate == NULL ? 0 : limits_requests_per_second_per_source(rates->limits);
    uint32_t wait_ms = 0;
    /* What a wider one refuses has been spent of the narrower ones: it is their fault, too. */
    for (; per_second != 0 && rate != NULL && wait_ms == 0; rate = rate->wider)
        wait_ms = take_one(per_second, rate, now_ms);
    return wait_ms;
}

bool source_rate_is_news(struct source_rate *rate, uint64_t now_ms)
{
    uint64_t told_ms = atomic_load_explicit(&rate->told_ms, memory_order_relaxed);
    return (told_ms == 0 || now_ms - told_ms >= SECOND_MS) &&
           atomic_compare_exchange_strong_explicit(&rate->told_ms, &told_ms, now_ms,
                                                   memory_order_relaxed, memory_order_relaxed);
}
