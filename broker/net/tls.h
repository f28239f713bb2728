/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_TLS_H
#define USHER_NET_TLS_H

/* Private to net/: TLS 1.2 and 1.3 between a descriptor and the frames, as a server, by OpenSSL.
 * Nothing blocks on the network. Errors are negative errno. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { TLS_PEER_BYTES_MAX = 56 }; /* as NET_ADDRESS_BYTES_MAX */

/* --- the certificates and rules of a listener; any thread ------------------------------------- */

struct tls_domain;

struct tls_files {
    const char *certificate; /* PEM: the server's certificate, then those that signed it */
    const char *key;
    const char *client_ca; /* clients must show a certificate signed by one of these; "": none */
};

enum { TLS_ERROR_BYTES = 256 };

/* Reads the files, so it blocks on the disk; `files` is borrowed for the call.
 * -EINVAL with a line in `error` when they do not make a server; -ENOMEM. */
int tls_domain_open(struct tls_domain **domain, const struct tls_files *files,
                    char error[TLS_ERROR_BYTES]);

/* Reads these files instead: all of them together are used from the next handshake on, or none and
 * the old ones stay. Connections that exist go on with what they have. Errors as above. */
int tls_domain_reload(struct tls_domain *domain, const struct tls_files *files,
                      char error[TLS_ERROR_BYTES]);

/* When the certificates in use are good, the server's own and those that it sends along. */
struct tls_validity {
    int64_t begins_s; /* Unix time, the latest beginning of them */
    int64_t ends_s;   /* the earliest end */
    int64_t life_s;   /* of the one that ends first, from its beginning */
};

/* Any thread. */
struct tls_validity tls_domain_validity(struct tls_domain *domain);

void tls_domain_close(struct tls_domain *domain); /* NULL is fine */

/* --- before there is anything to remember ----------------------------------------------------- */

enum tls_hello {
    TLS_HELLO_AWAITED, /* too few bytes to tell */
    TLS_HELLO_FINE,    /* begins as a ClientHello of a sane size does */
    TLS_HELLO_FOREIGN, /* no TLS at all */
    TLS_HELLO_LARGE,
    TLS_HELLO_END, /* the peer has closed, or the socket is broken */
};

/* Looks at the first bytes without taking them. */
enum tls_hello tls_peek(int fd);

/* --- one connection --------------------------------------------------------------------------- */

struct tls;

/* `fd` is borrowed, `peer` is copied. NULL without memory. */
struct tls *tls_create(struct tls_domain *domain, int fd, const char *peer);
void tls_destroy(struct tls *tls); /* no other thread uses it any more; NULL is fine */

/* The I/O thread. 1: established; 0: wait for the socket; -EPROTO, -ECONNRESET, with tls_fault. */
int tls_handshake(struct tls *tls);

enum { TLS_MORE = 1, TLS_WRITE_AGAIN = 2 };

/* The I/O thread. Takes up to `size` bytes: how many, 0 at the peer's end, -EAGAIN, -EPROTO,
 * -ECONNRESET. In *next: TLS_MORE when it stopped before the socket was empty, so that no edge
 * will come; TLS_WRITE_AGAIN when a write waited for what was read. */
ssize_t tls_read(struct tls *tls, void *to, size_t size, unsigned *next);

/* The write-side owner, from any thread, also while the I/O thread reads. How many bytes were
 * taken, perhaps fewer than `size`; -EAGAIN, and then the next call must begin with the same bytes;
 * -EPIPE. */
ssize_t tls_write(struct tls *tls, const void *data, size_t size);

/* Says that nothing more will be written, if the socket takes it; the write-side owner. */
void tls_shut(struct tls *tls);

/* The peer's address, also when it is gone. */
const char *tls_peer(const struct tls *tls);

/* What went wrong, in words for the log: a constant. */
const char *tls_fault(struct tls *tls);

#endif
