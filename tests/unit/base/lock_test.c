/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "broken.h"

struct shared {
    struct lock lock;
    pthread_cond_t changed;
    bool told;
    bool held, taken;
};

static void *look(void *argument)
{
    struct shared *shared = argument;
    shared->held = lock_held(&shared->lock);
    shared->taken = lock_try(&shared->lock);
    return NULL;
}

static void *tell(void *argument)
{
    struct shared *shared = argument;
    lock_take(&shared->lock);
    shared->told = true;
    pthread_cond_signal(&shared->changed);
    lock_give(&shared->lock);
    return NULL;
}

static void elsewhere(void *(*act)(void *), struct shared *shared)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, act, shared), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void knows_who_holds_it(void **state)
{
    static struct shared shared = {.lock = LOCK_INITIALIZER};
    assert_false(lock_held(&shared.lock));
    lock_take(&shared.lock);
    assert_true(lock_held(&shared.lock));
    elsewhere(look, &shared);
    assert_false(shared.held); /* somebody holds it, and it is not that thread */
    assert_false(shared.taken);
    lock_give(&shared.lock);
    assert_false(lock_held(&shared.lock));
    assert_true(lock_try(&shared.lock));
    assert_true(lock_held(&shared.lock));
    lock_give(&shared.lock);
    lock_destroy(&shared.lock);
}

static void a_wait_gives_it_and_takes_it_again(void **state)
{
    struct shared shared = {.changed = PTHREAD_COND_INITIALIZER};
    lock_init(&shared.lock);
    lock_take(&shared.lock);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    assert_false(lock_wait_until(&shared.lock, &shared.changed, &until));
    assert_true(lock_held(&shared.lock));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, tell, &shared), 0);
    while (!shared.told)
        lock_wait(&shared.lock, &shared.changed);
    assert_true(lock_held(&shared.lock));
    lock_give(&shared.lock);
    pthread_join(thread, NULL);
    lock_destroy(&shared.lock);
}

static void take_twice(void *argument)
{
    lock_take(argument);
    lock_take(argument);
}

static void give_without(void *argument)
{
    lock_give(argument);
}

static void wait_without(void *argument)
{
    pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
    lock_wait(argument, &changed);
}

static void destroy_while_held(void *argument)
{
    lock_take(argument);
    lock_destroy(argument);
}

static void broken_promises_end_the_process(void **state)
{
    struct lock lock = LOCK_INITIALIZER;
    assert_true(is_broken(take_twice, &lock, "!lock_held(lock)"));
    assert_true(is_broken(give_without, &lock, "on_thread(mark)"));
    assert_true(is_broken(wait_without, &lock, "on_thread(mark)"));
    assert_true(is_broken(destroy_while_held, &lock, "off_thread(&lock->holder)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_who_holds_it),
        cmocka_unit_test(a_wait_gives_it_and_takes_it_again),
        cmocka_unit_test(broken_promises_end_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
