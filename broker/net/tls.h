/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_TLS_H
#define USHER_NET_TLS_H

/* Private to net/: the certificates and rules of listeners whose transport is TLS (transport_tls of
 * net/transport.h), by OpenSSL. Any thread. Errors are negative errno. */

#include <stdint.h>

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

struct tls_validity tls_domain_validity(struct tls_domain *domain);

void tls_domain_close(struct tls_domain *domain); /* NULL is fine */

#endif
