/* SPDX-License-Identifier: Apache-2.0 */
#include "instance/calls.h"

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
                         .deadline_ms = number * 10,
                         .mail_seq = number + 1000};
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

/* Takes out what a walk finds; gives how many. */
static uint32_t walk(struct calls *calls, uint64_t due_ms, uint64_t mail_seq, uint32_t step)
{
    const struct calls_wanted wanted = {due_ms, mail_seq};
    struct call call;
    uint32_t taken = 0;
    calls_walk(calls);
    while (!calls_walk_is_over(calls)) {
        uint32_t places = step;
        while (calls_walk_on(calls, &wanted, &places, &call)) {
            assert_true(call.deadline_ms <= due_ms || call.mail_seq <= mail_seq);
            taken++;
        }
        assert_true(places == 0 || calls_walk_is_over(calls));
    }
    return taken;
}

static void a_walk_finds_who_is_not_wanted_any_more(void **state)
{
    for (uint32_t step = 1; step <= 1000; step *= 10) {
        struct calls *calls = calls_create();
        for (uint64_t number = 1; number <= 100; number++)
            add(calls, number);
        assert_int_equal(walk(calls, 9, 0, step), 0);
        assert_int_equal(walk(calls, 500, 0, step), 50);
        assert_true(calls_has(calls, 51));
        assert_int_equal(walk(calls, 0, 1070, step), 20);
        assert_true(calls_has(calls, 71));
        assert_int_equal(walk(calls, UINT64_MAX, 0, step), 30);
        assert_int_equal(calls_count(calls), 0);
        calls_destroy(calls);
    }
}

/* It looks at no more places than it may, however many calls there are. */
static void a_step_of_a_walk_is_bounded(void **state)
{
    static const struct calls_wanted wanted = {.due_ms = UINT64_MAX};
    struct calls *calls = calls_create();
    struct call call;
    for (uint64_t number = 1; number <= 10000; number++)
        add(calls, number);
    calls_walk(calls);
    uint32_t places = 100;
    uint32_t taken = 0;
    while (calls_walk_on(calls, &wanted, &places, &call))
        taken++;
    assert_int_equal(places, 0);
    assert_in_range(taken, 20, 100);
    assert_false(calls_walk_is_over(calls));
    calls_destroy(calls);
}

/* Others come, so that the table grows, and others go, while a walk is under way: whoever was there
 * all the time is found by this walk or by the next. */
static void a_walk_goes_on_while_others_come_and_go(void **state)
{
    static const struct calls_wanted wanted = {.due_ms = 10000};
    struct calls *calls = calls_create();
    struct call call;
    for (uint64_t number = 1; number <= 1000; number++)
        add(calls, number);
    calls_walk(calls);
    for (uint64_t number = 1001; !calls_walk_is_over(calls); number++) {
        uint32_t places = 7;
        while (calls_walk_on(calls, &wanted, &places, &call))
            continue;
        if (number <= 4000)
            add(calls, number);
        if (number % 3 == 0)
            calls_take(calls, number - 1, &call);
    }
    walk(calls, 10000, 0, 7);
    for (uint64_t number = 1; number <= 1000; number++)
        assert_false(calls_has(calls, number));
    assert_int_equal(walk(calls, 10000, 0, 7), 0);
    assert_true(calls_count(calls) > 100);
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
    static const struct calls_wanted early = {.due_ms = 2000};
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
        uint32_t places = round % 5000 == 4999 ? UINT32_MAX : 0;
        if (places > 0)
            calls_walk(calls);
        while (calls_walk_on(calls, &early, &places, &call)) {
            assert_true(there[call.call] && call.call <= 200);
            there[call.call] = false;
            count--;
        }
        assert_true(places == 0 || calls_walk_is_over(calls));
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
        cmocka_unit_test(a_walk_finds_who_is_not_wanted_any_more),
        cmocka_unit_test(a_step_of_a_walk_is_bounded),
        cmocka_unit_test(a_walk_goes_on_while_others_come_and_go),
        cmocka_unit_test(it_does_what_a_list_of_flags_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
