/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/memory.h"

/* A ring of fixed size: a handful of counters and gauges as they stood, and of each latency the
 * quantiles of the time since the sample before, which say as much as its buckets in a fiftieth of
 * the room. Counters are told as they stood, so whoever draws them does so as with those of now. */

/* What is kept, in the order of struct sample. */
static const enum metric_id counters[] = {
    METRIC_messages_accepted,
    METRIC_messages_delivered,
    METRIC_messages_refused,
    METRIC_logins,
    METRIC_resumes,
    METRIC_takeovers,
    METRIC_calls,
    METRIC_calls_answered,
    METRIC_calls_timed_out,
    METRIC_calls_no_service,
    METRIC_calls_lost,
    METRIC_bytes_in,
    METRIC_bytes_out,
};
static const enum metric_id gauges[] = {
    METRIC_sessions_online,
    METRIC_sessions_detached,
    METRIC_connections_open,
    METRIC_memory_held_bytes,
};
static const enum histogram_id latencies[] = {
    HISTOGRAM_delivery_latency, HISTOGRAM_login_latency, HISTOGRAM_call_latency,
    HISTOGRAM_commit_latency,   HISTOGRAM_turn_duration,
};
static const struct {
    const char *name;
    double part;
} quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct sample {
    uint64_t time_ms; /* wall */
    uint64_t cpu_ms;
    uint64_t refused; /* logins, whyever */
    uint64_t counters[COUNT(counters)];
    uint64_t gauges[COUNT(gauges)];
    float seconds[COUNT(latencies)][COUNT(quantiles)]; /* below 0: nothing happened */
};

struct samples {
    const struct env *env;
    struct metrics *metrics;
    uint64_t count; /* that were taken */
    struct histogram_reading before[COUNT(latencies)];
    struct sample ring[SAMPLES_MAX];
};

struct samples *samples_create(const struct env *env, struct metrics *metrics)
{
    struct samples *samples = calloc(1, sizeof(*samples));
    if (samples == NULL)
        return NULL;
    samples->env = env;
    samples->metrics = metrics;
    memory_account(MEMORY_OF_OWN, sizeof(*samples));
    return samples;
}

void samples_destroy(struct samples *samples)
{
    if (samples == NULL)
        return;
    memory_account(MEMORY_OF_OWN, -(int64_t)sizeof(*samples));
    free(samples);
}

/* As Prometheus' histogram_quantile: linear inside of a bucket, and the last finite bound for what
 * is above all. */
static float quantile_of(const struct histogram_reading *now,
                         const struct histogram_reading *before, double part)
{
    uint64_t total = now->count - before->count;
    if (now->count <= before->count)
        return -1;
    double rank = part * (double)total;
    uint64_t below = 0;
    unsigned last = now->bucket_count - 1;
    for (unsigned i = 0; i < last; i++) {
        uint64_t inside = now->buckets[i] - before->buckets[i];
        double lower = i > 0 ? (double)now->bounds[i - 1] : 0;
        if (inside > 0 && (double)(below + inside) >= rank)
            return (float)((lower + ((double)now->bounds[i] - lower) * (rank - (double)below) /
                                        (double)inside) /
                           1e9);
        below += inside;
    }
    return (float)((double)now->bounds[last - 1] / 1e9);
}

static uint64_t cpu_ms(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return 0;
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

static uint64_t refused_logins(const struct metrics *metrics)
{
    static const char prefix[] = "logins_refused_";
    uint64_t sum = 0;
    for (int id = 0; id < METRIC_COUNT; id++)
        if (strncmp(metrics_name((enum metric_id)id), prefix, sizeof(prefix) - 1) == 0)
            sum += metrics_read(metrics, (enum metric_id)id);
    return sum;
}

void samples_take(struct samples *samples)
{
    const struct metrics *metrics = samples->metrics;
    struct sample *sample = &samples->ring[samples->count % SAMPLES_MAX];
    sample->time_ms = env_wall_ms(samples->env);
    sample->cpu_ms = cpu_ms();
    sample->refused = refused_logins(metrics);
    for (size_t i = 0; i < COUNT(counters); i++)
        sample->counters[i] = metrics_read(metrics, counters[i]);
    for (size_t i = 0; i < COUNT(gauges); i++)
        sample->gauges[i] = metrics_read(metrics, gauges[i]);
    for (size_t i = 0; i < COUNT(latencies); i++) {
        struct histogram_reading now;
        metrics_read_histogram(metrics, latencies[i], &now);
        for (size_t q = 0; q < COUNT(quantiles); q++)
            sample->seconds[i][q] = quantile_of(&now, &samples->before[i], quantiles[q].part);
        samples->before[i] = now;
    }
    samples->count++;
}

/* --- told ------------------------------------------------------------------------------------- */

static const struct sample *at(const struct samples *samples, uint64_t number)
{
    return &samples->ring[number % SAMPLES_MAX];
}

static uint64_t oldest(const struct samples *samples)
{
    return samples->count > SAMPLES_MAX ? samples->count - SAMPLES_MAX : 0;
}

/* A column: what `read` gives of each. */
static json_t *column(const struct samples *samples,
                      json_t *(*read)(const struct sample *sample, size_t one, size_t other),
                      size_t one, size_t other)
{
    json_t *values = json_array();
    for (uint64_t i = oldest(samples); i < samples->count; i++)
        json_array_append_new(values, read(at(samples, i), one, other));
    return values;
}

static json_t *whole(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *read_time(const struct sample *sample, size_t one, size_t other)
{
    return whole(sample->time_ms);
}

static json_t *read_cpu(const struct sample *sample, size_t one, size_t other)
{
    return json_real((double)sample->cpu_ms / 1000);
}

static json_t *read_refused(const struct sample *sample, size_t one, size_t other)
{
    return whole(sample->refused);
}

static json_t *read_counter(const struct sample *sample, size_t one, size_t other)
{
    return whole(sample->counters[one]);
}

static json_t *read_gauge(const struct sample *sample, size_t one, size_t other)
{
    return whole(sample->gauges[one]);
}

static json_t *read_quantile(const struct sample *sample, size_t one, size_t other)
{
    float seconds = sample->seconds[one][other];
    return seconds >= 0 ? json_real(seconds) : json_null();
}

static json_t *tell_counters(const struct samples *samples)
{
    json_t *object = json_object();
    for (size_t i = 0; i < COUNT(counters); i++)
        json_object_set_new(object, metrics_name(counters[i]), column(samples, read_counter, i, 0));
    json_object_set_new(object, "logins_refused_all", column(samples, read_refused, 0, 0));
    json_object_set_new(object, "process_cpu_seconds_total", column(samples, read_cpu, 0, 0));
    return object;
}

static json_t *tell_gauges(const struct samples *samples)
{
    json_t *object = json_object();
    for (size_t i = 0; i < COUNT(gauges); i++)
        json_object_set_new(object, metrics_name(gauges[i]), column(samples, read_gauge, i, 0));
    return object;
}

static json_t *tell_quantiles(const struct samples *samples)
{
    json_t *object = json_object();
    for (size_t i = 0; i < COUNT(latencies); i++) {
        json_t *one = json_object();
        for (size_t q = 0; q < COUNT(quantiles); q++)
            json_object_set_new(one, quantiles[q].name, column(samples, read_quantile, i, q));
        json_object_set_new(object, metrics_histogram_name(latencies[i]), one);
    }
    return object;
}

void samples_tell(const struct samples *samples, json_t *answer)
{
    json_object_set_new(answer, "period_ms", whole(SAMPLE_MS));
    json_object_set_new(answer, "now_ms", whole(env_wall_ms(samples->env)));
    json_object_set_new(answer, "times_ms", column(samples, read_time, 0, 0));
    json_object_set_new(answer, "counters", tell_counters(samples));
    json_object_set_new(answer, "gauges", tell_gauges(samples));
    json_object_set_new(answer, "quantiles", tell_quantiles(samples));
}
