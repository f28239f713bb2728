/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_PROCESS_H
#define USHER_USHER_BENCH_PROCESS_H

/* What /proc says of a process. Any thread; each call reads small files. */

#include <stdbool.h>
#include <stdint.h>

struct process_sample {
    double cpu_s;  /* of all threads, to the nanosecond */
    double user_s; /* by ticks of 10 ms, as the next one */
    double system_s;
    uint64_t resident_bytes;
};

/* Fills *sample with the sums since the process began; pid 0 is this process. False, and zeroes,
 * when there is no such process or it may not be looked at. */
bool process_sample(uint64_t pid, struct process_sample *sample);

#endif
