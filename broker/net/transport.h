/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_TRANSPORT_H
#define USHER_NET_TRANSPORT_H

/* Private to net/: how the bytes of connections travel, one table of functions for each row of
 * TRANSPORT (base/listeners.def). A transport knows a descriptor, which it borrows, and a state of
 * its own for each connection; neither connections nor frames. Nothing blocks on the network.
 * Errors are negative errno. */

#include <stdbool.h>
#include <sys/types.h>

#include "base/listeners.h"
#include "base/metrics.h"
#include "proto/bytes.h"

struct tls_domain;

/* What the first bytes are to a transport with a handshake. */
enum hello {
    HELLO_AWAITED, /* too few to tell */
    HELLO_FINE,    /* its own, of a sane size */
    HELLO_FOREIGN, /* none of its own */
    HELLO_LARGE,
    HELLO_END, /* the peer has closed, or the socket is broken */
};

/* A handshake, up to which nobody above knows of the connection. All but `fault` and `peer` belong
 * to the I/O thread. */
struct transport_handshake {
    /* Looks at the first bytes without taking them, before there is a state. */
    enum hello (*peek)(int fd);

    /* The state. `peer` is copied. NULL without memory. */
    void *(*begin)(struct tls_domain *domain, int fd, const char *peer);

    /* One step, which may be costly. 1: it is done; 0: wait for the socket; -EPROTO, -ECONNRESET.
     */
    int (*shake)(void *state);

    /* What went wrong, in words for the log: a constant. */
    const char *(*fault)(void *state);

    /* The peer's address, also when it is gone. */
    const char *(*peer)(const void *state);

    const char *language; /* for one who speaks another: "this port speaks ..." */
    enum metric_id done, failed, foreign;
};

/* Of one read, what is to follow. TRANSPORT_MORE: it stopped before the socket was empty, so no
 * edge will come. TRANSPORT_WRITE_AGAIN: a write waited for what was read. */
enum { TRANSPORT_MORE = 1, TRANSPORT_WRITE_AGAIN = 2 };

struct transport {
    const struct transport_handshake *handshake; /* NULL: none, and the state is NULL for ever */

    /* The I/O thread. Takes up to `size` bytes: how many, 0 at the peer's end, -EAGAIN, -EPROTO
     * when he broke the rules of the transport, or what broke it. */
    ssize_t (*read)(int fd, void *state, void *to, size_t size, unsigned *next);

    /* The write-side owner, from any thread, also while the I/O thread reads. How many bytes were
     * taken, perhaps fewer than `size`; -EAGAIN, and then the next call must begin with the same
     * bytes; or what broke it. */
    ssize_t (*write)(int fd, void *state, const void *data, size_t size);

    /* Says that nothing more will be written, if the socket takes it; the write-side owner. The
     * state may be NULL: there was no handshake. */
    void (*shut)(int fd, void *state);

    /* Gives the state back; no other thread uses it any more. NULL is fine. */
    void (*destroy)(void *state);

    size_t ahead_bytes; /* what a state may have taken from the socket and not given yet */
};

#define TRANSPORT(name) extern const struct transport transport_##name;
#include "base/listeners.def"

extern const struct transport *const transports[TRANSPORTS];

#endif
