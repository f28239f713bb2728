/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_TLS_H
#define USHER_LIBUSHER_TLS_H

/* TLS as a client, by OpenSSL, between a connected socket and the connection's buffers. Nothing
 * blocks but the reading of files in tls_client_create. Errors are negative errno. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "usher.h"

enum { TLS_CLIENT_ERROR_BYTES = 256 };

/* Whom to trust and what to show; one per usher_client, for all of its connections. */
struct tls_client;

/* Reads the files that the options name. -EINVAL with a line in `error`, -ENOMEM. */
int tls_client_create(struct tls_client **client, const struct usher_options *options,
                      char error[TLS_CLIENT_ERROR_BYTES]);
void tls_client_destroy(struct tls_client *client); /* NULL is fine */

/* One connection's. `client` and `fd` are borrowed. NULL without memory. */
struct tls_link;
struct tls_link *tls_link_create(struct tls_client *client, int fd);

/* Says goodbye if that is possible at once. NULL is fine. */
void tls_link_destroy(struct tls_link *link);

/* It will end without a goodbye, as when a cable is cut. */
void tls_link_forsake(struct tls_link *link);

/* 1: established, and the broker is who it should be; 0: wait for the socket; -EPROTO, -ECONNRESET,
 * with tls_link_fault. */
int tls_link_handshake(struct tls_link *link);

/* What the last call waits for. */
bool tls_link_wants_write(const struct tls_link *link);

enum { TLS_RECORD_BYTES_MAX = 16384 };

/* How many bytes; 0: none now; -ESHUTDOWN at the end; -EPROTO, -ECONNRESET. With a `size` of
 * TLS_RECORD_BYTES_MAX at least nothing is kept back of which poll would say nothing. */
ssize_t tls_link_read(struct tls_link *link, void *to, size_t size);

/* How many bytes were taken; 0: none now, and the next call begins with the same bytes. */
ssize_t tls_link_write(struct tls_link *link, const void *data, size_t size);

/* What went wrong, for people; never NULL. */
const char *tls_link_fault(const struct tls_link *link);

#endif
