/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_SOURCES_H
#define USHER_NET_SOURCES_H

/* Private to net/: how many connections each source has that have not logged in. A source is an
 * IPv4 address or the first 64 bits of an IPv6 one (a household has as many addresses as it likes
 * within those), without the port, and the wider ones of base/source.h, which may have more. Any
 * thread; never blocks but on its own short lock. */

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/limits.h"

struct sockaddr;
struct sources;

enum { SOURCE_NONE = UINT32_MAX };

/* limits.prelogin_per_source is asked of every newcomer; 0: nothing is counted, every call gives
 * SOURCE_NONE. The limits are borrowed. NULL without memory. */
struct sources *sources_create(const struct limits *limits, const struct env *env);
void sources_destroy(struct sources *sources); /* NULL is fine */

/* One more of that source, to be given back. False: that would be more than the limit, or than a
 * wider source may have. *source is SOURCE_NONE for an address of another kind, and without memory:
 * then it is not counted. */
bool sources_take(struct sources *sources, const struct sockaddr *address, uint32_t *source);

/* The same of an address as text, with its port. */
bool sources_take_text(struct sources *sources, const char *peer, uint32_t *source);

/* One more of a peer, whatever the limit: it was let in before. `peer` is its address as text;
 * NULL: the connected socket is asked. */
uint32_t sources_take_peer(struct sources *sources, const char *peer, int fd);

/* The same of an address. */
uint32_t sources_take_beyond(struct sources *sources, const struct sockaddr *address);

void sources_give(struct sources *sources, uint32_t source);

/* Whether that source, or a wider one, has more than it may have now. */
bool sources_is_over(struct sources *sources, uint32_t source);

/* Somebody who could go for a newcomer: counted for that source, there for so long. */
struct stranger {
    uint32_t source, age_ms;
};

/* Who of them goes, by its place; `count`: none may. `newcomer` is the source of who comes, who is
 * counted already. `within`: it is that source, or a wider one, that is full, so only those of it
 * come into question, and the oldest goes; else the oldest of the source that has most. Nobody goes
 * who has not been there for `age_ms` (a quarter of that will do for sources with much more than
 * who comes), nor for one whose source has much more (docs/decisions/0084). */
size_t sources_choose(struct sources *sources, uint32_t newcomer, bool within,
                      const struct stranger *strangers, size_t count, uint32_t age_ms);

#endif
