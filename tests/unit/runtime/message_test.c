/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/message.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct greeting {
    struct message header;
    char text[40];
};

static void only_the_header_is_set(void **state)
{
    struct greeting *greeting = message_create(17, sizeof(*greeting));
    assert_non_null(greeting);
    assert_null(greeting->header.next);
    assert_int_equal(greeting->header.kind, 17);
    assert_int_equal(greeting->header.flags, 0);
    assert_int_equal(greeting->header.generation, 0);
    assert_int_equal(greeting->header.size, sizeof(*greeting));
    greeting->text[sizeof(greeting->text) - 1] = 'x'; /* the memory is there */
    message_destroy(&greeting->header);
}

static void the_smallest_is_a_header(void **state)
{
    struct message *message = message_create(UINT16_MAX, sizeof(*message));
    assert_non_null(message);
    assert_int_equal(message->kind, UINT16_MAX);
    message_destroy(message);
    message_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_header_is_set),
        cmocka_unit_test(the_smallest_is_a_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
