/* SPDX-License-Identifier: Apache-2.0 */
#include "base/wait.h"

#include "base/check.h"

/* POSIX measures the waits of a condition by the wall clock unless it is told otherwise when the
 * condition is made, in five lines of which a forgotten one shows only when somebody sets the
 * clock. So they stand here alone. */

struct timespec wait_time(uint64_t ms)
{
    return (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
}

void wait_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    CHECK(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_cond_init(condition, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

void wait_nap(uint64_t ms)
{
    const struct timespec time = wait_time(ms);
    nanosleep(&time, NULL);
}
