/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/lock.h"
#include "base/timer.h"
#include "base/wait.h"

/* The thread that waits for points in time and posts a tick to whoever asked. An actor has one
 * timer, that of its slot, and moves it when it needs an earlier tick; so there are no more timers
 * than actors, whatever peers ask for. Only the actor's own turns set it, so the last owner of a
 * slot cannot move the timer of the next. A tick for an actor that is gone is dropped.
 *
 * It also beats for the clock of the time that the broker was awake (base/awake.h), so it comes
 * round some times a second. */

enum { EXPIRE_BATCH = 256 };

struct clock {
    struct clock_options options;
    struct timers *timers;
    pthread_t pthread;
    bool started;
    _Atomic uint64_t beats;
    struct lock lock;
    pthread_cond_t changed;
    /* under lock */
    bool closing;
    bool earlier; /* a timer before the one that the thread waits for was added */
};

int clock_open(struct clock **out, const struct clock_options *options)
{
    struct clock *clock = calloc(1, sizeof(*clock));
    if (clock == NULL)
        return -ENOMEM;
    clock->options = *options;
    clock->timers = timers_create(registry_capacity(options->registry));
    if (clock->timers == NULL) {
        free(clock);
        return -ENOMEM;
    }
    lock_init(&clock->lock);
    wait_condition_init(&clock->changed);
    *out = clock;
    return 0;
}

void clock_set(struct clock *clock, actor_handle actor, uint64_t due_ms)
{
    if (!timers_set(clock->timers, due_ms, actor)) /* the slot is its low half */
        return;
    lock_take(&clock->lock);
    clock->earlier = true;
    lock_give(&clock->lock);
    pthread_cond_signal(&clock->changed);
}

static void tick(struct clock *clock, actor_handle actor)
{
    struct message *message = message_create(clock->options.tick, sizeof(*message));
    scheduler_tell(clock->options.scheduler, NULL, actor, message);
}

void clock_step(struct clock *clock)
{
    uint64_t due[EXPIRE_BATCH];
    size_t count;
    do {
        uint64_t now_ms = env_monotonic_ms(clock->options.env);
        count = timers_expire(clock->timers, now_ms, due, EXPIRE_BATCH);
        for (size_t i = 0; i < count; i++)
            tick(clock, due[i]);
    } while (count == EXPIRE_BATCH);
}

static void beat(const struct clock_options *options)
{
    uint64_t lost_ms = options->awake != NULL ? awake_beat(options->awake) : 0;
    if (lost_ms == 0)
        return;
    if (options->metrics != NULL)
        metrics_add(options->metrics, 0, METRIC_stood_still_ms, lost_ms);
    LOG(options->log, STOOD_STILL, LOG_U("ms", lost_ms));
}

/* Under the lock. For no longer than until the next beat. */
static void wait_until(struct clock *clock, uint64_t next_ms)
{
    CHECK(lock_held(&clock->lock));
    const struct env *env = clock->options.env;
    uint64_t beat_ms = env_monotonic_ms(env) + AWAKE_BEAT_MS;
    struct timespec until = env_until(env, next_ms < beat_ms ? next_ms : beat_ms);
    lock_wait_until(&clock->lock, &clock->changed, &until);
}

static void *run(void *argument)
{
    struct clock *clock = argument;
    lock_take(&clock->lock);
    while (!clock->closing) {
        clock->earlier = false;
        atomic_fetch_add_explicit(&clock->beats, 1, memory_order_relaxed);
        lock_give(&clock->lock);
        beat(&clock->options);
        clock_step(clock);
        uint64_t next_ms = timers_next_ms(clock->timers);
        lock_take(&clock->lock);
        if (clock->earlier || clock->closing)
            continue;
        wait_until(clock, next_ms);
    }
    lock_give(&clock->lock);
    return NULL;
}

int clock_start(struct clock *clock)
{
    CHECK(!clock->started);
    int error = pthread_create(&clock->pthread, NULL, run, clock);
    clock->started = error == 0;
    return -error;
}

void clock_prod(struct clock *clock)
{
    lock_take(&clock->lock);
    clock->earlier = true;
    lock_give(&clock->lock);
    pthread_cond_signal(&clock->changed);
}

uint64_t clock_beats(const struct clock *clock)
{
    return atomic_load_explicit(&clock->beats, memory_order_relaxed);
}

void clock_pause(struct clock *clock)
{
    lock_take(&clock->lock);
    clock->closing = true;
    lock_give(&clock->lock);
    pthread_cond_signal(&clock->changed);
    if (clock->started)
        pthread_join(clock->pthread, NULL);
    clock->started = clock->closing = false;
}

void clock_close(struct clock *clock)
{
    clock_pause(clock);
    if (clock->options.awake != NULL)
        awake_rest(clock->options.awake);
    timers_destroy(clock->timers);
    lock_destroy(&clock->lock);
    pthread_cond_destroy(&clock->changed);
    free(clock);
}
