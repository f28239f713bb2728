/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_LOCK_H
#define USHER_BASE_LOCK_H

/* A mutex that knows who holds it, so that "under the lock" can be a check:
 *
 *     CHECK(lock_held(&services->lock));
 *
 * True for the thread that holds it and for no other, at any time and without a lock: only that
 * thread stores its own number, so it needs no order to find it. Costs a load and a compare.
 *
 * Any thread may call anything here; lock_take and the waits block. Broken promises end the
 * process: to take what one holds (which would wait for ever), to give or to wait on what one does
 * not hold, to destroy what somebody holds. */

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "base/check.h"
#include "base/thread.h"

struct lock {
    pthread_mutex_t mutex;
    struct thread_mark holder;
};

/* For those that nobody makes: static ones. */
#define LOCK_INITIALIZER                   \
    {                                      \
        .mutex = PTHREAD_MUTEX_INITIALIZER \
    }

static inline void lock_init(struct lock *lock)
{
    CHECK(pthread_mutex_init(&lock->mutex, NULL) == 0);
    atomic_init(&lock->holder.thread, 0);
}

static inline bool lock_held(const struct lock *lock)
{
    return on_thread(&lock->holder);
}

static inline void lock_destroy(struct lock *lock)
{
    CHECK(off_thread(&lock->holder));
    pthread_mutex_destroy(&lock->mutex);
}

static inline void lock_take(struct lock *lock)
{
    CHECK(!lock_held(lock));
    pthread_mutex_lock(&lock->mutex);
    thread_begin(&lock->holder);
}

/* False: somebody holds it, the caller perhaps. */
static inline bool lock_try(struct lock *lock)
{
    if (pthread_mutex_trylock(&lock->mutex) != 0)
        return false;
    thread_begin(&lock->holder);
    return true;
}

static inline void lock_give(struct lock *lock)
{
    thread_end(&lock->holder);
    pthread_mutex_unlock(&lock->mutex);
}

/* Gives the lock until `changed` is signalled, or for no reason, and holds it again. */
static inline void lock_wait(struct lock *lock, pthread_cond_t *changed)
{
    thread_end(&lock->holder);
    pthread_cond_wait(changed, &lock->mutex);
    thread_begin(&lock->holder);
}

/* The same, but no longer than until then, by the condition's clock. False: it is as late. */
static inline bool lock_wait_until(struct lock *lock, pthread_cond_t *changed,
                                   const struct timespec *until)
{
    thread_end(&lock->holder);
    int error = pthread_cond_timedwait(changed, &lock->mutex, until);
    thread_begin(&lock->holder);
    return error == 0;
}

#endif
