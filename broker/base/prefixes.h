/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_PREFIXES_H
#define USHER_BASE_PREFIXES_H

/* Which addresses are meant: "192.0.2.7", "10.0.0.0/8", "2001:db8::/32". An address alone is that
 * one. IPv4 and IPv6 are apart, so ::/0 is every IPv6 address and no other; an IPv4 address as
 * ::ffff:1.2.3.4 is that IPv4 address, in a prefix and where one is looked for. Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

enum { PREFIXES_MAX = 64 };

struct prefix {
    uint8_t address[16]; /* IPv4: as ::ffff:1.2.3.4 */
    uint8_t bits;        /* of these 16 bytes */
    bool ipv4;
};

struct prefixes {
    struct prefix items[PREFIXES_MAX];
    size_t count; /* 0: nobody */
};

/* False: it is none, or a bit behind the prefix is set, as in 10.0.0.1/8: one of the two is a
 * mistake, and nobody can tell which. */
bool prefix_read(struct prefix *prefix, const char *text);

/* An address of another kind is in none. */
bool prefixes_hold(const struct prefixes *prefixes, const struct sockaddr *address);

#endif
