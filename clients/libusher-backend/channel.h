/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_CHANNEL_H
#define USHER_LIBUSHER_BACKEND_CHANNEL_H

/* One REQ socket with one request at a time; the only module that knows nng. A channel belongs to
 * one thread at a time, whose sleep is wake_wait; errors are negative errno. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libusher-backend/url.h"
#include "proto/bytes.h"
#include "usher_backend.h"

enum {
    FRAME_BYTES_MAX = 64 * 1024, /* beyond this nng 1.5 wedges; also what is received at most */
};

struct urls {
    char text[USHER_BACKEND_URLS_MAX][URL_BYTES_MAX];
    size_t count;
};

struct channel;

/* `urls` is borrowed for the channel's life. `wake` is an eventfd that becomes readable when a
 * request ended. Opens no connection. -ENOMEM, -ENFILE. */
int channel_open(struct channel **channel, const struct urls *urls, int wake);

/* Waits at most wait_ms for the answer that is under way (and a moment for a connection), then
 * gives everything back. */
void channel_close(struct channel *channel, unsigned wait_ms);

/* Sends one request (borrowed) and waits for its answer in the background. Only when the channel
 * is idle. -EINVAL: a URL that nng does not take. -EPERM: the socket of an ipc URL may not be
 * connected to. */
int channel_start(struct channel *channel, struct bytes request, unsigned timeout_ms);
bool channel_idle(const struct channel *channel);

/* By when (monotonic) the request under way is answered or channel_take ends it; 0: it is idle. */
uint64_t channel_due_ms(const struct channel *channel);

/* -EAGAIN: still under way (or nothing was asked). 0: the answer, borrowed until the next
 * channel_start. -ETIMEDOUT, -ECONNRESET, -ENOMEM: there will be none. The channel is idle then. */
int channel_take(struct channel *channel, struct bytes *answer);

/* What a request ended with, or that its answer was useless (-EPROTO). Gives up the connection,
 * and the next request goes to the next URL, unless it was only lost and is being made again.
 * Only when idle. */
void channel_failed(struct channel *channel, int error);
const char *channel_url(const struct channel *channel);

void wake_set(int wake);
/* Waits until somebody set it, or timeout_ms are over. */
void wake_wait(int wake, int timeout_ms);

#endif
