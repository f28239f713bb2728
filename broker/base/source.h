/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_SOURCE_H
#define USHER_BASE_SOURCE_H

/* Where a connection comes from, as far as limits "per source" are concerned: an IPv4 address, or
 * the first 64 bits of an IPv6 one, because whoever has one address of those usually has them all.
 * An IPv4 address as ::ffff:1.2.3.4 is that IPv4 address. Pure. */

#include <stddef.h>
#include <stdint.h>

struct sockaddr;

/* A number per source, never the same for two; 0: an address of another kind, or none. */
uint64_t source_of_sockaddr(const struct sockaddr *address);

/* From "1.2.3.4:567" or "[::1]:567", `size` bytes without an end mark. */
uint64_t source_of_text(const void *text, size_t size);

#endif
