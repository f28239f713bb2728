/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_INCOMING_H
#define USHER_LIBUSHER_INCOMING_H

/* What the broker says, as events. Pure; any thread. */

#include "libusher/events.h"
#include "proto/bytes.h"

/* Gives the event that the frame holds; borrows the frame. A Welcome's secret is its payload.
 * -EPROTO (not a BrokerFrame), -ENOMSG (valid, but nothing that this version knows), -ENOMEM. */
int incoming_decode(struct bytes frame, struct event_node **node);

#endif
