/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_CLIENT_H
#define USHER_LIBUSHER_CLIENT_H

#include "libusher/events.h"

/* Takes the node and gives its event to the program, which leaves the one before: 1. */
int client_give(struct usher_client *client, struct event_node *node, struct usher_event *event);

#endif
