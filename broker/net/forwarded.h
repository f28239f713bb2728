/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_FORWARDED_H
#define USHER_NET_FORWARDED_H

/* Private to net/: who is behind a proxy that speaks HTTP, by what it wrote into X-Forwarded-For.
 * Pure. */

#include <stdbool.h>
#include <sys/socket.h>

#include "base/prefixes.h"
#include "proto/bytes.h"

/* `values`: those of the header, all of them in their order with commas between. Each proxy appends
 * whom it has heard: so the address is the last one that is not of a proxy in `trusted`, with its
 * port (0: none was given). False: there is none that can be believed, so it stays that of the
 * connection. */
bool forwarded_address(struct bytes values, const struct prefixes *trusted,
                       struct sockaddr_storage *address);

#endif
