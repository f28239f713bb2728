/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/env.h"
#include "base/lock.h"
#include "base/wait.h"

/* What nng may hang in, done so that we do not: on a thread of its own, for which nobody waits
 * longer than LINK_CLOSE_MS. One that is late is left behind, with all that it works on. */

/* Shared by the two threads of bounded_run; whoever comes last frees it. */
struct bounded {
    void (*work)(void *argument);
    void *argument;
    struct lock lock;
    pthread_cond_t finished;
    bool done;
    bool abandoned;
};

static void *run_work(void *argument)
{
    struct bounded *bounded = argument;
    bounded->work(bounded->argument);
    lock_take(&bounded->lock);
    bounded->done = true;
    bool abandoned = bounded->abandoned;
    pthread_cond_signal(&bounded->finished);
    lock_give(&bounded->lock);
    if (abandoned)
        free(bounded);
    return NULL;
}

static bool wait_finished(struct bounded *bounded)
{
    struct timespec until = wait_time(env_monotonic_ms(env_system()) + LINK_CLOSE_MS);
    lock_take(&bounded->lock);
    while (!bounded->done && lock_wait_until(&bounded->lock, &bounded->finished, &until)) {
    }
    bool done = bounded->done;
    bounded->abandoned = !done;
    lock_give(&bounded->lock);
    return done;
}

bool bounded_run(void (*work)(void *argument), void *argument)
{
    struct bounded *bounded = calloc(1, sizeof(*bounded));
    if (bounded == NULL)
        return false;
    bounded->work = work;
    bounded->argument = argument;
    lock_init(&bounded->lock);
    wait_condition_init(&bounded->finished);
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_work, bounded) != 0) {
        free(bounded);
        return false;
    }
    bool done = wait_finished(bounded);
    if (!done) {
        pthread_detach(thread);
        return false;
    }
    pthread_join(thread, NULL);
    free(bounded);
    return true;
}

static void close_socket(void *argument)
{
    nng_close((nng_socket){.id = (uint32_t)(uintptr_t)argument});
}

bool bounded_close(nng_socket socket)
{
    return bounded_run(close_socket, (void *)(uintptr_t)socket.id);
}
