/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_ENV_H
#define USHER_BASE_ENV_H

/* Time and chance, passed in, so that a simulation can replace both. Whoever needs one of them
 * takes a `const struct env *`; the functions never block and run on any thread. */

#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct env {
    uint64_t (*monotonic_ns)(void *context); /* for every timeout; never goes back */
    uint64_t (*wall_ms)(void *context);      /* Unix milliseconds, for people */
    void (*random_bytes)(void *context, void *to, size_t size); /* fit for secrets */
    void *context;
};

/* The clock and the random source of the machine. Lives for ever. */
const struct env *env_system(void);

static inline uint64_t env_monotonic_ns(const struct env *env)
{
    return env->monotonic_ns(env->context);
}

static inline uint64_t env_monotonic_ms(const struct env *env)
{
    return env->monotonic_ns(env->context) / 1000000;
}

/* A moment for measuring how long something took, in four bytes: microseconds, and never 0, which
 * means that nothing is measured. The difference of two holds for half an hour. */
static inline uint32_t env_stamp_us(const struct env *env)
{
    uint32_t us = (uint32_t)(env->monotonic_ns(env->context) / 1000);
    return us != 0 ? us : 1;
}

/* When the machine's CLOCK_MONOTONIC shows what this one shows at `at_ms`, if it does not stand
 * still until then: for those who wait. */
struct timespec env_until(const struct env *env, uint64_t at_ms);

static inline uint64_t env_wall_ms(const struct env *env)
{
    return env->wall_ms(env->context);
}

static inline void env_random(const struct env *env, void *to, size_t size)
{
    env->random_bytes(env->context, to, size);
}

/* When a client that was refused is to come again: somewhere in [least_ms, 2 * least_ms), because
 * many are refused at the same moment and would otherwise come back at the same moment too. */
static inline uint32_t env_spread_ms(const struct env *env, uint32_t least_ms)
{
    uint32_t chance;
    env_random(env, &chance, sizeof(chance));
    return least_ms + chance % least_ms;
}

#endif
