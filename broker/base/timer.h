/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_TIMER_H
#define USHER_BASE_TIMER_H

/* Points in time, each with a key that means something to the caller. Nothing is cancelled: a
 * caller to whom an expired key means nothing any more ignores it. Any thread; holds its own lock
 * for some memory moves only, so it never blocks for long. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timers;

/* For at most `limit` pending timers. NULL without memory. */
struct timers *timers_create(size_t limit);

/* Nobody uses the timers any more. NULL is fine. */
void timers_destroy(struct timers *timers);

/* 0, -ENOSPC when `limit` are pending, -ENOMEM. `earliest` (may be NULL) is set to whether this
 * one is now due before all others, so that somebody who sleeps must be told; false on error. */
int timers_add(struct timers *timers, uint64_t due_ms, uint64_t key, bool *earliest);

/* Takes out up to `max` timers with due_ms <= now_ms, the earliest first (equal ones in any
 * order), and gives their number. Fewer than `max`: no more are due. */
size_t timers_expire(struct timers *timers, uint64_t now_ms, uint64_t *keys, size_t max);

/* When the earliest is due; UINT64_MAX when none is pending. */
uint64_t timers_next_ms(struct timers *timers);

size_t timers_count(struct timers *timers);

#endif
