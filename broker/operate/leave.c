/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "broker/parts.h"
#include "operate/goodbye.h"
#include "operate/reload.h"

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
 * return, and a start right behind it, in the same process (main.c).
 *
 * One thread, the one that waits for signals, does it in steps; `drain` is its own. Others ask it
 * by a signal, which every thread has blocked. At the beginning everybody is warned, for whoever is
 * without a connection cannot come back now and must not expire. The walk goes over the registry's
 * slots once. Nobody new can turn up behind it, since what had not logged in was ended when
 * accepting ended. */

enum { STEP_MS = 50 };

enum broker_state broker_state(const struct broker *broker)
{
    return (enum broker_state)atomic_load(&broker->state);
}

const char *broker_state_name(enum broker_state state)
{
    static const char *const names[] = {"serving", "draining", "stopping"};
    return names[state];
}

int broker_drain(struct broker *broker, uint64_t ms)
{
    if (broker_state(broker) != BROKER_SERVING)
        return -EALREADY;
    atomic_store(&broker->drain_ms, ms);
    return kill(getpid(), SIGUSR2) == 0 ? 0 : -errno;
}

int broker_restart(struct broker *broker, char error[BROKER_ERROR_BYTES])
{
    if (broker_state(broker) != BROKER_SERVING)
        return -EALREADY;
    int failed = reload_check_start(broker, error);
    if (failed != 0)
        return failed;
    atomic_store(&broker->restart, true);
    return kill(getpid(), SIGUSR2) == 0 ? 0 : -errno;
}

bool broker_restarts(const struct broker *broker)
{
    return atomic_load(&broker->restart);
}

static actor_handle next_user(struct broker *broker, uint32_t *cursor)
{
    return registry_next(broker->registry, cursor, KIND_USER);
}

static void begin(struct broker *broker, uint64_t now_ms)
{
    struct drain *drain = &broker->drain;
    uint64_t wanted_ms = atomic_load(&broker->drain_ms);
    drain->begun_ms = now_ms;
    drain->total_ms = wanted_ms != 0 ? wanted_ms : process_drain_ms(&broker->limits);
    drain->users = registry_count_of(broker->registry, KIND_USER);
    atomic_store(&broker->state, BROKER_DRAINING);
    LOG(broker->log, DRAINING, LOG_U("users", drain->users),
        LOG_U("connections", net_count(broker->net)), LOG_U("over_ms", drain->total_ms));
    net_stop_accepting(broker->net);
    uint32_t cursor = 0;
    actor_handle actor;
    while ((actor = next_user(broker, &cursor)) != 0)
        goodbye_warn(broker, actor);
}

/* False: the walk is over. */
static bool send_one_away(struct broker *broker, uint64_t left_ms)
{
    struct drain *drain = &broker->drain;
    actor_handle actor = next_user(broker, &drain->cursor);
    if (actor == 0)
        return false;
    drain->told++;
    goodbye_tell(broker, actor, (uint32_t)left_ms);
    return true;
}

bool broker_drain_step(struct broker *broker, unsigned *wait_ms)
{
    struct drain *drain = &broker->drain;
    uint64_t now_ms = env_monotonic_ms(broker->env);
    if (broker_restarts(broker))
        return true;
    if (broker_state(broker) == BROKER_SERVING)
        begin(broker, now_ms);
    uint64_t elapsed_ms = now_ms - drain->begun_ms;
    uint64_t left_ms = elapsed_ms < drain->total_ms ? drain->total_ms - elapsed_ms : 0;
    uint64_t due = left_ms > 0 ? drain->users * elapsed_ms / drain->total_ms : UINT64_MAX;
    *wait_ms = STEP_MS;
    while (drain->told < due)
        if (!send_one_away(broker, left_ms))
            break;
    /* Nobody is there, or all have been told; the stop waits for what they still read. */
    return left_ms == 0 || net_count(broker->net) == 0;
}
