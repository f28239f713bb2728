/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_METRICS_H
#define USHER_BASE_METRICS_H

/* Named numbers (the rows of metrics.def). Each thread adds to a block of its own; a reader sums
 * the blocks. Never blocks; any thread. A sum read while others count is a moment's picture: each
 * number is right, two numbers need not fit together. So it is with the buckets of a histogram. */

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric_id {
#define COUNTER(name, help) METRIC_##name,
#define GAUGE(name, help) METRIC_##name,
#include "base/metrics.def"
    METRIC_COUNT
};

/* What is not counted but looked at; whoever answers for all of them fills an array of these. */
enum reading_id {
#define READING(name, help) READING_##name,
#include "base/metrics.def"
    READING_COUNT
};

enum histogram_id {
#define HISTOGRAM(name, scale, help) HISTOGRAM_##name,
#include "base/metrics.def"
    HISTOGRAM_COUNT
};

/* Which bounds a histogram has, and what its values are. */
enum histogram_scale {
    SCALE_SECONDS, /* recorded in nanoseconds, told in seconds */
    SCALE_ITEMS
};

enum { HISTOGRAM_BUCKETS_MAX = 24 };

struct histogram_block {
    _Atomic uint64_t sum;
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS_MAX]; /* each value in one of them */
};

struct metrics_block {
    alignas(64) _Atomic uint64_t values[METRIC_COUNT];
    struct histogram_block histograms[HISTOGRAM_COUNT];
};

/* All blocks together. */
struct histogram_reading {
    unsigned bucket_count;                  /* the last one is that of all higher values */
    uint64_t bounds[HISTOGRAM_BUCKETS_MAX]; /* the highest value of each bucket but the last */
    uint64_t buckets[HISTOGRAM_BUCKETS_MAX];
    uint64_t count, sum;
};

struct metrics {
    unsigned block_count; /* set once */
    struct metrics_block *blocks;
};

/* At least one block is made. NULL without memory. */
struct metrics *metrics_create(unsigned blocks);
void metrics_destroy(struct metrics *metrics); /* nobody counts any more; NULL is fine */

/* Adds to the block `block` modulo their number; two threads in one block are correct, only
 * slower. NULL metrics: nothing happens. */
static inline void metrics_add(struct metrics *metrics, unsigned block, enum metric_id id,
                               uint64_t n)
{
    if (metrics != NULL) {
        /* Relaxed: a number orders nothing else. */
        atomic_fetch_add_explicit(&metrics->blocks[block % metrics->block_count].values[id], n,
                                  memory_order_relaxed);
    }
}

/* For gauges. May be done in another block than the add was: the sum comes out right. */
static inline void metrics_sub(struct metrics *metrics, unsigned block, enum metric_id id,
                               uint64_t n)
{
    metrics_add(metrics, block, id, UINT64_C(0) - n);
}

/* The sum over all blocks; a gauge that reads below zero for a moment gives 0. NULL: 0. */
uint64_t metrics_read(const struct metrics *metrics, enum metric_id id);

/* One value, into the block as metrics_add. Some tens of nanoseconds: what happens often is sampled
 * by its caller. NULL metrics: nothing happens. */
void metrics_record(struct metrics *metrics, unsigned block, enum histogram_id id, uint64_t value);

/* NULL metrics: no values. */
void metrics_read_histogram(const struct metrics *metrics, enum histogram_id id,
                            struct histogram_reading *reading);

const char *metrics_reading_name(enum reading_id id);
const char *metrics_reading_help(enum reading_id id);
const char *metrics_histogram_name(enum histogram_id id);
const char *metrics_histogram_help(enum histogram_id id);
enum histogram_scale metrics_histogram_scale(enum histogram_id id);

const char *metrics_name(enum metric_id id);
const char *metrics_help(enum metric_id id);
bool metrics_is_gauge(enum metric_id id);

#endif
