/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_PROXY_HEADER_H
#define USHER_NET_PROXY_HEADER_H

/* Private to net/: what a proxy puts before the bytes of a connection that it passes on, so that
 * who is behind it is known: the PROXY protocol of haproxy.org, version 1 (a line of text) and 2
 * (binary). Pure. */

#include <stdbool.h>
#include <sys/socket.h>

#include "proto/bytes.h"

enum { PROXY_HEADER_BYTES_MAX = 536, PROXY_HEADER_LINE_BYTES_MAX = 107 };

struct proxy_header {
    /* False: it keeps that of the socket, because the proxy speaks for itself (LOCAL, as health
     * checks do), does not know (UNKNOWN, UNSPEC), or knows one of a kind that has no number here
     * (a Unix socket). */
    bool has_address;
    struct sockaddr_storage
        address; /* of who connected to the proxy: IPv4 or IPv6, with its port */
};

/* Reads the header at the front, which may have come in part. Its whole size, what a version 2 has
 * behind the addresses included (it is skipped); 0: more is needed; -EPROTO: these bytes begin
 * none, or one that is broken or too long. `header` means something only with a size. */
int proxy_header_read(struct bytes input, struct proxy_header *header);

#endif
