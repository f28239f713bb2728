/* SPDX-License-Identifier: Apache-2.0 */
#include "base/timer.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_order(void **state)
{
    (void)state;
    enum {
        COUNT = 5000
    };
    struct timers *timers = timers_create(COUNT);
    uint64_t least = UINT64_MAX;
    uint32_t random = 12345;
    for (uint64_t i = 0; i < COUNT; i++) {
        random = random * 1664525u + 1013904223u;
        uint64_t due_ms = random >> 20; /* many equal ones */
        bool earliest = false;
        assert_int_equal(timers_add(timers, due_ms, due_ms, &earliest), 0);
        assert_int_equal(earliest, due_ms < least);
        least = due_ms < least ? due_ms : least;
        assert_int_equal(timers_next_ms(timers), least);
    }
    uint64_t previous = 0;
    for (size_t i = 0; i < COUNT; i++) {
        uint64_t key = 0;
        assert_int_equal(timers_expire(timers, UINT64_MAX, &key, 1), 1);
        assert_true(previous <= key);
        previous = key;
    }
    assert_int_equal(timers_next_ms(timers), UINT64_MAX);
    timers_destroy(timers);
}

static void test_only_what_is_due(void **state)
{
    (void)state;
    struct timers *timers = timers_create(8);
    uint64_t keys[8];
    timers_add(timers, 100, 1, NULL);
    timers_add(timers, 102, 3, NULL);
    timers_add(timers, 101, 2, NULL);
    assert_int_equal(timers_expire(timers, 99, keys, 8), 0);
    assert_int_equal(timers_expire(timers, 101, keys, 8), 2);
    assert_int_equal(keys[0], 1);
    assert_int_equal(keys[1], 2);
    assert_int_equal(timers_next_ms(timers), 102);
    assert_int_equal(timers_count(timers), 1);
    assert_int_equal(timers_expire(timers, 200, keys, 0), 0);
    timers_destroy(timers);
}

static void test_limit(void **state)
{
    (void)state;
    enum {
        LIMIT = 100
    }; /* not a power of two: the last growth is cut */
    struct timers *timers = timers_create(LIMIT);
    uint64_t key;
    for (uint64_t i = 0; i < LIMIT; i++) {
        assert_int_equal(timers_add(timers, 1000 + i, i, NULL), 0);
    }
    bool earliest = true;
    assert_int_equal(timers_add(timers, 1, 1, &earliest), -ENOSPC);
    assert_false(earliest);
    assert_int_equal(timers_expire(timers, 1000, &key, 1), 1);
    assert_int_equal(timers_add(timers, 1, 1, &earliest), 0);
    assert_true(earliest);
    timers_destroy(timers);
    timers_destroy(NULL);
}

enum {
    THREADS = 3,
    EACH = 3000
};

static void *add_some(void *argument)
{
    for (uint64_t i = 0; i < EACH; i++) {
        timers_add(argument, i % 97, i, NULL);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct timers *timers = timers_create(THREADS * EACH);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_some, timers), 0);
    }
    size_t total = 0;
    uint64_t keys[64];
    while (total < THREADS * EACH / 2) {
        total += timers_expire(timers, 1000, keys, 64);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (size_t got = 1; got > 0; total += got) {
        got = timers_expire(timers, 1000, keys, 64);
    }
    assert_int_equal(total, THREADS * EACH);
    timers_destroy(timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_only_what_is_due),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
