/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sys/time.h>
#include <time.h>

#include "shim/shim_control.h"

/* The wall clock of the process, moved by what the control file says, and waiting until a time of
 * that clock. Every other clock and all other waiting are left alone. */

enum { NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

static int64_t offset_ms(void)
{
    struct shim_control *control = shim_control();
    return control == NULL ? 0 : atomic_load(&control->realtime_offset_ms);
}

static void move(struct timespec *time, int64_t move_ms)
{
    int64_t part_ns = time->tv_nsec + move_ms % 1000 * NS_PER_MS;
    time->tv_sec += move_ms / 1000;
    if (part_ns < 0) {
        time->tv_sec--;
        part_ns += NS_PER_S;
    } else if (part_ns >= NS_PER_S) {
        time->tv_sec++;
        part_ns -= NS_PER_S;
    }
    time->tv_nsec = part_ns;
}

SHIM_EXPORT int clock_gettime(clockid_t clock, struct timespec *now)
{
    static _Atomic(void *) cache;
    int (*next)(clockid_t, struct timespec *) = shim_next(&cache, "clock_gettime");
    int result = next(clock, now);
    if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return result;
    move(now, offset_ms());
    return 0;
}

/* A time that no machine has been up for is one of the wall clock. Whoever waits while the clock is
 * moved wakes as if it had not been, and looks at it again: for longer, as with the kernel's. */
SHIM_EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict cond,
                                       pthread_mutex_t *restrict mutex,
                                       const struct timespec *restrict until)
{
    enum { WALL_S = 1000000000 };
    static _Atomic(void *) cache;
    int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *) =
        shim_next(&cache, "pthread_cond_timedwait");
    struct timespec moved = *until;
    if (moved.tv_sec > WALL_S / 2)
        move(&moved, -offset_ms());
    return next(cond, mutex, &moved);
}

SHIM_EXPORT int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    if (result == 0) {
        now->tv_sec = exact.tv_sec;
        now->tv_usec = exact.tv_nsec / 1000;
    }
    return result;
}

SHIM_EXPORT time_t time(time_t *out)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return (time_t)-1;
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
