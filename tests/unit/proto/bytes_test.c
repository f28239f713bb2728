/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/bytes.h"

static void test_equal(void **state)
{
    struct bytes empty = {NULL, 0};
    assert_true(bytes_equal(empty, bytes_of_text("")));
    assert_true(bytes_equal(bytes_of_text("abc"), bytes_of_text("abc")));
    assert_false(bytes_equal(bytes_of_text("abc"), bytes_of_text("abd")));
    assert_false(bytes_equal(bytes_of_text("abc"), bytes_of_text("ab")));
    assert_false(bytes_equal(empty, bytes_of_text("a")));
}

/* Each call begins where the one before it ended, and an empty run, which may be NULL, is nothing.
 */
static void test_put(void **state)
{
    uint8_t room[] = "........";
    uint8_t *end = bytes_put(bytes_put(room, bytes_of_text("abc")), (struct bytes){NULL, 0});
    assert_ptr_equal(bytes_put(end, bytes_of_text("de")), room + 5);
    assert_string_equal((const char *)room, "abcde...");
}

static void test_append_grows(void **state)
{
    struct buffer buffer = {0};
    for (unsigned i = 0; i < 1000; i++) {
        uint8_t chunk[7] = {(uint8_t)i, 1, 2, 3, 4, 5, (uint8_t)(i >> 8)};
        assert_int_equal(buffer_append(&buffer, chunk, sizeof(chunk)), 0);
    }
    assert_int_equal(buffer.size, 7000);
    assert_true(buffer.capacity >= buffer.size);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(buffer.data[i * 7], i & 0xff);
        assert_int_equal(buffer.data[i * 7 + 6], i >> 8);
    }
    buffer_fini(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.size, 0);
    assert_int_equal(buffer_append(&buffer, "usable", 6), 0);
    buffer_fini(&buffer);
}

static void test_append_nothing(void **state)
{
    struct buffer buffer = {0};
    assert_int_equal(buffer_append(&buffer, NULL, 0), 0);
    assert_int_equal(buffer.size, 0);
    buffer_fini(&buffer);
}

static void test_reserve(void **state)
{
    struct buffer buffer = {0};
    assert_non_null(buffer_reserve(&buffer, 0));
    assert_int_equal(buffer_append(&buffer, "ab", 2), 0);
    uint8_t *room = buffer_reserve(&buffer, 5000);
    assert_ptr_equal(room, buffer.data + 2);
    assert_int_equal(buffer.size, 2);
    assert_true(buffer.capacity >= 5002);
    memset(room, 'x', 5000);
    buffer_fini(&buffer);
}

/* Sizes that would wrap around are refused and change nothing. */
static void test_too_large(void **state)
{
    struct buffer buffer = {0};
    assert_int_equal(buffer_append(&buffer, "ab", 2), 0);
    struct buffer before = buffer;
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    assert_null(buffer_reserve(&buffer, SIZE_MAX - 1));
    assert_null(buffer_reserve(&buffer, SIZE_MAX / 2));
    assert_int_equal(buffer_append(&buffer, "x", SIZE_MAX - 1), -ENOMEM);
    assert_memory_equal(&buffer, &before, sizeof(buffer));
    buffer_fini(&buffer);
}

static void test_consume(void **state)
{
    struct buffer buffer = {0};
    buffer_consume(&buffer, 0);
    assert_int_equal(buffer_append(&buffer, "abcdef", 6), 0);
    buffer_consume(&buffer, 0);
    assert_int_equal(buffer.size, 6);
    buffer_consume(&buffer, 2);
    assert_int_equal(buffer.size, 4);
    assert_memory_equal(buffer.data, "cdef", 4);
    buffer_consume(&buffer, 4);
    assert_int_equal(buffer.size, 0);
    buffer_fini(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal),     cmocka_unit_test(test_append_grows),
        cmocka_unit_test(test_reserve),   cmocka_unit_test(test_append_nothing),
        cmocka_unit_test(test_too_large), cmocka_unit_test(test_consume),
        cmocka_unit_test(test_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
