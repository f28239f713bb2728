/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_WAIT_H
#define USHER_BASE_WAIT_H

/* What those need who wait in the system: for another thread, for a moment, for a signal. When a
 * wait is to end is a point of env_until (base/env.h). Any thread. */

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* So many milliseconds as the system's calls want them. */
struct timespec wait_time(uint64_t ms);

/* A condition whose waits end at points of CLOCK_MONOTONIC, as env_until gives them: nobody who
 * sets the machine's clock makes one of them longer or shorter. */
void wait_condition_init(pthread_cond_t *condition);

/* Blocks for so long; a signal that is handled ends it early. */
void wait_nap(uint64_t ms);

#endif
