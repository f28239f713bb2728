/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/prefixes.h"

/* Which addresses are meant by a prefix, at its first and its last one and beside both. */

static struct sockaddr_storage address_of(const char *text)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
        memcpy(&address, &four, sizeof(four));
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
        memcpy(&address, &six, sizeof(six));
    }
    return address;
}

static void what_a_prefix_holds(void **state)
{
    static const struct {
        const char *prefix, *address;
        bool holds;
    } rows[] = {
        {"192.0.2.7", "192.0.2.7", true},
        {"192.0.2.7", "192.0.2.6", false},
        {"192.0.2.7", "::ffff:192.0.2.7", true},
        {"192.0.2.7/32", "192.0.2.7", true},
        {"192.0.2.7/32", "192.0.2.8", false},
        {"10.0.0.0/8", "10.0.0.0", true},
        {"10.0.0.0/8", "10.255.255.255", true},
        {"10.0.0.0/8", "9.255.255.255", false},
        {"10.0.0.0/8", "11.0.0.0", false},
        {"192.0.2.64/27", "192.0.2.64", true},
        {"192.0.2.64/27", "192.0.2.95", true},
        {"192.0.2.64/27", "192.0.2.63", false},
        {"192.0.2.64/27", "192.0.2.96", false},
        {"128.0.0.0/1", "255.1.2.3", true},
        {"128.0.0.0/1", "127.1.2.3", false},
        {"0.0.0.0/0", "203.0.113.9", true},
        {"0.0.0.0/0", "::1", false},
        {"0.0.0.0/0", "::ffff:1.2.3.4", true},
        {"::/0", "2001:db8::1", true},
        {"::/0", "1.2.3.4", false},
        {"::/0", "::ffff:1.2.3.4", false},
        {"::1", "::1", true},
        {"::1", "::2", false},
        {"::1", "0.0.0.1", false},
        {"2001:db8::/32", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true},
        {"2001:db8::/32", "2001:db9::", false},
        {"2001:db8::/33", "2001:db8:7fff::1", true},
        {"2001:db8::/33", "2001:db8:8000::1", false},
        {"2001:db8::5/127", "2001:db8::5", false}, /* not read: see below */
        {"2001:db8::4/127", "2001:db8::5", true},
        {"2001:db8::4/127", "2001:db8::6", false},
        {"::ffff:10.0.0.0/104", "10.9.9.9", true},
        {"::ffff:10.0.0.0/104", "11.9.9.9", false},
        {"::ffff:0.0.0.0/96", "10.9.9.9", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct prefixes prefixes = {.count = 1};
        struct sockaddr_storage address = address_of(rows[i].address);
        if (!prefix_read(&prefixes.items[0], rows[i].prefix))
            prefixes.count = 0;
        if (prefixes_hold(&prefixes, (struct sockaddr *)&address) != rows[i].holds)
            fail_msg("%s in %s", rows[i].address, rows[i].prefix);
    }
}

static void what_is_no_prefix(void **state)
{
    static const char *const rows[] = {
        "",
        "/",
        "/8",
        "10",
        "10.0.0",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "10.0.0.0/ 8",
        "10.0.0.0/8 ",
        " 10.0.0.0/8",
        "10.0.0.0/8/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/99999999999",
        "10.0.0.1/8",
        "192.0.2.65/27",
        "010.0.0.1",
        "10.0.0.256",
        "10.0.0.1:80",
        "[::1]",
        "::1/129",
        "::1/127",
        "fe80::1%lo",
        "2001:db8::1/64",
        "proxy.example",
        "localhost",
        "*",
        "unix",
        "2001:0db8:0000:0000:0000:0000:0000:0001:0000:0000:0000:0000",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct prefix prefix;
        if (prefix_read(&prefix, rows[i]))
            fail_msg("'%s' was read", rows[i]);
    }
}

static void of_several_any(void **state)
{
    struct prefixes prefixes = {.count = 0};
    struct sockaddr_storage address = address_of("10.1.2.3");
    struct sockaddr_storage last = address_of("2001:db8::9");
    struct sockaddr other = {.sa_family = AF_UNIX};
    assert_false(prefixes_hold(&prefixes, (struct sockaddr *)&address));
    while (prefixes.count < PREFIXES_MAX - 1)
        assert_true(prefix_read(&prefixes.items[prefixes.count++], "10.1.2.0/24"));
    assert_false(prefixes_hold(&prefixes, (struct sockaddr *)&last));
    assert_true(prefix_read(&prefixes.items[prefixes.count++], "2001:db8::/64"));
    assert_true(prefixes_hold(&prefixes, (struct sockaddr *)&address));
    assert_true(prefixes_hold(&prefixes, (struct sockaddr *)&last));
    assert_false(prefixes_hold(&prefixes, &other));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_prefix_holds),
        cmocka_unit_test(what_is_no_prefix),
        cmocka_unit_test(of_several_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
