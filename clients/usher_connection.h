/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_CLIENTS_CONNECTION_H
#define USHER_CLIENTS_CONNECTION_H

/* One connection, TCP or TLS, and its two buffers. Nothing blocks but the name lookup in
 * connection_open. Errors are negative errno; after one, only connection_close is useful. */

#include "clients/usher_tls.h"
#include "proto/bytes.h"

struct addrinfo;

/* connection_init makes it usable; `fd` is -1 while there is no socket. */
struct connection {
    int fd;
    bool connected;              /* and the TLS handshake is done, if there is one */
    struct tls_client *security; /* borrowed; NULL: no TLS */
    struct tls_link *tls;        /* NULL before the TCP connection stands, and without TLS */
    struct addrinfo *addresses; /* owned */
    struct addrinfo *address;   /* the one being tried */
    struct buffer input;        /* read, not yet taken by the owner */
    struct buffer output;       /* to be written */
    uint64_t wire_total;        /* bytes ever appended to output, kept by the owner */
    uint64_t wire_written;      /* bytes of these in the socket */
};

void connection_init(struct connection *connection);

/* Looks the host up and begins to connect: 1 connected, 0 under way. -EHOSTUNREACH when the name
 * is unknown; -EPROTO when TLS fails, see connection_fault. `security` (NULL: no TLS) is borrowed
 * until the close. */
int connection_open(struct connection *connection, struct tls_client *security, const char *host,
                    uint16_t port);

/* Looks how the connecting goes; tries the next address after a failure. 1, 0 as above. */
int connection_continue(struct connection *connection);

/* Reads once, at most bytes_max: how many, 0 if nothing is there now, -ESHUTDOWN at the end. */
int connection_read(struct connection *connection, size_t bytes_max);

/* Writes what the socket takes. 0 or negative. */
int connection_write(struct connection *connection);

/* While it connects: whether the socket is waited for to be written. */
bool connection_connects_by_writing(const struct connection *connection);

/* Why TLS failed; "" if it did not. */
const char *connection_fault(const struct connection *connection);

void connection_close(struct connection *connection);

#endif
