/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "upgrade/upgrade.h"

/* The moment between two processes. Who brings work is stopped first: the passage of backends and
 * operators is closed, the I/O threads and the clock are joined. What is left then is work that was
 * brought before, and it becomes less: turns are run here, changes are stored, queries answered,
 * orders of connections carried out, until a whole round has found nothing. All turns are run in
 * one place, where they are counted: a turn may ask the store again. Only then the others are
 * joined.
 *
 * Threads are ended and begun again, and not stopped at some point of theirs: each of them has one
 * place where it ends, which every stop of the broker shows to be right, and beginning them again
 * costs some ten microseconds each. */

enum { JUDGED_MS = 20 };

static uint64_t now_ms(const struct upgrade_parts *parts)
{
    return env_monotonic_ms(parts->env);
}

static void take_time(const struct upgrade_parts *parts)
{
    parts->runner->now_ms = now_ms(parts);
    parts->runner->wall_ms = env_wall_ms(parts->env);
}

/* A token is judged in no time; whom somebody else is asked about cannot be waited for, and does
 * not go. */
static bool is_judging(const struct upgrade_parts *parts)
{
    return parts->admission != NULL && admission_count(parts->admission) > 0;
}

/* False: there was nothing. */
static bool run_what_is_left(const struct upgrade_parts *parts, uint64_t judged_until_ms)
{
    take_time(parts);
    bool any = scheduler_run(parts->scheduler, parts->runner, SIZE_MAX) > 0;
    committer_drain(parts->committer);
    any = queries_step(parts->queries) || any;
    any = net_settle(parts->net) || any;
    any = (is_judging(parts) && parts->runner->now_ms < judged_until_ms) || any;
    return any || scheduler_backlog(parts->scheduler);
}

static void stop_threads(const struct upgrade_parts *parts)
{
    net_pause(parts->net);
    clock_pause(parts->clock);
    scheduler_stop(parts->scheduler);
    queries_pause(parts->queries);
}

int upgrade_freeze(const struct upgrade_parts *parts, uint64_t until_ms)
{
    if (!passage_close(parts->passage, parts->env, until_ms))
        return -ETIMEDOUT;
    stop_threads(parts);
    const uint64_t judged_until_ms = now_ms(parts) + JUDGED_MS;
    bool quiet = false;
    while (!quiet && now_ms(parts) < until_ms)
        quiet = !run_what_is_left(parts, judged_until_ms);
    committer_pause(parts->committer);
    if (quiet && !scheduler_backlog(parts->scheduler))
        return 0;
    int failed = upgrade_thaw(parts);
    return failed == 0 ? -ETIMEDOUT : failed;
}

int upgrade_thaw(const struct upgrade_parts *parts)
{
    int failed = committer_start(parts->committer);
    if (failed == 0)
        failed = queries_start(parts->queries);
    if (failed == 0)
        failed = scheduler_start(parts->scheduler, parts->workers, parts->prepare);
    if (failed == 0)
        failed = clock_start(parts->clock);
    if (failed == 0)
        failed = net_start(parts->net);
    if (failed == 0)
        passage_open(parts->passage);
    return failed;
}
