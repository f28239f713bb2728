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

static unsigned steps_of(const char *text, uint64_t steps[SOURCE_STEPS])
{
    return source_steps(of_text(text), steps);
}

/* Two public IPv6 addresses share so many of the steps; others have only themselves. */
static void wider_sources(void **state)
{
    static const struct {
        const char *a, *b;
        unsigned shared;
    } rows[] = {
        {"[2001:db8:1:1200::1]:1", "[2001:db8:1:1200::2]:1", 3},
        {"[2001:db8:1:1200::1]:1", "[2001:db8:1:12ff::1]:1", 2},
        {"[2001:db8:1:1200::1]:1", "[2001:db8:1:1300::1]:1", 1},
        {"[2001:db8:1:ffff::1]:1", "[2001:db8:2::1]:1", 0},
        {"[3fff:ffff:ffff:ff00::1]:1", "[3fff:ffff:ffff::1]:1", 1},
    };
    uint64_t a[SOURCE_STEPS], b[SOURCE_STEPS];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        assert_int_equal(steps_of(rows[i].a, a), SOURCE_STEPS);
        assert_int_equal(steps_of(rows[i].b, b), SOURCE_STEPS);
        assert_int_equal(a[0], of_text(rows[i].a));
        for (unsigned step = 0; step < SOURCE_STEPS; step++)
            if ((a[step] == b[step]) != (step >= SOURCE_STEPS - rows[i].shared))
                fail_msg("%s and %s at step %u", rows[i].a, rows[i].b, step);
        assert_int_not_equal(a[1], a[0]); /* no step is taken for another */
        assert_int_not_equal(a[2], a[1]);
    }
    /* A source whose last bits are 0 is not its own wider one. */
    assert_int_equal(steps_of("[2001:db8:1::1]:1", a), SOURCE_STEPS);
    assert_true(a[0] != a[1] && a[1] != a[2] && a[0] != a[2]);
    static const char *const alone[] = {
        "10.0.0.1:5",          "[::1]:5",     "[fe80::1]:5", "[fd00:1::1]:5",
        "[::ffff:10.0.0.1]:5", "[4000::1]:5", "[1fff::1]:5"};
    for (size_t i = 0; i < sizeof(alone) / sizeof(*alone); i++)
        assert_int_equal(steps_of(alone[i], a), 1);
    assert_int_equal(steps_of("nobody", a), 0);
}

static void how_much_each_may_have(void **state)
{
    assert_int_equal(source_allowed(10, 0), 10);
    assert_int_equal(source_allowed(10, 1), 20);
    assert_int_equal(source_allowed(10, 2), 40);
    assert_int_equal(source_allowed(UINT32_MAX / 4, 2), UINT32_MAX - 3);
    assert_int_equal(source_allowed(UINT32_MAX / 4 + 1, 2), UINT32_MAX);
    assert_int_equal(source_allowed(UINT32_MAX, 0), UINT32_MAX);
}

static void hosts_as_people_write_them(void **state)
{
    char text[SOURCE_HOST_BYTES];
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct sockaddr other = {.sa_family = AF_UNIX};
    inet_pton(AF_INET6, "::ffff:203.0.113.7", &six.sin6_addr);
    source_host((struct sockaddr *)&six, text);
    assert_string_equal(text, "203.0.113.7");
    inet_pton(AF_INET6, "2001:db8::7", &six.sin6_addr);
    source_host((struct sockaddr *)&six, text);
    assert_string_equal(text, "2001:db8::7");
    source_host(&other, text);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_is_one_source),      cmocka_unit_test(what_is_no_address),
        cmocka_unit_test(text_and_socket_agree),  cmocka_unit_test(wider_sources),
        cmocka_unit_test(how_much_each_may_have), cmocka_unit_test(hosts_as_people_write_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
