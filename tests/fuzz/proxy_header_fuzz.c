/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "net/proxy_header.h"

/* A PROXY header says the same however it is cut: nothing until it is whole, then one size whatever
 * follows, and once it is none it stays none. What a line of version 1 says is written anew from
 * what was read, and must be the line again: so nothing is read in two ways. */

static int read_part(const uint8_t *data, size_t size, struct proxy_header *header)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, data, size);
    int result = proxy_header_read((struct bytes){copy, size}, header);
    FUZZ_CHECK(result == -EPROTO || (result >= 0 && (size_t)result <= size));
    FUZZ_CHECK(result <= PROXY_HEADER_BYTES_MAX);
    free(copy);
    return result;
}

static void check_cuts(const uint8_t *data, size_t size, int whole)
{
    int before = 0;
    for (size_t part = 0; part <= size; part++) {
        struct proxy_header header;
        int result = read_part(data, part, &header);
        FUZZ_CHECK(before == 0 || result == before);
        FUZZ_CHECK(result <= 0 || before != 0 || (size_t)result == part);
        before = result;
    }
    FUZZ_CHECK(before == whole);
}

/* The same line, if its addresses are written as inet_ntop does. */
static void check_line(const uint8_t *data, size_t size, const struct proxy_header *header)
{
    char line[PROXY_HEADER_LINE_BYTES_MAX + 1], source[INET6_ADDRSTRLEN], to[64], family, extra;
    unsigned port, port_to;
    FUZZ_CHECK(size <= PROXY_HEADER_LINE_BYTES_MAX);
    memcpy(line, data, size);
    line[size] = '\0';
    FUZZ_CHECK(strlen(line) == size && memcmp(line + size - 2, "\r\n", 2) == 0);
    FUZZ_CHECK(sscanf(line, "PROXY TCP%c %45s %63s %u %u%c", &family, source, to, &port, &port_to,
                      &extra) == 6);
    FUZZ_CHECK(extra == '\r' && port <= UINT16_MAX && port_to <= UINT16_MAX);
    const struct sockaddr_in *four = (const struct sockaddr_in *)&header->address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&header->address;
    struct in6_addr address;
    if (family == '4') {
        FUZZ_CHECK(four->sin_family == AF_INET && ntohs(four->sin_port) == port);
        FUZZ_CHECK(inet_pton(AF_INET, source, &address) == 1);
        FUZZ_CHECK(memcmp(&address, &four->sin_addr, sizeof(four->sin_addr)) == 0);
    } else {
        FUZZ_CHECK(family == '6' && six->sin6_family == AF_INET6);
        FUZZ_CHECK(ntohs(six->sin6_port) == port);
        FUZZ_CHECK(inet_pton(AF_INET6, source, &address) == 1);
        FUZZ_CHECK(memcmp(&address, &six->sin6_addr, sizeof(six->sin6_addr)) == 0);
    }
}

static void check_binary(const uint8_t *data, size_t size, const struct proxy_header *header)
{
    FUZZ_CHECK(size == 16 + ((size_t)data[14] << 8 | data[15]));
    FUZZ_CHECK(data[12] == 0x20 || data[12] == 0x21);
    if (!header->has_address) {
        FUZZ_CHECK(data[12] == 0x20 || data[13] == 0x00 || data[13] == 0x31);
        return;
    }
    FUZZ_CHECK(data[12] == 0x21);
    const struct sockaddr_in *four = (const struct sockaddr_in *)&header->address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&header->address;
    if (data[13] == 0x11) {
        FUZZ_CHECK(four->sin_family == AF_INET && size >= 28);
        FUZZ_CHECK(memcmp(&four->sin_addr, data + 16, 4) == 0);
        FUZZ_CHECK(memcmp(&four->sin_port, data + 24, 2) == 0);
    } else {
        FUZZ_CHECK(data[13] == 0x21 && six->sin6_family == AF_INET6 && size >= 52);
        FUZZ_CHECK(memcmp(&six->sin6_addr, data + 16, 16) == 0);
        FUZZ_CHECK(memcmp(&six->sin6_port, data + 48, 2) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header;
    size = size < 1024 ? size : 1024;
    int result = read_part(data, size, &header);
    check_cuts(data, size, result);
    if (result <= 0)
        return 0;
    if (data[0] != 'P')
        check_binary(data, (size_t)result, &header);
    else if (header.has_address)
        check_line(data, (size_t)result, &header);
    else
        FUZZ_CHECK(memcmp(data, "PROXY UNKNOWN", 13) == 0);
    return 0;
}
