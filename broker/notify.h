/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_NOTIFY_H
#define USHER_BROKER_NOTIFY_H

/* Tells the service manager named by NOTIFY_SOCKET, if there is one: "READY=1", "STOPPING=1".
 * One datagram; never blocks; failures do not matter. */
void notify_manager(const char *state);

#endif
