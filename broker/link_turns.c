/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"
#include "broker/parts.h"

/* Why nng's threads run turns: a backend's request is short work for its instance's actor, and
 * mostly for the users whom it answers. To wake a worker for that costs more than the work itself,
 * in processor time and above all in the time that a call takes under light load.
 *
 * There is one place for it, whose lock is only ever tried, so nobody waits here: whoever finds it
 * taken (another of nng's threads runs turns, or this one does, further up its stack) lists and
 * wakes a worker as everybody else does. Who has it runs what is listed, but few turns: a call's
 * reply is two. When there are more, a worker does them all; a push to a thousand users that two
 * threads began at once cost a tenth more (nng's thread with 256 turns against the worker alone).
 *
 * It opens when all threads have been started, and closes before anything is taken down. */

enum { TURNS_MAX = 8 };

void link_turns_init(struct broker *broker, struct thread *thread)
{
    pthread_mutex_init(&broker->link_turns.lock, NULL);
    broker->link_turns.thread = thread;
}

void link_turns_fini(struct broker *broker)
{
    CHECK(!broker->link_turns.open);
    if (broker->link_turns.thread != NULL)
        pthread_mutex_destroy(&broker->link_turns.lock);
}

void link_turns_set_open(struct broker *broker, bool open)
{
    pthread_mutex_lock(&broker->link_turns.lock);
    broker->link_turns.open = open;
    pthread_mutex_unlock(&broker->link_turns.lock);
}

struct runner *link_turns_begin(struct broker *broker)
{
    struct link_turns *turns = &broker->link_turns;
    if (pthread_mutex_trylock(&turns->lock) != 0)
        return NULL;
    if (!turns->open) {
        pthread_mutex_unlock(&turns->lock);
        return NULL;
    }
    struct runner *runner = &turns->thread->runner;
    runner->now_ms = env_monotonic_ms(broker->env);
    runner->wall_ms = env_wall_ms(broker->env);
    return runner;
}

void link_turns_end(struct broker *broker, struct runner *runner)
{
    if (runner == NULL)
        return;
    scheduler_run(broker->scheduler, runner, TURNS_MAX);
    bool left = scheduler_backlog(broker->scheduler);
    pthread_mutex_unlock(&broker->link_turns.lock);
    if (left)
        scheduler_wake(broker->scheduler);
}
