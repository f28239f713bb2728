/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_STRESS_STRESS_H
#define USHER_TESTS_STRESS_STRESS_H

/* What the stress programs share. They check with CHECK: the first thing that is wrong ends the
 * program with its line, so that a core or a sanitizer shows all threads as they were. */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/env.h"

/* Nothing here takes that long unless a wake-up or a message was lost. */
enum { STRESS_PATIENCE_MS = 30000, STRESS_SECONDS_MAX = 86400 };

/* How long a program goes on: 2 seconds, or the whole number in STRESS_SECONDS. */
static inline uint64_t stress_duration_ms(void)
{
    const char *text = getenv("STRESS_SECONDS");
    long seconds = text != NULL ? strtol(text, NULL, 10) : 2;
    CHECK(seconds >= 0 && seconds <= STRESS_SECONDS_MAX);
    return (uint64_t)seconds * 1000;
}

static inline uint64_t stress_now_ms(void)
{
    return env_monotonic_ms(env_system());
}

/* A good mix of 64 bits: for sums in which a lost or doubled number shows. */
static inline uint64_t stress_mix(uint64_t bits)
{
    bits = (bits ^ bits >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    bits = (bits ^ bits >> 27) * UINT64_C(0x94d049bb133111eb);
    return bits ^ bits >> 31;
}

/* The next of a row of random numbers below `limit`; each thread has a row of its own. */
static inline uint32_t stress_random(uint64_t *row, uint32_t limit)
{
    *row += UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(stress_mix(*row) % limit);
}

static inline void stress_start(pthread_t *thread, void *(*run)(void *), void *argument)
{
    CHECK(pthread_create(thread, NULL, run, argument) == 0);
}

#endif
