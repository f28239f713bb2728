/* SPDX-License-Identifier: Apache-2.0 */
#include "admin/prometheus.h"

#include <inttypes.h>
#include <string.h>

/* The table metrics.def in the words of Prometheus. A family has to stand together under one HELP
 * and TYPE, so it is written where the first of its rows is met, and its other rows are passed
 * over. No label is ever made from what a peer says, so the number of series is that of the table.
 * */

struct family {
    const char *prefix; /* "": of one metric alone */
    const char *name;
    const char *label;
    const char *help;
};

static const struct family families[] = {
#define FAMILY(prefix, family, label, help) {prefix, family, label, help},
#include "admin/families.def"
#undef FAMILY
};

enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

static const struct family *family_of(const char *name)
{
    for (unsigned i = 0; i < FAMILIES; i++)
        if (strncmp(name, families[i].prefix, strlen(families[i].prefix)) == 0)
            return &families[i];
    return NULL;
}

static void write_head(FILE *out, const char *name, const char *suffix, const char *type,
                       const char *help)
{
    fprintf(out, "# HELP usher_%s%s ", name, suffix);
    for (; *help != '\0'; help++)
        if (*help == '\\')
            fputs("\\\\", out);
        else
            fputc(*help, out);
    fprintf(out, "\n# TYPE usher_%s%s %s\n", name, suffix, type);
}

/* What a label's value needs escaped. */
static void write_value(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"')
            fputc('\\', out);
        if (*text == '\n')
            fputs("\\n", out);
        else
            fputc(*text, out);
    }
}

static void write_family(FILE *out, const struct metrics *metrics, const struct family *family,
                         bool gauge)
{
    const char *suffix = gauge ? "" : "_total";
    write_head(out, family->name, suffix, gauge ? "gauge" : "counter", family->help);
    for (unsigned id = 0; id < METRIC_COUNT; id++) {
        const char *name = metrics_name((enum metric_id)id);
        if (family_of(name) == family)
            fprintf(out, "usher_%s%s{%s=\"%s\"} %" PRIu64 "\n", family->name, suffix, family->label,
                    name + strlen(family->prefix), metrics_read(metrics, (enum metric_id)id));
    }
}

static void write_counted(FILE *out, const struct metrics *metrics)
{
    bool written[FAMILIES] = {false};
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        enum metric_id id = (enum metric_id)i;
        const struct family *family = family_of(metrics_name(id));
        bool gauge = metrics_is_gauge(id);
        if (family != NULL && !written[family - families]) {
            write_family(out, metrics, family, gauge);
            written[family - families] = true;
        } else if (family == NULL) {
            const char *suffix = gauge ? "" : "_total";
            write_head(out, metrics_name(id), suffix, gauge ? "gauge" : "counter",
                       metrics_help(id));
            fprintf(out, "usher_%s%s %" PRIu64 "\n", metrics_name(id), suffix,
                    metrics_read(metrics, id));
        }
    }
}

static double told(enum histogram_scale scale, uint64_t value)
{
    return scale == SCALE_SECONDS ? (double)value / 1e9 : (double)value;
}

static void write_histogram(FILE *out, const struct metrics *metrics, enum histogram_id id)
{
    enum histogram_scale scale = metrics_histogram_scale(id);
    const char *name = metrics_histogram_name(id);
    const char *unit = scale == SCALE_SECONDS ? "_seconds" : "";
    struct histogram_reading reading;
    metrics_read_histogram(metrics, id, &reading);
    write_head(out, name, unit, "histogram", metrics_histogram_help(id));
    uint64_t below = 0;
    for (unsigned i = 0; i + 1 < reading.bucket_count; i++) {
        below += reading.buckets[i];
        fprintf(out, "usher_%s%s_bucket{le=\"%.10g\"} %" PRIu64 "\n", name, unit,
                told(scale, reading.bounds[i]), below);
    }
    fprintf(out, "usher_%s%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, unit, reading.count);
    fprintf(out, "usher_%s%s_sum %.9g\n", name, unit, told(scale, reading.sum));
    fprintf(out, "usher_%s%s_count %" PRIu64 "\n", name, unit, reading.count);
}

void prometheus_write(FILE *out, const struct metrics *metrics,
                      const uint64_t readings[READING_COUNT], const char *node)
{
    write_head(out, "build_info", "", "gauge", "1; the labels say what runs");
    fputs("usher_build_info{version=\"" USHER_VERSION "\",node=\"", out);
    write_value(out, node);
    fputs("\"} 1\n", out);
    write_counted(out, metrics);
    for (unsigned i = 0; i < READING_COUNT; i++) {
        enum reading_id id = (enum reading_id)i;
        write_head(out, metrics_reading_name(id), "", "gauge", metrics_reading_help(id));
        fprintf(out, "usher_%s %" PRIu64 "\n", metrics_reading_name(id), readings[id]);
    }
    for (unsigned i = 0; i < HISTOGRAM_COUNT; i++)
        write_histogram(out, metrics, (enum histogram_id)i);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static json_t *histogram_json(const struct metrics *metrics, enum histogram_id id)
{
    enum histogram_scale scale = metrics_histogram_scale(id);
    struct histogram_reading reading;
    metrics_read_histogram(metrics, id, &reading);
    json_t *buckets = json_array();
    uint64_t below = 0;
    for (unsigned i = 0; i < reading.bucket_count; i++) {
        below += reading.buckets[i];
        json_t *bound =
            i + 1 < reading.bucket_count ? json_real(told(scale, reading.bounds[i])) : json_null();
        json_array_append_new(buckets,
                              json_pack("{s:o, s:I}", "le", bound, "count", (json_int_t)below));
    }
    return json_pack("{s:s, s:I, s:f, s:o}", "unit", scale == SCALE_SECONDS ? "seconds" : "items",
                     "count", (json_int_t)reading.count, "sum", told(scale, reading.sum), "buckets",
                     buckets);
}

void prometheus_fill_stats(json_t *to, const struct metrics *metrics,
                           const uint64_t readings[READING_COUNT])
{
    json_t *counters = json_object();
    json_t *gauges = json_object();
    json_t *histograms = json_object();
    for (unsigned i = 0; i < METRIC_COUNT; i++) {
        enum metric_id id = (enum metric_id)i;
        json_object_set_new(metrics_is_gauge(id) ? gauges : counters, metrics_name(id),
                            json_integer((json_int_t)metrics_read(metrics, id)));
    }
    for (unsigned i = 0; i < READING_COUNT; i++)
        json_object_set_new(gauges, metrics_reading_name((enum reading_id)i),
                            json_integer((json_int_t)readings[i]));
    for (unsigned i = 0; i < HISTOGRAM_COUNT; i++)
        json_object_set_new(histograms, metrics_histogram_name((enum histogram_id)i),
                            histogram_json(metrics, (enum histogram_id)i));
    json_object_set_new(to, "counters", counters);
    json_object_set_new(to, "gauges", gauges);
    json_object_set_new(to, "histograms", histograms);
}
