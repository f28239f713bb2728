/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/refusals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Who was refused, until a transaction takes them: as many as there is room for and no more, equal
 * ones as one, and what found no place is counted. */

static uint64_t wall_ms(void *context)
{
    return ++*(uint64_t *)context;
}

static uint64_t clock_ms;
static const struct env env = {.wall_ms = wall_ms, .context = &clock_ms};
static struct history_record list[REFUSALS_WAITING_MAX];

static void note(struct refusals *refusals, const char *user, const char *address,
                 const char *detail)
{
    const struct refusal refusal = {.kind = HISTORY_LOGIN_REFUSED,
                                    .user = user,
                                    .address = address,
                                    .client = "unit/1",
                                    .transport = "tcp",
                                    .detail = detail,
                                    .limit = "limits.users",
                                    .bound = 9};
    refusals_note(refusals, &refusal);
}

static void equal_ones_of_a_host_are_one(void **state)
{
    struct refusals *refusals = refusals_create(&env, NULL);
    assert_false(refusals_wait(refusals));
    note(refusals, "anna", "10.0.0.1:1", "no");
    note(refusals, "anna", "10.0.0.1:2", "no");
    note(refusals, "anna", "10.0.0.2:1", "no");    /* another host */
    note(refusals, "anna", "10.0.0.1:3", "never"); /* another reason */
    note(refusals, "bob", "10.0.0.1:1", "no");     /* another name */
    note(refusals, "anna", "10.0.0.1:4", "no");
    assert_true(refusals_wait(refusals));
    assert_int_equal(refusals_take(refusals, list), 4);
    assert_false(refusals_wait(refusals));
    assert_int_equal(list[0].count, 3);
    assert_string_equal(list[0].address, "10.0.0.1:4"); /* the newest */
    assert_string_equal(list[0].limit, "limits.users");
    assert_int_equal(list[0].bound, 9);
    assert_int_equal(list[1].count, 1);
    assert_int_equal(refusals_take(refusals, list), 0);
    refusals_destroy(refusals);
}

static void what_finds_no_place_is_counted(void **state)
{
    struct refusals *refusals = refusals_create(&env, NULL);
    char user[16];
    for (int i = 0; i < REFUSALS_WAITING_MAX + 7; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        note(refusals, user, "10.0.0.1:1", "no");
    }
    assert_int_equal(refusals_take(refusals, list), REFUSALS_WAITING_MAX);
    for (int i = 0; i < REFUSALS_WAITING_MAX; i++)
        assert_int_equal(list[i].missing, 0);
    note(refusals, "anna", "10.0.0.1:1", "no"); /* the next one says it, and once */
    note(refusals, "bob", "10.0.0.1:1", "no");
    assert_int_equal(refusals_take(refusals, list), 2);
    assert_int_equal(list[0].missing, 7);
    assert_int_equal(list[1].missing, 0);
    refusals_destroy(refusals);
}

/* Strangers say what they like. */
static void names_and_texts_of_any_kind(void **state)
{
    struct refusals *refusals = refusals_create(&env, NULL);
    char longest[2000];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    note(refusals, "", "10.0.0.1:1", "no");
    note(refusals, "a b", "10.0.0.1:1", "no");
    note(refusals, longest, "10.0.0.1:1", "no");
    assert_false(refusals_wait(refusals));
    note(refusals, "anna", longest, longest);
    assert_int_equal(refusals_take(refusals, list), 1);
    assert_int_equal(strlen(list[0].address), STORE_ADDRESS_BYTES_MAX);
    assert_int_equal(strlen(list[0].detail), STORE_DETAIL_BYTES_MAX);
    refusals_note(NULL, &(struct refusal){.user = "anna"});
    assert_false(refusals_wait(NULL));
    refusals_destroy(NULL);
    refusals_destroy(refusals);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_ones_of_a_host_are_one),
        cmocka_unit_test(what_finds_no_place_is_counted),
        cmocka_unit_test(names_and_texts_of_any_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
