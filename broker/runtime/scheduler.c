/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/scheduler.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "runtime/ring.h"
#include "runtime/senders.h"

/* An actor is listed by whoever moved its mailbox off IDLE, and again at the end of a turn that
 * left messages. Between the two nobody lists it, so it is in the ring at most once, and a ring
 * with a cell for every slot cannot be full. The one-runner rule follows; `running` checks it.
 *
 * Sleeping. A worker that finds nothing announces itself in `sleepers`, looks at the queue once
 * more and waits until `epoch` changes. A producer lists first and then reads `sleepers` with a
 * read-modify-write. Both touch `sleepers`, so one is first:
 *   - the worker: the producer sees it and changes `epoch`; a worker that is not yet asleep finds
 *     the changed epoch and does not sleep;
 *   - the producer: the worker's own read-modify-write comes after it and sees what it listed.
 * The look uses the claimed length of the ring, not a pop: a producer stalled between claim and
 * publication must not put a worker to sleep on top of what was listed behind it.
 *
 * Shares. What users send has a part of a mailbox of its own, twice as large as what one alone may
 * have, and who has something in it gets no more than what is free then: of n each gets a share of
 * n + 1, as in an inbox (user/inbox.c), so somebody always finds room who has nothing there. What
 * has been taken from the mailbox and was not received yet counts for its sender too. While a
 * mailbox is less than an eighth full nobody could have too much, and nothing is counted: a sender
 * may have so much more than his share.
 *
 * Threads with runner->drains run the queue before they sleep themselves, so what they list needs
 * no wake-up. tests/model has this protocol as a Spin model. */

enum { WORKER_BATCH_TURNS = 256, TURNS_PER_SAMPLE = 64, CROWDED_PART = 8 };

struct worker {
    struct scheduler *scheduler;
    pthread_t thread;
    struct runner runner;
};

struct scheduler {
    /* set once */
    struct scheduler_options options;
    struct senders *senders;
    struct worker *workers;
    unsigned worker_count;
    /* shared */
    struct ring ring;
    alignas(64) _Atomic uint32_t sleepers;
    _Atomic uint32_t epoch;
    _Atomic bool stopping;
};

int scheduler_create(struct scheduler **out, const struct scheduler_options *options)
{
    struct scheduler *scheduler = aligned_alloc(64, sizeof(*scheduler));
    if (scheduler == NULL)
        return -ENOMEM;
    CHECK(options->turn_messages > 0);
    *scheduler = (struct scheduler){.options = *options};
    scheduler->senders = senders_create();
    int error = scheduler->senders != NULL
                    ? ring_init(&scheduler->ring, registry_capacity(options->registry))
                    : -ENOMEM;
    if (error != 0) {
        senders_destroy(scheduler->senders);
        free(scheduler);
        return error;
    }
    *out = scheduler;
    return 0;
}

void scheduler_destroy(struct scheduler *scheduler)
{
    CHECK(scheduler->worker_count == 0);
    ring_fini(&scheduler->ring);
    senders_destroy(scheduler->senders);
    free(scheduler);
}

static void count(struct scheduler *scheduler, struct runner *runner, enum metric_id metric)
{
    if (scheduler->options.metrics != NULL)
        metrics_add(scheduler->options.metrics, runner != NULL ? runner->index : 0, metric, 1);
}

void scheduler_wake(struct scheduler *scheduler)
{
    /* Pairs with the increment in sleep_until_listed; see the head of this file. */
    if (atomic_fetch_add_explicit(&scheduler->sleepers, 0, memory_order_seq_cst) == 0)
        return;
    atomic_fetch_add_explicit(&scheduler->epoch, 1, memory_order_seq_cst);
    syscall(SYS_futex, &scheduler->epoch, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    count(scheduler, NULL, METRIC_wakeups);
}

void scheduler_wake_all(struct scheduler *scheduler)
{
    atomic_fetch_add_explicit(&scheduler->epoch, 1, memory_order_seq_cst);
    syscall(SYS_futex, &scheduler->epoch, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void list(struct scheduler *scheduler, struct runner *runner, uint32_t slot)
{
    CHECK(runner == NULL || !on_another_thread(&runner->mark));
    /* A cell can look taken while a slow consumer is between claiming and freeing it. */
    while (!ring_push(&scheduler->ring, slot))
        sched_yield();
    if (runner == NULL || !runner->drains)
        scheduler_wake(scheduler);
}

/* NULL: it is gone. A stale answer is harmless: the generation is compared again when the message
 * is received, and then it bounces. */
static struct actor *receiver(struct scheduler *scheduler, actor_handle to)
{
    if (to == 0)
        return NULL;
    struct actor *actor = registry_actor(scheduler->options.registry, actor_slot(to));
    uint32_t generation = atomic_load_explicit(&actor->generation, memory_order_acquire);
    return generation == actor_generation(to) ? actor : NULL;
}

static void push(struct scheduler *scheduler, struct runner *runner, struct actor *actor,
                 actor_handle to, struct message *message)
{
    message->generation = actor_generation(to);
    if (mailbox_push(&actor->mailbox, message))
        list(scheduler, runner, actor_slot(to));
}

int scheduler_post(struct scheduler *scheduler, struct runner *runner, actor_handle to,
                   struct message *message)
{
    struct actor *actor = receiver(scheduler, to);
    if (actor == NULL)
        return -ESRCH;
    message->share = 0;
    push(scheduler, runner, actor, to, message);
    return 0;
}

void scheduler_tell(struct scheduler *scheduler, struct runner *runner, actor_handle to,
                    struct message *message)
{
    if (scheduler_post(scheduler, runner, to, message) != 0)
        message_destroy(message);
}

static uint16_t share_of(const struct scheduler *scheduler, struct actor *actor, actor_handle from,
                         actor_handle to, uint32_t max)
{
    if (from == 0)
        return 0;
    if (mailbox_length(&actor->mailbox) < max / CROWDED_PART)
        return SENDERS_NOBODY;
    const actor_handle pair[] = {from, to};
    return senders_share(registry_hash(scheduler->options.registry, pair, sizeof(pair)));
}

static bool has_room(struct scheduler *scheduler, struct actor *actor, uint16_t share, uint32_t max)
{
    uint32_t of_users = mailbox_shared(&actor->mailbox);
    uint32_t length = mailbox_length(&actor->mailbox);
    if (share == 0)
        return length < of_users || length - of_users < max;
    if (share == SENDERS_NOBODY)
        return true;
    uint32_t own = senders_count(scheduler->senders, share);
    return (uint64_t)own + of_users < 2 * (uint64_t)max;
}

int scheduler_post_from(struct scheduler *scheduler, struct runner *runner, actor_handle from,
                        actor_handle to, struct message *message, uint32_t max)
{
    struct actor *actor = receiver(scheduler, to);
    if (actor == NULL)
        return -ESRCH;
    uint16_t share = share_of(scheduler, actor, from, to, max);
    if (!has_room(scheduler, actor, share, max)) {
        count(scheduler, runner, METRIC_mailbox_full);
        return -ENOBUFS;
    }
    message->share = share;
    if (share > SENDERS_NOBODY)
        senders_add(scheduler->senders, share);
    push(scheduler, runner, actor, to, message);
    return 0;
}

/* Relaxed: the message is of the present generation, so whoever posted it had seen the claim. */
static const struct behaviour *behaviour_of(struct actor *actor)
{
    return atomic_load_explicit(&actor->behaviour, memory_order_relaxed);
}

/* One message; false ends the turn. */
static bool receive(struct scheduler *scheduler, struct runner *runner, struct actor *actor,
                    uint32_t slot, struct message *message)
{
    uint32_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed);
    message->next = NULL;
    if (message->share > SENDERS_NOBODY)
        senders_remove(scheduler->senders, message->share);
    message->share = 0;
    if (message->generation == generation)
        return behaviour_of(actor)->receive(scheduler->options.context, runner,
                                            (uint64_t)generation << 32 | slot, actor->state,
                                            message);
    count(scheduler, runner, METRIC_posts_bounced);
    scheduler->options.bounce(scheduler->options.context, runner, message);
    return true;
}

/* The turn is over but for messages like this one. */
static bool joins(struct scheduler *scheduler, struct runner *runner, struct actor *actor,
                  const struct message *next)
{
    const struct behaviour *behaviour = behaviour_of(actor);
    return behaviour->joins != NULL &&
           next->generation == atomic_load_explicit(&actor->generation, memory_order_relaxed) &&
           behaviour->joins(scheduler->options.context, runner, next);
}

static void end_turn(struct scheduler *scheduler, struct runner *runner, struct actor *actor,
                     uint32_t slot, enum verdict verdict)
{
    CHECK(verdict != VERDICT_HOLD);
    if (verdict == VERDICT_RETIRE)
        registry_release(scheduler->options.registry, slot);
    bool left = actor->backlog != NULL;
    CHECK(actor_in_turn(actor));
    atomic_store_explicit(&actor->running, false, memory_order_release);
    if (left || !mailbox_mark_idle(&actor->mailbox))
        list(scheduler, runner, slot);
}

void scheduler_turn(struct scheduler *scheduler, struct runner *runner, uint32_t slot)
{
    struct actor *actor = registry_actor(scheduler->options.registry, slot);
    CHECK(!on_another_thread(&runner->mark));
    CHECK(!atomic_exchange_explicit(&actor->running, true, memory_order_acquire));
    uint32_t left = scheduler->options.turn_messages;
    struct message *message = actor->backlog;
    actor->backlog = NULL;
    bool any = false;
    for (bool more = true; left > 0; left--) {
        if (message == NULL)
            message = mailbox_take(&actor->mailbox);
        if (message == NULL || (!more && !joins(scheduler, runner, actor, message)))
            break;
        struct message *next = message->next;
        if (next != NULL) { /* often made by another processor: both lines come from afar */
            __builtin_prefetch(next);
            __builtin_prefetch((const char *)next + 64);
        }
        any = any ||
              message->generation == atomic_load_explicit(&actor->generation, memory_order_relaxed);
        more = receive(scheduler, runner, actor, slot, message);
        message = next;
    }
    actor->backlog = message;
    count(scheduler, runner, METRIC_turns);
    enum verdict verdict = VERDICT_GO_ON;
    if (any) {
        uint32_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed);
        verdict = behaviour_of(actor)->finish(scheduler->options.context, runner,
                                              (uint64_t)generation << 32 | slot, actor->state);
    }
    if (verdict == VERDICT_HOLD)
        count(scheduler, runner, METRIC_turns_held);
    else
        end_turn(scheduler, runner, actor, slot, verdict);
}

/* A turn of that very actor is held. */
static struct actor *held(struct scheduler *scheduler, actor_handle self)
{
    struct actor *actor = registry_actor(scheduler->options.registry, actor_slot(self));
    CHECK(actor_in_turn(actor));
    CHECK(atomic_load_explicit(&actor->generation, memory_order_relaxed) == actor_generation(self));
    return actor;
}

void scheduler_continue(struct scheduler *scheduler, struct runner *runner, actor_handle self,
                        enum verdict verdict)
{
    end_turn(scheduler, runner, held(scheduler, self), actor_slot(self), verdict);
}

void scheduler_resume(struct scheduler *scheduler, struct runner *runner, actor_handle self,
                      void *what)
{
    struct actor *actor = held(scheduler, self);
    CHECK(!on_another_thread(&runner->mark) && behaviour_of(actor)->resume != NULL);
    enum verdict verdict =
        behaviour_of(actor)->resume(scheduler->options.context, runner, self, actor->state, what);
    if (verdict != VERDICT_HOLD)
        scheduler_continue(scheduler, runner, self, verdict);
}

/* One turn in so many is timed: reading the clock twice would be a tenth of a short one. */
static void run_turn(struct scheduler *scheduler, struct runner *runner, uint32_t slot)
{
    const struct env *env = scheduler->options.env;
    if (++runner->turns % TURNS_PER_SAMPLE != 0) {
        scheduler_turn(scheduler, runner, slot);
        return;
    }
    uint64_t began_ns = env_monotonic_ns(env);
    scheduler_turn(scheduler, runner, slot);
    metrics_record(scheduler->options.metrics, runner->index, HISTOGRAM_turn_duration,
                   env_monotonic_ns(env) - began_ns);
}

bool scheduler_take(struct scheduler *scheduler, uint32_t *slot)
{
    return ring_pop(&scheduler->ring, slot);
}

size_t scheduler_run(struct scheduler *scheduler, struct runner *runner, size_t turns_max)
{
    size_t turns = 0;
    uint32_t slot;
    bool marked = on_thread(&runner->mark);
    if (!marked)
        thread_begin(&runner->mark);
    runner->pauses = false;
    while (turns < turns_max && !runner->pauses && ring_pop(&scheduler->ring, &slot)) {
        run_turn(scheduler, runner, slot);
        turns++;
        if (ring_length(&scheduler->ring) > scheduler->options.wake_backlog &&
            atomic_load_explicit(&scheduler->sleepers, memory_order_relaxed) > 0)
            scheduler_wake(scheduler);
    }
    if (!marked)
        thread_end(&runner->mark);
    return turns;
}

bool scheduler_backlog(const struct scheduler *scheduler)
{
    return ring_length(&scheduler->ring) > 0;
}

static void sleep_until_listed(struct scheduler *scheduler)
{
    atomic_fetch_add_explicit(&scheduler->sleepers, 1, memory_order_seq_cst);
    uint32_t epoch = atomic_load_explicit(&scheduler->epoch, memory_order_seq_cst);
    if (!scheduler_backlog(scheduler) &&
        !atomic_load_explicit(&scheduler->stopping, memory_order_seq_cst))
        syscall(SYS_futex, &scheduler->epoch, FUTEX_WAIT_PRIVATE, epoch, NULL, NULL, 0);
    atomic_fetch_sub_explicit(&scheduler->sleepers, 1, memory_order_seq_cst);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct scheduler *scheduler = worker->scheduler;
    const struct env *env = scheduler->options.env;
    thread_begin(&worker->runner.mark);
    while (!atomic_load_explicit(&scheduler->stopping, memory_order_acquire)) {
        worker->runner.now_ms = env_monotonic_ms(env);
        worker->runner.wall_ms = env_wall_ms(env);
        if (worker->runner.beats != NULL)
            atomic_fetch_add_explicit(worker->runner.beats, 1, memory_order_relaxed);
        if (scheduler_run(scheduler, &worker->runner, WORKER_BATCH_TURNS) > 0)
            continue;
        if (scheduler_backlog(scheduler))
            sched_yield(); /* listed, not yet published */
        else
            sleep_until_listed(scheduler);
    }
    return NULL;
}

int scheduler_start(struct scheduler *scheduler, unsigned count,
                    void (*prepare)(void *context, struct runner *runner, unsigned worker))
{
    CHECK(scheduler->worker_count == 0);
    atomic_store_explicit(&scheduler->stopping, false, memory_order_seq_cst);
    scheduler->workers = calloc(count, sizeof(*scheduler->workers));
    if (scheduler->workers == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        struct worker *worker = &scheduler->workers[i];
        worker->scheduler = scheduler;
        worker->runner.drains = true;
        prepare(scheduler->options.context, &worker->runner, i);
        int error = pthread_create(&worker->thread, NULL, work, worker);
        if (error != 0) {
            scheduler_stop(scheduler);
            return -error;
        }
        scheduler->worker_count++;
    }
    return 0;
}

void scheduler_stop(struct scheduler *scheduler)
{
    atomic_store_explicit(&scheduler->stopping, true, memory_order_seq_cst);
    scheduler_wake_all(scheduler);
    for (unsigned i = 0; i < scheduler->worker_count; i++)
        pthread_join(scheduler->workers[i].thread, NULL);
    free(scheduler->workers);
    scheduler->workers = NULL;
    scheduler->worker_count = 0;
}
