/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/address.h"

static bool split(struct address *address, const char *text)
{
    return address_split(address, text, strlen(text));
}

static void host_and_port_are_told_apart(void **state)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
        bool bracketed;
    } rows[] = {
        {"127.0.0.1:0", "127.0.0.1", 0, false},
        {"localhost:1", "localhost", 1, false},
        {"a:65535", "a", 65535, false},
        {"a:00080", "a", 80, false},
        {"[::1]:7400", "::1", 7400, true},
        {"[::]:7400", "::", 7400, true},
        {"[a]:1", "a", 1, true},
        {"[a:1", "[a", 1, false},
        {"]:1", "]", 1, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct address address;
        if (!split(&address, rows[i].text))
            fail_msg("%s", rows[i].text);
        assert_string_equal(address.host, rows[i].host);
        assert_int_equal(address.port, rows[i].port);
        assert_int_equal(address.bracketed, rows[i].bracketed);
    }
}

static void what_is_no_address(void **state)
{
    static const char *const rows[] = {
        "",      ":",      "a",      "a:",      ":80",     "80",       "[]:80",  "[a",
        "[::1]", "::1:80", "a:b:80", "a:65536", "a:99999", "a:000080", "a:http", "a:8x",
        "a:+8",  "a:-1",   "a: 8",   "a:8 ",    "[::1]80", "[::1]:",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct address address;
        if (split(&address, rows[i]))
            fail_msg("%s", rows[i]);
    }
}

static void a_host_may_be_so_long(void **state)
{
    char text[ADDRESS_HOST_BYTES + 16];
    struct address address;
    for (size_t size = ADDRESS_HOST_BYTES - 2; size <= ADDRESS_HOST_BYTES; size++) {
        memset(text, 'a', size);
        strcpy(text + size, ":1");
        assert_int_equal(split(&address, text), size < ADDRESS_HOST_BYTES);
    }
}

/* What stands behind is not looked at, nor is there an end mark. */
static void only_so_many_bytes_are_read(void **state)
{
    struct address address;
    assert_true(address_split(&address, "a:123456", 5));
    assert_int_equal(address.port, 123);
    assert_true(address_split(&address, "a:1:2", 3));
    assert_int_equal(address.port, 1);
    assert_false(address_split(&address, "a:1", 2));
    assert_false(address_split(&address, "a:1", 0));
    assert_false(address_split(&address, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_and_port_are_told_apart),
        cmocka_unit_test(what_is_no_address),
        cmocka_unit_test(a_host_may_be_so_long),
        cmocka_unit_test(only_so_many_bytes_are_read),
    };
    return cmocka_run_group_tests_name("address", tests, NULL, NULL);
}
