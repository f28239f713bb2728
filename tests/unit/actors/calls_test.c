/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/calls.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NUMBERS = 512, ROUNDS = 200000 };

static struct call some_call(uint64_t number)
{
    return (struct call){.call = number,
                         .caller = number * 3,
                         .epoch = number + 1,
                         .request = number + 2,
                         .deadline_ms = number * 10};
}

static void add(struct calls *calls, uint64_t number)
{
    struct call call = some_call(number);
    assert_int_equal(calls_add(calls, &call), 0);
}

static void a_call_is_taken_once(void **state)
{
    struct calls *calls = calls_create();
    struct call call;
    assert_non_null(calls);
    assert_false(calls_take(calls, 1, &call));
    add(calls, 1);
    assert_true(calls_has(calls, 1));
    assert_true(calls_take(calls, 1, &call));
    struct call wanted = some_call(1);
    assert_memory_equal(&call, &wanted, sizeof(call));
    assert_false(calls_has(calls, 1));
    assert_false(calls_take(calls, 1, &call));
    assert_int_equal(calls_count(calls), 0);
    calls_destroy(calls);
    calls_destroy(NULL);
}

/* ReplyTo names its call by a number of the backend's choice; 0 marks an empty slot inside. */
static void call_0_is_never_there(void **state)
{
    struct calls *calls = calls_create();
    struct call call;
    assert_false(calls_has(calls, 0));
    assert_false(calls_take(calls, 0, &call));
    add(calls, 64);
    assert_false(calls_take(calls, 0, &call));
    assert_int_equal(calls_count(calls), 1);
    calls_destroy(calls);
}

static void a_number_is_there_once(void **state)
{
    struct calls *calls = calls_create();
    struct call again = some_call(9);
    add(calls, 9);
    assert_int_equal(calls_add(calls, &again), -EEXIST);
    assert_int_equal(calls_count(calls), 1);
    calls_destroy(calls);
}

static void it_grows_and_forgets_nothing(void **state)
{
    struct calls *calls = calls_create();
    struct call call;
    for (uint64_t number = 1; number <= 10000; number++)
        add(calls, number * 64); /* all want the same slot at first */
    assert_int_equal(calls_count(calls), 10000);
    for (uint64_t number = 1; number <= 10000; number++) {
        assert_true(calls_take(calls, number * 64, &call));
        assert_int_equal(call.request, number * 64 + 2);
    }
    assert_int_equal(calls_count(calls), 0);
    calls_destroy(calls);
}

static void every_due_call_is_taken(void **state)
{
    struct calls *calls = calls_create();
    struct call call;
    uint32_t taken = 0;
    for (uint64_t number = 1; number <= 100; number++)
        add(calls, number);
    assert_false(calls_take_due(calls, 9, &call));
    while (calls_take_due(calls, 500, &call)) {
        assert_true(call.deadline_ms <= 500);
        taken++;
    }
    assert_int_equal(taken, 50);
    assert_true(calls_has(calls, 51));
    while (calls_take_due(calls, UINT64_MAX, &call))
        taken++;
    assert_int_equal(taken, 100);
    assert_int_equal(calls_count(calls), 0);
    calls_destroy(calls);
}

static void add_or_repeat(struct calls *calls, bool *there, uint64_t number, uint32_t *count)
{
    struct call call = some_call(number);
    assert_int_equal(calls_add(calls, &call), there[number] ? -EEXIST : 0);
    *count += !there[number];
    there[number] = true;
}

static void take(struct calls *calls, bool *there, uint64_t number, uint32_t *count)
{
    struct call call;
    assert_true(calls_take(calls, number, &call) == there[number]);
    if (there[number])
        assert_int_equal(call.caller, number * 3);
    *count -= there[number];
    there[number] = false;
}

static void it_does_what_a_list_of_flags_does(void **state)
{
    struct calls *calls = calls_create();
    struct call call;
    bool there[NUMBERS] = {false};
    uint32_t count = 0;
    srand(3);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t number = (uint64_t)rand() % (NUMBERS - 1) + 1;
        if (rand() % 2 == 0)
            number |= 64 * 3; /* crowds some slots */
        if (rand() % 100 < (round / 2000 % 2 == 0 ? 60 : 35))
            add_or_repeat(calls, there, number, &count);
        else
            take(calls, there, number, &count);
        if (round % 5000 == 4999)
            while (calls_take_due(calls, 2000, &call)) {
                assert_true(there[call.call] && call.call <= 200);
                there[call.call] = false;
                count--;
            }
        assert_int_equal(calls_count(calls), count);
        number = (uint64_t)rand() % NUMBERS;
        assert_true(calls_has(calls, number) == there[number]);
    }
    calls_destroy(calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_is_taken_once),
        cmocka_unit_test(call_0_is_never_there),
        cmocka_unit_test(a_number_is_there_once),
        cmocka_unit_test(it_grows_and_forgets_nothing),
        cmocka_unit_test(every_due_call_is_taken),
        cmocka_unit_test(it_does_what_a_list_of_flags_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
