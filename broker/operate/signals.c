/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/signals.h"

#include <errno.h>
#include <string.h>

#include "base/check.h"
#include "base/wait.h"
#include "process/notify.h"

/* The loop of the process's first thread. It wakes up for a signal, and when one of those who want
 * to be looked after is due: a drain that is under way, the manager's watchdog, the certificates.
 */

void signals_block(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static void write_recorder(struct log *log, const char *path)
{
    int error = log_recorder(log) != NULL ? recorder_write(log_recorder(log), path) : -ENOMEM;
    if (error == 0)
        LOG(log, RECORDER_WRITTEN, LOG_S("file", path));
    else
        LOG(log, RECORDER_FAILED, LOG_S("file", path), LOG_S("error", strerror(-error)));
}

/* With what the manager is to know beside it. A reload that was refused is in the status until one
 * is not: the signal that asked for it has long been called a success. */
static void tell_status(const struct signals *signals, const char *also)
{
    char refused[BROKER_ERROR_BYTES];
    reload_error(signals->reload, refused);
    notify_manager("%s\nSTATUS=%s, %u client connections%s%.300s", also,
                   leave_state_name(leave_state(signals->leave)), net_count(signals->net),
                   refused[0] != '\0' ? "; the last reload was refused: " : "", refused);
}

static void reload(const struct signals *signals)
{
    struct reload_report report;
    notify_reloading();
    (void)reload_run(signals->reload, &report); /* it says itself how it went */
    tell_status(signals, "READY=1");
}

/* Only when every thread has answered: a timer alone would ping for a broker that stands still. */
static void give_sign_of_life(const struct signals *signals)
{
    char still[PULSE_NAME_BYTES];
    struct stillness anew = {0}; /* each sign is the answer to a call of its own */
    if (pulse_check(signals->pulse, notify_watchdog_ms(), &anew, still) == 0)
        tell_status(signals, "WATCHDOG=1");
    else
        LOG(signals->log, THREAD_STILL, LOG_S("thread", still));
}

/* The next signal, or 0 when so many ms have passed; 0 ms: for as long as it takes. */
static int next_signal(const sigset_t *set, uint32_t wait_ms)
{
    const struct timespec time = wait_time(wait_ms);
    int number = sigtimedwait(set, NULL, wait_ms != 0 ? &time : NULL);
    return number > 0 ? number : 0;
}

/* The earlier of two times to wait; 0: for ever. */
static unsigned sooner(unsigned one_ms, unsigned other_ms)
{
    return one_ms == 0 || (other_ms != 0 && other_ms < one_ms) ? other_ms : one_ms;
}

/* True: it is to begin again. */
static bool wait_for_the_end(const struct signals *signals, const sigset_t *set,
                             const char *recorder_path)
{
    const uint32_t watchdog_ms = notify_watchdog_ms();
    bool draining = false;
    int number = 0;
    while (number != SIGTERM && number != SIGINT) {
        unsigned wait_ms = 0;
        if (number == SIGHUP)
            reload(signals);
        if (number == SIGUSR1)
            write_recorder(signals->log, recorder_path);
        if (number == SIGUSR2 && succession_look(signals->succession).state == SUCCESSION_ASKED)
            succession_do(signals->succession);
        else
            draining = draining || number == SIGUSR2;
        if (draining && leave_drain_step(signals->leave, &wait_ms))
            return leave_restarts(signals->leave);
        if (number == 0 && watchdog_ms != 0)
            give_sign_of_life(signals);
        wait_ms = sooner(wait_ms, watchdog_ms);
        wait_ms = sooner(wait_ms, certificate_watch(signals->certificate));
        number = next_signal(set, wait_ms);
    }
    return false;
}

bool signals_serve(const struct signals *signals, const sigset_t *set, const char *recorder_path)
{
    uint16_t port = 0;
    CHECK(sigismember(set, SIGTERM) == 1 && sigismember(set, SIGUSR2) == 1); /* signals_block */
    for (unsigned kind = 0; kind < LISTENERS && port == 0; kind++)
        port = net_port(signals->net, kind);
    LOG(signals->log, READY, LOG_U("port", port));
    notify_manager("READY=1\nSTATUS=serving on port %u", port);
    bool again = wait_for_the_end(signals, set, recorder_path);
    if (again)
        notify_restarting();
    else
        notify_manager("STOPPING=1\nEXTEND_TIMEOUT_USEC=%u\nSTATUS=stopping, %u client connections",
                       NOTIFY_EXTEND_US, net_count(signals->net));
    return again;
}
