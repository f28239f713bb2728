/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_BROKEN_H
#define USHER_TESTS_BROKEN_H

/* Breaks a promise on purpose and sees that a CHECK ends the process: one of its own, so that the
 * test goes on. */

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs act(argument) elsewhere; gives the signal that ended it (0: none did) and what it said. */
static inline int broken_signal(void (*act)(void *argument), void *argument, char *said,
                                size_t size)
{
    int ends[2];
    if (pipe(ends) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL); /* cmocka's own handler would go on */
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        dup2(ends[1], STDERR_FILENO);
        act(argument);
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
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* True: the check with that condition, or a part of it, is what ended it. */
static inline bool is_broken(void (*act)(void *argument), void *argument, const char *condition)
{
    char said[1024];
    bool ended = broken_signal(act, argument, said, sizeof(said)) == SIGABRT;
    if (ended && strstr(said, "broken invariant") != NULL && strstr(said, condition) != NULL)
        return true;
    printf("no check of %s, but: %s\n", condition, said);
    return false;
}

#endif
