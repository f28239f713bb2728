/* SPDX-License-Identifier: Apache-2.0 */
#include "process/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"

/* The sd_notify protocol without its library (docs/decisions/0050): one datagram to a path, or to
 * an abstract name that begins with @. Whoever listens is not needed, so nothing is waited for and
 * nothing is told when he is gone. */

enum { STATE_BYTES = 512, FEEDS_PER_PERIOD = 4, WATCHDOG_MS_MAX = 3600 * 1000 };

static void send_state(const char *state, size_t state_size)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return;
    strcpy(address.sun_path, path);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    (void)!sendto(fd, state, state_size, MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    close(fd);
}

void notify_manager(const char *format, ...)
{
    char state[STATE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(state, sizeof(state), format, arguments);
    va_end(arguments);
    send_state(state, strlen(state));
}

void notify_restarting(void)
{
    notify_reloading();
    notify_manager("EXTEND_TIMEOUT_USEC=%u%s\nSTATUS=stopping, to begin again", NOTIFY_EXTEND_US,
                   notify_watchdog_ms() != 0 ? "\nWATCHDOG=1" : "");
}

void notify_reloading(void)
{
    uint64_t now_us = env_monotonic_ns(env_system()) / 1000;
    notify_manager("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_us);
}

uint32_t notify_watchdog_ms(void)
{
    const char *period = getenv("WATCHDOG_USEC");
    const char *pid = getenv("WATCHDOG_PID");
    if (period == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    uint64_t pause_ms = strtoull(period, NULL, 10) / 1000 / FEEDS_PER_PERIOD;
    return pause_ms < WATCHDOG_MS_MAX ? (uint32_t)pause_ms : WATCHDOG_MS_MAX;
}
