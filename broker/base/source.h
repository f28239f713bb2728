/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_SOURCE_H
#define USHER_BASE_SOURCE_H

/* Where a connection comes from, as far as limits "per source" are concerned: an IPv4 address, or
 * the first 64 bits of an IPv6 one, because whoever has one address of those usually has them all.
 * An IPv4 address as ::ffff:1.2.3.4 is that IPv4 address. Some have more of IPv6: a household 256
 * of those sources, one rented server 65,536. So each counts for wider ones too, which may have
 * more (docs/decisions/0066). Pure. */

#include <stddef.h>
#include <stdint.h>

struct sockaddr;

/* A number per source, never the same for two; 0: an address of another kind, or none. */
uint64_t source_of_sockaddr(const struct sockaddr *address);

/* What a source counts for, the narrowest first: itself, and of a public IPv6 address its first 56
 * and 48 bits. Gives how many (0 for the source 0). */
enum { SOURCE_STEPS = 3 };
unsigned source_steps(uint64_t source, uint64_t steps[SOURCE_STEPS]);

/* How much a source at that step may have where one has n: n, twice, four times as much. */
static inline uint32_t source_allowed(uint32_t n, unsigned step)
{
    return n <= UINT32_MAX >> step ? n << step : UINT32_MAX;
}

/* The address as people write it, without a port; "" when it is none of IP. The one place that
 * does: who comes by IPv4 to a socket for both is shown as that. */
enum { SOURCE_HOST_BYTES = 46 };
void source_host(const struct sockaddr *address, char text[SOURCE_HOST_BYTES]);

/* From "1.2.3.4:567" or "[::1]:567", `size` bytes without an end mark. */
uint64_t source_of_text(const void *text, size_t size);

#endif
