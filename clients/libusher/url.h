/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_URL_H
#define USHER_LIBUSHER_URL_H

/* Where a broker is and how it is spoken to, as one text. Pure; any thread. */

#include <stdbool.h>
#include <stdint.h>

enum {
    URL_HOST_BYTES_MAX = 255,
    URL_PATH_BYTES_MAX = 1023,
};

struct url {
    uint16_t port;
    bool secure;                       /* over TLS */
    bool websocket;                    /* and frames in its messages */
    bool port_is_usual;                /* it need not be said to an HTTP server */
    char host[URL_HOST_BYTES_MAX + 1]; /* a name or an address, without brackets */
    char path[URL_PATH_BYTES_MAX + 1]; /* of a WebSocket, with the query; else "" */
};

/* Reads tcp://HOST[:PORT], tls://HOST[:PORT], ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH].
 * Without a port it is 7400, 7443, 80 and 443, without a path /usher. IPv6 addresses stand in
 * brackets. NULL, or what is wrong, with which *url means nothing. */
const char *url_read(const char *text, struct url *url);

#endif
