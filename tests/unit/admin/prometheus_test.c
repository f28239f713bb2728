/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/prometheus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const struct {
    const char *prefix, *family;
} families[] = {
#define FAMILY(prefix, family, label, help) {prefix, family},
#include "admin/families.def"
#undef FAMILY
};

enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

static char *scrape(const struct metrics *metrics, const char *node)
{
    uint64_t readings[READING_COUNT] = {[READING_output_bytes] = 12345};
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    prometheus_write(out, metrics, readings, node);
    assert_int_equal(fclose(out), 0);
    return text;
}

static unsigned occurrences(const char *text, const char *part)
{
    unsigned count = 0;
    while ((text = strstr(text, part)) != NULL) {
        count++;
        text++;
    }
    return count;
}

static void test_counters_and_gauges(void **state)
{
    struct metrics *metrics = metrics_create(2);
    metrics_add(metrics, 0, METRIC_logins, 3);
    metrics_add(metrics, 1, METRIC_logins, 4);
    metrics_add(metrics, 0, METRIC_sessions_online, 5);
    metrics_add(metrics, 0, METRIC_logins_refused_expired, 6);
    char *text = scrape(metrics, "n\"1\\");
    assert_non_null(strstr(text, "\n# TYPE usher_logins_total counter\nusher_logins_total 7\n"));
    assert_non_null(strstr(text, "\nusher_sessions{state=\"online\"} 5\n"));
    assert_non_null(strstr(text, "\nusher_logins_refused_total{reason=\"expired\"} 6\n"));
    assert_non_null(strstr(text, "\n# TYPE usher_output_bytes gauge\nusher_output_bytes 12345\n"));
    assert_non_null(strstr(text, ",node=\"n\\\"1\\\\\"} 1\n"));
    free(text);
    metrics_destroy(metrics);
}

/* A row of listeners.def has its numbers without another line, and the sum has its old name. */
static void test_listeners_have_their_own(void **state)
{
    struct metrics *metrics = metrics_create(1);
    metrics_add(metrics, 0, METRIC_connections_open, 5);
    metrics_add(metrics, 0, METRIC_connections_open_tls, 4);
    metrics_add(metrics, 0, METRIC_connections_accepted_tcp, 7);
    char *text = scrape(metrics, "n");
    assert_non_null(strstr(text, "\nusher_connections_open 5\n"));
    assert_non_null(strstr(text, "\nusher_listener_connections_open{listener=\"tls\"} 4\n"));
    assert_non_null(
        strstr(text, "\nusher_listener_connections_accepted_total{listener=\"tcp\"} 7\n"));
    free(text);
    metrics_destroy(metrics);
}

/* Each row once, under one HELP and one TYPE, without a gap. */
static void test_families_stand_together(void **state)
{
    char *text = scrape(NULL, "n");
    for (unsigned i = 0; i < FAMILIES; i++) {
        char head[100];
        snprintf(head, sizeof(head), " usher_%s", families[i].family);
        unsigned rows = 0;
        bool gauge = false;
        for (unsigned id = 0; id < METRIC_COUNT; id++) {
            const char *name = metrics_name((enum metric_id)id);
            if (strncmp(name, families[i].prefix, strlen(families[i].prefix)) != 0)
                continue;
            assert_true(rows == 0 || gauge == metrics_is_gauge((enum metric_id)id));
            gauge = metrics_is_gauge((enum metric_id)id);
            rows++;
        }
        assert_true(rows > 0);
        snprintf(head, sizeof(head), "# TYPE usher_%s%s ", families[i].family,
                 gauge ? "" : "_total");
        assert_int_equal(occurrences(text, head), 1);
        const char *at = strstr(text, head);
        at = strchr(at, '\n') + 1;
        snprintf(head, sizeof(head), "usher_%s%s{", families[i].family, gauge ? "" : "_total");
        for (unsigned row = 0; row < rows; row++) {
            assert_int_equal(strncmp(at, head, strlen(head)), 0);
            at = strchr(at, '\n') + 1;
        }
        assert_int_equal(occurrences(text, head), rows);
    }
    free(text);
}

static void test_histogram(void **state)
{
    struct metrics *metrics = metrics_create(1);
    metrics_record(metrics, 0, HISTOGRAM_login_latency, 1000000); /* 1 ms: belongs to le 0.001 */
    metrics_record(metrics, 0, HISTOGRAM_login_latency, 1000001);
    metrics_record(metrics, 0, HISTOGRAM_login_latency, UINT64_C(60000000000));
    metrics_record(metrics, 0, HISTOGRAM_commit_size, 3);
    char *text = scrape(metrics, "n");
    assert_non_null(strstr(text, "# TYPE usher_login_latency_seconds histogram\n"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_bucket{le=\"0.0005\"} 0\n"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_bucket{le=\"0.001\"} 1\n"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_bucket{le=\"0.0025\"} 2\n"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_bucket{le=\"10\"} 2\n"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_bucket{le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_sum 60.002"));
    assert_non_null(strstr(text, "\nusher_login_latency_seconds_count 3\n"));
    assert_non_null(strstr(text, "\nusher_commit_size_bucket{le=\"2\"} 0\n"
                                 "usher_commit_size_bucket{le=\"4\"} 1\n"));
    free(text);
    metrics_destroy(metrics);
}

static void test_stats(void **state)
{
    struct metrics *metrics = metrics_create(1);
    uint64_t readings[READING_COUNT] = {[READING_users] = 9};
    metrics_add(metrics, 0, METRIC_turns, 2);
    metrics_record(metrics, 0, HISTOGRAM_turn_duration, 1500);
    json_t *json = json_object();
    prometheus_fill_stats(json, metrics, readings);
    const json_t *counters = json_object_get(json, "counters");
    assert_int_equal(json_integer_value(json_object_get(counters, "turns")), 2);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "gauges"), "users")),
                     9);
    const json_t *turns = json_object_get(json_object_get(json, "histograms"), "turn_duration");
    const json_t *buckets = json_object_get(turns, "buckets");
    size_t last = json_array_size(buckets) - 1;
    assert_true(json_is_null(json_object_get(json_array_get(buckets, last), "le")));
    const json_t *all = json_array_get(buckets, last);
    assert_int_equal(json_integer_value(json_object_get(all, "count")), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(buckets, 0), "count")), 0);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(buckets, 1), "count")), 1);
    json_decref(json);
    metrics_destroy(metrics);
}

static void test_process(void **state)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    double started = process_started();
    process_write(started, out);
    fclose(out);
    const char *memory = strstr(text, "\nprocess_resident_memory_bytes ");
    assert_non_null(memory);
    assert_true(strtod(strchr(memory + 1, ' '), NULL) > 100000);
    const char *start = strstr(text, "\nprocess_start_time_seconds ");
    assert_non_null(start);
    assert_true(strtod(strchr(start + 1, ' '), NULL) == started);
    double age = (double)time(NULL) - started;
    assert_true(age > -2 && age < 600);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges),
        cmocka_unit_test(test_listeners_have_their_own),
        cmocka_unit_test(test_families_stand_together),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
