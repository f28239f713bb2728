/* SPDX-License-Identifier: Apache-2.0 */
#include "base/recorder.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "broken.h"

enum { TEXT_BYTES_MAX = 1 << 20, LINE_BYTES_MAX = 128 };

/* What a reading gave: the lines with their newlines, and how many. */
struct seen {
    char *text;
    size_t size;
    size_t count;
    size_t count_max; /* 0: all */
};

static bool see(void *context, const char *line, size_t size)
{
    struct seen *seen = context;
    if (seen->count_max != 0 && seen->count == seen->count_max)
        return false;
    assert_true(seen->size + size + 1 < TEXT_BYTES_MAX);
    memcpy(seen->text + seen->size, line, size);
    seen->size += size;
    seen->text[seen->size++] = '\n';
    seen->text[seen->size] = '\0';
    seen->count++;
    return true;
}

static void open_seen(struct seen *seen, size_t count_max)
{
    *seen = (struct seen){.text = calloc(1, TEXT_BYTES_MAX), .count_max = count_max};
    assert_non_null(seen->text);
}

static void expect(struct recorder *recorder, uint64_t position, const char *user,
                   const char *wanted)
{
    struct seen seen;
    open_seen(&seen, 0);
    (void)recorder_read(recorder, position, user, see, &seen);
    assert_string_equal(seen.text, wanted);
    free(seen.text);
}

static void add(struct recorder *recorder, const char *line)
{
    recorder_add(recorder, line, strlen(line));
}

static size_t number_line(char line[LINE_BYTES_MAX], unsigned thread, unsigned number)
{
    /* The width differs, so that lines end at all places of the ring. */
    return (size_t)snprintf(line, LINE_BYTES_MAX, "{\"event\":\"n\",\"thread\":%u,\"n\":%u%*s}\n",
                            thread, number, (int)(number % 17), "");
}

/* --- writes that take a part ------------------------------------------------------------------ */

static bool short_writes;

/* In front of the C library's, for the handler: some bytes at a time, and interrupted each time. */
ssize_t write(int fd, const void *bytes, size_t size)
{
    enum { SOME = 7 };
    static bool interrupted;
    interrupted = short_writes && !interrupted;
    if (interrupted) {
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, short_writes && size > SOME ? SOME : size);
}

/* --- the ring --------------------------------------------------------------------------------- */

static void an_empty_one_has_no_lines(void **state)
{
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    expect(recorder, 0, NULL, "");
    expect(recorder, 12345, NULL, "");
    assert_int_equal(recorder_newest(recorder, NULL, 5), 0);
    recorder_destroy(recorder);
    recorder_destroy(NULL);
    recorder_add(NULL, "x\n", 2);
}

/* After each of many lines: what is there are whole lines, the newest ones, and as many as fit. */
static void the_newest_lines_stay_whole_around_the_end(void **state)
{
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    for (unsigned number = 0; number < 1000; number++) {
        char line[LINE_BYTES_MAX];
        size_t room = RECORDER_BYTES_MIN;
        struct seen seen;
        recorder_add(recorder, line, number_line(line, 0, number));
        open_seen(&seen, 0);
        (void)recorder_read(recorder, 0, NULL, see, &seen);
        const char *end = seen.text + seen.size;
        unsigned expected = number + 1;
        for (size_t size; expected > 0 && (size = number_line(line, 0, expected - 1)) <= room;
             expected--, room -= size) {
            end -= size;
            assert_true(end >= seen.text);
            assert_memory_equal(end, line, size);
        }
        assert_ptr_equal(end, seen.text); /* nothing older, and no part of it */
        free(seen.text);
    }
    recorder_destroy(recorder);
}

static void a_line_that_fills_it_all_is_alone_and_a_longer_one_is_dropped(void **state)
{
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    char line[RECORDER_BYTES_MIN + 2];
    memset(line, 'x', sizeof(line));
    line[RECORDER_BYTES_MIN] = '\n';
    add(recorder, "{\"event\":\"a\"}\n");
    recorder_add(recorder, line, RECORDER_BYTES_MIN + 1);
    expect(recorder, 0, NULL, "{\"event\":\"a\"}\n");
    line[RECORDER_BYTES_MIN - 1] = '\n';
    line[RECORDER_BYTES_MIN] = '\0';
    recorder_add(recorder, line, RECORDER_BYTES_MIN);
    expect(recorder, 0, NULL, line);
    add(recorder, "{\"event\":\"b\"}\n");
    expect(recorder, 0, NULL, "{\"event\":\"b\"}\n");
    recorder_destroy(recorder);
}

/* One that no reader could take would hide all behind it. */
static void the_longest_line_is_read_and_one_more_byte_is_dropped(void **state)
{
    struct recorder *recorder = recorder_create(4 * RECORDER_LINE_BYTES_MAX);
    char *line = malloc(RECORDER_LINE_BYTES_MAX + 1);
    memset(line, 'x', RECORDER_LINE_BYTES_MAX);
    line[RECORDER_LINE_BYTES_MAX] = '\n';
    recorder_add(recorder, line, RECORDER_LINE_BYTES_MAX + 1);
    line[RECORDER_LINE_BYTES_MAX - 1] = '\n';
    recorder_add(recorder, line, RECORDER_LINE_BYTES_MAX);
    add(recorder, "{\"event\":\"b\"}\n");
    struct seen seen;
    open_seen(&seen, 0);
    (void)recorder_read(recorder, 0, NULL, see, &seen);
    assert_int_equal(seen.count, 2);
    assert_memory_equal(seen.text, line, RECORDER_LINE_BYTES_MAX);
    free(seen.text);
    free(line);
    recorder_destroy(recorder);
}

/* --- reading ---------------------------------------------------------------------------------- */

static void pages_follow_each_other_without_a_gap(void **state)
{
    struct recorder *recorder = recorder_create(1 << 18); /* several pieces of a reader */
    struct seen all, pages;
    for (unsigned number = 0; number < 2000; number++) {
        char line[LINE_BYTES_MAX];
        recorder_add(recorder, line, number_line(line, 0, number));
    }
    open_seen(&all, 0);
    uint64_t end = recorder_read(recorder, 0, NULL, see, &all);
    assert_int_equal(all.count, 2000);
    open_seen(&pages, 0);
    for (uint64_t position = 0; position != end;) {
        pages.count_max += 7;
        position = recorder_read(recorder, position, NULL, see, &pages);
    }
    assert_string_equal(pages.text, all.text);
    expect(recorder, end, NULL, "");
    add(recorder, "{\"event\":\"late\"}\n");
    expect(recorder, end, NULL, "{\"event\":\"late\"}\n");
    /* From the middle of a line: the next whole one. */
    expect(recorder, end - 1, NULL, "{\"event\":\"late\"}\n");
    expect(recorder, end + 1, NULL, "");
    expect(recorder, UINT64_MAX, NULL, "");
    free(all.text);
    free(pages.text);
    recorder_destroy(recorder);
}

static void of_a_user_is_the_exact_name_in_its_field(void **state)
{
    static const char login[] = "{\"event\":\"login\",\"user\":\"alice\",\"epoch\":1}\n";
    static const char last[] = "{\"event\":\"logout\",\"user\":\"alice\"}\n";
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    add(recorder, login);
    add(recorder, "{\"event\":\"login\",\"user\":\"alicia\"}\n");
    add(recorder, "{\"event\":\"login\",\"user\":\"alice2\"}\n");
    add(recorder, "{\"event\":\"login\",\"user\":\"ali\"}\n");
    add(recorder, "{\"event\":\"login\",\"user\":\"malice\"}\n");
    add(recorder, "{\"event\":\"link_hello\",\"service\":\"alice\"}\n");
    add(recorder,
        "{\"event\":\"login\",\"detail\":\",\\\"user\\\":\\\"alice\\\"\",\"user\":\"bob\"}\n");
    add(recorder, last);
    char both[200];
    (void)snprintf(both, sizeof(both), "%s%s", login, last);
    expect(recorder, 0, "alice", both);
    expect(recorder, 0, "ali", "{\"event\":\"login\",\"user\":\"ali\"}\n");
    expect(recorder, 0, "nobody", "");
    expect(recorder, recorder_newest(recorder, "alice", 1), "alice", last);
    struct seen everything;
    open_seen(&everything, 0);
    (void)recorder_read(recorder, 0, "", see, &everything);
    assert_int_equal(everything.count, 8);
    free(everything.text);
    recorder_destroy(recorder);
}

static void the_newest_are_as_many_as_asked_for(void **state)
{
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    char wanted[LINE_BYTES_MAX * 3] = "";
    for (unsigned number = 0; number < 500; number++) { /* around the end several times */
        char line[LINE_BYTES_MAX];
        recorder_add(recorder, line, number_line(line, 0, number));
        if (number >= 497)
            strcat(wanted, line);
    }
    expect(recorder, recorder_newest(recorder, NULL, 3), NULL, wanted);
    expect(recorder, recorder_newest(recorder, NULL, 0), NULL, "");
    struct seen all, newest;
    open_seen(&all, 0);
    open_seen(&newest, 0);
    (void)recorder_read(recorder, 0, NULL, see, &all);
    (void)recorder_read(recorder, recorder_newest(recorder, NULL, 100000), NULL, see, &newest);
    assert_string_equal(newest.text, all.text);
    free(all.text);
    free(newest.text);
    recorder_destroy(recorder);
}

/* --- threads ---------------------------------------------------------------------------------- */

enum { THREADS = 3, LINES_EACH = 20000 };

struct writer {
    struct recorder *recorder;
    unsigned index;
    atomic_uint *done;
};

static void *write_lines(void *argument)
{
    struct writer *writer = argument;
    for (unsigned number = 1; number <= LINES_EACH; number++) {
        char line[LINE_BYTES_MAX];
        recorder_add(writer->recorder, line, number_line(line, writer->index, number));
    }
    atomic_fetch_add(writer->done, 1);
    return NULL;
}

/* The last number of each thread; across readings that go on from each other they only rise. */
struct follower {
    unsigned last[THREADS];
    size_t count;
};

static bool follow(void *context, const char *text, size_t size)
{
    struct follower *follower = context;
    unsigned thread = THREADS, number = 0;
    char line[LINE_BYTES_MAX], whole[LINE_BYTES_MAX];
    assert_true(size < sizeof(line));
    memcpy(line, text, size);
    line[size] = '\0';
    assert_int_equal(sscanf(line, "{\"event\":\"n\",\"thread\":%u,\"n\":%u", &thread, &number), 2);
    assert_true(thread < THREADS);
    assert_int_equal(number_line(whole, thread, number), size + 1);
    assert_memory_equal(whole, text, size);
    assert_true(number > follower->last[thread]);
    follower->last[thread] = number;
    follower->count++;
    return true;
}

/* A ring so small that it is written over all the time: a reader who goes on loses lines, gets none
 * twice, none out of order and none torn, and has the last ones in the end. */
static void lines_are_whole_while_others_add(void **state)
{
    struct recorder *recorder = recorder_create(3 * RECORDER_BYTES_MIN);
    struct follower follower = {0};
    struct writer writers[THREADS];
    pthread_t threads[THREADS];
    atomic_uint done = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){recorder, i, &done};
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &writers[i]), 0);
    }
    uint64_t position = 0;
    bool over;
    do {
        over = atomic_load(&done) == THREADS;
        position = recorder_read(recorder, position, NULL, follow, &follower);
    } while (!over);
    unsigned complete = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        complete += follower.last[i] == LINES_EACH;
    }
    assert_true(complete >= 1); /* who wrote last */
    print_message("read %zu of %d lines\n", follower.count, THREADS * LINES_EACH);
    recorder_destroy(recorder);
}

/* --- the file --------------------------------------------------------------------------------- */

static void expect_file(const char *path, const char *wanted)
{
    char text[1024] = "";
    struct stat status;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    (void)!fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    assert_string_equal(text, wanted);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void the_file_has_all_lines_and_the_one_before_is_kept_once(void **state)
{
    char folder[] = "/tmp/usher-recorder-XXXXXX", path[64], old_path[72], nowhere[72];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/lines", folder);
    (void)snprintf(old_path, sizeof(old_path), "%s.old", path);
    (void)snprintf(nowhere, sizeof(nowhere), "%s/none/lines", folder);
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    assert_int_equal(recorder_write(recorder, path), 0);
    expect_file(path, "");
    add(recorder, "{\"n\":1}\n");
    assert_int_equal(recorder_write(recorder, path), 0);
    expect_file(path, "{\"n\":1}\n");
    expect_file(old_path, "");
    add(recorder, "{\"n\":2}\n");
    assert_int_equal(recorder_write(recorder, path), 0);
    expect_file(path, "{\"n\":1}\n{\"n\":2}\n");
    expect_file(old_path, "{\"n\":1}\n");
    assert_int_equal(recorder_write(recorder, nowhere), -ENOENT);
    recorder_destroy(recorder);
    unlink(path);
    unlink(old_path);
    rmdir(folder);
}

static void a_name_that_is_too_long_is_refused(void **state)
{
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    char longest[5000];
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(recorder_write(recorder, longest), -ENAMETOOLONG);
    recorder_destroy(recorder);
}

/* What the handler writes comes whole, however little each write takes. */
static void a_crash_with_short_writes(void **state)
{
    char folder[] = "/tmp/usher-recorder-XXXXXX", path[64], line[LINE_BYTES_MAX];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/record", folder);
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    for (unsigned i = 0; i < 500; i++)
        recorder_add(recorder, line, number_line(line, 1, i));
    struct seen seen;
    open_seen(&seen, 0);
    (void)recorder_read(recorder, 0, NULL, see, &seen);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        if (recorder_crash_to(recorder, path) == 0) {
            short_writes = true;
            raise(SIGABRT);
        }
        _exit(1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, TEXT_BYTES_MAX);
    size_t size = fread(text, 1, TEXT_BYTES_MAX - 1, file);
    fclose(file);
    assert_true(size > seen.size);
    assert_memory_equal(text, seen.text, seen.size);
    assert_non_null(strstr(text + seen.size, "\"crashed\""));
    assert_int_equal(text[size - 1], '\n');
    unlink(path);
    rmdir(folder);
    free(text);
    free(seen.text);
    recorder_destroy(recorder);
}

static void add_half_a_line(void *argument)
{
    recorder_add(argument, "half", 4);
}

/* A reader would look for its end in the next one. */
static void a_line_without_an_end_is_a_broken_promise(void **state)
{
    struct recorder *recorder = recorder_create(RECORDER_BYTES_MIN);
    assert_true(is_broken(add_half_a_line, recorder, "line[size - 1]"));
    recorder_destroy(recorder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_has_no_lines),
        cmocka_unit_test(the_newest_lines_stay_whole_around_the_end),
        cmocka_unit_test(a_line_that_fills_it_all_is_alone_and_a_longer_one_is_dropped),
        cmocka_unit_test(the_longest_line_is_read_and_one_more_byte_is_dropped),
        cmocka_unit_test(pages_follow_each_other_without_a_gap),
        cmocka_unit_test(of_a_user_is_the_exact_name_in_its_field),
        cmocka_unit_test(the_newest_are_as_many_as_asked_for),
        cmocka_unit_test(lines_are_whole_while_others_add),
        cmocka_unit_test(the_file_has_all_lines_and_the_one_before_is_kept_once),
        cmocka_unit_test(a_crash_with_short_writes),
        cmocka_unit_test(a_name_that_is_too_long_is_refused),
        cmocka_unit_test(a_line_without_an_end_is_a_broken_promise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
