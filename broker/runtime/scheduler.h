/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_SCHEDULER_H
#define USHER_RUNTIME_SCHEDULER_H

/* Who runs next, and on which thread.
 *
 * The run queue holds the slots of runnable actors, each at most once. Every role that runs
 * turns (I/O threads, workers, the simulation) is a loop over scheduler_run. Workers sleep until
 * somebody who does not run turns himself has listed an actor, or until the queue is longer than
 * the running threads will clear soon.
 *
 * Any thread may call anything here; nothing blocks but scheduler_stop. */

#include "base/env.h"
#include "base/metrics.h"
#include "runtime/registry.h"

struct scheduler;

struct scheduler_options {
    struct registry *registry;
    const struct env *env;
    struct metrics *metrics; /* may be NULL */
    uint32_t turn_messages;  /* at most this many messages in one turn */
    uint32_t wake_backlog;   /* a queue longer than this wakes a worker */
    /* Handed to every behaviour. */
    void *context;
    /* A message whose actor is gone; takes it. */
    void (*bounce)(void *context, struct runner *runner, struct message *message);
};

int scheduler_create(struct scheduler **scheduler, const struct scheduler_options *options);

/* After scheduler_stop, or when no worker was started. */
void scheduler_destroy(struct scheduler *scheduler);

/* Starts `count` threads, also once more after scheduler_stop. `prepare` gives each its runner's
 * index and scratch. 0 or -errno. */
int scheduler_start(struct scheduler *scheduler, unsigned count,
                    void (*prepare)(void *context, struct runner *runner, unsigned worker));

/* Ends and joins the workers; what is listed stays listed. */
void scheduler_stop(struct scheduler *scheduler);

/* Takes the message if it returns 0. -ESRCH: the actor is gone. runner is the calling thread's, or
 * NULL when it has none; a thread that does not drain the queue itself wakes a worker. */
int scheduler_post(struct scheduler *scheduler, struct runner *runner, actor_handle to,
                   struct message *message);

/* Takes the message in any case: when the actor is gone nobody waits for it, and it is dropped. */
void scheduler_tell(struct scheduler *scheduler, struct runner *runner, actor_handle to,
                    struct message *message);

/* scheduler_post for what limits.mailbox_messages is about: all that is not from users (`from` is
 * 0) has a part of `max` messages, and so has what is. Of that a user has `max` when he is alone,
 * and no more than is free of twice as much. -ENOBUFS: there is no room for it. */
int scheduler_post_from(struct scheduler *scheduler, struct runner *runner, actor_handle from,
                        actor_handle to, struct message *message, uint32_t max);

/* Runs listed actors until none is listed, `turns_max` turns are done, or one of them has set
 * runner->pauses. Gives the turns. The caller has set runner->now_ms. */
size_t scheduler_run(struct scheduler *scheduler, struct runner *runner, size_t turns_max);

/* Goes on with a turn that finish() held, by the behaviour's resume(), and ends it unless that
 * holds it again. On the calling thread. */
void scheduler_resume(struct scheduler *scheduler, struct runner *runner, actor_handle self,
                      void *what);

/* Ends a turn that finish() held. */
void scheduler_continue(struct scheduler *scheduler, struct runner *runner, actor_handle self,
                        enum verdict verdict);

/* True while actors are listed. A caller that stops running then calls scheduler_wake. */
bool scheduler_backlog(const struct scheduler *scheduler);
void scheduler_wake(struct scheduler *scheduler);

/* Every worker comes round once, so that a look at its runner's beats says whether it can. */
void scheduler_wake_all(struct scheduler *scheduler);

/* For a seeded schedule: takes one listed slot out, and runs one turn of a slot taken out. */
bool scheduler_take(struct scheduler *scheduler, uint32_t *slot);
void scheduler_turn(struct scheduler *scheduler, struct runner *runner, uint32_t slot);

#endif
