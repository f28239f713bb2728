/* SPDX-License-Identifier: Apache-2.0 */
#include "base/prefixes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* Everything is 16 bytes and a number of bits, so one comparison does for both families. A list has
 * a few items and is walked: it is asked once for each connection that is accepted. */

enum { MAPPED_BITS = 96 };

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static bool is_mapped(const uint8_t address[16])
{
    return memcmp(address, mapped, sizeof(mapped)) == 0;
}

/* Digits without a sign, a space or a leading zero, up to `max`. */
static bool read_bits(const char *text, unsigned max, unsigned *bits)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 3 || text[digits] != '\0' || (text[0] == '0' && digits > 1))
        return false;
    *bits = 0;
    for (size_t i = 0; i < digits; i++)
        *bits = *bits * 10 + (unsigned)(text[i] - '0');
    return *bits <= max;
}

/* Whether the first bits are equal; behind those of `b` everything may be. */
static bool are_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return rest == 0 || ((a[bytes] ^ b[bytes]) & (0xffu << (8 - rest) & 0xff)) == 0;
}

static bool has_rest(const struct prefix *prefix)
{
    struct prefix zeroed = {.bits = prefix->bits};
    unsigned bytes = prefix->bits / 8, rest = prefix->bits % 8;
    memcpy(zeroed.address, prefix->address, bytes);
    if (rest != 0)
        zeroed.address[bytes] = (uint8_t)(prefix->address[bytes] & 0xffu << (8 - rest));
    return memcmp(zeroed.address, prefix->address, sizeof(zeroed.address)) != 0;
}

bool prefix_read(struct prefix *prefix, const char *text)
{
    char host[INET6_ADDRSTRLEN];
    size_t size = strcspn(text, "/");
    unsigned bits = 128;
    *prefix = (struct prefix){.bits = 0};
    if (size >= sizeof(host))
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    if (inet_pton(AF_INET, host, prefix->address + sizeof(mapped)) == 1) {
        memcpy(prefix->address, mapped, sizeof(mapped));
        prefix->ipv4 = true;
    } else if (inet_pton(AF_INET6, host, prefix->address) != 1) {
        return false;
    }
    if (text[size] == '/' && !read_bits(text + size + 1, prefix->ipv4 ? 32 : 128, &bits))
        return false;
    if (prefix->ipv4 && text[size] == '/')
        bits += MAPPED_BITS;
    prefix->bits = (uint8_t)bits;
    prefix->ipv4 = prefix->ipv4 || (bits >= MAPPED_BITS && is_mapped(prefix->address));
    return !has_rest(prefix);
}

bool prefixes_hold(const struct prefixes *prefixes, const struct sockaddr *address)
{
    uint8_t bytes[16];
    if (address->sa_family == AF_INET) {
        memcpy(bytes, mapped, sizeof(mapped));
        memcpy(bytes + sizeof(mapped), &((const struct sockaddr_in *)address)->sin_addr, 4);
    } else if (address->sa_family == AF_INET6) {
        memcpy(bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, sizeof(bytes));
    } else {
        return false;
    }
    bool ipv4 = is_mapped(bytes);
    for (size_t i = 0; i < prefixes->count; i++) {
        const struct prefix *prefix = &prefixes->items[i];
        if (prefix->ipv4 == ipv4 && are_equal(bytes, prefix->address, prefix->bits))
            return true;
    }
    return false;
}
