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

#include "base/source.h"

/* Who is one source, in text and as the socket tells it. */

static uint64_t of_text(const char *text)
{
    return source_of_text(text, strlen(text));
}

static void who_is_one_source(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"10.0.0.1:5", "10.0.0.1:6", true},
        {"10.0.0.2:5", "10.0.0.3:5", false},
        {"[::ffff:10.0.0.1]:5", "10.0.0.1:6", true},
        {"[::ffff:10.0.0.1]:5", "[::ffff:10.0.0.2]:5", false},
        {"[2001:db8:0:1::1]:5", "[2001:db8:0:1:9999::1]:6", true},
        {"[2001:db8:0:1::1]:5", "[2001:db8:0:2::1]:5", false},
        {"[a00:1::]:5", "10.0.0.1:5", false}, /* the same bytes, another family */
        {"[::1]:5", "0.0.0.1:5", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_not_equal(of_text(rows[i].a), 0);
        assert_int_not_equal(of_text(rows[i].b), 0);
        if ((of_text(rows[i].a) == of_text(rows[i].b)) != rows[i].same)
            fail_msg("%s and %s", rows[i].a, rows[i].b);
    }
}

static void what_is_no_address(void **state)
{
    static const char *const rows[] = {
        "",
        ":",
        "x:5",
        "10.0.0.1",
        "10.0.0:5",
        "[10.0.0.1]:5",
        "::1:5",
        "[]:5",
        "[::1:5",
        "[::g]:5",
        "[",
        "]:",
        "10.0.0.256:1",
        " 10.0.0.1:5",
        "[[]]:",
        "localhost:80",
        "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:1",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        if (of_text(rows[i]) != 0)
            fail_msg("%s", rows[i]);
}

static void text_and_socket_agree(void **state)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr other = {.sa_family = AF_UNIX};
    inet_pton(AF_INET, "203.0.113.7", &v4.sin_addr);
    inet_pton(AF_INET6, "2001:db8:1:2::3", &v6.sin6_addr);
    assert_int_equal(source_of_sockaddr((struct sockaddr *)&v4), of_text("203.0.113.7:1"));
    assert_int_equal(source_of_sockaddr((struct sockaddr *)&v6), of_text("[2001:db8:1:2::9]:1"));
    inet_pton(AF_INET6, "::ffff:203.0.113.7", &v6.sin6_addr);
    assert_int_equal(source_of_sockaddr((struct sockaddr *)&v6), of_text("203.0.113.7:1"));
    assert_int_equal(source_of_sockaddr(&other), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_one_source),
        cmocka_unit_test(what_is_no_address),
        cmocka_unit_test(text_and_socket_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
