/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_order(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct timers *timers = timers_create(COUNT);
    static uint64_t dues_ms[COUNT];
    uint64_t least = UINT64_MAX;
    uint32_t random = 12345;
    for (uint64_t i = 0; i < COUNT; i++) {
        random = random * 1664525u + 1013904223u;
        dues_ms[i] = random >> 20; /* many equal ones */
        assert_int_equal(timers_set(timers, dues_ms[i], i), dues_ms[i] < least);
        least = dues_ms[i] < least ? dues_ms[i] : least;
        assert_int_equal(timers_next_ms(timers), least);
    }
    uint64_t previous = 0;
    for (size_t i = 0; i < COUNT; i++) {
        uint64_t key = 0;
        assert_int_equal(timers_expire(timers, UINT64_MAX, &key, 1), 1);
        assert_true(previous <= dues_ms[key]);
        previous = dues_ms[key];
    }
    assert_int_equal(timers_next_ms(timers), UINT64_MAX);
    timers_destroy(timers);
    timers_destroy(NULL);
}

static void test_only_what_is_due(void **state)
{
    (void)state;
    struct timers *timers = timers_create(8);
    uint64_t keys[8];
    timers_set(timers, 100, 1);
    timers_set(timers, 102, 3);
    timers_set(timers, 101, 2);
    assert_int_equal(timers_expire(timers, 99, keys, 8), 0);
    assert_int_equal(timers_expire(timers, 101, keys, 8), 2);
    assert_int_equal(keys[0], 1);
    assert_int_equal(keys[1], 2);
    assert_int_equal(timers_next_ms(timers), 102);
    assert_int_equal(timers_count(timers), 1);
    assert_int_equal(timers_expire(timers, 200, keys, 0), 0);
    timers_destroy(timers);
}

/* However often a place asks, it has one timer, and the key that it gave last. */
static void test_a_place_has_one(void **state)
{
    (void)state;
    struct timers *timers = timers_create(2);
    uint64_t keys[4];
    assert_true(timers_set(timers, 5000, UINT64_C(1) << 32 | 1));
    for (uint64_t due_ms = 4999; due_ms > 1000; due_ms--)
        assert_true(timers_set(timers, due_ms, due_ms << 32));
    assert_int_equal(timers_count(timers), 2);
    assert_false(timers_set(timers, 6000, UINT64_C(7) << 32)); /* later, too */
    assert_int_equal(timers_next_ms(timers), 5000);
    assert_false(timers_set(timers, 6000, UINT64_C(7) << 32));
    assert_int_equal(timers_expire(timers, 5999, keys, 4), 1);
    assert_int_equal(keys[0], UINT64_C(1) << 32 | 1);
    assert_int_equal(timers_expire(timers, 6000, keys, 4), 1);
    assert_int_equal(keys[0], UINT64_C(7) << 32);
    assert_int_equal(timers_count(timers), 0);
    assert_true(timers_set(timers, 9000, UINT64_C(8) << 32)); /* again, when it is out */
    assert_int_equal(timers_expire(timers, 9000, keys, 4), 1);
    timers_destroy(timers);
}

/* All places at once, each moved to and fro: beside a plain list of them. */
static void test_beside_a_list(void **state)
{
    (void)state;
    enum {
        PLACES = 100, /* not a power of two */
        ROUNDS = 100000
    };
    struct timers *timers = timers_create(PLACES);
    uint64_t dues_ms[PLACES] = {0}; /* 0: none */
    uint32_t random = 7;
    uint64_t now_ms = 1;
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1664525u + 1013904223u;
        uint32_t place = (random >> 16) % PLACES;
        uint64_t due_ms = now_ms + (random >> 8) % 50;
        timers_set(timers, due_ms, (uint64_t)round << 32 | place);
        dues_ms[place] = due_ms;
        now_ms += random >> 31;
        uint64_t key;
        while (round % 16 == 0 && timers_expire(timers, now_ms, &key, 1) == 1) {
            assert_in_range(dues_ms[(uint32_t)key], 1, now_ms);
            dues_ms[(uint32_t)key] = 0;
        }
        uint64_t next_ms = UINT64_MAX;
        size_t count = 0;
        for (uint32_t i = 0; i < PLACES; i++) {
            count += dues_ms[i] != 0;
            next_ms = dues_ms[i] != 0 && dues_ms[i] < next_ms ? dues_ms[i] : next_ms;
        }
        assert_int_equal(timers_count(timers), count);
        assert_int_equal(timers_next_ms(timers), next_ms);
    }
    timers_destroy(timers);
}

enum { THREADS = 3, EACH = 3000 };

struct part {
    struct timers *timers;
    uint64_t first;
};

static void *set_some(void *argument)
{
    const struct part *part = argument;
    for (uint64_t i = 0; i < EACH; i++)
        timers_set(part->timers, i % 97, part->first + i);
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct timers *timers = timers_create(THREADS * EACH);
    pthread_t threads[THREADS];
    struct part parts[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        parts[i] = (struct part){timers, i * EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, set_some, &parts[i]), 0);
    }
    size_t total = 0;
    uint64_t keys[64];
    while (total < THREADS * EACH / 2)
        total += timers_expire(timers, 1000, keys, 64);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (size_t got = 1; got > 0; total += got)
        got = timers_expire(timers, 1000, keys, 64);
    assert_int_equal(total, THREADS * EACH);
    timers_destroy(timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),           cmocka_unit_test(test_only_what_is_due),
        cmocka_unit_test(test_a_place_has_one), cmocka_unit_test(test_beside_a_list),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
