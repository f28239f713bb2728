/* SPDX-License-Identifier: Apache-2.0 */
#include "user/requests.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX = 40, ROUNDS = 200000 };

static const uint64_t KEY[2] = {1, 2};

static int add(struct requests **requests, uint64_t id, uint64_t call, uint64_t deadline_ms)
{
    struct request request = {.id = id, .call = call, .deadline_ms = deadline_ms};
    return requests_add(requests, &request, MAX, KEY);
}

static void nothing_is_in_an_absent_table(void **state)
{
    struct requests *requests = NULL;
    struct request expired;
    assert_null(requests_find(requests, 1));
    assert_int_equal(requests_count(requests), 0);
    assert_int_equal(requests_calls(requests), 0);
    assert_true(requests_due_ms(requests) == UINT64_MAX);
    assert_false(requests_expire(&requests, UINT64_MAX, &expired));
    requests_remove(&requests, 1);
    requests_destroy(requests);
}

static void an_id_is_in_flight_once(void **state)
{
    struct requests *requests = NULL;
    assert_int_equal(add(&requests, 7, 0, 0), 0);
    assert_int_equal(add(&requests, 7, 3, 10), -EEXIST);
    assert_int_equal(requests_find(requests, 7)->call, 0);
    assert_null(requests_find(requests, 8));
    assert_null(requests_find(requests, 0));
    requests_remove(&requests, 8);
    assert_int_equal(requests_count(requests), 1);
    requests_remove(&requests, 7);
    assert_null(requests); /* the table went with the last one */
    assert_int_equal(add(&requests, 7, 0, 0), 0);
    requests_destroy(requests);
}

static void the_limit_stands_at_n(void **state)
{
    struct requests *requests = NULL;
    for (uint64_t id = 1; id <= MAX; id++)
        assert_int_equal(add(&requests, id, 0, 0), 0);
    assert_int_equal(add(&requests, MAX + 1, 0, 0), -ENOSPC);
    assert_int_equal(add(&requests, MAX, 0, 0), -EEXIST); /* the sharper answer wins */
    assert_int_equal(requests_count(requests), MAX);
    requests_remove(&requests, 1);
    assert_int_equal(add(&requests, MAX + 1, 0, 0), 0);
    requests_destroy(requests);
}

static void only_calls_expire_and_only_when_due(void **state)
{
    struct requests *requests = NULL;
    struct request expired;
    add(&requests, 1, 0, 5); /* a Send has no deadline, whatever stands there */
    add(&requests, 2, 21, 300);
    add(&requests, 3, 22, 100);
    assert_int_equal(requests_calls(requests), 2);
    assert_int_equal(requests_due_ms(requests), 100);
    assert_false(requests_expire(&requests, 99, &expired));
    assert_true(requests_expire(&requests, 100, &expired));
    assert_int_equal(expired.id, 3);
    assert_int_equal(expired.call, 22);
    assert_false(requests_expire(&requests, 100, &expired));
    assert_int_equal(requests_due_ms(requests), 300); /* looked through: exact again */
    assert_true(requests_expire(&requests, UINT64_MAX - 1, &expired));
    assert_int_equal(expired.id, 2);
    assert_false(requests_expire(&requests, UINT64_MAX - 1, &expired));
    assert_true(requests_due_ms(requests) == UINT64_MAX);
    assert_int_equal(requests_count(requests), 1);
    requests_destroy(requests);
}

/* --- against a model -------------------------------------------------------------------------- */

struct model {
    struct request rows[MAX];
    uint32_t count;
};

static struct request *model_find(struct model *model, uint64_t id)
{
    for (uint32_t i = 0; i < model->count; i++)
        if (model->rows[i].id == id)
            return &model->rows[i];
    return NULL;
}

static void model_remove(struct model *model, uint64_t id)
{
    struct request *row = model_find(model, id);
    if (row != NULL)
        *row = model->rows[--model->count];
}

static uint64_t model_due_ms(const struct model *model, uint32_t *calls)
{
    uint64_t due = UINT64_MAX;
    *calls = 0;
    for (uint32_t i = 0; i < model->count; i++)
        if (model->rows[i].call != 0) {
            (*calls)++;
            due = model->rows[i].deadline_ms < due ? model->rows[i].deadline_ms : due;
        }
    return due;
}

/* Small ids, ids that differ in the high half only, and ids near the end of the range. */
static uint64_t some_id(void)
{
    uint64_t small = (uint64_t)rand() % 30 + 1;
    switch (rand() % 3) {
    case 0:
        return small;
    case 1:
        return small << 35;
    default:
        return UINT64_MAX - small;
    }
}

static void add_one(struct requests **requests, struct model *model)
{
    struct request request = {.id = some_id()};
    if (rand() % 2 != 0) {
        request.call = (uint64_t)rand() + 1;
        request.deadline_ms = (uint64_t)rand() % 1000;
    }
    int wanted = model_find(model, request.id) != NULL ? -EEXIST
                 : model->count == MAX                 ? -ENOSPC
                                                       : 0;
    assert_int_equal(requests_add(requests, &request, MAX, KEY), wanted);
    if (wanted == 0)
        model->rows[model->count++] = request;
}

static void expire_some(struct requests **requests, struct model *model)
{
    struct request expired;
    uint64_t now_ms = (uint64_t)rand() % 200;
    uint32_t calls;
    while (requests_expire(requests, now_ms, &expired)) {
        struct request *row = model_find(model, expired.id);
        assert_non_null(row);
        assert_true(row->call == expired.call && row->deadline_ms == expired.deadline_ms);
        assert_true(row->call != 0 && row->deadline_ms <= now_ms);
        model_remove(model, expired.id);
    }
    assert_true(model_due_ms(model, &calls) > now_ms); /* nothing due was left */
}

static void compare(const struct requests *requests, struct model *model)
{
    uint32_t calls;
    uint64_t due = model_due_ms(model, &calls);
    assert_int_equal(requests_count(requests), model->count);
    assert_int_equal(requests_calls(requests), calls);
    assert_true(requests_due_ms(requests) <= due); /* may be early, never late */
    assert_true((requests == NULL) == (model->count == 0));
    for (uint32_t i = 0; i < model->count; i++) {
        const struct request *found = requests_find(requests, model->rows[i].id);
        assert_non_null(found);
        assert_true(found->id == model->rows[i].id && found->call == model->rows[i].call);
    }
    uint64_t id = some_id();
    if (model_find(model, id) == NULL)
        assert_null(requests_find(requests, id));
}

static void it_does_what_a_list_does(void **state)
{
    struct requests *requests = NULL;
    struct model model = {.count = 0};
    srand(1);
    for (int round = 0; round < ROUNDS; round++) {
        int what = rand() % 100;
        /* Phases of growing and of shrinking, so that full and empty are both seen. */
        if (what < (round / 1000 % 2 == 0 ? 65 : 30)) {
            add_one(&requests, &model);
        } else if (what < 98) {
            uint64_t id = model.count > 0 && rand() % 4 != 0
                              ? model.rows[(uint32_t)rand() % model.count].id
                              : some_id();
            requests_remove(&requests, id);
            model_remove(&model, id);
        } else {
            expire_some(&requests, &model);
        }
        compare(requests, &model);
    }
    requests_destroy(requests);
}

static void all_can_be_taken_out(void **state)
{
    struct requests *requests = NULL;
    struct request taken;
    assert_false(requests_take(&requests, &taken));
    uint64_t sum = 0;
    for (uint64_t id = 1; id <= 100; id++) {
        struct request request = {.id = id * 7, .call = id % 3, .deadline_ms = id};
        assert_int_equal(requests_add(&requests, &request, 100, KEY), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        assert_true(requests_take(&requests, &taken));
        assert_int_equal(taken.call, taken.id / 7 % 3);
        assert_null(requests_find(requests, taken.id));
        sum += taken.id / 7;
    }
    assert_int_equal(sum, 5050);
    assert_null(requests);
}

/* Calls come, are answered and come due at other times than those who look: none is forgotten, and
 * the earliest deadline is never told too late. */
static void looks_that_are_broken_off_miss_nobody(void **state)
{
    struct requests *requests = NULL;
    struct request expired;
    uint64_t dues_ms[MAX + 1] = {0}; /* by id; 0: not in flight */
    uint64_t now_ms = 1;
    srand(11);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t id = (uint64_t)rand() % MAX + 1;
        if (dues_ms[id] == 0) {
            dues_ms[id] = now_ms + (uint64_t)rand() % 60;
            assert_int_equal(add(&requests, id, id, dues_ms[id]), 0);
        } else if (dues_ms[id] != 0 && rand() % 3 == 0) {
            requests_remove(&requests, id);
            dues_ms[id] = 0;
        }
        now_ms += (uint64_t)rand() % 2;
        bool any = false;
        for (int looks = rand() % 3; looks > 0; looks--) {
            any = requests_expire(&requests, now_ms, &expired);
            assert_true(!any || (dues_ms[expired.id] != 0 && dues_ms[expired.id] <= now_ms));
            if (any)
                dues_ms[expired.id] = 0;
        }
        for (uint64_t i = 1; i <= MAX; i++)
            assert_true(dues_ms[i] == 0 || requests_due_ms(requests) <= dues_ms[i]);
    }
    while (requests_expire(&requests, UINT64_MAX - 1, &expired))
        dues_ms[expired.id] = 0;
    for (uint64_t i = 1; i <= MAX; i++)
        assert_int_equal(dues_ms[i], 0);
    requests_destroy(requests);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_in_an_absent_table),
        cmocka_unit_test(an_id_is_in_flight_once),
        cmocka_unit_test(the_limit_stands_at_n),
        cmocka_unit_test(only_calls_expire_and_only_when_due),
        cmocka_unit_test(it_does_what_a_list_does),
        cmocka_unit_test(all_can_be_taken_out),
        cmocka_unit_test(looks_that_are_broken_off_miss_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
