/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/secret.h"

static bool equal(const char *secret, const char *shown)
{
    return secret_equal(secret, strlen(secret), shown, strlen(shown));
}

static void the_same_bytes_are_equal(void **state)
{
    assert_true(equal("a", "a"));
    assert_true(equal("opensesame", "opensesame"));
    assert_true(secret_equal("a\0b", 3, "a\0b", 3));
    assert_false(secret_equal("a\0b", 3, "a\0c", 3));
}

static void one_byte_that_differs_is_enough(void **state)
{
    uint8_t secret[32];
    for (size_t size = 1; size <= sizeof(secret); size++)
        for (size_t at = 0; at < size; at++)
            for (unsigned bit = 0; bit < 8; bit++) {
                uint8_t shown[32];
                memset(secret, 0xa5, sizeof(secret));
                memcpy(shown, secret, sizeof(secret));
                assert_true(secret_equal(secret, size, shown, size));
                shown[at] ^= (uint8_t)(1u << bit);
                assert_false(secret_equal(secret, size, shown, size));
            }
}

/* Also where what is shown repeats the secret, or is its beginning. */
static void another_size_is_not_equal(void **state)
{
    static const char secret[] = "abab";
    char shown[600];
    for (size_t size = 0; size < sizeof(shown); size++) {
        for (size_t i = 0; i < size; i++)
            shown[i] = i % 2 == 0 ? 'a' : 'b';
        assert_int_equal(secret_equal(secret, 4, shown, size), size == 4);
    }
}

static void nothing_is_equal_to_no_secret(void **state)
{
    assert_false(secret_equal("", 0, "", 0));
    assert_false(secret_equal(NULL, 0, NULL, 0));
    assert_false(equal("", "a"));
    assert_false(secret_equal("a", 1, NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bytes_are_equal),
        cmocka_unit_test(one_byte_that_differs_is_enough),
        cmocka_unit_test(another_size_is_not_equal),
        cmocka_unit_test(nothing_is_equal_to_no_secret),
    };
    return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
