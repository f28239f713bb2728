/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>

#include "base/passage.h"

/* While it is closed nobody is in it, and everybody comes through in the end. */

enum { WALKERS = 4, ROUNDS = 200, PATIENCE_MS = 20000 };

static struct passage passage;
static _Atomic uint32_t inside;
static _Atomic bool over;
static _Atomic uint64_t walks;

static uint64_t now_ms(void)
{
    return env_monotonic_ms(env_system());
}

static void *walk(void *argument)
{
    while (!atomic_load(&over)) {
        passage_enter(&passage);
        atomic_fetch_add(&inside, 1);
        sched_yield();
        atomic_fetch_sub(&inside, 1);
        passage_leave(&passage);
        atomic_fetch_add(&walks, 1);
    }
    return NULL;
}

static void nobody_is_in_a_closed_one(void **state)
{
    pthread_t threads[WALKERS];
    passage_init(&passage);
    for (unsigned i = 0; i < WALKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, walk, NULL), 0);
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t before = atomic_load(&walks);
        while (atomic_load(&walks) == before)
            sched_yield();
        assert_true(passage_close(&passage, env_system(), now_ms() + PATIENCE_MS));
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(atomic_load(&inside), 0);
            sched_yield();
        }
        passage_open(&passage);
    }
    atomic_store(&over, true);
    for (unsigned i = 0; i < WALKERS; i++)
        pthread_join(threads[i], NULL);
    passage_destroy(&passage);
}

static void who_does_not_leave_is_not_waited_for(void **state)
{
    passage_init(&passage);
    passage_enter(&passage);
    uint64_t began_ms = now_ms();
    assert_false(passage_close(&passage, env_system(), began_ms + 30));
    assert_true(now_ms() >= began_ms + 30);
    passage_enter(&passage); /* it is open */
    passage_leave(&passage);
    passage_leave(&passage);
    assert_true(passage_close(&passage, env_system(), now_ms()));
    passage_open(&passage);
    passage_destroy(&passage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_in_a_closed_one),
        cmocka_unit_test(who_does_not_leave_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
