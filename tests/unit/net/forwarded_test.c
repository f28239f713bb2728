/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/conn.h"
#include "net/forwarded.h"

/* Whom a list of X-Forwarded-For names when 10.0.0.0/8, 192.0.2.1 and fd00::/8 are proxies: the
 * last one that they have not vouched for by being it; what a stranger has written in front counts
 * for nothing. */

static void whom_a_list_names(void **state)
{
    static const struct {
        const char *values, *address; /* "": nobody */
    } rows[] = {
        {"203.0.113.7", "203.0.113.7:0"},
        {"203.0.113.7:4711", "203.0.113.7:4711"},
        {"2001:db8::7", "[2001:db8::7]:0"},
        {"[2001:db8::7]", "[2001:db8::7]:0"},
        {"[2001:db8::7]:4711", "[2001:db8::7]:4711"},
        {"::ffff:203.0.113.7", "203.0.113.7:0"},
        {" \t203.0.113.7 \t", "203.0.113.7:0"},
        /* the last one, and not what stands in front */
        {"198.51.100.1, 203.0.113.7", "203.0.113.7:0"},
        {"198.51.100.1,203.0.113.7", "203.0.113.7:0"},
        {"10.0.0.1, 203.0.113.7", "203.0.113.7:0"},
        {"nonsense, 203.0.113.7", "203.0.113.7:0"},
        /* through proxies */
        {"203.0.113.7, 10.0.0.1", "203.0.113.7:0"},
        {"198.51.100.1, 203.0.113.7, 10.0.0.1, fd00::2, 192.0.2.1", "203.0.113.7:0"},
        {"203.0.113.7, [fd00::2]:99, 10.0.0.1:99", "203.0.113.7:0"},
        {"203.0.113.7,, 10.0.0.1, ,", "203.0.113.7:0"},
        {"203.0.113.7, 192.0.2.2", "192.0.2.2:0"},
        /* what cannot be believed */
        {"", ""},
        {",", ""},
        {" , ,", ""},
        {"10.0.0.1", ""},
        {"10.0.0.9, 10.0.0.1", ""},
        {"203.0.113.7, unknown", ""},
        {"203.0.113.7, unknown, 10.0.0.1", ""},
        {"203.0.113.7, _secret", ""},
        {"203.0.113.7, 10.0.0.1;", ""},
        {"203.0.113.7 10.0.0.1", ""},
        {"203.0.113.7:", ""},
        {"203.0.113.7:65536", ""},
        {"203.0.113.256", ""},
        {"0203.0.113.7", ""},
        {"[203.0.113.7]", ""},
        {"[203.0.113.7]:5", ""},
        {"[2001:db8::7", ""},
        {"2001:db8::7]", ""},
        {"[]", ""},
        {"[", ""},
        {"]", ""},
        {"[]:5", ""},
        {":5", ""},
        {"fe80::1%eth0", ""},
        {"\"203.0.113.7\"", ""},
        {"for=203.0.113.7", ""},
        {"example.org", ""},
        {"2001:db8:0000:0000:0000:0000:0000:0001:0000:0000:0000:0000:0000", ""},
    };
    struct prefixes trusted = {.count = 3};
    assert_true(prefix_read(&trusted.items[0], "10.0.0.0/8"));
    assert_true(prefix_read(&trusted.items[1], "192.0.2.1"));
    assert_true(prefix_read(&trusted.items[2], "fd00::/8"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct sockaddr_storage address;
        char text[NET_ADDRESS_BYTES_MAX] = "";
        size_t size = strlen(rows[i].values);
        uint8_t *copy = malloc(size > 0 ? size : 1);
        assert_non_null(copy);
        memcpy(copy, rows[i].values, size);
        if (forwarded_address((struct bytes){copy, size}, &trusted, &address))
            net_address_text(&address, text);
        free(copy);
        if (strcmp(text, rows[i].address) != 0)
            fail_msg("'%s' named '%s'", rows[i].values, text);
    }
}

static void a_long_list(void **state)
{
    struct prefixes trusted = {.count = 1};
    struct sockaddr_storage address;
    struct buffer list = {0};
    char text[NET_ADDRESS_BYTES_MAX];
    assert_true(prefix_read(&trusted.items[0], "10.0.0.0/8"));
    assert_int_equal(buffer_append(&list, "203.0.113.7", 11), 0);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal(buffer_append(&list, i % 2 ? "," : ", 10.0.0.1", i % 2 ? 1 : 10), 0);
    assert_true(forwarded_address((struct bytes){list.data, list.size}, &trusted, &address));
    net_address_text(&address, text);
    assert_string_equal(text, "203.0.113.7:0");
    buffer_fini(&list);
    assert_false(forwarded_address(bytes_of_text("203.0 .113"), &trusted, &address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whom_a_list_names),
        cmocka_unit_test(a_long_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
