/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_HISTOGRAM_H
#define USHER_USHER_BENCH_HISTOGRAM_H

/* Counts of values in buckets that grow with the value, as HdrHistogram has them: exact below 128,
 * from there 64 buckets to each power of two, so that a value is known to 1/64 of itself, from
 * nanoseconds to centuries, in 30 KB. Zeroed memory is an empty histogram. One thread at a time;
 * nothing blocks or fails. */

#include <stdint.h>

enum {
    HISTOGRAM_STEPS = 64, /* buckets per power of two */
    HISTOGRAM_BUCKETS = (64 - 6 + 1) * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t largest;
};

void histogram_add(struct histogram *histogram, uint64_t value);

/* Adds what `from` has counted. */
void histogram_merge(struct histogram *to, const struct histogram *from);

/* The least value, rounded up to the end of its bucket and never above the largest one, such that
 * `part` (0 to 1) of all values are not above it. 0 when nothing was counted. */
uint64_t histogram_quantile(const struct histogram *histogram, double part);

#endif
