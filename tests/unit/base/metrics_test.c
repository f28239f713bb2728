/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 4, ADDS = 20000 };

struct adder {
    struct metrics *metrics;
    unsigned block;
};

static void *add_many(void *argument)
{
    struct adder *adder = argument;
    for (int i = 0; i < ADDS; i++)
        metrics_add(adder->metrics, adder->block, METRIC_turns, 1);
    return NULL;
}

static void test_threads_sum(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create(3);
    pthread_t threads[THREADS];
    struct adder adders[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        adders[i] = (struct adder){.metrics = metrics, .block = i}; /* 3 shares a block with 0 */
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &adders[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(metrics_read(metrics, METRIC_turns), THREADS * ADDS);
    assert_int_equal(metrics_read(metrics, METRIC_turns_held), 0);
    metrics_destroy(metrics);
}

/* Each value belongs to the first bucket whose bound it does not exceed. */
static void test_histogram_buckets(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create(3);
    struct histogram_reading reading;
    metrics_read_histogram(metrics, HISTOGRAM_commit_latency, &reading);
    unsigned count = reading.bucket_count;
    assert_true(count > 2 && count <= HISTOGRAM_BUCKETS_MAX);
    for (unsigned i = 0; i + 1 < count; i++) {
        assert_true(i == 0 || reading.bounds[i] > reading.bounds[i - 1]);
        metrics_record(metrics, i, HISTOGRAM_commit_latency, reading.bounds[i]);
        metrics_record(metrics, i, HISTOGRAM_commit_latency, reading.bounds[i] + 1);
    }
    metrics_record(metrics, 0, HISTOGRAM_commit_latency, 0);
    metrics_read_histogram(metrics, HISTOGRAM_commit_latency, &reading);
    assert_int_equal(reading.buckets[0], 2);
    for (unsigned i = 1; i + 1 < count; i++)
        assert_int_equal(reading.buckets[i], 2);
    assert_int_equal(reading.buckets[count - 1], 1);
    assert_int_equal(reading.count, 2 * (count - 1) + 1);
    metrics_read_histogram(metrics, HISTOGRAM_commit_size, &reading);
    assert_int_equal(reading.count, 0); /* another histogram is another one */
    metrics_read_histogram(NULL, HISTOGRAM_commit_size, &reading);
    assert_int_equal(reading.count, 0);
    metrics_record(NULL, 0, HISTOGRAM_commit_size, 1);
    metrics_destroy(metrics);
}

static void *record_many(void *argument)
{
    struct adder *adder = argument;
    for (uint64_t i = 0; i < ADDS; i++)
        metrics_record(adder->metrics, adder->block, HISTOGRAM_commit_size, i % 5000);
    return NULL;
}

static void test_histogram_of_threads(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create(3);
    pthread_t threads[THREADS];
    struct adder adders[THREADS];
    struct histogram_reading reading;
    for (unsigned i = 0; i < THREADS; i++) {
        adders[i] = (struct adder){.metrics = metrics, .block = i};
        assert_int_equal(pthread_create(&threads[i], NULL, record_many, &adders[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    metrics_read_histogram(metrics, HISTOGRAM_commit_size, &reading);
    assert_int_equal(reading.count, THREADS * ADDS);
    assert_int_equal(reading.sum, (uint64_t)THREADS * ADDS / 5000 * (5000 * 4999 / 2));
    metrics_destroy(metrics);
}

static void test_gauge_across_blocks(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create(2);
    metrics_add(metrics, 0, METRIC_connections_open, 5);
    metrics_sub(metrics, 1, METRIC_connections_open, 2);
    assert_int_equal(metrics_read(metrics, METRIC_connections_open), 3);
    metrics_sub(metrics, 1, METRIC_connections_open, 4);
    assert_int_equal(metrics_read(metrics, METRIC_connections_open), 0);
    metrics_destroy(metrics);
}

static void test_blocks_on_their_own_lines(void **state)
{
    (void)state;
    struct metrics *metrics = metrics_create(2);
    assert_int_equal((uintptr_t)&metrics->blocks[0] % 64, 0);
    assert_int_equal((uintptr_t)&metrics->blocks[1] % 64, 0);
    metrics_destroy(metrics);
}

static void test_none(void **state)
{
    (void)state;
    metrics_add(NULL, 0, METRIC_turns, 1);
    assert_int_equal(metrics_read(NULL, METRIC_turns), 0);
    metrics_destroy(NULL);
    struct metrics *metrics = metrics_create(0);
    metrics_add(metrics, 9, METRIC_turns, 1);
    assert_int_equal(metrics_read(metrics, METRIC_turns), 1);
    metrics_destroy(metrics);
}

/* Names are exported: lower case words, none twice, each explained. */
static void test_table(void **state)
{
    (void)state;
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        const char *name = metrics_name(i);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        assert_true(strlen(metrics_help(i)) > 0);
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(name, metrics_name(j));
    }
    assert_string_equal(metrics_name(METRIC_log_dropped), "log_dropped");
    assert_true(metrics_is_gauge(METRIC_sessions_online));
    assert_false(metrics_is_gauge(METRIC_logins));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads_sum),
        cmocka_unit_test(test_histogram_buckets),
        cmocka_unit_test(test_histogram_of_threads),
        cmocka_unit_test(test_gauge_across_blocks),
        cmocka_unit_test(test_blocks_on_their_own_lines),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
