/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/base64url.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static int decode(const char *text, uint8_t *to, size_t room, size_t *size)
{
    return base64url_decode(bytes_of_text(text), to, room, size);
}

static void known_texts_both_ways(void **state)
{
    static const char *const rows[][2] = {
        {"", ""},           {"f", "Zg"},          {"fo", "Zm8"},          {"foo", "Zm9v"},
        {"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"foobar", "Zm9vYmFy"}, {"\xfb\xff\xfe", "-__-"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        char text[16];
        uint8_t bytes[16];
        size_t size = 99;
        assert_int_equal(base64url_encode(bytes_of_text(rows[i][0]), text), strlen(rows[i][1]));
        assert_string_equal(text, rows[i][1]);
        assert_int_equal(decode(rows[i][1], bytes, sizeof(bytes), &size), 0);
        assert_int_equal(size, strlen(rows[i][0]));
        assert_memory_equal(bytes, rows[i][0], size);
        assert_int_equal(BASE64URL_TEXT(size), strlen(rows[i][1]));
        assert_int_equal(BASE64URL_BYTES(strlen(rows[i][1])), size);
    }
}

static void every_byte_survives(void **state)
{
    for (size_t size = 0; size <= 256; size++) {
        uint8_t bytes[256], back[256];
        char text[BASE64URL_TEXT(256) + 1];
        size_t got;
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(255 - i);
        base64url_encode((struct bytes){bytes, size}, text);
        assert_int_equal(decode(text, back, size, &got), 0);
        assert_int_equal(got, size);
        assert_memory_equal(back, bytes, size);
    }
}

static void one_text_for_each_run_of_bytes(void **state)
{
    static const char *const wrong[] = {
        "Z",     "Zm9vY",             /* no such length */
        "Zg==",  "Zm8=",   "=",       /* padding */
        "Zm9 v", "Zm9v\n", " Zm9v",   /* white space */
        "+//+",  "Zm9%",   "Zm\x80v", /* other characters */
        "Zh",    "Zn",     "Zm9",     /* bits that no byte needs */
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        uint8_t bytes[16];
        size_t size;
        if (decode(wrong[i], bytes, sizeof(bytes), &size) != -EINVAL)
            fail_msg("taken: '%s'", wrong[i]);
    }
}

static void no_more_than_the_room(void **state)
{
    uint8_t bytes[4] = {0};
    size_t size;
    assert_int_equal(decode("Zm9v", bytes, 3, &size), 0);
    assert_int_equal(decode("Zm9v", bytes, 2, &size), -ENOSPC);
    assert_int_equal(decode("Zm9vYg", bytes, 3, &size), -ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_texts_both_ways),
        cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(one_text_for_each_run_of_bytes),
        cmocka_unit_test(no_more_than_the_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
