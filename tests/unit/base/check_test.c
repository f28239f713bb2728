/* SPDX-License-Identifier: Apache-2.0 */
#include "base/check.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Runs a failing check in a process of its own; gives the signal that ended it and what it said. */
static int run_failing(bool debt, char *said, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka's own handler would go on */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(ends[1], STDERR_FILENO);
        int one = 1;
        if (debt)
            CHECK_DEBT(one == 2, "a rare case");
        else
            CHECK(one == 2);
        _exit(0);
    }
    close(ends[1]);
    size_t total = 0;
    for (ssize_t got = 1; got > 0 && total < size - 1; total += (size_t)got) {
        got = read(ends[0], said + total, size - 1 - total);
        if (got < 0)
            break;
    }
    said[total] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void test_holds(void **state)
{
    (void)state;
    int calls = 0;
    CHECK(++calls == 1); /* evaluated exactly once, also in release */
    CHECK_DEBT(++calls == 2, "nothing");
    assert_int_equal(calls, 2);
}

static void test_fails(void **state)
{
    (void)state;
    char said[1024];
    assert_int_equal(run_failing(false, said, sizeof(said)), SIGABRT);
    assert_non_null(strstr(said, "check_test.c:"));
    assert_non_null(strstr(said, "one == 2"));
    assert_non_null(strstr(said, "broken invariant"));
    assert_int_equal(run_failing(true, said, sizeof(said)), SIGABRT);
    assert_non_null(strstr(said, "not handled: a rare case"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
