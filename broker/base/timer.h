/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_TIMER_H
#define USHER_BASE_TIMER_H

/* Points in time, one for each of a fixed number of places. What comes out is a key that means
 * something to the caller; its low 32 bits are the place. Nothing is cancelled: a caller to whom an
 * expired key means nothing any more ignores it. Any thread; holds its own lock for some memory
 * moves only, so it never blocks for long, and nothing is allocated after the creation. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timers;

/* For keys whose place is below `places`. NULL without memory. */
struct timers *timers_create(uint32_t places);

/* Nobody uses the timers any more. NULL is fine. */
void timers_destroy(struct timers *timers);

/* The timer of the key's place is due at due_ms from now on, earlier or later than it was, and
 * gives this key. True: it is due before all others now, and was not before, so that somebody who
 * sleeps must be told. */
bool timers_set(struct timers *timers, uint64_t due_ms, uint64_t key);

/* Takes out up to `max` timers with due_ms <= now_ms, the earliest first (equal ones in any
 * order), and gives their number. Fewer than `max`: no more are due. */
size_t timers_expire(struct timers *timers, uint64_t now_ms, uint64_t *keys, size_t max);

/* When the earliest is due; UINT64_MAX when none is pending. */
uint64_t timers_next_ms(struct timers *timers);

size_t timers_count(struct timers *timers);

#endif
