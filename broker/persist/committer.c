/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/committer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/wait.h"
#include "persist/history.h"
#include "persist/stores.h"

/* The one thread that writes to the store: group commit.
 *
 * It takes every change that waits, writes all of them in one transaction, syncs it, and then
 * goes on with each held turn in the order of the transaction. So a thousand logins share one
 * sync, and neither a Welcome nor an event is seen by anybody before its commit is on the disk.
 * If anything of the transaction fails, all of it is undone and every change in it is told so.
 * When what fails is room, its halves are tried for themselves: a store in which one more login
 * does not fit must not refuse those who leave, nor the logins that do fit. Only so often in one
 * list, because a full store is best told quickly.
 *
 * Order: the stream's numbers are given here, in the order in which changes are taken, which is
 * the order in which their turns ended; a user's next change cannot come before his last is done,
 * because his actor is held.
 *
 * Behind the changes the same transaction has their records for the history (persist/history.c).
 *
 * A storm leaves the store's pages in our memory that it has looked at. They are given back when
 * the store has had REST_CHANGES changes since, which is seldom enough to cost nothing, and when
 * nothing has changed for a while.
 *
 * How far the webhook has come is kept beside what is committed anyway, since a sync for each
 * answer of a receiver would cost as much as a login does; it may be late, for then the receiver
 * only hears again what it has. It must not be in the way of a store that is full: what was refused
 * with it is tried without.
 *
 * Messages to be stored for users (persist/stored.h) are in the same transaction, behind the
 * sessions and before nobody: what fails for room is tried again without them, and they are
 * UNAVAILABLE. Some of them wait for the next one when there are many, so that nobody's login waits
 * for all of them. What is noted of users goes along, and makes a transaction of its own when none
 * comes for a second.
 *
 * A store whose file could not be opened anew after a failure is tried once a second also when
 * nobody wants to change anything, so that those who only read have it back too. And whether its
 * files are still there is looked at as often, so that it is noticed before somebody logs in. */

enum { REFUSALS_MAX = 32, IDLE_MS = 1000, REST_CHANGES = 1024 };

struct committer {
    struct committer_options options;
    pthread_t pthread;
    bool started;
    struct thread_mark mark; /* its thread, once it runs */
    bool failing;            /* owned by the thread, as the next three */
    bool unreadable;         /* the last transaction failed for another reason than room */
    unsigned refusals;       /* for lack of room, of the present list */
    uint64_t unrested;       /* changes since the store gave memory back */
    bool keeping;            /* `kept` is to be written */
    uint64_t kept;
    bool writes_stored; /* the transaction has a plan of what is stored */
    uint64_t stores;    /* changes in it */
    struct history history;
    struct lock lock;
    pthread_cond_t more, idle;
    /* under lock */
    struct change *first, *last;
    uint32_t waiting;
    uint64_t waiting_bytes; /* of messages to be stored, those under way too */
    bool hurried;           /* there is something to be noted soon */
    bool busy;
    bool closing;
    bool to_keep; /* `keep` is newer than `kept` */
    uint64_t keep;
    /* written by the thread, for whoever looks */
    _Atomic int shown_error;                                /* of the last transaction */
    _Atomic uint64_t failing_since_ms, failed_ms, began_ms; /* 0: it is not */
};

int committer_open(struct committer **out, const struct committer_options *options)
{
    struct committer *committer = calloc(1, sizeof(*committer));
    if (committer == NULL)
        return -ENOMEM;
    memory_account(MEMORY_OF_OWN, sizeof(*committer)); /* most of it is the history's list */
    committer->options = *options;
    committer->history.keeps = options->keeps_history;
    committer->history.refusals = options->refusals;
    committer->history.env = options->env;
    committer->history.metrics = options->metrics;
    committer->history.log = options->log;
    committer->history.block = options->runner->index;
    lock_init(&committer->lock);
    wait_condition_init(&committer->more);
    wait_condition_init(&committer->idle);
    *out = committer;
    return 0;
}

void committer_submit(struct committer *committer, struct change *change)
{
    CHECK(change->self != 0); /* whose turn waits */
    change->next = NULL;
    lock_take(&committer->lock);
    if (change->kind == CHANGE_STORE)
        committer->waiting_bytes += stores_limit(change, committer->waiting_bytes,
                                                 inbox_waiting_bytes(committer->options.limits));
    bool asleep = committer->first == NULL;
    if (committer->last != NULL)
        committer->last->next = change;
    else
        committer->first = change;
    committer->last = change;
    committer->waiting++;
    lock_give(&committer->lock);
    if (asleep)
        pthread_cond_signal(&committer->more);
}

static void hurry(struct committer *committer)
{
    lock_take(&committer->lock);
    committer->hurried = true;
    lock_give(&committer->lock);
    pthread_cond_signal(&committer->more);
}

void committer_done(struct committer *committer, const char *user, uint64_t mid)
{
    if (stored_done(committer->options.stored, user, mid))
        hurry(committer);
}

uint32_t committer_drop_stored(struct committer *committer, const char *user, uint64_t up_to_mid,
                               uint64_t *bytes)
{
    uint32_t count = stored_drop(committer->options.stored, user, up_to_mid, bytes);
    hurry(committer);
    return count;
}

void committer_keep(struct committer *committer, uint64_t seq)
{
    CHECK(committer->options.reader != NULL);
    lock_take(&committer->lock);
    committer->keep = seq;
    committer->to_keep = true;
    lock_give(&committer->lock);
}

/* Under the lock. */
static void take_kept(struct committer *committer)
{
    CHECK(lock_held(&committer->lock));
    if (!committer->to_keep)
        return;
    committer->kept = committer->keep;
    committer->keeping = true;
    committer->to_keep = false;
}

static int store_change(struct store *store, struct change *change)
{
    int error = change->remove ? store_delete_session(store, change->event.user)
                               : store_put_session(store, change->event.user, &change->record);
    return error != 0 ? error : store_append_event(store, &change->event);
}

/* One transaction for the whole list, and for how far the reader has come when `keeps`. */
static int store_list(struct committer *committer, struct change *list, bool keeps, uint64_t *count)
{
    struct store *store = committer->options.store;
    int error = store_begin(store);
    if (error != 0)
        return error;
    *count = 0;
    for (struct change *change = list; error == 0 && change != NULL; change = change->next) {
        error = store_change(store, change);
        *count += error == 0;
    }
    if (error == 0 && keeps)
        error = store_put_cursor(store, committer->options.reader, committer->kept);
    if (error == 0)
        error = history_write(&committer->history, store, list);
    if (error == 0 && committer->writes_stored)
        error = stored_write(committer->options.stored);
    if (error == 0)
        return store_commit(store, atomic_load(committer->options.epoch_last));
    store_abort(store);
    return error;
}

/* The history is what goes without first. */
static int store_first(struct committer *committer, struct change *list, bool keeps,
                       uint64_t *count)
{
    struct history *history = &committer->history;
    history->stored = history->left_out = history->taken = 0;
    history->failed = false;
    int error = store_list(committer, list, keeps, count);
    if (history_gives_way(history, error)) {
        history->stored = history->left_out = history->taken = 0;
        history->failed = false;
        error = store_list(committer, list, keeps, count);
    }
    history_settle(history, error);
    return error;
}

static int store_all(struct committer *committer, struct change *list, uint64_t *count)
{
    const struct committer_options *options = &committer->options;
    unsigned block = options->runner->index;
    uint64_t began_ns = env_monotonic_ns(options->env);
    bool keeps = committer->keeping;
    int error = store_first(committer, list, keeps, count);
    if (store_is_full(error) && keeps && list != NULL) {
        keeps = false;
        error = store_first(committer, list, false, count);
    }
    committer->keeping = committer->keeping && !(keeps && error == 0);
    if (error == 0 && *count + committer->stores > 0) {
        metrics_record(options->metrics, block, HISTOGRAM_commit_latency,
                       env_monotonic_ns(options->env) - began_ns);
        metrics_record(options->metrics, block, HISTOGRAM_commit_size, *count + committer->stores);
    }
    return error;
}

static void report(struct committer *committer, int error, uint64_t count)
{
    const struct committer_options *options = &committer->options;
    unsigned block = options->runner->index;
    if (error != 0) {
        metrics_add(options->metrics, block, METRIC_commit_failures, 1);
        LOG(options->log, STORE_FAILED, LOG_S("error", store_error_text(error)),
            LOG_S("path", options->store_path));
    } else {
        metrics_add(options->metrics, block, METRIC_commits, 1);
        metrics_add(options->metrics, block, METRIC_commit_turns, count + committer->stores);
        metrics_add(options->metrics, block, METRIC_presence_events, count);
        if (committer->failing)
            LOG(options->log, STORE_RECOVERED, LOG_S("path", options->store_path));
    }
    if (committer->failing != (error != 0))
        atomic_store_explicit(&committer->failing_since_ms,
                              error != 0 ? options->runner->now_ms : 0, memory_order_relaxed);
    if (error != 0)
        atomic_store_explicit(&committer->failed_ms, options->runner->now_ms, memory_order_relaxed);
    atomic_store_explicit(&committer->shown_error, error, memory_order_relaxed);
    committer->failing = error != 0;
    committer->unreadable = error != 0 && !store_is_full(error);
}

static void take_time(struct committer *committer)
{
    struct runner *runner = committer->options.runner;
    runner->now_ms = env_monotonic_ms(committer->options.env);
    runner->wall_ms = env_wall_ms(committer->options.env);
}

/* Cuts the list, of two and more, and gives the second half. */
static struct change *cut(struct change *list)
{
    struct change *middle = list;
    for (struct change *end = list->next; end != NULL && end->next != NULL; end = end->next->next)
        middle = middle->next;
    struct change *second = middle->next;
    CHECK(second != NULL);
    middle->next = NULL;
    return second;
}

/* Goes on with the turns, and ends the changes. */
static void go_on(struct committer *committer, struct change *list, int error)
{
    const struct committer_options *options = &committer->options;
    while (list != NULL) {
        struct change *next = list->next;
        list->error = error;
        scheduler_resume(options->scheduler, options->runner, list->self, list);
        free(list);
        list = next;
    }
}

static void stores_over(struct committer *committer, struct change *stores, int error)
{
    uint64_t bytes = stores_bytes(stores);
    if (stores == NULL)
        return;
    lock_take(&committer->lock);
    CHECK(committer->waiting_bytes >= bytes);
    committer->waiting_bytes -= bytes;
    lock_give(&committer->lock);
    go_on(committer, stores, error);
}

static void check_order(const struct change *list)
{
    for (uint64_t seq = 0; list != NULL; list = list->next) {
        CHECK(list->event.seq > seq); /* the stream's order is that of the turns */
        seq = list->event.seq;
    }
}

static void commit(struct committer *committer, struct change *list)
{
    const struct committer_options *options = &committer->options;
    uint64_t count = 0;
    int error = store_all(committer, list, &count);
    if (store_is_full(error) && list->next != NULL && committer->refusals < REFUSALS_MAX) {
        struct change *second = cut(list);
        commit(committer, list);
        commit(committer, second);
        return;
    }
    committer->refusals += store_is_full(error);
    committer->unrested += count;
    take_time(committer);
    report(committer, error, count);
    if (error == 0) {
        check_order(list);
        if (options->stored != NULL)
            stored_welcome(options->stored, list);
        options->committed(options->context, options->runner, list);
    }
    go_on(committer, list, error);
}

/* With a plan of what is stored. True: the sessions of the list are done with, too. */
static bool commit_planned(struct committer *committer, struct change *list, struct change *stores)
{
    const struct committer_options *options = &committer->options;
    uint64_t count = 0;
    for (const struct change *change = stores; change != NULL; change = change->next)
        committer->stores++;
    committer->writes_stored = true;
    int error = store_all(committer, list, &count);
    committer->writes_stored = false;
    stored_settle(options->stored, error);
    bool done = list == NULL || !store_is_full(error);
    take_time(committer);
    if (done)
        report(committer, error, count);
    committer->unrested += error == 0 ? count + committer->stores : 0;
    committer->stores = 0;
    if (error == 0 && list != NULL) {
        check_order(list);
        stored_welcome(options->stored, list);
        options->committed(options->context, options->runner, list);
    }
    if (done)
        go_on(committer, list, error);
    stores_over(committer, stores, error);
    return done;
}

/* What is to be stored gives way to sessions. */
static void commit_both(struct committer *committer, struct change *list, struct change *stores)
{
    struct stored *stored = committer->options.stored;
    bool done = list == NULL;
    CHECK(stored != NULL || stores == NULL);
    if (stored != NULL && stored_plan(stored, list, stores))
        done = commit_planned(committer, list, stores);
    else
        stores_over(committer, stores, 0);
    if (!done)
        commit(committer, list);
}

struct committer_look committer_look(struct committer *committer)
{
    lock_take(&committer->lock);
    struct committer_look look = {.waiting = committer->waiting};
    lock_give(&committer->lock);
    look.error = atomic_load_explicit(&committer->shown_error, memory_order_relaxed);
    look.failing_since_ms =
        atomic_load_explicit(&committer->failing_since_ms, memory_order_relaxed);
    look.failed_ms = atomic_load_explicit(&committer->failed_ms, memory_order_relaxed);
    look.began_ms = atomic_load_explicit(&committer->began_ms, memory_order_relaxed);
    if (committer->options.stored != NULL)
        look.stored = stored_look(committer->options.stored);
    return look;
}

/* What is to be noted of users, and cleaning, when no transaction came to go along with. */
static void commit_notes(struct committer *committer)
{
    if (committer->options.stored != NULL && stored_is_due(committer->options.stored))
        commit_both(committer, NULL, NULL);
}

static void rest(struct committer *committer)
{
    store_rest(committer->options.store);
    committer->unrested = 0;
}

/* Under the lock. What is too much to be stored at once stays there, in front. */
static void take_list(struct committer *committer, struct change **list, struct change **stores)
{
    CHECK(lock_held(&committer->lock));
    struct change *rest = stores_part(&committer->first, stores);
    *list = committer->first;
    committer->first = rest;
    committer->last = NULL;
    committer->waiting = 0;
    for (; rest != NULL; rest = rest->next) {
        committer->last = rest;
        committer->waiting++;
    }
    take_kept(committer);
}

bool committer_step(struct committer *committer)
{
    CHECK(on_thread(&committer->mark) || off_thread(&committer->mark));
    struct change *list, *stores;
    lock_take(&committer->lock);
    CHECK((committer->waiting == 0) == (committer->first == NULL));
    take_list(committer, &list, &stores);
    bool any = committer->busy = list != NULL || stores != NULL;
    lock_give(&committer->lock);
    committer->refusals = 0;
    if (any) {
        atomic_store_explicit(&committer->began_ms, env_monotonic_ms(committer->options.env),
                              memory_order_relaxed);
        commit_both(committer, list, stores);
        atomic_store_explicit(&committer->began_ms, 0, memory_order_relaxed);
    } else {
        commit_notes(committer);
    }
    if (committer->unrested >= REST_CHANGES)
        rest(committer);
    return any;
}

static void probe(struct committer *committer)
{
    struct store *store = committer->options.store;
    committer->unreadable = store_begin(store) != 0;
    if (!committer->unreadable)
        store_abort(store);
    else
        atomic_store_explicit(&committer->failed_ms, env_monotonic_ms(committer->options.env),
                              memory_order_relaxed);
}

/* Nobody else has anything to be stored. */
static void keep(struct committer *committer)
{
    uint64_t count = 0;
    lock_take(&committer->lock);
    take_kept(committer);
    lock_give(&committer->lock);
    if (!committer->keeping)
        return;
    int error = store_all(committer, NULL, &count);
    take_time(committer);
    report(committer, error, count);
}

/* A transaction for those alone who were refused, because no other came. */
static void commit_refusals(struct committer *committer)
{
    uint64_t count = 0;
    int error = store_first(committer, NULL, false, &count);
    take_time(committer);
    report(committer, error, 0);
}

void committer_note(struct committer *committer)
{
    CHECK(on_thread(&committer->mark) || off_thread(&committer->mark));
    if (committer->options.stored != NULL)
        commit_both(committer, NULL, NULL);
}

/* Nothing was to be done for a while. */
static void be_idle(struct committer *committer)
{
    if (committer->unreadable) {
        probe(committer);
        return;
    }
    if (committer->unrested > 0)
        rest(committer);
    keep(committer);
    commit_notes(committer);
    int error = store_look(committer->options.store);
    if (error == 0 && history_is_due(&committer->history))
        commit_refusals(committer);
    if (error != 0) {
        take_time(committer);
        report(committer, error, 0);
    }
}

/* The lock is not held while it looks after the store. */
static void wait_for_more(struct committer *committer)
{
    CHECK(lock_held(&committer->lock));
    uint64_t until_ms = env_monotonic_ms(committer->options.env) + IDLE_MS;
    struct timespec until = env_until(committer->options.env, until_ms);
    if (lock_wait_until(&committer->lock, &committer->more, &until) && !committer->hurried)
        return;
    committer->hurried = false;
    lock_give(&committer->lock);
    be_idle(committer);
    lock_take(&committer->lock);
}

static void beat(struct committer *committer)
{
    atomic_fetch_add_explicit(committer->options.runner->beats, 1, memory_order_relaxed);
}

static void *run(void *argument)
{
    struct committer *committer = argument;
    bool open = true;
    thread_begin(&committer->mark);
    while (open) {
        beat(committer);
        if (committer_step(committer))
            continue;
        lock_take(&committer->lock);
        while (committer->first == NULL && !committer->closing) {
            beat(committer);
            pthread_cond_broadcast(&committer->idle);
            wait_for_more(committer);
        }
        open = committer->first != NULL || !committer->closing;
        lock_give(&committer->lock);
    }
    keep(committer);
    committer_note(committer);
    committer->history.taken_ms = 0; /* the last that is stored */
    if (history_is_due(&committer->history))
        commit_refusals(committer);
    thread_end(&committer->mark);
    return NULL;
}

int committer_start(struct committer *committer)
{
    CHECK(!committer->started);
    int error = pthread_create(&committer->pthread, NULL, run, committer);
    committer->started = error == 0;
    return -error;
}

void committer_prod(struct committer *committer)
{
    lock_take(&committer->lock);
    lock_give(&committer->lock); /* it is before its look at the queue, or it waits */
    pthread_cond_signal(&committer->more);
}

void committer_drain(struct committer *committer)
{
    lock_take(&committer->lock);
    while (committer->started && (committer->first != NULL || committer->busy))
        lock_wait(&committer->lock, &committer->idle);
    lock_give(&committer->lock);
}

void committer_pause(struct committer *committer)
{
    lock_take(&committer->lock);
    committer->closing = true;
    lock_give(&committer->lock);
    pthread_cond_signal(&committer->more);
    if (committer->started)
        pthread_join(committer->pthread, NULL);
    CHECK(!committer->started || committer->first == NULL);
    committer->started = committer->closing = false;
}

void committer_close(struct committer *committer)
{
    committer_pause(committer);
    lock_destroy(&committer->lock);
    pthread_cond_destroy(&committer->more);
    pthread_cond_destroy(&committer->idle);
    memory_account(MEMORY_OF_OWN, -(int64_t)sizeof(*committer));
    free(committer);
}
