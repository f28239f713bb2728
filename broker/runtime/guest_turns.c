/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/guest_turns.h"

#include "base/check.h"

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

void guest_turns_init(struct guest_turns *turns, struct scheduler *scheduler, const struct env *env,
                      struct runner *runner)
{
    *turns = (struct guest_turns){.scheduler = scheduler, .env = env, .runner = runner};
    lock_init(&turns->lock);
}

void guest_turns_fini(struct guest_turns *turns)
{
    CHECK(!turns->open);
    if (turns->runner != NULL)
        lock_destroy(&turns->lock);
}

void guest_turns_set_open(struct guest_turns *turns, bool open)
{
    lock_take(&turns->lock);
    turns->open = open;
    lock_give(&turns->lock);
}

struct runner *guest_turns_begin(struct guest_turns *turns)
{
    if (lock_held(&turns->lock) || !lock_try(&turns->lock))
        return NULL;
    if (!turns->open) {
        lock_give(&turns->lock);
        return NULL;
    }
    turns->runner->now_ms = env_monotonic_ms(turns->env);
    turns->runner->wall_ms = env_wall_ms(turns->env);
    return turns->runner;
}

void guest_turns_end(struct guest_turns *turns, struct runner *runner)
{
    if (runner == NULL)
        return;
    CHECK(lock_held(&turns->lock) && runner == turns->runner);
    scheduler_run(turns->scheduler, runner, TURNS_MAX);
    bool left = scheduler_backlog(turns->scheduler);
    lock_give(&turns->lock);
    if (left)
        scheduler_wake(turns->scheduler);
}
