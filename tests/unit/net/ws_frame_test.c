/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "net/ws_frame.h"

/* The frames of RFC 6455. */

static const struct ws_limits limits = {.message_bytes = 1000, .fragments = 4};

static void a_message_is_unmasked_in_place(void **state)
{
    uint8_t data[] = {0x82, 0x83, 1, 2, 3, 4, 2 ^ 1, 'a' ^ 2, 'b' ^ 3};
    struct ws_reader reader = {0};
    struct ws_input input = {.data = data, .size = sizeof(data)};
    struct ws_control control;
    assert_int_equal(ws_read(&reader, &limits, &input, &control), 0);
    assert_int_equal(input.at, sizeof(data));
    assert_int_equal(input.payload, 3);
    assert_memory_equal(data,
                        "\x02"
                        "ab",
                        3);
}

static void a_ping_stands_between_two_pieces(void **state)
{
    uint8_t data[] = {0x02, 0x81, 0,   0,    0,    0, 2, 0x89, 0x81, 0,   0,
                      0,    0,    'p', 0x80, 0x82, 0, 0, 0,    0,    'a', 'b'};
    struct ws_reader reader = {0};
    struct ws_input input = {.data = data, .size = sizeof(data)};
    struct ws_control control;
    assert_int_equal(ws_read(&reader, &limits, &input, &control), WS_PING);
    assert_int_equal(control.size, 1);
    assert_int_equal(control.data[0], 'p');
    assert_int_equal(ws_read(&reader, &limits, &input, &control), 0);
    assert_int_equal(input.payload, 3);
    assert_memory_equal(data,
                        "\x02"
                        "ab",
                        3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_unmasked_in_place),
        cmocka_unit_test(a_ping_stands_between_two_pieces),
    };
    return cmocka_run_group_tests_name("net.ws_frame", tests, NULL, NULL);
}
