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

static const struct {
    const char *name;
    const char *help;
} reading_rows[READING_COUNT] = {
#define READING(name, help) {#name, help},
#include "base/metrics.def"
};

static const struct {
    const char *name;
    const char *help;
    enum histogram_scale scale;
} histogram_rows[HISTOGRAM_COUNT] = {
#define HISTOGRAM(name, scale, help) {#name, help, SCALE_##scale},
#include "base/metrics.def"
};

/* Steps of about 2.2, which Prometheus' quantiles interpolate in: a microsecond to ten seconds. */
static const uint64_t second_bounds[] = {
    1000,      2500,      5000,       10000,      25000,      50000,      100000,   250000,
    500000,    1000000,   2500000,    5000000,    10000000,   25000000,   50000000, 100000000,
    250000000, 500000000, 1000000000, 2500000000, 5000000000, 10000000000};
static const uint64_t item_bounds[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

static const struct {
    const uint64_t *bounds;
    unsigned count;
} scales[] = {
    [SCALE_SECONDS] = {second_bounds, sizeof(second_bounds) / sizeof(second_bounds[0])},
    [SCALE_ITEMS] = {item_bounds, sizeof(item_bounds) / sizeof(item_bounds[0])},
};
_Static_assert(sizeof(second_bounds) / sizeof(second_bounds[0]) < HISTOGRAM_BUCKETS_MAX, "room");
_Static_assert(sizeof(item_bounds) / sizeof(item_bounds[0]) < HISTOGRAM_BUCKETS_MAX, "room");

static void clear(struct metrics_block *block)
{
    for (size_t id = 0; id < METRIC_COUNT; id++)
        atomic_init(&block->values[id], 0);
    for (size_t id = 0; id < HISTOGRAM_COUNT; id++) {
        atomic_init(&block->histograms[id].sum, 0);
        for (size_t i = 0; i < HISTOGRAM_BUCKETS_MAX; i++)
            atomic_init(&block->histograms[id].buckets[i], 0);
    }
}

struct metrics *metrics_create(unsigned blocks)
{
    struct metrics *metrics = calloc(1, sizeof(*metrics));
    if (metrics == NULL)
        return NULL;
    metrics->block_count = blocks > 0 ? blocks : 1;
    size_t size = metrics->block_count * sizeof(*metrics->blocks);
    metrics->blocks = aligned_alloc(alignof(struct metrics_block), size);
    if (metrics->blocks == NULL) {
        free(metrics);
        return NULL;
    }
    for (unsigned block = 0; block < metrics->block_count; block++)
        clear(&metrics->blocks[block]);
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
    if (metrics == NULL)
        return 0;
    uint64_t sum = 0;
    for (unsigned block = 0; block < metrics->block_count; block++)
        sum += atomic_load_explicit(&metrics->blocks[block].values[id], memory_order_relaxed);
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

void metrics_record(struct metrics *metrics, unsigned block, enum histogram_id id, uint64_t value)
{
    if (metrics == NULL)
        return;
    const uint64_t *bounds = scales[histogram_rows[id].scale].bounds;
    unsigned low = 0;
    unsigned high = scales[histogram_rows[id].scale].count; /* the bucket of all higher values */
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (value <= bounds[middle])
            high = middle;
        else
            low = middle + 1;
    }
    struct histogram_block *to = &metrics->blocks[block % metrics->block_count].histograms[id];
    /* Relaxed: as metrics_add. */
    atomic_fetch_add_explicit(&to->buckets[low], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&to->sum, value, memory_order_relaxed);
}

void metrics_read_histogram(const struct metrics *metrics, enum histogram_id id,
                            struct histogram_reading *reading)
{
    enum histogram_scale scale = histogram_rows[id].scale;
    *reading = (struct histogram_reading){.bucket_count = scales[scale].count + 1};
    for (unsigned i = 0; i < scales[scale].count; i++)
        reading->bounds[i] = scales[scale].bounds[i];
    for (unsigned block = 0; metrics != NULL && block < metrics->block_count; block++) {
        const struct histogram_block *from = &metrics->blocks[block].histograms[id];
        for (unsigned i = 0; i < reading->bucket_count; i++) {
            uint64_t n = atomic_load_explicit(&from->buckets[i], memory_order_relaxed);
            reading->buckets[i] += n;
            reading->count += n; /* of the buckets read, so that the two agree */
        }
        reading->sum += atomic_load_explicit(&from->sum, memory_order_relaxed);
    }
}

const char *metrics_reading_name(enum reading_id id)
{
    return reading_rows[id].name;
}

const char *metrics_reading_help(enum reading_id id)
{
    return reading_rows[id].help;
}

const char *metrics_histogram_name(enum histogram_id id)
{
    return histogram_rows[id].name;
}

const char *metrics_histogram_help(enum histogram_id id)
{
    return histogram_rows[id].help;
}

enum histogram_scale metrics_histogram_scale(enum histogram_id id)
{
    return histogram_rows[id].scale;
}
