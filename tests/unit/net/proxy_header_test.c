/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/conn.h"
#include "net/proxy_header.h"

/* PROXY headers of both versions: what is read of them, byte by byte, and what is refused. */

static struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){data, size};
}

/* A copy of just that size, so that a sanitizer sees a read beyond it. */
static int read_exactly(const void *data, size_t size, struct proxy_header *header)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    int result = proxy_header_read(bytes_of(copy, size), header);
    free(copy);
    return result;
}

/* The whole one is read, with something behind it too, and nothing is said before it is whole. */
static void expect(const void *data, size_t size, const char *address)
{
    struct proxy_header header;
    char text[NET_ADDRESS_BYTES_MAX] = "";
    uint8_t *longer = malloc(size + 7);
    assert_non_null(longer);
    memcpy(longer, data, size);
    memcpy(longer + size, "\r\nPROXY", 7);
    for (size_t part = 0; part < size; part++)
        assert_int_equal(read_exactly(data, part, &header), 0);
    for (size_t more = 0; more <= 7; more++) {
        assert_int_equal(read_exactly(longer, size + more, &header), size);
        assert_int_equal(header.has_address, address != NULL);
        if (address == NULL)
            continue;
        net_address_text(&header.address, text);
        assert_string_equal(text, address);
    }
    free(longer);
}

static void expect_line(const char *line, const char *address)
{
    expect(line, strlen(line), address);
}

static void refuse(const void *data, size_t size)
{
    struct proxy_header header;
    int result = read_exactly(data, size, &header);
    if (result != -EPROTO)
        fail_msg("%d for %.*s", result, (int)size, (const char *)data);
}

static void lines_that_name_somebody(void **state)
{
    expect_line("PROXY TCP4 192.0.2.7 203.0.113.9 56324 7400\r\n", "192.0.2.7:56324");
    expect_line("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                "255.255.255.255:65535");
    expect_line("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0:0");
    expect_line("PROXY TCP6 2001:db8::7 ::1 5 7400\r\n", "[2001:db8::7]:5");
    expect_line("PROXY TCP6 ::ffff:192.0.2.7 ::1 5 7400\r\n", "192.0.2.7:5");
    /* The longest that there can be. */
    expect_line("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

static void lines_that_name_nobody(void **state)
{
    char line[PROXY_HEADER_LINE_BYTES_MAX + 2] = "PROXY UNKNOWN ";
    expect_line("PROXY UNKNOWN\r\n", NULL);
    expect_line("PROXY UNKNOWN \r\n", NULL);
    expect_line("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", NULL);
    expect_line("PROXY UNKNOWN TCP4 \r \n 1.2.3.4\r\n", NULL);
    /* 107 bytes, and one more. */
    memset(line + strlen(line), 'x', sizeof(line) - 1 - strlen(line));
    memcpy(line + PROXY_HEADER_LINE_BYTES_MAX - 2, "\r\n", 3);
    expect_line(line, NULL);
    memcpy(line + PROXY_HEADER_LINE_BYTES_MAX - 2, "x\r\n", 4);
    refuse(line, PROXY_HEADER_LINE_BYTES_MAX + 1);
    refuse(line, PROXY_HEADER_LINE_BYTES_MAX);
}

static void lines_that_are_none(void **state)
{
    static const char *const rows[] = {
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 1.2.3.4\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 0x1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 999999 1\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.256 1 1\r\n",
        "PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 ::1 ::1 1 1\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP6 ::1%lo ::1 1 1\r\n",
        "PROXY TCP6 ::g ::1 1 1\r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4\t1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXX",
        "proxy TCP4",
        " PROXY TCP4",
        "GET / HTTP/1.1\r\n",
        "x",
        "\x16\x03\x01",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        refuse(rows[i], strlen(rows[i]));
    refuse("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1\r\n", 34);
    refuse("\0", 1);
}

/* --- version 2 -------------------------------------------------------------------------------- */

static size_t binary(uint8_t *to, uint8_t command, uint8_t family, size_t block)
{
    static const uint8_t addresses[36] = {192, 0, 2, 7, 203, 0, 113, 9, 0xdc, 0x04, 0x1c, 0xe8};
    memcpy(to, "\r\n\r\n\0\r\nQUIT\n", 12);
    to[12] = command;
    to[13] = family;
    to[14] = (uint8_t)(block >> 8);
    to[15] = (uint8_t)block;
    memset(to + 16, 0x5a, block);
    memcpy(to + 16, addresses, block < 12 ? block : 12);
    return 16 + block;
}

static void binary_that_names_somebody(void **state)
{
    uint8_t data[PROXY_HEADER_BYTES_MAX + 8];
    expect(data, binary(data, 0x21, 0x11, 12), "192.0.2.7:56324");
    expect(data, binary(data, 0x21, 0x11, 13), "192.0.2.7:56324"); /* with some of a TLV */
    expect(data, binary(data, 0x21, 0x11, PROXY_HEADER_BYTES_MAX - 16), "192.0.2.7:56324");
    size_t size = binary(data, 0x21, 0x21, 36);
    memcpy(data + 16, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07", 16);
    memcpy(data + 16 + 32, "\0\x05\x1c\xe8", 4);
    expect(data, size, "[2001:db8::7]:5");
}

static void binary_that_names_nobody(void **state)
{
    static const struct {
        uint8_t command, family;
        size_t block;
    } rows[] = {
        {0x20, 0x00, 0},  {0x20, 0x00, 12},
        {0x20, 0x11, 12}, {0x20, 0x11, 0},
        {0x20, 0xff, 40}, {0x21, 0x00, 0},
        {0x21, 0x00, 99}, {0x21, 0x31, 216},
        {0x21, 0x31, 0},  {0x20, 0x00, PROXY_HEADER_BYTES_MAX - 16},
    };
    uint8_t data[PROXY_HEADER_BYTES_MAX + 8];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        expect(data, binary(data, rows[i].command, rows[i].family, rows[i].block), NULL);
}

static void binary_that_is_none(void **state)
{
    static const struct {
        uint8_t command, family;
        size_t block;
    } rows[] = {
        {0x22, 0x11, 12}, {0x2f, 0x11, 12}, {0x11, 0x11, 12},  {0x31, 0x11, 12}, {0x00, 0x11, 12},
        {0x21, 0x12, 12}, {0x21, 0x22, 36}, {0x21, 0x32, 216}, {0x21, 0x10, 12}, {0x21, 0x41, 36},
        {0x21, 0x01, 12}, {0x21, 0x11, 11}, {0x21, 0x11, 0},   {0x21, 0x21, 35}, {0x21, 0x21, 12},
    };
    uint8_t data[PROXY_HEADER_BYTES_MAX + 8];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        refuse(data, binary(data, rows[i].command, rows[i].family, rows[i].block));
    /* A command that is none is told before the rest has come; a length that is too large, at once.
     */
    binary(data, 0x22, 0x11, 12);
    refuse(data, 13);
    binary(data, 0x20, 0x00, PROXY_HEADER_BYTES_MAX - 15);
    refuse(data, 16);
    memcpy(data + 14, "\xff\xff", 2);
    refuse(data, 16);
    for (size_t i = 0; i < 12; i++) {
        binary(data, 0x21, 0x11, 12);
        data[i] ^= 1;
        refuse(data, i + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_that_name_somebody), cmocka_unit_test(lines_that_name_nobody),
        cmocka_unit_test(lines_that_are_none),      cmocka_unit_test(binary_that_names_somebody),
        cmocka_unit_test(binary_that_names_nobody), cmocka_unit_test(binary_that_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
