/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_WS_H
#define USHER_NET_WS_H

/* Private to net/: WebSocket (RFC 6455) as a transport, over plain TCP (transport_ws) and over TLS
 * (transport_wss). This is what its handshakes go by; the functions are those of net/transport.h.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/limits.h"

struct ws_site {
    const char *path; /* where the upgrade is, "/usher" */
    const char *const *origins;
    size_t origins_count; /* 0: any, unless `open` */
    bool open;            /* who logs in shows no token, so the Origin is all there is */
    const struct limits *limits;
    _Atomic bool draining; /* nobody new is to be sent here */
};

/* The broker's messages have at most so many bytes of frames, or one frame that is larger: what
 * engines take with the buffers that they have when nobody says anything. */
enum { WS_MESSAGE_BYTES = 16 * 1024 };

#endif
