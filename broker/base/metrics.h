/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_METRICS_H
#define USHER_BASE_METRICS_H

/* Named numbers (the rows of metrics.def). Each thread adds to a block of its own; a reader sums
 * the blocks. Never blocks; any thread. A sum read while others count is a moment's picture: each
 * number is right, two numbers need not fit together. */

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

struct metrics_block {
    alignas(64) _Atomic uint64_t values[METRIC_COUNT];
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

const char *metrics_name(enum metric_id id);
const char *metrics_help(enum metric_id id);
bool metrics_is_gauge(enum metric_id id);

#endif
