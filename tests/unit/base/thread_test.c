/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broken.h"

struct look {
    struct thread_mark *mark;
    bool on, off, another;
    uintptr_t self;
};

static void *look(void *argument)
{
    struct look *look = argument;
    look->on = on_thread(look->mark);
    look->off = off_thread(look->mark);
    look->another = on_another_thread(look->mark);
    look->self = thread_self();
    return NULL;
}

static struct look elsewhere(struct thread_mark *mark)
{
    struct look seen = {.mark = mark};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, look, &seen), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return seen;
}

static void a_mark_is_one_threads(void **state)
{
    struct thread_mark mark = {0};
    assert_true(off_thread(&mark));
    assert_false(on_thread(&mark));
    assert_false(on_another_thread(&mark));
    thread_begin(&mark);
    assert_true(on_thread(&mark));
    assert_false(off_thread(&mark));
    assert_false(on_another_thread(&mark));
    struct look seen = elsewhere(&mark);
    assert_false(seen.on);
    assert_false(seen.off);
    assert_true(seen.another);
    assert_true(seen.self != 0 && seen.self != thread_self());
    thread_end(&mark);
    assert_true(off_thread(&mark));
    assert_true(elsewhere(&mark).off);
}

static void begin(void *argument)
{
    thread_begin(argument);
}

static void end(void *argument)
{
    thread_end(argument);
}

static void broken_promises_end_the_process(void **state)
{
    struct thread_mark mark = {0};
    assert_true(is_broken(end, &mark, "on_thread(mark)"));
    thread_begin(&mark);
    assert_true(is_broken(begin, &mark, "off_thread(mark)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_is_one_threads),
        cmocka_unit_test(broken_promises_end_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
