/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/recorder.h"

/* A clock that moves only when told. */
static _Atomic uint64_t clock_ms;

static uint64_t test_monotonic_ns(void *context)
{
    (void)context;
    return atomic_load(&clock_ms) * 1000000;
}

static uint64_t test_wall_ms(void *context)
{
    (void)context;
    return 0;
}

static const struct env test_env = {.monotonic_ns = test_monotonic_ns, .wall_ms = test_wall_ms};

enum { READ_MAX = 1 << 21 };

struct fixture {
    int ends[2];
    struct log *log;
    struct metrics *metrics;
    char *text;
};

static void open_log(struct fixture *fixture, enum log_level level, uint32_t per_second)
{
    atomic_store(&clock_ms, 5000);
    assert_int_equal(pipe(fixture->ends), 0);
    fixture->metrics = metrics_create(1);
    fixture->text = calloc(1, READ_MAX);
    const struct log_options options = {
        .level = level,
        .fd = fixture->ends[1],
        .json = true,
        .env = &test_env,
        .lines_per_second_per_event = per_second,
        .metrics = fixture->metrics,
    };
    assert_int_equal(log_open(&fixture->log, &options), 0);
}

/* Everything up to the end of the writing side. */
static void *read_all(void *argument)
{
    struct fixture *fixture = argument;
    size_t size = 0;
    for (ssize_t got = 1; got > 0 && size<READ_MAX - 1; size += got> 0 ? (size_t)got : 0)
        got = read(fixture->ends[0], fixture->text + size, READ_MAX - 1 - size);
    return NULL;
}

static void close_log(struct fixture *fixture)
{
    pthread_t reader;
    assert_int_equal(pthread_create(&reader, NULL, read_all, fixture), 0);
    log_close(fixture->log);
    close(fixture->ends[1]);
    pthread_join(reader, NULL);
    close(fixture->ends[0]);
}

static void free_fixture(struct fixture *fixture)
{
    metrics_destroy(fixture->metrics);
    free(fixture->text);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        count++;
    return count;
}

static void test_lines(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, 0);
    LOG(fixture.log, READY);
    LOG(fixture.log, LOGIN, LOG_S("user", "anna"), LOG_U("epoch", 7));
    LOG(fixture.log, STALE_EVENT); /* debug: below the level */
    log_set_level(fixture.log, LOG_DEBUG);
    LOG(fixture.log, STALE_EVENT);
    LOG(NULL, READY);
    log_set_level(NULL, LOG_DEBUG);
    log_close(NULL);
    close_log(&fixture);
    assert_string_equal(
        fixture.text,
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"event\":\"ready\"}\n"
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"info\",\"event\":\"login\","
        "\"user\":\"anna\",\"epoch\":7}\n"
        "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"debug\",\"event\":\"stale_event\"}\n");
    assert_int_equal(metrics_read(fixture.metrics, METRIC_log_lines), 3);
    free_fixture(&fixture);
}

static void expect_line(int end, const char *part)
{
    char line[512] = "";
    struct pollfd pollfd = {.fd = end, .events = POLLIN};
    assert_int_equal(poll(&pollfd, 1, 20000), 1);
    assert_true(read(end, line, sizeof(line) - 1) > 0);
    assert_non_null(strstr(line, part));
}

/* It does not wait for more, nor for the end. */
static void test_a_line_is_written_at_once(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, 0);
    LOG(fixture.log, READY);
    expect_line(fixture.ends[0], "\"ready\"");
    LOG(fixture.log, LOGIN);
    expect_line(fixture.ends[0], "\"login\"");
    close_log(&fixture);
    assert_string_equal(fixture.text, "");
    free_fixture(&fixture);
}

/* Others may write to the same pipe: what is written at once ends with a line. */
static void test_writes_are_whole_lines(void **state)
{
    (void)state;
    enum { LINES = 500 };
    struct fixture fixture;
    char piece[PIPE_BUF + 1];
    size_t pieces = 0;
    size_t lines = 0;
    open_log(&fixture, LOG_INFO, UINT32_MAX);
    assert_int_equal(fcntl(fixture.ends[1], F_SETFL, O_DIRECT), 0); /* a read gives one write */
    for (unsigned i = 0; i < LINES; i++)
        LOG(fixture.log, LOGIN, LOG_U("number", i));
    for (; lines < LINES; pieces++) {
        struct pollfd pollfd = {.fd = fixture.ends[0], .events = POLLIN};
        assert_int_equal(poll(&pollfd, 1, 20000), 1);
        ssize_t size = read(fixture.ends[0], piece, PIPE_BUF);
        assert_true(size > 0 && piece[0] == '{' && piece[size - 1] == '\n');
        piece[size] = '\0';
        lines += count_of(piece, "\n");
    }
    assert_true(pieces < LINES);
    close_log(&fixture);
    free_fixture(&fixture);
}

static void test_rate_limit(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, 0);
    for (int i = 0; i < 10 + 4; i++)
        LOG(fixture.log, STORE_FAILED); /* errors too */
    LOG(fixture.log, LOGIN);            /* another event is not touched */
    atomic_store(&clock_ms, 5999);
    LOG(fixture.log, STORE_FAILED);
    atomic_store(&clock_ms, 6000);
    LOG(fixture.log, STORE_FAILED, LOG_S("code", "n"));
    LOG(fixture.log, STORE_FAILED);
    close_log(&fixture);
    assert_int_equal(count_of(fixture.text, "store_failed"), 12);
    assert_int_equal(count_of(fixture.text, "\"login\""), 1);
    assert_int_equal(count_of(fixture.text, "suppressed"), 1);
    assert_non_null(strstr(fixture.text, "\"suppressed\":5,\"code\":\"n\"}"));
    free_fixture(&fixture);
}

struct recorded {
    unsigned logins, failures;
    uint64_t suppressed; /* that the last line says */
};

static bool look_at_recorded(void *context, const char *line, size_t size)
{
    struct recorded *recorded = context;
    char text[512];
    snprintf(text, sizeof(text), "%.*s", (int)size, line);
    recorded->logins += strstr(text, "\"login\"") != NULL;
    recorded->failures += strstr(text, "store_failed") != NULL;
    const char *suppressed = strstr(text, "\"suppressed\":");
    recorded->suppressed = suppressed != NULL ? strtoull(suppressed + 13, NULL, 10) : 0;
    return true;
}

/* A quarter of it at once, and as much in a minute; what was left out is told. */
static void no_event_has_the_recorder_for_itself(void **state)
{
    enum { BYTES = 64 * 1024, PART = BYTES / 4 / 128 };
    atomic_store(&clock_ms, 5000);
    struct recorder *recorder = recorder_create(BYTES);
    struct log *log;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const struct log_options options = {
        .level = LOG_ERROR, .fd = ends[1], .json = true, .env = &test_env, .recorder = recorder};
    assert_int_equal(log_open(&log, &options), 0);
    LOG(log, LOGIN);
    for (unsigned i = 0; i < 10 * PART; i++)
        LOG(log, STORE_FAILED, LOG_S("code", "over and over, by somebody who means to"));
    struct recorded recorded = {0};
    recorder_read(recorder, 0, NULL, look_at_recorded, &recorded);
    assert_int_equal(recorded.logins, 1);
    assert_int_equal(recorded.failures, PART);
    atomic_store(&clock_ms, 5000 + 60000 / PART + 1);
    for (unsigned i = 0; i < 3; i++)
        LOG(log, STORE_FAILED);
    recorded = (struct recorded){0};
    recorder_read(recorder, 0, NULL, look_at_recorded, &recorded);
    assert_int_equal(recorded.failures, PART + 1);
    assert_int_equal(recorded.suppressed, 9 * PART);
    log_close(log);
    recorder_destroy(recorder);
    close(ends[0]);
    close(ends[1]);
}

/* Nobody reads: callers go on, what does not fit is dropped, and when somebody reads again the
 * count is told. Not one line is lost without being counted, and none is torn. */
static void test_nobody_reads(void **state)
{
    (void)state;
    enum { LINES = 20000 };
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, UINT32_MAX);
    uint64_t before_ms = env_monotonic_ms(env_system());
    for (unsigned i = 0; i < LINES; i++)
        LOG(fixture.log, LOGIN, LOG_U("number", i));
    assert_true(env_monotonic_ms(env_system()) - before_ms < 20000);
    close_log(&fixture);
    size_t written = count_of(fixture.text, "\"login\"");
    unsigned long dropped = 0;
    size_t told = 0;
    static const char part[] = "\"event\":\"log_dropped\",\"lines\":";
    for (const char *at = fixture.text; (at = strstr(at, part)) != NULL; told++) {
        at += sizeof(part) - 1;
        dropped += strtoul(at, NULL, 10);
    }
    assert_true(dropped > 0 && written > 1000);
    assert_int_equal(written + dropped, LINES);
    assert_int_equal(count_of(fixture.text, "}\n"), written + told);
    assert_int_equal(count_of(fixture.text, "\n"), written + told);
    assert_int_equal(metrics_read(fixture.metrics, METRIC_log_dropped), dropped);
    free_fixture(&fixture);
}

/* The reader never comes back: closing gives up in bounded time. */
static void test_close_is_bounded(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, UINT32_MAX);
    for (unsigned i = 0; i < 5000; i++)
        LOG(fixture.log, LOGIN, LOG_U("number", i));
    uint64_t before_ms = env_monotonic_ms(env_system());
    log_close(fixture.log);
    assert_true(env_monotonic_ms(env_system()) - before_ms < 5000);
    close(fixture.ends[0]);
    close(fixture.ends[1]);
    free_fixture(&fixture);
}

/* Other threads do not know yet that the process ends, and may say something. */
static void test_finished_is_not_freed(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, UINT32_MAX);
    LOG(fixture.log, READY);
    log_finish(fixture.log);
    for (unsigned i = 0; i < 20000; i++)
        LOG(fixture.log, LOGIN, LOG_U("number", i));
    log_finish(NULL);
    close_log(&fixture);
    assert_int_equal(count_of(fixture.text, "}\n"), 1);
    assert_int_equal(metrics_read(fixture.metrics, METRIC_log_lines), 1);
    free_fixture(&fixture);
}

/* The reader went away: lines are lost, the process lives. */
static void test_broken_pipe(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, 0);
    close(fixture.ends[0]);
    LOG(fixture.log, READY);
    log_close(fixture.log);
    close(fixture.ends[1]);
    assert_int_equal(metrics_read(fixture.metrics, METRIC_log_dropped), 1);
    free_fixture(&fixture);
}

enum { THREADS = 4, EACH = 300 };

static void *log_some(void *argument)
{
    for (unsigned i = 0; i < EACH; i++)
        LOG(argument, LOGOUT, LOG_S("user", "berta"), LOG_U("number", i));
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    struct fixture fixture;
    open_log(&fixture, LOG_INFO, UINT32_MAX);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_some, fixture.log), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    close_log(&fixture);
    assert_int_equal(count_of(fixture.text, "\"user\":\"berta\",\"number\":299}\n"), THREADS);
    assert_int_equal(count_of(fixture.text, "\n"), THREADS * EACH);
    free_fixture(&fixture);
}

static void test_table(void **state)
{
    (void)state;
    for (unsigned i = 0; i < LOG_EVENT_COUNT; i++) {
        const char *name = log_event_name(i);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        assert_true(strlen(log_event_help(i)) > 0);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(name, log_event_name(j));
    }
    assert_int_equal(log_event_level(LOG_EVENT_STORE_FAILED), LOG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_rate_limit),
        cmocka_unit_test(test_nobody_reads),
        cmocka_unit_test(test_close_is_bounded),
        cmocka_unit_test(test_finished_is_not_freed),
        cmocka_unit_test(test_broken_pipe),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_a_line_is_written_at_once),
        cmocka_unit_test(test_writes_are_whole_lines),
        cmocka_unit_test(no_event_has_the_recorder_for_itself),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
