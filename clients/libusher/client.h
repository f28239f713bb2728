/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_CLIENT_H
#define USHER_LIBUSHER_CLIENT_H

#include "libusher/requests.h"

/* Takes the node and gives its event to the program, which leaves the one before: 1. */
int client_give(struct usher_client *client, struct event_node *node, struct usher_event *event);

/* Gives a request that has its id and room in the limits, but no frame yet. */
int client_begin_request(struct usher_client *client, bool answered, uint64_t timeout_ms,
                         struct request **request);

/* Takes the request whose frame was made with `result`: what the call gives. */
int client_submit(struct usher_client *client, struct request *request, int result, uint64_t *id);

#endif
