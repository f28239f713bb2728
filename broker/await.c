/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "broker/notify.h"
#include "broker/parts.h"

/* At boot an address may come later than we do: from DHCP, from whoever moves a floating one here,
 * out of the check for duplicates that every IPv6 address begins with, or by a name whose server
 * is not up. And a port may be held for some seconds more by who had it before. So a start is
 * patient, for listen.wait_ms in all; then it ends as it would have at once, and the service
 * manager begins anew (docs/decisions/0076).
 *
 * Nothing is half open between two tries: `open` undoes what it did. The store is ours meanwhile,
 * so two that wait for the same address do not meet. Termination is waited for by this same
 * thread, later: it looks whether that is pending. */

enum { TRY_EVERY_MS = 200, ADDRESS_ERROR_BYTES = BROKER_ERROR_BYTES };

static bool may_come(int failed)
{
    return failed == -EADDRNOTAVAIL || failed == -EADDRINUSE;
}

static bool asked_to_end(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

static void nap(void)
{
    struct timespec time = {.tv_nsec = TRY_EVERY_MS * 1000000L};
    nanosleep(&time, NULL);
}

/* Once for each cause; the manager hears every time, since its own patience may be the shorter. */
static void tell(struct broker *broker, const char *error, char told[ADDRESS_ERROR_BYTES])
{
    if (strcmp(told, error) != 0)
        LOG(broker->log, ADDRESS_AWAITED, LOG_S("error", error),
            LOG_U("wait_ms", broker->options->listen_wait_ms));
    snprintf(told, ADDRESS_ERROR_BYTES, "%s", error);
    notify_manager("EXTEND_TIMEOUT_USEC=%u\nSTATUS=waiting for an address: %.300s",
                   NOTIFY_EXTEND_US, error);
}

int await_address(struct broker *broker, int (*open)(struct broker *broker, char *error),
                  char *error)
{
    char told[ADDRESS_ERROR_BYTES] = "";
    int failed;
    while (may_come(failed = open(broker, error))) {
        uint64_t now_ms = env_monotonic_ms(broker->env);
        if (broker->await_until_ms == 0)
            broker->await_until_ms = now_ms + broker->options->listen_wait_ms;
        if (now_ms >= broker->await_until_ms)
            break;
        tell(broker, error, told);
        nap();
        if (asked_to_end())
            return -ECANCELED;
    }
    return failed;
}
