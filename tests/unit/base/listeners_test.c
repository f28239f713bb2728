/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/listeners.h"

/* The rows of listeners.def, as those who name a listener find them. */

static void an_option_finds_its_row(void **state)
{
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        assert_int_equal(listener_of_option(listener_rows[kind].option), kind);
    assert_int_equal(listener_of_option("listen.tcp"), LISTENER_tcp);
    assert_int_equal(listener_of_option(""), LISTENERS);
    assert_int_equal(listener_of_option("listen.wait_ms"), LISTENERS);
}

/* What the store has may be of a row that there is no more, or not yet. */
static void a_name_finds_its_row(void **state)
{
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        assert_int_equal(listener_of_name(listener_name(kind)), kind);
    assert_string_equal(listener_name(LISTENER_tcp), "tcp");
    assert_string_equal(listener_name(LISTENERS), "");
    assert_int_equal(listener_of_name(""), LISTENERS);
    assert_int_equal(listener_of_name("pigeon"), LISTENERS);
}

/* What an operator reads has to tell them apart. */
static void no_two_are_called_alike(void **state)
{
    for (unsigned kind = 1; kind < LISTENERS; kind++)
        for (unsigned other = 0; other < kind; other++) {
            assert_string_not_equal(listener_rows[kind].name, listener_rows[other].name);
            assert_string_not_equal(listener_rows[kind].whom, listener_rows[other].whom);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_option_finds_its_row),
        cmocka_unit_test(a_name_finds_its_row),
        cmocka_unit_test(no_two_are_called_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
