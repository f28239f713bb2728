/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "actors/spent.h"

/* What was spent by those who are gone. */

static void put(struct spent *spent, const char *name, uint64_t due_ns)
{
    spent_put(spent, bytes_of_text(name), (struct allowance){due_ns});
}

static uint64_t take(struct spent *spent, const char *name)
{
    return spent_take(spent, bytes_of_text(name)).due_ns;
}

static void who_comes_back_has_what_he_left(void **state)
{
    struct spent *spent = spent_create(env_system());
    assert_int_equal(take(spent, "ann"), 0);
    put(spent, "ann", 1000);
    put(spent, "bob", 2000);
    put(spent, "ann", 500); /* the last time counts */
    assert_int_equal(take(spent, "ann"), 500);
    assert_int_equal(take(spent, "ann"), 0); /* he has it himself now */
    assert_int_equal(take(spent, "bob"), 2000);
    put(spent, "cleo", 0);
    assert_int_equal(take(spent, "cleo"), 0);
    spent_destroy(spent);
    put(NULL, "ann", 1);
    assert_int_equal(take(NULL, "ann"), 0);
    spent_destroy(NULL);
}

/* More than there are places: those go first that are whole first. */
static void who_owes_most_is_remembered(void **state)
{
    struct spent *spent = spent_create(env_system());
    char name[24];
    enum { PEOPLE = 100000, DEBTORS = 100 };
    for (int i = 0; i < DEBTORS; i++) {
        snprintf(name, sizeof(name), "debtor%d", i);
        put(spent, name, 5000);
    }
    for (int i = 0; i < PEOPLE; i++) {
        snprintf(name, sizeof(name), "%d", i);
        put(spent, name, 4999);
    }
    for (int i = 0; i < DEBTORS; i++) {
        snprintf(name, sizeof(name), "debtor%d", i);
        assert_int_equal(take(spent, name), 5000);
    }
    int left = 0;
    for (int i = 0; i < PEOPLE; i++) {
        snprintf(name, sizeof(name), "%d", i);
        left += take(spent, name) != 0;
    }
    assert_in_range(left, 1000, 16384); /* the memory is fixed */
    spent_destroy(spent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_comes_back_has_what_he_left),
        cmocka_unit_test(who_owes_most_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
