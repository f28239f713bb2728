/* SPDX-License-Identifier: Apache-2.0 */
#include "common/escape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

/* One character of a text that goes on behind it. */
static void shows(const char *text, size_t size, size_t taken, const char *expected)
{
    char shown[ESCAPED_BYTES_MAX];
    assert_int_equal(escape_character(shown, (const uint8_t *)text, size), taken);
    assert_string_equal(shown, expected);
}

static void what_is_plain_stays(void **state)
{
    shows("ab", 2, 1, "a");
    shows("\xc3\xbcx", 3, 2, "\xc3\xbc");
    shows("\xf0\x9f\x98\x80", 4, 4, "\xf0\x9f\x98\x80");
}

static void what_steers_is_shown_byte_by_byte(void **state)
{
    shows("\x1b[2J", 4, 1, "\\x1b");
    shows("\0a", 2, 1, "\\x00");
    shows("\xe2\x80\xae", 3, 3, "\\xe2\\x80\\xae");
}

static void what_is_not_utf8_is_a_byte_by_itself(void **state)
{
    shows("\x9b\x9b", 2, 1, "\\x9b");
    shows("\xf0\x9f\x98", 3, 1, "\\xf0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_plain_stays),
        cmocka_unit_test(what_steers_is_shown_byte_by_byte),
        cmocka_unit_test(what_is_not_utf8_is_a_byte_by_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
