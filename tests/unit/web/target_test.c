/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "web/target.h"

static void test_urls(void **state)
{
    static const char *const good[] = {"http://a", "https://a.example:8443/x?y=z",
                                       "http://[::1]:80/", "https://a/@b"};
    static const char *const wrong[] = {
        "",           "a",           "ftp://a/",      "http://",      "http:///x",
        "http://:80", "http://u@a/", "https://u:p@a", "http://a/#x",  "http://a b/",
        "http://a\n", "HTTP://a",    "file:///etc/x", "http://a\\@b", "http://\xc3\xa4"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(web_url_valid(good[i]));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(web_url_valid(wrong[i]));
    char origin[32];
    assert_string_equal(web_url_origin("https://a:1/secret?k=v", origin, sizeof(origin)),
                        "https://a:1");
    assert_string_equal(web_url_origin("", origin, sizeof(origin)), "");
}

/* By openssl: printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key */
static void test_signature(void **state)
{
    char text[WEB_SIGNATURE_BYTES];
    struct bytes body = bytes_of_text("{\"a\":1}");
    struct web_target *none = web_target_create("http://a", NULL, NULL, "");
    assert_false(web_sign(none, 1700000000, body, text));
    assert_string_equal(text, "");
    web_target_destroy(none);
    struct web_target *one = web_target_create("http://a", "", "key", NULL);
    assert_true(web_sign(one, 1700000000, body, text));
    assert_string_equal(
        text, "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03");
    web_target_destroy(one);
    struct web_target *two = web_target_create("http://a", "", "key", "other");
    assert_true(web_sign(two, 1700000000, body, text));
    assert_string_equal(
        text, "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03,"
              "v1=2cb38bd50b3aa61b12df512da616c9577f2a99edb9467110d361a655e1ad3bd5");
    web_target_destroy(two);
    web_target_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_signature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
