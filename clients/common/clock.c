/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <limits.h>

/* The wall clock may be set while somebody waits, so no wait is counted on it. */

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_ms(void)
{
    return clock_ns() / NS_PER_MS;
}

uint64_t clock_end_ms(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : clock_ms() + (uint64_t)timeout_ms;
}

int clock_left_ms(uint64_t end_ms)
{
    if (end_ms == UINT64_MAX)
        return -1;
    uint64_t now_ms = clock_ms();
    uint64_t left_ms = end_ms > now_ms ? end_ms - now_ms : 0;
    return left_ms < INT_MAX ? (int)left_ms : INT_MAX;
}

struct timespec clock_timespec(uint64_t time_ns)
{
    return (struct timespec){(time_t)(time_ns / NS_PER_S), (long)(time_ns % NS_PER_S)};
}

void clock_pause_ms(unsigned pause_ms)
{
    const struct timespec pause = clock_timespec((uint64_t)pause_ms * NS_PER_MS);
    nanosleep(&pause, NULL);
}

uint64_t clock_wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}
