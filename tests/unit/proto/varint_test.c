/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "proto/varint.h"

static void check_round_trip(uint64_t value)
{
    uint8_t data[VARINT_BYTES_MAX];
    size_t size = varint_write(data, value);
    assert_int_equal(size, varint_size(value));
    uint64_t back = ~value;
    assert_int_equal(varint_read((struct bytes){data, size}, &back), size);
    assert_true(back == value);
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(varint_read((struct bytes){data, cut}, &back), 0);
}

static void test_around_every_bit(void **state)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t value = UINT64_C(1) << bit;
        check_round_trip(value - 1);
        check_round_trip(value);
        check_round_trip(value + 1);
    }
    check_round_trip(UINT64_MAX);
}

static void test_sizes(void **state)
{
    assert_int_equal(varint_size(0), 1);
    assert_int_equal(varint_size(127), 1);
    assert_int_equal(varint_size(128), 2);
    assert_int_equal(varint_size(16383), 2);
    assert_int_equal(varint_size(16384), 3);
    assert_int_equal(varint_size(UINT64_C(1) << 63), 10);
    assert_int_equal(varint_size((UINT64_C(1) << 63) - 1), 9);
}

static void test_longer_than_needed(void **state)
{
    uint8_t data[] = {0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    uint64_t value = 0;
    assert_int_equal(varint_read((struct bytes){data, sizeof(data)}, &value), 10);
    assert_int_equal(value, 1);
}

static void test_overflow(void **state)
{
    uint8_t data[11];
    uint64_t value = 77;
    memset(data, 0x80, sizeof(data));
    data[9] = 0x02;
    assert_int_equal(varint_read((struct bytes){data, 10}, &value), -EPROTO);
    assert_int_equal(value, 77);
    assert_int_equal(varint_read_wrapping((struct bytes){data, 10}, &value), 10);
    assert_int_equal(value, 0);
    data[9] = 0x01;
    assert_int_equal(varint_read((struct bytes){data, 10}, &value), 10);
    assert_true(value == UINT64_C(1) << 63);
    data[9] = 0x80;
    assert_int_equal(varint_read((struct bytes){data, 9}, &value), 0);
    assert_int_equal(varint_read((struct bytes){data, 10}, &value), -EPROTO);
    assert_int_equal(varint_read((struct bytes){data, 11}, &value), -EPROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_around_every_bit),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_longer_than_needed),
        cmocka_unit_test(test_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
