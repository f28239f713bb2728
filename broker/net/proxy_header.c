/* SPDX-License-Identifier: Apache-2.0 */
#include "net/proxy_header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* Strict, because what is read here is believed: who has sent it may say who somebody is. Spaces,
 * digits and sizes are exactly those of the specification. Both versions are known by their first
 * bytes, which no other protocol begins with, and a header has an end that can be told: the end of
 * the line, or its length. */

static const char line_begin[] = "PROXY ";
static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                      0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

/* Whether the input has all of the mark, or what has come of it. */
static bool begins(struct bytes input, const void *mark, size_t size)
{
    return memcmp(input.data, mark, input.size < size ? input.size : size) == 0;
}

/* --- version 1 -------------------------------------------------------------------------------- */

/* Takes the next word and the space behind it; behind the last one is the end. */
static bool take_word(struct bytes *line, char *word, size_t room, bool last)
{
    const uint8_t *space = memchr(line->data, ' ', line->size);
    size_t size = space != NULL ? (size_t)(space - line->data) : line->size;
    if (last != (space == NULL) || size == 0 || size >= room ||
        memchr(line->data, '\0', size) != NULL)
        return false;
    memcpy(word, line->data, size);
    word[size] = '\0';
    size += !last;
    *line = (struct bytes){line->data + size, line->size - size};
    return true;
}

static bool take_address(struct bytes *line, int family, void *address)
{
    char text[INET6_ADDRSTRLEN];
    return take_word(line, text, sizeof(text), false) && inet_pton(family, text, address) == 1;
}

static bool take_port(struct bytes *line, bool last, in_port_t *port)
{
    char text[6];
    uint32_t number = 0;
    if (!take_word(line, text, sizeof(text), last) || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (const char *digit = text; *digit != '\0'; digit++) {
        if (*digit < '0' || *digit > '9')
            return false;
        number = number * 10 + (uint32_t)(*digit - '0');
    }
    *port = htons((uint16_t)number);
    return number <= UINT16_MAX;
}

/* "TCP4 SOURCE DESTINATION PORT PORT" */
static bool read_words(struct bytes line, struct proxy_header *header)
{
    char family[5];
    in_port_t port;
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct in6_addr to; /* room for both */
    if (!take_word(&line, family, sizeof(family), false))
        return false;
    header->has_address = true;
    if (strcmp(family, "TCP4") == 0) {
        bool good = take_address(&line, AF_INET, &four.sin_addr) &&
                    take_address(&line, AF_INET, &to) && take_port(&line, false, &four.sin_port) &&
                    take_port(&line, true, &port);
        memcpy(&header->address, &four, sizeof(four));
        return good;
    }
    bool good = strcmp(family, "TCP6") == 0 && take_address(&line, AF_INET6, &six.sin6_addr) &&
                take_address(&line, AF_INET6, &to) && take_port(&line, false, &six.sin6_port) &&
                take_port(&line, true, &port);
    memcpy(&header->address, &six, sizeof(six));
    return good;
}

/* The line behind its first word; what follows UNKNOWN is to be ignored. */
static bool read_line(struct bytes line, struct proxy_header *header)
{
    static const char unknown[] = "UNKNOWN";
    const size_t size = sizeof(unknown) - 1;
    if (line.size >= size && memcmp(line.data, unknown, size) == 0)
        return line.size == size || line.data[size] == ' ';
    return read_words(line, header);
}

static int read_version_1(struct bytes input, struct proxy_header *header)
{
    const size_t begin = sizeof(line_begin) - 1;
    size_t size =
        input.size < PROXY_HEADER_LINE_BYTES_MAX ? input.size : PROXY_HEADER_LINE_BYTES_MAX;
    const uint8_t *end = memmem(input.data, size, "\r\n", 2);
    if (end == NULL)
        return input.size < PROXY_HEADER_LINE_BYTES_MAX ? 0 : -EPROTO;
    size_t length = (size_t)(end - input.data);
    struct bytes line = {input.data + begin, length - begin};
    return read_line(line, header) ? (int)length + 2 : -EPROTO;
}

/* --- version 2 -------------------------------------------------------------------------------- */

enum { PREFIX_BYTES = 16, FOUR_BYTES = 12, SIX_BYTES = 36 };

/* The two halves of a byte each. */
enum { LOCAL = 0x20, PROXY = 0x21, UNSPEC = 0x00, TCP4 = 0x11, TCP6 = 0x21, UNIX = 0x31 };

/* Source, destination, and the ports of both. */
static bool read_addresses(uint8_t family, struct bytes block, struct proxy_header *header)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    header->has_address = true;
    if (family == TCP4 && block.size >= FOUR_BYTES) {
        memcpy(&four.sin_addr, block.data, 4);
        memcpy(&four.sin_port, block.data + 8, 2);
        memcpy(&header->address, &four, sizeof(four));
        return true;
    }
    if (family == TCP6 && block.size >= SIX_BYTES) {
        memcpy(&six.sin6_addr, block.data, 16);
        memcpy(&six.sin6_port, block.data + 32, 2);
        memcpy(&header->address, &six, sizeof(six));
        return true;
    }
    header->has_address = false;
    return family == UNSPEC || family == UNIX;
}

static int read_version_2(struct bytes input, struct proxy_header *header)
{
    if (input.size > 12 && input.data[12] != LOCAL && input.data[12] != PROXY)
        return -EPROTO;
    if (input.size < PREFIX_BYTES)
        return 0;
    struct bytes block = {input.data + PREFIX_BYTES, (size_t)input.data[14] << 8 | input.data[15]};
    if (block.size > PROXY_HEADER_BYTES_MAX - PREFIX_BYTES)
        return -EPROTO;
    if (input.size < PREFIX_BYTES + block.size)
        return 0;
    if (input.data[12] == PROXY && !read_addresses(input.data[13], block, header))
        return -EPROTO;
    return (int)(PREFIX_BYTES + block.size);
}

int proxy_header_read(struct bytes input, struct proxy_header *header)
{
    *header = (struct proxy_header){.has_address = false};
    if (input.size == 0)
        return 0;
    if (begins(input, signature, sizeof(signature)))
        return read_version_2(input, header);
    if (begins(input, line_begin, sizeof(line_begin) - 1))
        return read_version_1(input, header);
    return -EPROTO;
}
