/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <stdlib.h>

/* One block of numbers per thread, each on cache lines of its own, so that counting costs an
 * uncontended add. Every access is relaxed: a reader sees each number some moment ago, which is
 * harmless, because nothing is decided by them. The blocks live until metrics_destroy. */

static const struct {
    const char *name;
    const char *help;
    bool gauge;
} rows[METRIC_COUNT] = {
#define COUNTER(name, help) {#name, help, false},
#define GAUGE(name, help) {#name, help, true},
#include "base/metrics.def"
};

struct metrics *metrics_create(unsigned blocks)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    if (metrics == NULL) {
        return NULL;
    }
    metrics->block_count = blocks > 0 ? blocks : 1;
    size_t size = metrics->block_count * sizeof(*metrics->blocks);
    metrics->blocks = aligned_alloc(alignof(struct metrics_block), size);
    if (metrics->blocks == NULL) {
        free(metrics);
        return NULL;
    }
    for (unsigned block = 0; block < metrics->block_count; block++) {
        for (size_t id = 0; id < METRIC_COUNT; id++) {
            atomic_init(&metrics->blocks[block].values[id], 0);
        }
    }
    return metrics;
}

void metrics_destroy(struct metrics *metrics)
{
    if (metrics != NULL) {
        free(metrics->blocks);
        free(metrics);
    }
}

uint64_t metrics_read(const struct metrics *metrics, enum metric_id id)
{
    if (metrics == NULL) {
        return 0;
    }
    uint64_t sum = 0;
    for (unsigned block = 0; block < metrics->block_count; block++) {
        sum += atomic_load_explicit(&metrics->blocks[block].values[id], memory_order_relaxed);
    }
    /* The blocks are read one after the other: a gauge raised in one and lowered in another in
     * between can come out below zero. */
    return rows[id].gauge && sum > INT64_MAX ? 0 : sum;
}

const char *metrics_name(enum metric_id id)
{
    return rows[id].name;
}

const char *metrics_help(enum metric_id id)
{
    return rows[id].help;
}

bool metrics_is_gauge(enum metric_id id)
{
    return rows[id].gauge;
}
