/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/traceparent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* That of the examples of W3C Trace Context. */
static const char GOOD[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/* In an allocation of its own, so that a look behind the end is seen. */
static bool judge(const char *text, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, text, size);
    bool valid = traceparent_valid((struct bytes){copy, size});
    free(copy);
    return valid;
}

static void it_is_one(void **state)
{
    static const char *const good[] = {
        GOOD,
        "00-00000000000000000000000000000001-0000000000000001-00",
        "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-ff", /* flags that nobody knows */
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", /* a later version */
        "fe-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    assert_int_equal(strlen(GOOD), TRACEPARENT_BYTES);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(judge(good[i], strlen(good[i])));
}

static void it_is_none(void **state)
{
    static const char *const bad[] = {
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", /* a version that is none */
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01", /* no trace */
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", /* no parent */
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01", /* upper case */
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-then",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        " 0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(judge(bad[i], strlen(bad[i])));
    for (size_t size = 0; size < TRACEPARENT_BYTES; size++)
        assert_false(judge(GOOD, size));
    assert_false(judge(GOOD, TRACEPARENT_BYTES + 1)); /* with its NUL */
    assert_false(traceparent_valid((struct bytes){0}));
}

/* At each place each byte: a digit where a digit stands, a dash where a dash stands. */
static void each_byte_counts(void **state)
{
    char text[TRACEPARENT_BYTES + 1];
    for (size_t at = 0; at < TRACEPARENT_BYTES; at++)
        for (int byte = 0; byte < 256; byte++) {
            bool is_digit = byte != 0 && strchr("0123456789abcdef", byte) != NULL;
            memcpy(text, GOOD, sizeof(text));
            text[at] = (char)byte;
            assert_int_equal(judge(text, TRACEPARENT_BYTES),
                             GOOD[at] == '-' ? byte == '-' : is_digit);
        }
}

static void its_id_is_the_one_of_the_trace(void **state)
{
    assert_true(bytes_equal(traceparent_id(bytes_of_text(GOOD)),
                            bytes_of_text("4bf92f3577b34da6a3ce929d0e0e4736")));
    assert_int_equal(traceparent_id((struct bytes){0}).size, 0);
    assert_true(trace_id_valid(bytes_of_text("4bf92f3577b34da6a3ce929d0e0e4736")));
    assert_false(trace_id_valid(bytes_of_text("4bf92f3577b34da6a3ce929d0e0e473")));
    assert_false(trace_id_valid(bytes_of_text("4BF92f3577b34da6a3ce929d0e0e4736")));
    assert_false(trace_id_valid(bytes_of_text("00000000000000000000000000000000")));
    assert_false(trace_id_valid((struct bytes){0}));
}

/* All that is valid comes back; digits that are none say so. */
static void it_is_packed(void **state)
{
    static const char *const good[] = {GOOD,
                                       "fe-0123456789abcdeffedcba9876543210-f0e1d2c3b4a59687-ff",
                                       "00-00000000000000000000000000000001-1000000000000000-00"};
    uint8_t packed[TRACEPARENT_PACKED_BYTES], text[TRACEPARENT_BYTES];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        traceparent_pack(bytes_of_text(good[i]), packed);
        assert_true(traceparent_unpack(packed, text));
        assert_memory_equal(text, good[i], sizeof(text));
    }
    memset(packed, 0, sizeof(packed));
    assert_false(traceparent_unpack(packed, text)); /* no ids */
    memset(packed, 0xff, sizeof(packed));
    assert_false(traceparent_unpack(packed, text)); /* version ff */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_one),        cmocka_unit_test(it_is_none),
        cmocka_unit_test(each_byte_counts), cmocka_unit_test(its_id_is_the_one_of_the_trace),
        cmocka_unit_test(it_is_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
