/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_CLOCK_H
#define USHER_COMMON_CLOCK_H

/* The monotonic clock, and the ends of waits on it. Any thread; only clock_pause_ms blocks. */

#include <stdint.h>
#include <time.h>

uint64_t clock_ms(void);
uint64_t clock_ns(void);

/* The wall clock, for people: Unix time. */
uint64_t clock_wall_ms(void);

/* When a wait that begins now is over. UINT64_MAX: never, because timeout_ms is negative. */
uint64_t clock_end_ms(int timeout_ms);

/* How long that still is, for poll: 0 when it is over, -1 when it never is. */
int clock_left_ms(uint64_t end_ms);

/* What the system takes for a length of time, or for a time of this clock. */
struct timespec clock_timespec(uint64_t time_ns);

/* Sleeps; a signal makes it shorter. */
void clock_pause_ms(unsigned pause_ms);

#endif
