/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "proto/utf8.h"

static size_t encode(uint32_t code, size_t size, uint8_t *out)
{
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size; i > 1; i--, code >>= 6)
        out[i - 1] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(lead[size] | code);
    return size;
}

static size_t shortest(uint32_t code)
{
    return code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
}

/* Each number up to beyond the last one, in each length that can hold it. */
static void test_every_code(void **state)
{
    static const uint32_t limit[5] = {0, 0x80, 0x800, 0x10000, 0x200000};
    for (uint32_t code = 0; code < 0x200000; code++) {
        for (size_t size = shortest(code); size <= 4; size++) {
            uint8_t text[4];
            if (code >= limit[size])
                continue;
            encode(code, size, text);
            bool expected = code != 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff) &&
                            size == shortest(code);
            if (utf8_valid((struct bytes){text, size}) != expected)
                fail_msg("U+%X in %zu bytes", code, size);
        }
    }
}

static void test_every_pair_of_bytes(void **state)
{
    for (unsigned first = 0; first < 256; first++) {
        for (unsigned second = 0; second < 256; second++) {
            uint8_t text[2] = {(uint8_t)first, (uint8_t)second};
            bool ascii = first > 0 && first < 0x80 && second > 0 && second < 0x80;
            bool pair = first >= 0xc2 && first < 0xe0 && second >= 0x80 && second < 0xc0;
            assert_int_equal(utf8_valid((struct bytes){text, 2}), ascii || pair);
        }
    }
}

/* One byte of trouble at each place of a text of each length: the fast path must see it. */
static void test_one_bad_byte(void **state)
{
    static const uint8_t trouble[] = {0x00, 0x80, 0xbf, 0xc1, 0xc3, 0xed, 0xf5, 0xff};
    for (size_t size = 1; size <= 40; size++) {
        uint8_t *text = malloc(size); /* of just that size: a sanitizer sees a read beyond it */
        assert_non_null(text);
        memset(text, 'a', size);
        assert_true(utf8_valid((struct bytes){text, size}));
        memset(text, 0x7f, size);
        assert_true(utf8_valid((struct bytes){text, size}));
        memset(text, 0x01, size);
        assert_true(utf8_valid((struct bytes){text, size}));
        for (size_t at = 0; at < size; at++) {
            for (size_t i = 0; i < sizeof(trouble); i++) {
                text[at] = trouble[i];
                assert_false(utf8_valid((struct bytes){text, size}));
            }
            text[at] = 'a';
        }
        free(text);
    }
}

/* Characters of several bytes at each place, and the same cut off. */
static void test_long_characters(void **state)
{
    static const char *characters[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t kind = 0; kind < 3; kind++) {
        size_t length = strlen(characters[kind]);
        for (size_t at = 0; at < 20; at++) {
            uint8_t text[40];
            memset(text, 'b', sizeof(text));
            memcpy(text + at, characters[kind], length);
            assert_true(utf8_valid((struct bytes){text, sizeof(text)}));
            assert_true(utf8_valid((struct bytes){text, at + length}));
            for (size_t cut = 1; cut < length; cut++)
                assert_false(utf8_valid((struct bytes){text, at + cut}));
            text[at + length - 1] = 'b';
            assert_false(utf8_valid((struct bytes){text, sizeof(text)}));
        }
    }
}

static void test_empty(void **state)
{
    assert_true(utf8_valid((struct bytes){NULL, 0}));
}

/* Against the list in words, for every character; and nothing of one that is cut. */
static void test_steering_characters(void **state)
{
    for (uint32_t code = 0; code < 0x11000; code++) {
        uint8_t text[4];
        size_t size = encode(code, shortest(code), text);
        bool steers = code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c ||
                      (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
                      (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
        assert_int_equal(utf8_steers(text, size), steers ? size : 0);
        for (size_t cut = 1; cut < size; cut++)
            assert_int_equal(utf8_steers(text, cut), 0);
    }
}

static void test_tame(void **state)
{
    char text[] = "a\nb\x1b[1mc\xc2\x9b"
                  "d\xe2\x80\xae"
                  "e\x7f\xc3\xa9\xff\xc2";
    utf8_tame(text);
    assert_string_equal(text, "a?b?[1mc?d?e?\xc3\xa9\xff\xc2");
    char empty[] = "";
    utf8_tame(empty);
    assert_string_equal(empty, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code),   cmocka_unit_test(test_every_pair_of_bytes),
        cmocka_unit_test(test_one_bad_byte), cmocka_unit_test(test_long_characters),
        cmocka_unit_test(test_empty),        cmocka_unit_test(test_steering_characters),
        cmocka_unit_test(test_tame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
