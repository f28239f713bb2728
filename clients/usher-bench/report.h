/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_REPORT_H
#define USHER_USHER_BENCH_REPORT_H

/* The result of a run: named figures, as a table for people or as one JSON object. One thread. */

#include <stdbool.h>

#include "usher-bench/histogram.h"

enum {
    REPORT_FIGURES_MAX = 64,
    REPORT_ERROR_BYTES_MAX = 600,
};

struct report {
    struct {
        const char *name; /* with its unit at the end; borrowed */
        double value;
        int digits; /* behind the point */
    } figures[REPORT_FIGURES_MAX];
    unsigned count;
    const char *scenario;
    char error[REPORT_ERROR_BYTES_MAX]; /* why the run failed; empty: it did not */
    char note[REPORT_ERROR_BYTES_MAX];  /* what a reader of the figures must know; may be empty */
};

void report_add(struct report *report, const char *name, double value, int digits);

/* p50, p90, p99, p99.9 and the greatest, in microseconds. */
void report_latency(struct report *report, const struct histogram *latency);

/* Figures to stdout, error and note to stderr (in JSON the note is a member too). Without figures
 * nobody gets a table. False: it could not be written. */
bool report_print(const struct report *report, bool json);

#endif
