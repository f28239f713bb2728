/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What is printed of a string, or of a line; the caller's to free. */
static char *printed(const char *text, size_t size, bool line)
{
    char *out = NULL;
    size_t out_size = 0;
    FILE *to = open_memstream(&out, &out_size);
    assert_non_null(to);
    if (line)
        print_json_line(to, text);
    else
        print_json_string(to, text, size);
    assert_int_equal(fclose(to), 0);
    return out;
}

static void string_is(const char *text, size_t size, const char *expected)
{
    char *out = printed(text, size, false);
    assert_string_equal(out, expected);
    free(out);
}

static void line_is(const char *text, const char *expected)
{
    char *out = printed(text, 0, true);
    assert_string_equal(out, expected);
    free(out);
}

static void what_is_plain_stays(void **state)
{
    string_is("", 0, "\"\"");
    string_is("a \"b\\", 5, "\"a \\\"b\\\\\"");
    string_is("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", 11, "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"");
    line_is("{\"a\":\"b\\\"c\"}", "{\"a\":\"b\\\"c\"}\n");
}

static void what_a_terminal_obeys_is_escaped(void **state)
{
    string_is("\0\x1b[2J\r\n\x7f", 8, "\"\\u0000\\u001b[2J\\u000d\\u000a\\u007f\"");
    string_is("\xc2\x9b"
              "31m",
              5, "\"\\u009b31m\"");
    string_is("\xe2\x80\xae"
              "exe\xe2\x80\xa8\xef\xbb\xbf",
              12, "\"\\u202eexe\\u2028\\ufeff\"");
    line_is("{\"a\":\"\x1b]0;b\x07\xe2\x80\xae\"}\nforged",
            "{\"a\":\"\\u001b]0;b\\u0007\\u202e\"}\\u000aforged\n");
}

static void what_is_not_utf8_is_replaced(void **state)
{
    string_is("a\x9b"
              "b\xff\xc3",
              5, "\"a\\ufffdb\\ufffd\\ufffd\"");
    line_is("\x9b"
            "2J",
            "\\ufffd2J\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_plain_stays),
        cmocka_unit_test(what_a_terminal_obeys_is_escaped),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
