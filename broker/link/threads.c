/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"

/* nng starts its threads at the first call of any of its functions, and when one of them cannot be
 * started it dies of a fault or a panic, or waits for ever and hears no signal. So as many are
 * started before, which do nothing, and ended again: if that goes, so will nng, unless another
 * process of the same user takes what was free in between. */

/* As nng 1.5 counts them. */
enum {
    TASKS_PER_PROCESSOR = 2,
    TASKS_MAX = 16,
    TIMERS_MAX = 8, /* one per processor */
    OTHERS = 7,     /* four that look up names, the poller, the reaper, the timer */
    THREADS_MAX = TASKS_MAX + TIMERS_MAX + OTHERS
};

struct crowd {
    struct lock lock;
    pthread_cond_t over;
    bool done;
};

static void *wait_for_the_end(void *argument)
{
    struct crowd *crowd = argument;
    lock_take(&crowd->lock);
    while (!crowd->done)
        lock_wait(&crowd->lock, &crowd->over);
    lock_give(&crowd->lock);
    return NULL;
}

static unsigned at_most(long count, unsigned most)
{
    return count < 1 ? 1 : count < (long)most ? (unsigned)count : most;
}

int link_check_threads(char *error)
{
    struct crowd crowd = {LOCK_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned wanted = at_most(processors * TASKS_PER_PROCESSOR, TASKS_MAX) +
                      at_most(processors, TIMERS_MAX) + OTHERS;
    pthread_t threads[THREADS_MAX];
    unsigned started = 0;
    int failed = 0;
    while (failed == 0 && started < wanted) {
        failed = pthread_create(&threads[started], NULL, wait_for_the_end, &crowd);
        started += failed == 0;
    }
    lock_take(&crowd.lock);
    crowd.done = true;
    pthread_cond_broadcast(&crowd.over);
    lock_give(&crowd.lock);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (failed != 0)
        snprintf(error, LINK_ERROR_BYTES, "backend link: only %u of %u threads can be started: %s",
                 started, wanted, strerror(failed));
    return -failed;
}
