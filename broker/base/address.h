/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_ADDRESS_H
#define USHER_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* HOST:PORT or [IPV6]:PORT, as people write where something listens or comes from. Pure. */

enum { ADDRESS_HOST_BYTES = 256 };

struct address {
    char host[ADDRESS_HOST_BYTES]; /* without brackets; never empty */
    uint16_t port;
    bool bracketed; /* so the host is one of IPv6, if it is any */
};

/* Takes `size` bytes of text apart; false: it is neither of both. Whether the host is an address,
 * or a name that somebody knows, is not looked at. */
bool address_split(struct address *address, const char *text, size_t size);

#endif
