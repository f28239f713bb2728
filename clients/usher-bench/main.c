/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>

#include "usher-bench/options.h"
#include "usher-bench/report.h"
#include "usher-bench/run.h"

/* usher-bench: users by the thousand for a running usherd, measured and checked.
 *
 * It is the tool with which an operator finds out what his own machine carries, and the one with
 * which we find out what a change costs. It speaks the protocol by itself, one socket per user in
 * one epoll set, because libusher, made for one user and his comfort, would cost more than the
 * broker. The modules: options, crowd (connections), run (threads and phases), traffic, sessions,
 * rooms and friends (the scenarios), service (the backend), company (frames of rooms and friends),
 * check, histogram, process, stop, report. */

static const struct scenario *const scenarios[BENCH_SCENARIOS] = {
    [BENCH_FORWARD] = &scenario_forward,   [BENCH_CALL] = &scenario_call,
    [BENCH_PUSH] = &scenario_push,         [BENCH_PUSH_ALL] = &scenario_push_all,
    [BENCH_PRESENCE] = &scenario_presence, [BENCH_LOGIN] = &scenario_login,
    [BENCH_IDLE] = &scenario_idle,         [BENCH_HERD] = &scenario_herd,
    [BENCH_ROOM] = &scenario_room,         [BENCH_FRIENDS] = &scenario_friends,
};

int main(int argc, char **argv)
{
    struct bench_options options;
    struct report report = {.count = 0};
    int result = bench_options_read(&options, argc, argv);
    if (result == BENCH_SHOWN)
        return fflush(stdout) == 0 ? BENCH_OK : BENCH_FAILED;
    if (result != BENCH_OK)
        return result;
    signal(SIGPIPE, SIG_IGN);
    result = run_scenario(&options, scenarios[options.scenario], &report);
    if (!report_print(&report, options.json))
        return BENCH_FAILED;
    return result;
}
