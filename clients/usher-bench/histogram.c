/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/histogram.h"

#include <math.h>

/* A bucket's number is the place of the value's highest bit and the six bits behind it, so adding
 * costs a shift and an increment. Values below 64 have a bucket each; from 64 to 127 the steps are
 * 1 too, then 2, 4 and so on.
 *
 * A quantile is given as the upper end of its bucket: a figure that errs says "slower". */

enum { STEP_BITS = 6 };

_Static_assert(1 << STEP_BITS == HISTOGRAM_STEPS, "the steps of a power of two");

static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_STEPS)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - STEP_BITS;
    return (shift + 1) * HISTOGRAM_STEPS + (unsigned)(value >> shift) - HISTOGRAM_STEPS;
}

static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t step = HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS;
    return (step << shift) + ((UINT64_C(1) << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->counts[bucket_of(value)]++;
    histogram->total++;
    if (value > histogram->largest)
        histogram->largest = value;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->counts[i] += from->counts[i];
    to->total += from->total;
    if (from->largest > to->largest)
        to->largest = from->largest;
}

uint64_t histogram_quantile(const struct histogram *histogram, double part)
{
    /* 0.07 * 100 is a little more than 7, and must not become 8. */
    uint64_t rank = (uint64_t)ceil(part * (double)histogram->total - 1e-6);
    uint64_t seen = 0;
    if (rank == 0)
        rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= rank)
            return bucket_end(i) < histogram->largest ? bucket_end(i) : histogram->largest;
    }
    return histogram->largest;
}
