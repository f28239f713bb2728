/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broken.h"

static const uint64_t some_ms = UINT64_C(1792008000007); /* 2026-10-14T20:00:00.007Z */

/* One line with one field, as a text. */
static const char *line_of(struct log_line *line, bool json, struct log_field field)
{
    log_line_begin(line, json, some_ms, LOG_WARN, "login_refused");
    log_line_field(line, &field);
    log_line_end(line);
    assert_true(line->size < sizeof(line->text));
    line->text[line->size] = '\0';
    return line->text;
}

#define HEAD "{\"time\":\"2026-10-14T20:00:00.007Z\",\"level\":\"warn\",\"event\":\"login_refused\""

static void expect_json(struct log_field field, const char *expected)
{
    struct log_line line;
    const char *text = line_of(&line, true, field);
    assert_memory_equal(text, HEAD, sizeof(HEAD) - 1);
    assert_string_equal(text + sizeof(HEAD) - 1, expected);
}

static void test_json_values(void **state)
{
    (void)state;
    expect_json((struct log_field)LOG_S("user", "anna"), ",\"user\":\"anna\"}\n");
    expect_json((struct log_field)LOG_S("user", NULL), ",\"user\":\"\"}\n");
    expect_json((struct log_field)LOG_U("epoch", UINT64_MAX), ",\"epoch\":18446744073709551615}\n");
    expect_json((struct log_field)LOG_I("error", -5), ",\"error\":-5}\n");
    expect_json((struct log_field)LOG_B("user", "a\0b", 3), ",\"user\":\"a\\u0000b\"}\n");
    expect_json((struct log_field)LOG_B("user", NULL, 0), ",\"user\":\"\"}\n");
}

static void test_json_escapes(void **state)
{
    (void)state;
    expect_json((struct log_field)LOG_S("t", "a\"b\\c\nd\r\x1b[2J\x7f"),
                ",\"t\":\"a\\\"b\\\\c\\u000ad\\u000d\\u001b[2J\\u007f\"}\n");
    expect_json((struct log_field)LOG_S("t", "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82"),
                ",\"t\":\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x99\x82\"}\n");
    /* C1 control, line separator, right-to-left override */
    expect_json((struct log_field)LOG_S("t", "\xc2\x9b"
                                             "m\xe2\x80\xa8\xe2\x80\xae"),
                ",\"t\":\"\\u009bm\\u2028\\u202e\"}\n");
}

static void test_malformed_utf8(void **state)
{
    (void)state;
    expect_json((struct log_field)LOG_S("t", "a\xff"), ",\"t\":\"a\\ufffd\"}\n");
    expect_json((struct log_field)LOG_S("t", "\xc3"), ",\"t\":\"\\ufffd\"}\n");
    expect_json((struct log_field)LOG_S("t", "\xc0\x8a"), ",\"t\":\"\\ufffd\\ufffd\"}\n");
    expect_json((struct log_field)LOG_S("t", "\xe0\x80\x8a"),
                ",\"t\":\"\\ufffd\\ufffd\\ufffd\"}\n");
    expect_json((struct log_field)LOG_S("t", "\xed\xa0\x80"),
                ",\"t\":\"\\ufffd\\ufffd\\ufffd\"}\n");
    expect_json((struct log_field)LOG_S("t", "\xf4\x90\x80\x80"),
                ",\"t\":\"\\ufffd\\ufffd\\ufffd\\ufffd\"}\n");
    expect_json((struct log_field)LOG_S("t", "\xe2\x82z"), ",\"t\":\"\\ufffd\\ufffdz\"}\n");
}

static void test_text_form(void **state)
{
    (void)state;
    struct log_line line;
    assert_string_equal(line_of(&line, false, (struct log_field)LOG_S("user", "anna@x-1")),
                        "2026-10-14T20:00:00.007Z warn  login_refused user=anna@x-1\n");
    assert_string_equal(line_of(&line, false, (struct log_field)LOG_S("why", "a b\x1b")),
                        "2026-10-14T20:00:00.007Z warn  login_refused why=\"a b\\u001b\"\n");
    assert_string_equal(line_of(&line, false, (struct log_field)LOG_S("why", "a=b")),
                        "2026-10-14T20:00:00.007Z warn  login_refused why=\"a=b\"\n");
    assert_string_equal(line_of(&line, false, (struct log_field)LOG_S("why", "")),
                        "2026-10-14T20:00:00.007Z warn  login_refused why=\"\"\n");
}

static void test_long_value_is_cut(void **state)
{
    (void)state;
    char name[4000];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    struct log_line line;
    const char *text = line_of(&line, true, (struct log_field)LOG_S("user", name));
    assert_non_null(strstr(text, "xxx...\"}\n"));
    assert_true(line.size <= sizeof(HEAD) + LOG_VALUE_BYTES_MAX + 16);
    text = line_of(&line, false, (struct log_field)LOG_B("user", name, sizeof(name) - 1));
    assert_non_null(strstr(text, "xxx...\"\n"));
}

/* Every number of fields, every length: never too long, always whole. */
static void test_full_line(void **state)
{
    (void)state;
    char value[300];
    memset(value, '\n', sizeof(value));
    for (int json = 0; json < 2; json++) {
        for (size_t size = 0; size < sizeof(value); size++) {
            struct log_line line;
            log_line_begin(&line, json != 0, some_ms, LOG_INFO, "login");
            struct log_field field = LOG_B("k", value, size);
            for (int i = 0; i < 200; i++)
                log_line_field(&line, &field);
            log_line_end(&line);
            assert_true(line.size <= LOG_LINE_BYTES_MAX && line.size > LOG_LINE_BYTES_MAX / 2);
            const char *end = json ? ",\"cut\":true}\n" : " cut=true\n";
            size_t length = strlen(end);
            assert_memory_equal(line.text + line.size - length, end, length);
            size_t quotes = 0;
            for (size_t i = 0; i < line.size; i++)
                quotes += line.text[i] == '"';
            /* Four in each field, twelve in the head, two around cut: no field is torn. */
            assert_true(!json || quotes % 4 == 2);
            assert_ptr_equal(memchr(line.text, '\n', line.size), line.text + line.size - 1);
        }
    }
}

/* Any two bytes: the line keeps its form. */
static void test_all_pairs(void **state)
{
    (void)state;
    for (unsigned pair = 0; pair < 65536; pair++) {
        const unsigned char value[2] = {(unsigned char)(pair >> 8), (unsigned char)pair};
        struct log_line line;
        const char *text = line_of(&line, true, (struct log_field)LOG_B("k", value, 2));
        assert_true(strlen(text) == line.size);
        for (size_t i = 0; i + 1 < line.size; i++)
            assert_true((unsigned char)text[i] >= 0x20 && text[i] != 0x7f);
        assert_memory_equal(text + line.size - 3, "\"}\n", 3);
    }
}

static void test_absurd_time(void **state)
{
    (void)state;
    struct log_line line;
    log_line_begin(&line, true, UINT64_MAX, LOG_ERROR, "stopped");
    log_line_end(&line);
    assert_true(line.size < 200);
}

static void end_again(void *argument)
{
    for (size_t i = 0; i < LOG_LINE_BYTES_MAX; i++)
        log_line_end(argument);
}

static void a_field_behind_the_end(void *argument)
{
    struct log_line *line = argument;
    const struct log_field field = LOG_U("more", 1);
    line->size = sizeof(line->text);
    log_line_field(line, &field);
}

/* What is behind the line would be written over. */
static void a_line_ends_once(void **state)
{
    struct log_line line;
    log_line_begin(&line, false, 0, LOG_INFO, "x");
    assert_true(is_broken(end_again, &line, "size <= sizeof(line->text) - line->size"));
    assert_true(is_broken(a_field_behind_the_end, &line, "sizeof(line->text) - END_BYTES"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_values),       cmocka_unit_test(test_json_escapes),
        cmocka_unit_test(test_malformed_utf8),    cmocka_unit_test(test_text_form),
        cmocka_unit_test(test_long_value_is_cut), cmocka_unit_test(test_full_line),
        cmocka_unit_test(test_all_pairs),         cmocka_unit_test(test_absurd_time),
        cmocka_unit_test(a_line_ends_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
