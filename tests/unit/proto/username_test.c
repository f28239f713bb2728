/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "proto/username.h"

static void test_every_byte(void **state)
{
    const char *good = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-@:+";
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t name[3] = {'a', (uint8_t)byte, 'z'};
        bool expected = byte != 0 && memchr(good, (int)byte, strlen(good)) != NULL;
        assert_int_equal(username_valid((struct bytes){name, 3}), expected);
        assert_int_equal(username_valid((struct bytes){name + 1, 1}), expected);
    }
}

static void test_length(void **state)
{
    uint8_t name[USERNAME_BYTES_MAX + 1];
    memset(name, 'a', sizeof(name));
    assert_false(username_valid((struct bytes){NULL, 0}));
    assert_true(username_valid((struct bytes){name, 1}));
    assert_int_equal(USERNAME_BYTES_MAX, 64);
    assert_true(username_valid((struct bytes){name, USERNAME_BYTES_MAX}));
    assert_false(username_valid((struct bytes){name, USERNAME_BYTES_MAX + 1}));
}

static void test_last_byte_counts(void **state)
{
    uint8_t name[USERNAME_BYTES_MAX];
    memset(name, 'a', sizeof(name));
    name[USERNAME_BYTES_MAX - 1] = '/';
    assert_false(username_valid((struct bytes){name, USERNAME_BYTES_MAX}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_last_byte_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
