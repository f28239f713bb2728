/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "proto/varint.h"

static const struct bytes untouched = {(const uint8_t *)"untouched", 9};

static void expect(const void *data, size_t size, size_t limit, int result)
{
    struct bytes frame = untouched;
    size_t used = 4711;
    assert_int_equal(frame_next((struct bytes){data, size}, limit, &frame, &used), result);
    if (result != 1) {
        assert_ptr_equal(frame.data, untouched.data);
        assert_int_equal(used, 4711);
    }
}

static void test_one_frame(void **state)
{
    const uint8_t data[] = "\x03"
                           "abcdef";
    struct bytes frame;
    size_t used;
    assert_int_equal(frame_next((struct bytes){data, 7}, 10, &frame, &used), 1);
    assert_int_equal(used, 4);
    assert_ptr_equal(frame.data, data + 1);
    assert_int_equal(frame.size, 3);
}

static void test_empty_frame(void **state)
{
    const uint8_t data[] = {0x00, 0x01};
    struct bytes frame;
    size_t used;
    assert_int_equal(frame_next((struct bytes){data, 2}, 0, &frame, &used), 1);
    assert_int_equal(used, 1);
    assert_int_equal(frame.size, 0);
}

static void test_incomplete(void **state)
{
    expect(NULL, 0, 10, 0);
    expect("\x03", 1, 10, 0);
    expect("\x03"
           "ab",
           3, 10, 0);
    expect("\x80", 1, 10, 0);
    expect("\x80\x80\x80\x80", 4, 10, 0);
}

static void test_limit(void **state)
{
    for (size_t limit = 0; limit < 70000; limit += limit < 300 ? 1 : 997) {
        uint8_t *data = calloc(1, limit + 16);
        assert_non_null(data);
        size_t prefix = varint_write(data, limit);
        expect(data, prefix, limit, limit == 0 ? 1 : 0);
        expect(data, prefix + limit, limit, 1);
        if (limit > 0)
            expect(data, prefix + limit - 1, limit, 0);
        /* one more is refused before any of it is there */
        prefix = varint_write(data, limit + 1);
        expect(data, prefix, limit, -EMSGSIZE);
        expect(data, prefix + limit + 1, limit, -EMSGSIZE);
        free(data);
    }
}

static void test_long_lengths(void **state)
{
    expect("\x81\x80\x80\x80\x00x", 6, 10, 1);
    expect("\xff\xff\xff\xff\x0f", 5, 10, -EMSGSIZE);
    expect("\xff\xff\xff\xff\x7f", 5, 10, -EMSGSIZE);
    expect("\x80\x80\x80\x80\x80", 5, 10, -EPROTO);
    expect("\x80\x80\x80\x80\x80\x00", 6, 10, -EPROTO);
    expect("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10, SIZE_MAX, -EPROTO);
    expect("\xff\xff\xff\xff\x7f", 5, SIZE_MAX, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_frame),    cmocka_unit_test(test_empty_frame),
        cmocka_unit_test(test_incomplete),   cmocka_unit_test(test_limit),
        cmocka_unit_test(test_long_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
