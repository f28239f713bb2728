/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broken.h"

static void be_wrong(void *argument)
{
    int one = 1;
    if (argument != NULL)
        CHECK_DEBT(one == 2, "a rare case");
    else
        CHECK(one == 2);
}

static void test_holds(void **state)
{
    (void)state;
    int calls = 0;
    CHECK(++calls == 1); /* evaluated exactly once, also in release */
    CHECK_DEBT(++calls == 2, "nothing");
    assert_int_equal(calls, 2);
    CHECK_SLOW(calls == 2); /* in release it is not evaluated */
}

static void test_fails(void **state)
{
    (void)state;
    char said[1024];
    assert_int_equal(broken_signal(be_wrong, NULL, said, sizeof(said)), SIGABRT);
    assert_non_null(strstr(said, "check_test.c:"));
    assert_non_null(strstr(said, "one == 2"));
    assert_non_null(strstr(said, "broken invariant"));
    assert_int_equal(broken_signal(be_wrong, said, said, sizeof(said)), SIGABRT);
    assert_non_null(strstr(said, "not handled: a rare case"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
