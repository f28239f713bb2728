/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "process/handover.h"

/* The channel, between this program and itself in another role. What the other one finds wrong is
 * its exit code, or the line that it refuses with. */

enum { PATIENCE_MS = 20000, PIPES = 600 };

static uint64_t soon(void)
{
    return env_monotonic_ms(env_system()) + PATIENCE_MS;
}

static struct handover *start_as(const char *role)
{
    char *argv[] = {"handover_test", (char *)(uintptr_t)role, NULL};
    char error[HANDOVER_ERROR_BYTES] = "";
    struct handover *handover = NULL;
    if (handover_start(&handover, "/proc/self/exe", argv, error) != 0)
        fail_msg("%s", error);
    assert_true(handover_process(handover) > 1);
    return handover;
}

static bool is_gone(int64_t process)
{
    return kill((pid_t)process, 0) != 0 && errno == ESRCH;
}

static void cancel(struct handover *handover)
{
    int64_t process = handover_process(handover);
    handover_cancel(handover);
    assert_true(is_gone(process));
}

/* --- the other one ---------------------------------------------------------------------------- */

static struct handover_message message, answer;

static int say(struct handover *handover, enum handover_word word, const void *body, size_t size)
{
    message.word = (uint8_t)word;
    message.fd_count = 0;
    message.size = (uint32_t)size;
    memcpy(message.body, body, size);
    return handover_say(handover, &message, soon());
}

/* Takes what it is given until the state comes: the descriptors are read from, the bytes counted.
 */
static int take_all(struct handover *handover)
{
    char error[HANDOVER_ERROR_BYTES];
    uint32_t heard = 0;
    if (say(handover, HANDOVER_HELLO, "hello", 5) != 0)
        return 10;
    while (heard < PIPES) {
        if (handover_hear(handover, HANDOVER_DESCRIPTORS, &message, soon(), error) != 0)
            return 11;
        for (unsigned i = 0; i < message.fd_count; i++) {
            uint32_t number = 0;
            if (read(message.fds[i], &number, sizeof(number)) != sizeof(number) ||
                number != heard + i || fcntl(message.fds[i], F_GETFD) != FD_CLOEXEC)
                return 12;
            close(message.fds[i]);
        }
        heard += message.fd_count;
    }
    if (handover_hear(handover, HANDOVER_STATE, &message, soon(), error) != 0)
        return 13;
    const uint8_t *data;
    size_t size;
    if (message.fd_count != 1 || handover_map(message.fds[0], &data, &size) != 0)
        return 14;
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += data[i];
    handover_unmap(data, size);
    if (say(handover, HANDOVER_READY, &sum, sizeof(sum)) != 0)
        return 15;
    return handover_hear(handover, HANDOVER_GO, &message, soon(), error) == 0 ? 0 : 16;
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count - 3; /* two names of folders, and its own */
}

/* It has what a program starts with and the channel. */
static int look_round(struct handover *handover)
{
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    if (count_descriptors() != 4)
        return 20;
    if (sigismember(&blocked, SIGTERM) == 1)
        return 21;
    if (signal(SIGHUP, SIG_DFL) != SIG_DFL)
        return 22;
    if (getenv("LISTEN_FDS") != NULL || getenv("WATCHDOG_PID") != NULL ||
        getenv("USHER_TAKE_OVER") != NULL || getenv("NOTIFY_SOCKET") == NULL)
        return 23;
    return say(handover, HANDOVER_HELLO, "", 0) == 0 ? 0 : 24;
}

static int play_as(const char *role, struct handover *handover)
{
    if (strcmp(role, "takes") == 0)
        return take_all(handover);
    if (strcmp(role, "looks") == 0)
        return look_round(handover);
    if (strcmp(role, "refuses") == 0)
        handover_refuse(handover, "no\nconfiguration");
    if (strcmp(role, "babbles") == 0)
        (void)say(handover, HANDOVER_GO, "go", 2);
    if (strcmp(role, "hangs") == 0)
        pause();
    return 0;
}

static int play(const char *role)
{
    struct handover *handover = NULL;
    if (handover_take(&handover) != 0)
        return 1;
    int code = play_as(role, handover);
    handover_close(handover);
    return code;
}

/* --- what this one sees ----------------------------------------------------------------------- */

static void hear(struct handover *handover, enum handover_word word)
{
    char error[HANDOVER_ERROR_BYTES] = "";
    if (handover_hear(handover, word, &answer, soon(), error) != 0)
        fail_msg("%s", error);
}

static int end_of(struct handover *handover)
{
    int status = 0;
    assert_int_equal(waitpid((pid_t)handover_process(handover), &status, 0),
                     handover_process(handover));
    return status;
}

/* Pipes that hold their number each. */
static void give_pipes(struct handover *handover)
{
    for (uint32_t first = 0; first < PIPES;) {
        message = (struct handover_message){.word = HANDOVER_DESCRIPTORS};
        while (message.fd_count < HANDOVER_DESCRIPTORS_MAX && first < PIPES) {
            int ends[2];
            assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
            assert_int_equal(write(ends[1], &first, sizeof(first)), sizeof(first));
            close(ends[1]);
            message.fds[message.fd_count++] = ends[0];
            first++;
        }
        assert_int_equal(handover_say(handover, &message, soon()), 0);
        for (unsigned i = 0; i < message.fd_count; i++)
            close(message.fds[i]);
    }
}

static void everything_goes_over(void **state)
{
    struct handover *handover = start_as("takes");
    hear(handover, HANDOVER_HELLO);
    assert_int_equal(answer.size, 5);
    assert_memory_equal(answer.body, "hello", 5);
    give_pipes(handover);
    enum { BYTES = 3 * 1024 * 1024 };
    uint8_t *bytes = malloc(BYTES);
    uint64_t sum = 0;
    for (size_t i = 0; i < BYTES; i++)
        sum += bytes[i] = (uint8_t)(i * 7);
    message = (struct handover_message){.word = HANDOVER_STATE, .fd_count = 1};
    message.fds[0] = handover_seal(bytes, BYTES);
    assert_true(message.fds[0] > 0);
    assert_int_equal(handover_say(handover, &message, soon()), 0);
    close(message.fds[0]);
    hear(handover, HANDOVER_READY);
    assert_int_equal(answer.size, sizeof(sum));
    assert_memory_equal(answer.body, &sum, sizeof(sum));
    assert_int_equal(say(handover, HANDOVER_GO, "", 0), 0);
    assert_int_equal(end_of(handover), 0);
    handover_close(handover);
    free(bytes);
}

static void it_finds_what_a_program_starts_with(void **state)
{
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigprocmask(SIG_BLOCK, &some, NULL);
    signal(SIGHUP, SIG_IGN);
    setenv("LISTEN_FDS", "1", 1);
    setenv("WATCHDOG_PID", "7", 1);
    setenv("NOTIFY_SOCKET", "@nowhere", 1);
    int unmarked = dup(STDOUT_FILENO); /* as libraries have some */
    struct handover *handover = start_as("looks");
    close(unmarked);
    hear(handover, HANDOVER_HELLO);
    assert_int_equal(end_of(handover), 0);
    handover_close(handover);
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &some, NULL);
    unsetenv("LISTEN_FDS");
    unsetenv("WATCHDOG_PID");
    unsetenv("NOTIFY_SOCKET");
}

static void a_refusal_says_why(void **state)
{
    struct handover *handover = start_as("refuses");
    char error[HANDOVER_ERROR_BYTES] = "";
    assert_int_equal(handover_hear(handover, HANDOVER_HELLO, &answer, soon(), error), -ECANCELED);
    assert_string_equal(error, "no configuration");
    cancel(handover);
}

/* The kernel tells of the words that were not read before it gives what was said. */
static void a_refusal_is_heard_of_who_did_not_listen(void **state)
{
    struct handover *handover = start_as("refuses");
    char error[HANDOVER_ERROR_BYTES] = "";
    siginfo_t info;
    int said = say(handover, HANDOVER_DESCRIPTORS, "", 0);
    assert_true(said == 0 || said == -EPIPE); /* it may have ended already */
    assert_int_equal(waitid(P_PID, (id_t)handover_process(handover), &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(handover_hear(handover, HANDOVER_HELLO, &answer, soon(), error), -ECANCELED);
    assert_string_equal(error, "no configuration");
    cancel(handover);
}

static void another_word_is_none(void **state)
{
    struct handover *handover = start_as("babbles");
    char error[HANDOVER_ERROR_BYTES] = "";
    assert_int_equal(handover_hear(handover, HANDOVER_HELLO, &answer, soon(), error), -EPROTO);
    cancel(handover);
}

static void who_ends_is_seen_at_once(void **state)
{
    struct handover *handover = start_as("ends");
    char error[HANDOVER_ERROR_BYTES] = "";
    assert_int_equal(handover_hear(handover, HANDOVER_HELLO, &answer, soon(), error), -EPIPE);
    message = (struct handover_message){.word = HANDOVER_GO};
    assert_int_equal(handover_say(handover, &message, soon()), -EPIPE);
    cancel(handover);
}

static void who_hangs_is_ended(void **state)
{
    struct handover *handover = start_as("hangs");
    char error[HANDOVER_ERROR_BYTES] = "";
    uint64_t until_ms = env_monotonic_ms(env_system()) + 50;
    assert_int_equal(handover_hear(handover, HANDOVER_HELLO, &answer, until_ms, error), -ETIMEDOUT);
    assert_true(env_monotonic_ms(env_system()) >= until_ms);
    cancel(handover);
}

/* Who does not listen is not waited for without end either. */
static void what_is_said_has_a_deadline(void **state)
{
    struct handover *handover = start_as("hangs");
    message =
        (struct handover_message){.word = HANDOVER_DESCRIPTORS, .size = HANDOVER_BODY_BYTES_MAX};
    int error = 0;
    for (unsigned i = 0; i < 10000 && error == 0; i++)
        error = handover_say(handover, &message, env_monotonic_ms(env_system()) + 20);
    assert_int_equal(error, -ETIMEDOUT);
    cancel(handover);
}

static void no_program_is_an_error(void **state)
{
    char *argv[] = {"usherd", NULL};
    char error[HANDOVER_ERROR_BYTES] = "";
    struct handover *handover = NULL;
    int before = count_descriptors();
    assert_int_equal(handover_start(&handover, "/nowhere/usherd", argv, error), -ENOENT);
    assert_null(handover);
    assert_non_null(strstr(error, "/nowhere/usherd"));
    assert_int_equal(count_descriptors(), before);
}

static void who_was_not_started_so_is_told(void **state)
{
    struct handover *handover = NULL;
    assert_int_equal(handover_take(&handover), -ENOENT);
    setenv("USHER_TAKE_OVER", "1", 1); /* and nothing behind it */
    int saved = dup(3);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    dup2(null, 3);
    assert_int_equal(handover_take(&handover), -ENOENT);
    assert_null(getenv("USHER_TAKE_OVER"));
    if (saved >= 0) {
        dup2(saved, 3);
        close(saved);
    } else {
        close(3);
    }
    if (null != 3)
        close(null);
}

/* Nobody changes what is sealed, and what is not sealed is not taken. */
static void what_is_sealed_stays(void **state)
{
    int fd = handover_seal("state", 5);
    assert_true(fd > 0);
    assert_int_equal(pwrite(fd, "S", 1, 0), -1);
    assert_int_equal(ftruncate(fd, 2), -1);
    const uint8_t *data;
    size_t size;
    assert_int_equal(handover_map(fd, &data, &size), 0);
    assert_int_equal(size, 5);
    assert_memory_equal(data, "state", 5);
    handover_unmap(data, size);
    close(fd);
    fd = handover_seal("", 0);
    assert_int_equal(handover_map(fd, &data, &size), 0);
    assert_int_equal(size, 0);
    handover_unmap(data, size);
    close(fd);
    fd = memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(handover_map(fd, &data, &size), -EPROTO);
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return play(argv[1]);
    close_range(3, ~0U, 0); /* of whoever started us */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_goes_over),
        cmocka_unit_test(it_finds_what_a_program_starts_with),
        cmocka_unit_test(a_refusal_says_why),
        cmocka_unit_test(a_refusal_is_heard_of_who_did_not_listen),
        cmocka_unit_test(another_word_is_none),
        cmocka_unit_test(who_ends_is_seen_at_once),
        cmocka_unit_test(who_hangs_is_ended),
        cmocka_unit_test(what_is_said_has_a_deadline),
        cmocka_unit_test(no_program_is_an_error),
        cmocka_unit_test(who_was_not_started_so_is_told),
        cmocka_unit_test(what_is_sealed_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
