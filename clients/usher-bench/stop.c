/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/stop.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* Who stops a long run wants the figures so far, and to leave no thousands of sessions behind. A
 * descriptor instead of a handler: no state that is everybody's, and the conductor looks at his
 * crowds many times a second anyway. */

static void signals_of(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

int stop_open(void)
{
    sigset_t set;
    signals_of(&set);
    int stop = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (stop >= 0)
        pthread_sigmask(SIG_BLOCK, &set, NULL);
    return stop;
}

bool stop_wanted(int stop)
{
    struct signalfd_siginfo info;
    sigset_t set;
    if (stop < 0 || read(stop, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return false;
    signals_of(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return true;
}

void stop_close(int stop)
{
    if (stop >= 0)
        (void)close(stop);
}
