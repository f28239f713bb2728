/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_ANNOUNCE_H
#define USHER_OPERATE_ANNOUNCE_H

/* Where the broker listens, for the log and for whoever asks. */

#include "broker/parts.h"

/* Where clients connect to that listener. False: nowhere. */
bool announced_client_address(const struct broker *broker, enum listener_kind kind,
                              char to[NET_ADDRESS_BYTES_MAX]);

/* A line in the log for each address. */
void announce(struct broker *broker);

#endif
