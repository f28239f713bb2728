/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_CONNECTION_H
#define USHER_LIBUSHER_CONNECTION_H

/* One connection, TCP or TLS, and its two buffers. Nothing blocks. Errors are negative errno; after
 * one, only connection_again and connection_close are useful. */

#include "libusher/dial.h"
#include "libusher/tls.h"
#include "proto/bytes.h"

/* connection_init makes it usable; `fd` is -1 while no socket stands. */
struct connection {
    int fd;
    bool connected;              /* and the TLS handshake is done, if there is one */
    struct tls_client *security; /* borrowed; NULL: no TLS */
    struct tls_link *tls;        /* NULL before the TCP connection stands, and without TLS */
    struct dial dial;            /* the way to a socket */
    struct buffer input;         /* read, not yet taken by the owner */
    struct buffer output;        /* to be written */
    uint64_t wire_total;         /* bytes ever appended to output, kept by the owner */
    uint64_t wire_written;       /* bytes of these in the socket */
};

void connection_init(struct connection *connection);

/* Begins to connect to the first of these addresses that answers, see dial.h, until end_ms:
 * 1 connected, 0 under way. -EPROTO when TLS fails, see connection_fault; -ETIMEDOUT. `security`
 * (NULL: no TLS) and `memory` are borrowed until the close. */
int connection_open(struct connection *connection, struct tls_client *security,
                    const struct addresses *found, struct address_memory *memory, uint64_t now_ms,
                    uint64_t end_ms);

/* Looks how the connecting goes: as above. */
int connection_continue(struct connection *connection, uint64_t now_ms);

/* Gives the socket that stands up and begins with the addresses that are left: true, and
 * connection_continue goes on. False: none is left, and nothing was changed. */
bool connection_again(struct connection *connection, uint64_t now_ms, uint64_t end_ms);

/* What a program waits for: the socket, while it connects a set of them; or -1. */
int connection_descriptor(const struct connection *connection);

/* While it connects: when to call connection_continue even if the descriptor is quiet. */
uint64_t connection_due_ms(const struct connection *connection);

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
