/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_CONNECTION_H
#define USHER_LIBUSHER_CONNECTION_H

/* One connection, over TCP or TLS, with or without WebSocket, and its two buffers of frames.
 * Nothing blocks. Errors are negative errno; after one, only what tells of it, connection_again and
 * connection_close are useful. */

#include "libusher/dial.h"
#include "libusher/tls.h"
#include "libusher/websocket.h"
#include "proto/bytes.h"

/* What stands between TCP and the frames; both are borrowed until the close. NULL: it does not. */
struct connection_ways {
    struct tls_client *security;
    const struct url *websocket;
};

/* connection_init makes it usable; `fd` is -1 while no socket stands. */
struct connection {
    int fd;
    bool connected; /* and the handshakes of TLS and WebSocket are done */
    struct connection_ways ways;
    struct tls_link *tls;        /* NULL before the TCP connection stands, and without TLS */
    bool secured;                /* its handshake is done */
    struct websocket *websocket; /* NULL before TCP and TLS stand, and without WebSocket */
    struct websocket_masks masks;
    struct dial dial;    /* the way to a socket */
    struct buffer input; /* frames that were read, not yet taken by the owner */
    /* Frames to be written, which the owner appends; those at its front may be wrapped. */
    struct buffer output;
    uint64_t wire_total;      /* bytes ever appended to output, kept by the owner */
    uint64_t wire_written;    /* bytes of these in the socket */
    size_t message_bytes_max; /* of several frames in one message, kept by the owner */
    int end;                  /* what the next read will say, because the WebSocket is over */
};

void connection_init(struct connection *connection);

/* Begins to connect to the first of these addresses that answers, see dial.h, until end_ms:
 * 1 connected, 0 under way. -EPROTO when TLS fails, see connection_fault, or the upgrade to
 * WebSocket; -ECONNREFUSED when that is refused, see connection_answer; -ETIMEDOUT. `memory` is
 * borrowed until the close. */
int connection_open(struct connection *connection, const struct connection_ways *ways,
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

/* Reads once, at most bytes_max, which need not make the input longer: how many, 0 if nothing is
 * there now, -ESHUTDOWN at the end. */
int connection_read(struct connection *connection, size_t bytes_max);

/* Writes what the socket takes. 0 or negative. */
int connection_write(struct connection *connection);

/* Whether anything that was to be written is not on its way yet. */
bool connection_is_behind(const struct connection *connection);

/* While it connects: whether the socket is waited for to be written. */
bool connection_connects_by_writing(const struct connection *connection);

/* Why TLS failed; "" if it did not. */
const char *connection_fault(const struct connection *connection);

/* What the server said to the upgrade; NULL: nothing was asked. */
const struct websocket_answer *connection_answer(const struct connection *connection);

/* The code with which the server closed the WebSocket and its words, borrowed; 0: it did not. */
unsigned connection_close_code(const struct connection *connection, const char **text);

void connection_close(struct connection *connection);

#endif
