/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_WEBSOCKET_UPGRADE_H
#define USHER_LIBUSHER_WEBSOCKET_UPGRADE_H

/* How a connection becomes a WebSocket: an HTTP request, and what a server may answer. Any thread;
 * never block. */

#include <stdint.h>

#include "libusher/url.h"
#include "proto/bytes.h"

enum {
    UPGRADE_ANSWER_BYTES_MAX = 8192, /* of its head */
    UPGRADE_ACCEPT_BYTES = 28,
};

/* Appends a request with a key that nobody had before, and says what the answer must hold: 0,
 * -ENOMEM, or -EAGAIN when the system has no random numbers yet. */
int websocket_request(struct buffer *out, const struct url *url,
                      char accept[UPGRADE_ACCEPT_BYTES + 1]);

struct websocket_answer {
    unsigned status;         /* 0: none was read */
    uint32_t retry_after_ms; /* that the server names; at most an hour */
    size_t size;             /* of the head */
    const char *fault;       /* what is wrong with it, for people; "" */
};

/* Looks at what has come: 1, the server speaks WebSocket, and usher's, behind answer->size bytes;
 * 0, more is needed; -EPROTO, it never will be (`fault` says why); -ECONNREFUSED, it says no, by
 * `status`. */
int websocket_answer_read(struct bytes input, const char *accept, struct websocket_answer *answer);

#endif
