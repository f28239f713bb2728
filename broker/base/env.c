/* SPDX-License-Identifier: Apache-2.0 */
#include "base/env.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "base/wait.h"

/* The one place that asks the machine for time and chance. Everything else takes a struct env, so
 * that a simulation can run a day in a second and repeat it from a seed. No state. */

static uint64_t system_monotonic_ns(void *context)
{
    (void)context;
    struct timespec now;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t system_wall_ms(void *context)
{
    (void)context;
    struct timespec now;
    CHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void system_random_bytes(void *context, void *to, size_t size)
{
    (void)context;
    unsigned char *next = to;
    while (size > 0) {
        ssize_t got = getrandom(next, size, 0);
        if (got < 0) {
            /* A secret made of anything else would be a lie, so there is no fallback. */
            CHECK_DEBT(errno == EINTR, "the machine has no random source");
            continue;
        }
        next += got;
        size -= (size_t)got;
    }
}

struct timespec env_until(const struct env *env, uint64_t at_ms)
{
    uint64_t now_ms = env_monotonic_ms(env);
    return wait_time(env_monotonic_ms(env_system()) + (at_ms > now_ms ? at_ms - now_ms : 0));
}

const struct env *env_system(void)
{
    static const struct env env = {
        .monotonic_ns = system_monotonic_ns,
        .wall_ms = system_wall_ms,
        .random_bytes = system_random_bytes,
    };
    return &env;
}
