/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_CLIENTS_CONNECTION_H
#define USHER_CLIENTS_CONNECTION_H

/* One TCP connection and its two buffers. Nothing blocks but the name lookup in
 * connection_open. Errors are negative errno; after one, only connection_close is useful. */

#include "proto/bytes.h"

struct addrinfo;

/* connection_init makes it usable; `fd` is -1 while there is no socket. */
struct connection {
    int fd;
    bool connected;
    struct addrinfo *addresses; /* owned */
    struct addrinfo *address;   /* the one being tried */
    struct buffer input;        /* read, not yet taken by the owner */
    struct buffer output;       /* to be written */
    uint64_t wire_total;        /* bytes ever appended to output, kept by the owner */
    uint64_t wire_written;      /* bytes of these in the socket */
};

void connection_init(struct connection *connection);

/* Looks the host up and begins to connect: 1 connected, 0 under way. -EHOSTUNREACH when the name
 * is unknown. */
int connection_open(struct connection *connection, const char *host, uint16_t port);

/* Looks how the connecting goes; tries the next address after a failure. 1, 0 as above. */
int connection_continue(struct connection *connection);

/* Reads once, at most bytes_max: how many, 0 if nothing is there now, -ESHUTDOWN at the end. */
int connection_read(struct connection *connection, size_t bytes_max);

/* Writes what the socket takes. 0 or negative. */
int connection_write(struct connection *connection);

void connection_close(struct connection *connection);

#endif
