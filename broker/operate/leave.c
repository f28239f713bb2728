/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/leave.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "base/wait.h"

/* A planned end of a node whose place others take: nobody is accepted any more, and those who are
 * in are sent away one after the other, so that neither this node nor the one that they come back
 * to meets them all at once. Backends stay until the end: who is still in can call, and what was
 * accepted for somebody who is gone already waits in his inbox, which the stop that follows saves.
 *
 * Sending one user away is the same message as in a stop. Each is told to come back after what is
 * left of the drain and the stop's own spread: before that nobody would let him in.
 *
 * A node that is alone spares nobody anything by that: whoever is sent away early is away for
 * longer. It is restarted instead: the stop, which sends everybody away at once and spreads their
 * return, and a start right behind it, in the same process (broker/main.c).
 *
 * One thread, the one that waits for signals, does it in steps; `drain` is its own. Others ask it
 * by a signal, which every thread has blocked. At the beginning everybody is warned, for whoever is
 * without a connection cannot come back now and must not expire. The walk goes over the registry's
 * slots once. Nobody new can turn up behind it, since what had not logged in was ended when
 * accepting ended.
 *
 * At last comes the stop: whoever is still there, backends too, is told at the same time. It waits
 * until they have heard it, because what the process ends with is not sent any more, but not for
 * one who does not read. */

enum { STEP_MS = 50, STOP_WAIT_MS = 3000, STOP_POLL_MS = 5, STOP_BACKENDS_MS = 1000 };

enum leave_state leave_state(const struct leave *leave)
{
    return (enum leave_state)atomic_load(&leave->state);
}

const char *leave_state_name(enum leave_state state)
{
    static const char *const names[] = {"serving", "draining", "stopping"};
    CHECK(state < sizeof(names) / sizeof(names[0]));
    return names[state];
}

int leave_ask_drain(struct leave *leave, uint64_t ms)
{
    if (leave_state(leave) != LEAVE_SERVING)
        return -EALREADY;
    atomic_store(&leave->drain_ms, ms);
    return kill(getpid(), SIGUSR2) == 0 ? 0 : -errno;
}

int leave_ask_restart(struct leave *leave, char error[BROKER_ERROR_BYTES])
{
    if (leave_state(leave) != LEAVE_SERVING)
        return -EALREADY;
    int failed = reload_check_start(leave->reload, error);
    if (failed != 0)
        return failed;
    atomic_store(&leave->restart, true);
    return kill(getpid(), SIGUSR2) == 0 ? 0 : -errno;
}

bool leave_restarts(const struct leave *leave)
{
    return atomic_load(&leave->restart);
}

static actor_handle next_user(struct leave *leave, uint32_t *cursor)
{
    return registry_next(leave->goodbye.registry, cursor, KIND_USER);
}

static void begin(struct leave *leave, uint64_t now_ms)
{
    struct drain *drain = &leave->drain;
    uint64_t wanted_ms = atomic_load(&leave->drain_ms);
    drain->begun_ms = now_ms;
    drain->total_ms = wanted_ms != 0 ? wanted_ms : process_drain_ms(leave->goodbye.limits);
    drain->users = registry_count_of(leave->goodbye.registry, KIND_USER);
    atomic_store(&leave->state, LEAVE_DRAINING);
    LOG(leave->log, DRAINING, LOG_U("users", drain->users),
        LOG_U("connections", net_count(leave->net)), LOG_U("over_ms", drain->total_ms));
    net_drain(leave->net);
    uint32_t cursor = 0;
    actor_handle actor;
    while ((actor = next_user(leave, &cursor)) != 0)
        goodbye_warn(&leave->goodbye, actor);
}

/* False: the walk is over. */
static bool send_one_away(struct leave *leave, uint64_t left_ms)
{
    struct drain *drain = &leave->drain;
    actor_handle actor = next_user(leave, &drain->cursor);
    if (actor == 0)
        return false;
    drain->told++;
    goodbye_tell(&leave->goodbye, actor, (uint32_t)left_ms, "the node was drained");
    return true;
}

bool leave_drain_step(struct leave *leave, unsigned *wait_ms)
{
    struct drain *drain = &leave->drain;
    uint64_t now_ms = env_monotonic_ms(leave->goodbye.env);
    if (off_thread(&leave->mark))
        thread_begin(&leave->mark);
    CHECK(on_thread(&leave->mark));
    if (leave_restarts(leave))
        return true;
    if (leave_state(leave) == LEAVE_SERVING)
        begin(leave, now_ms);
    CHECK(leave_state(leave) == LEAVE_DRAINING && now_ms >= drain->begun_ms);
    uint64_t elapsed_ms = now_ms - drain->begun_ms;
    uint64_t left_ms = elapsed_ms < drain->total_ms ? drain->total_ms - elapsed_ms : 0;
    uint64_t due = left_ms > 0 ? drain->users * elapsed_ms / drain->total_ms : UINT64_MAX;
    *wait_ms = STEP_MS;
    while (drain->told < due)
        if (!send_one_away(leave, left_ms))
            break;
    /* Nobody is there, or all have been told; the stop waits for what they still read. */
    return left_ms == 0 || net_count(leave->net) == 0;
}

void leave_stop(struct leave *leave)
{
    const struct goodbye *goodbye = &leave->goodbye;
    CHECK(on_thread(&leave->mark) || off_thread(&leave->mark));
    CHECK(leave_state(leave) != LEAVE_STOPPING); /* once */
    atomic_store(&leave->state, LEAVE_STOPPING);
    LOG(leave->log, STOPPING, LOG_U("connections", net_count(leave->net)));
    net_stop_accepting(leave->net);
    goodbye_all(goodbye, leave_restarts(leave)        ? "the node was restarted"
                         : leave->drain.total_ms != 0 ? "the node was drained"
                                                      : "the node was stopped");
    uint64_t until_ms =
        env_monotonic_ms(goodbye->env) + STOP_WAIT_MS + limits_close_linger_ms(goodbye->limits);
    while (net_count(leave->net) > 0 && env_monotonic_ms(goodbye->env) < until_ms)
        wait_nap(STOP_POLL_MS);
    do
        wait_nap(STOP_POLL_MS); /* also for the turn that somebody has just begun */
    while (scheduler_backlog(goodbye->scheduler) && env_monotonic_ms(goodbye->env) < until_ms);
    /* A backend that is between two Fetches hears of it with the next one; a dead one does not. */
    until_ms = env_monotonic_ms(goodbye->env) + STOP_BACKENDS_MS;
    while (atomic_load(leave->goaways) > 0 && env_monotonic_ms(goodbye->env) < until_ms)
        wait_nap(STOP_POLL_MS);
}
