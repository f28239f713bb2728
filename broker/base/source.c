/* SPDX-License-Identifier: Apache-2.0 */
#include "base/source.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/address.h"

/* IPv4 addresses get the numbers from 1 << 32 on: as IPv6 those would be in 0:1::/32, which nobody
 * has. The wider sources of 2000::/3, where all public addresses are, get those of 8000::/3 and
 * a000::/3, which nobody has either. */

static uint64_t source_of_ipv4(const struct in_addr *address)
{
    return UINT64_C(1) << 32 | ntohl(address->s_addr);
}

static uint64_t source_of_ipv6(const struct in6_addr *address)
{
    uint64_t source = 0;
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        struct in_addr mapped;
        memcpy(&mapped, address->s6_addr + 12, sizeof(mapped));
        return source_of_ipv4(&mapped);
    }
    for (unsigned i = 0; i < sizeof(source); i++)
        source = source << 8 | address->s6_addr[i];
    return source != 0 ? source : 1; /* ::1 and the like */
}

uint64_t source_of_sockaddr(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return source_of_ipv4(&((const struct sockaddr_in *)address)->sin_addr);
    if (address->sa_family == AF_INET6)
        return source_of_ipv6(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return 0;
}

unsigned source_steps(uint64_t source, uint64_t steps[SOURCE_STEPS])
{
    const unsigned top = 61;
    unsigned count = source != 0;
    steps[0] = source;
    if (source >> top != 1) /* not of 2000::/3 */
        return count;
    const uint64_t rest = source & ~(UINT64_MAX << top);
    steps[count++] = UINT64_C(4) << top | (rest & ~UINT64_C(0xff));
    steps[count++] = UINT64_C(5) << top | (rest & ~UINT64_C(0xffff));
    return count;
}

void source_host(const struct sockaddr *address, char text[SOURCE_HOST_BYTES])
{
    text[0] = '\0';
    if (address->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text,
                  SOURCE_HOST_BYTES);
    } else if (address->sa_family == AF_INET6) {
        const struct in6_addr *six = &((const struct sockaddr_in6 *)address)->sin6_addr;
        bool mapped = IN6_IS_ADDR_V4MAPPED(six);
        inet_ntop(mapped ? AF_INET : AF_INET6, six->s6_addr + (mapped ? 12 : 0), text,
                  SOURCE_HOST_BYTES);
    }
}

uint64_t source_of_text(const void *text, size_t size)
{
    struct address address;
    struct in_addr ipv4;
    struct in6_addr ipv6;
    if (!address_split(&address, text, size))
        return 0;
    if (address.bracketed)
        return inet_pton(AF_INET6, address.host, &ipv6) == 1 ? source_of_ipv6(&ipv6) : 0;
    return inet_pton(AF_INET, address.host, &ipv4) == 1 ? source_of_ipv4(&ipv4) : 0;
}
