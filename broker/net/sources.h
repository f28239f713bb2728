/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_SOURCES_H
#define USHER_NET_SOURCES_H

/* Private to net/: how many connections each source has that have not logged in. A source is an
 * IPv4 address or the first 64 bits of an IPv6 one (a household has as many addresses as it likes
 * within those), without the port, and the wider ones of base/source.h, which may have more. Any thread; never blocks but on its own short lock. */

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"

struct sockaddr;
struct sources;

enum { SOURCE_NONE = UINT32_MAX };

/* max 0: nothing is counted, every call gives SOURCE_NONE. NULL without memory. */
struct sources *sources_create(uint32_t max, const struct env *env);

/* For those that come from now on. */
void sources_set_max(struct sources *sources, uint32_t max);
void sources_destroy(struct sources *sources); /* NULL is fine */

/* One more of that source, to be given back. False: that would be more than max, or than a wider
 * source may have. *source is
 * SOURCE_NONE for an address of another kind, and without memory: then it is not counted. */
bool sources_take(struct sources *sources, const struct sockaddr *address, uint32_t *source);

/* One more of the peer of a connected socket, whatever the limit: it was let in before. */
uint32_t sources_take_peer(struct sources *sources, int fd);

void sources_give(struct sources *sources, uint32_t source);

#endif
