/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin/admin.h"
#include "admin/route.h"

static int load(struct access_token *token, const char *content, char *error)
{
    char path[] = "/tmp/usher-access-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    close(fd);
    int result = access_load(token, "admin.token_file", path, error);
    unlink(path);
    return result;
}

static void test_load(void **state)
{
    struct access_token token = {0};
    char error[ADMIN_ERROR_BYTES];
    char text[ACCESS_TOKEN_BYTES_MAX + 3];
    assert_int_equal(load(&token, "0123456789abcdef\nrest\n", error), 0);
    assert_int_equal(token.size, 16);
    assert_true(load(&token, "0123456789abcde\n", error) < 0); /* 15 */
    assert_non_null(strstr(error, "admin.token_file"));
    assert_true(load(&token, "", error) < 0);
    assert_true(load(&token, "0123456789 abcdef\n", error) < 0);
    memset(text, 'x', sizeof(text));
    text[ACCESS_TOKEN_BYTES_MAX] = '\0';
    assert_int_equal(load(&token, text, error), 0);
    assert_int_equal(token.size, ACCESS_TOKEN_BYTES_MAX);
    text[ACCESS_TOKEN_BYTES_MAX] = 'x';
    text[ACCESS_TOKEN_BYTES_MAX + 1] = '\0';
    assert_true(load(&token, text, error) < 0);
    assert_true(access_load(&token, "o", "/nonexistent", error) < 0);
}

static struct access_token token_of(const char *text)
{
    struct access_token token = {.size = strlen(text)};
    memcpy(token.bytes, text, token.size);
    return token;
}

static void test_rights(void **state)
{
    struct access none = {0};
    assert_int_equal(access_right(&none, NULL), ACCESS_LOOK);
    assert_int_equal(access_right(&none, "Bearer "), ACCESS_LOOK);
    struct access both = {token_of("the-changing-one"), token_of("the-viewing-one")};
    assert_int_equal(access_right(&both, NULL), ACCESS_NONE);
    assert_int_equal(access_right(&both, "Bearer the-changing-one"), ACCESS_CHANGE);
    assert_int_equal(access_right(&both, "bearer the-changing-one"), ACCESS_CHANGE);
    assert_int_equal(access_right(&both, "Bearer the-viewing-one"), ACCESS_LOOK);
    const char *const wrong[] = {"",
                                 "Bearer",
                                 "Bearer ",
                                 "Basic the-changing-one",
                                 "the-changing-one",
                                 "Bearer the-changing-on",
                                 "Bearer the-changing-onee",
                                 "Bearer The-changing-one",
                                 "Bearer the-changing-onf",
                                 "Bearer  the-changing-one"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(access_right(&both, wrong[i]), ACCESS_NONE);
    struct access view = {.view = token_of("the-viewing-one")};
    assert_int_equal(access_right(&view, NULL), ACCESS_NONE);
    assert_int_equal(access_right(&view, "Bearer "), ACCESS_NONE);
}

struct faults {
    unsigned count;
    char last[ADMIN_ERROR_BYTES];
};

static void note_fault(void *context, const char *option, const char *text)
{
    struct faults *faults = context;
    faults->count++;
    assert_non_null(strstr(text, option));
    snprintf(faults->last, sizeof(faults->last), "%s", text);
}

static void write_file(const char *path, const char *content)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(content, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* How many faults there are with tokens of that content; NULL: no file is named. */
static unsigned faults_of(const char *change, const char *view, struct faults *faults)
{
    char folder[] = "/tmp/usher-access-XXXXXX";
    char change_path[64], view_path[64];
    struct access access = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(change_path, sizeof(change_path), "%s/change", folder);
    snprintf(view_path, sizeof(view_path), "%s/view", folder);
    write_file(change_path, change != NULL ? change : "");
    write_file(view_path, view != NULL ? view : "");
    *faults = (struct faults){0};
    access_read(&access, change != NULL ? change_path : "", view != NULL ? view_path : "",
                note_fault, faults);
    unlink(change_path);
    unlink(view_path);
    rmdir(folder);
    return faults->count;
}

static void test_two_tokens(void **state)
{
    struct faults faults;
    assert_int_equal(faults_of(NULL, NULL, &faults), 0);
    assert_int_equal(faults_of("0123456789abcdef", NULL, &faults), 0);
    assert_int_equal(faults_of(NULL, "0123456789abcdef", &faults), 0);
    assert_int_equal(faults_of("0123456789abcdef", "0123456789abcdeg", &faults), 0);
    assert_int_equal(faults_of("0123456789abcdef", "0123456789abcdeff", &faults), 0);
    assert_int_equal(faults_of("short", "short", &faults), 2);
    assert_int_equal(faults_of("0123456789abcdef\na", "0123456789abcdef\nb", &faults), 1);
    assert_non_null(strstr(faults.last, "admin.view_token_file"));
    assert_null(strstr(faults.last, "0123456789abcdef"));
}

static void test_hosts(void **state)
{
    const char *const good[] = {"127.0.0.1",   "127.0.0.1:7480", "localhost",
                                "LocalHost:1", "[::1]",          "[::1]:7480",
                                "10.0.0.1",    "usher.lan",      "USHER.LAN:7480"};
    const char *const bad[] = {"",
                               "evil",
                               "evil:80",
                               "127.0.0.1.evil",
                               "::1",
                               "[::1",
                               "[::1]x",
                               "localhost.evil",
                               "1.2.3",
                               "usher.lan.x",
                               "x.usher.lan",
                               "localhost:80x",
                               "user@localhost"};
    char longest[400];
    memset(longest, '1', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(access_host(good[i], "usher.lan"));
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(access_host(bad[i], "usher.lan"));
    assert_false(access_host(longest, ""));
    assert_false(access_host("", ""));
    assert_false(access_host("usher.lan", ""));
}

static int route_of(const char *method, const char *path, char *user)
{
    return route_find(admin_routes, ADMIN_ROUTES, method, path, user);
}

static void test_routes(void **state)
{
    char user[ADMIN_USER_BYTES_MAX + 1];
    char path[1200];
    assert_int_equal(route_of("GET", "/api/sessions", user), ADMIN_SESSIONS);
    assert_int_equal(route_of("GET", "/api/sessions/al", user), ADMIN_SESSION);
    assert_string_equal(user, "al");
    assert_int_equal(route_of("POST", "/api/sessions/a%2fkick/kick", user), ADMIN_KICK);
    assert_string_equal(user, "a/kick");
    assert_int_equal(route_of("DELETE", "/api/trace/x", user), ADMIN_TRACE_END);
    assert_int_equal(route_of("GET", "/api/trace/x", user), ADMIN_TRACE_READ);
    assert_int_equal(route_of("POST", "/api/sessions", user), ROUTE_WRONG_METHOD);
    assert_int_equal(route_of("GET", "/api/sessions/", user), ROUTE_BAD);
    assert_int_equal(route_of("GET", "/api/sessions/a/b", user), ROUTE_UNKNOWN);
    /* What browsers take for a step, behind a sign that they do not. */
    assert_int_equal(route_of("POST", "/api/sessions/~../kick", user), ADMIN_KICK);
    assert_string_equal(user, "..");
    assert_int_equal(route_of("GET", "/api/trace/~~", user), ADMIN_TRACE_READ);
    assert_string_equal(user, "~");
    const char *const bad[] = {"%",   "%4", "%zz", "%00",        "a%0ab", "%7f",
                               "a%1", "~",  "%ff", "a%ed%a0%80", "%c3"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(path, sizeof(path), "/api/sessions/%s", bad[i]);
        assert_int_equal(route_of("GET", path, user), ROUTE_BAD);
    }
    int head = snprintf(path, sizeof(path), "/api/sessions/");
    memset(path + head, 'x', ADMIN_USER_BYTES_MAX + 1);
    path[head + ADMIN_USER_BYTES_MAX] = '\0';
    assert_int_equal(route_of("GET", path, user), ADMIN_SESSION);
    path[head + ADMIN_USER_BYTES_MAX] = 'x';
    path[head + ADMIN_USER_BYTES_MAX + 1] = '\0';
    assert_int_equal(route_of("GET", path, user), ROUTE_BAD);
}

static void test_numbers(void **state)
{
    uint64_t number = 7;
    assert_true(route_number("0", &number));
    assert_int_equal(number, 0);
    assert_true(route_number("18446744073709551615", &number));
    assert_true(number == UINT64_MAX);
    const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "1e3"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(route_number(bad[i], &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_load),       cmocka_unit_test(test_rights),
        cmocka_unit_test(test_two_tokens), cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_routes),     cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
