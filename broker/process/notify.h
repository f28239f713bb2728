/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROCESS_NOTIFY_H
#define USHER_PROCESS_NOTIFY_H

#include <stdint.h>

/* Tells the service manager named by NOTIFY_SOCKET, if there is one: "READY=1", "STOPPING=1";
 * several assignments are separated by newlines. One datagram; never blocks; failures do not
 * matter. Not while another thread changes the environment. */
void notify_manager(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What goes with EXTEND_TIMEOUT_USEC= while something goes on that may take longer than the
 * manager's patience: so long from now, unless it is said again. */
enum { NOTIFY_EXTEND_US = 90 * 1000 * 1000 };

/* RELOADING=1 with the time that the manager compares with its own. READY=1 ends it. */
void notify_reloading(void);

/* The same for a stop and a start in one process: it has not ended for the manager. */
void notify_restarting(void);

/* How often the manager's watchdog is to be fed (WATCHDOG_USEC): a quarter of its time, so that a
 * sign of life that is late or lost is not the end. 0: it does not ask for that. */
uint32_t notify_watchdog_ms(void);

#endif
