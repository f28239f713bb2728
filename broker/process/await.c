/* SPDX-License-Identifier: Apache-2.0 */
#include "process/await.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/wait.h"
#include "process/notify.h"

/* At boot an address may come later than we do: from DHCP, from whoever moves a floating one here,
 * out of the check for duplicates that every IPv6 address begins with, or by a name whose server
 * is not up. And a port may be held for some seconds more by who had it before. So a start is
 * patient, for listen.wait_ms in all; then it ends as it would have at once, and the service
 * manager begins anew (docs/decisions/0076).
 *
 * Nothing is half open between two tries: `open` undoes what it did. The store is ours meanwhile,
 * so two that wait for the same address do not meet. Termination is waited for by this same
 * thread, later: it looks whether that is pending.
 *
 * The first tries come soon one after the other: a process that ends, such as the one before us,
 * has its threads and files for a moment longer than its number. */

enum { TRY_FIRST_MS = 2, TRY_EVERY_MS = 200 };

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

/* Once for each cause; the manager hears every time, since its own patience may be the shorter. */
static void tell(const struct await *await, const char *error, char told[AWAIT_ERROR_BYTES])
{
    if (strcmp(told, error) != 0)
        LOG(await->log, ADDRESS_AWAITED, LOG_S("error", error), LOG_U("wait_ms", await->wait_ms));
    snprintf(told, AWAIT_ERROR_BYTES, "%s", error);
    notify_manager("EXTEND_TIMEOUT_USEC=%u\nSTATUS=waiting for an address: %.300s",
                   NOTIFY_EXTEND_US, error);
}

int await_address(struct await *await, int (*open)(void *context, char *error), void *context,
                  char *error)
{
    char told[AWAIT_ERROR_BYTES] = "";
    unsigned nap_ms = TRY_FIRST_MS;
    int failed;
    while (may_come(failed = open(context, error))) {
        uint64_t now_ms = env_monotonic_ms(await->env);
        if (await->until_ms == 0)
            await->until_ms = now_ms + await->wait_ms;
        if (now_ms >= await->until_ms)
            break;
        tell(await, error, told);
        wait_nap(nap_ms);
        nap_ms = nap_ms * 2 < TRY_EVERY_MS ? nap_ms * 2 : TRY_EVERY_MS;
        if (asked_to_end())
            return -ECANCELED;
    }
    return failed;
}
