/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_PROMETHEUS_H
#define USHER_ADMIN_PROMETHEUS_H

/* All numbers in Prometheus' text format 0.0.4, and as JSON for /api/stats. Any thread; does not
 * block, but for /proc. */

#include <jansson.h>
#include <stdio.h>

#include "base/metrics.h"

/* Counters end in _total, times are in seconds and sizes in bytes, each family has HELP and TYPE
 * once, and labels come from admin/families.def. Errors stay in the stream. */
void prometheus_write(FILE *out, const struct metrics *metrics,
                      const uint64_t readings[READING_COUNT], const char *node);

/* When this process started, Unix seconds, by the clocks of now; 0: not known. */
double process_started(void);

/* What the system knows of this process, under the usual names; what it does not tell is left out.
 * `started` is what process_started gave once. */
void process_write(double started, FILE *out);

/* The same into two objects, as process_cpu_seconds_total and so on. */
void process_fill(double started, json_t *counters, json_t *gauges);

/* "counters", "gauges" and "histograms" into the object, under the names of metrics.def. */
void prometheus_fill_stats(json_t *to, const struct metrics *metrics,
                           const uint64_t readings[READING_COUNT]);

#endif
