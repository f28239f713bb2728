/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_ADDRESSES_H
#define USHER_COMMON_ADDRESSES_H

/* The addresses of a host, in the order in which they are worth trying. Nothing here blocks but
 * addresses_of_host; each object belongs to one thread at a time. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ADDRESSES_MAX = 32, /* of one name; what it has beyond them is not looked at */
};

struct address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
};

struct addresses {
    struct address list[ADDRESSES_MAX];
    size_t count;
};

/* Those that have led nowhere, the oldest failure first. Zeroed memory is empty. */
struct address_memory {
    struct address failed[ADDRESSES_MAX];
    size_t count;
};

socklen_t address_size(const struct address *address);
bool address_equal(const struct address *a, const struct address *b);

/* Fills *found in the system's order (RFC 6724), each address once: 0; -EHOSTUNREACH (the name is
 * unknown), -ENOMEM or what else the system says. Blocks as long as the system's resolver takes,
 * which resolv.conf says, and not at all when `host` is an address. */
typedef int addresses_find(const char *host, uint16_t port, struct addresses *found);
addresses_find addresses_of_host;

/* Sorts: first those that have not failed, IPv6 and IPv4 by turns so that a family that is broken
 * costs one try and not all of them; behind them those that have, the oldest failure first. */
void addresses_order(struct addresses *addresses, const struct address_memory *memory);

bool address_has_failed(const struct address_memory *memory, const struct address *address);
void address_failed(struct address_memory *memory, const struct address *address);
void address_works(struct address_memory *memory, const struct address *address);

#endif
