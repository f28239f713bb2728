/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/report.h"

#include <stdio.h>

#include "common/json.h"

/* One list of figures serves both forms, so that the table never says less than the JSON. Names
 * are identifiers with their unit at the end, as everywhere in this project. */

void report_add(struct report *report, const char *name, double value, int digits)
{
    if (report->count == REPORT_FIGURES_MAX)
        return;
    report->figures[report->count].name = name;
    report->figures[report->count].value = value;
    report->figures[report->count].digits = digits;
    report->count++;
}

void report_latency(struct report *report, const struct histogram *latency)
{
    static const struct {
        const char *name;
        double part;
    } rows[] = {
        {"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"p99_9_us", 0.999}, {"max_us", 1},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        report_add(report, rows[i].name, (double)histogram_quantile(latency, rows[i].part) / 1e3,
                   1);
}

static void print_json(const struct report *report)
{
    printf("{\"scenario\":\"%s\"", report->scenario);
    for (unsigned i = 0; i < report->count; i++)
        printf(",\"%s\":%.*f", report->figures[i].name, report->figures[i].digits,
               report->figures[i].value);
    if (report->note[0] != '\0')
        print_json_text(stdout, ",", "note", report->note);
    printf(",\"ok\":%s}\n", report->error[0] == '\0' ? "true" : "false");
}

static void print_table(const struct report *report)
{
    printf("usher-bench %s\n", report->scenario);
    for (unsigned i = 0; i < report->count; i++)
        printf("  %-28s %16.*f\n", report->figures[i].name, report->figures[i].digits,
               report->figures[i].value);
}

bool report_print(const struct report *report, bool json)
{
    if (json)
        print_json(report);
    else if (report->count > 0)
        print_table(report);
    if (report->note[0] != '\0')
        fprintf(stderr, "usher-bench: note: %s\n", report->note);
    if (report->error[0] != '\0')
        fprintf(stderr, "usher-bench: %s\n", report->error);
    return fflush(stdout) == 0 && !ferror(stdout);
}
