/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/allowance.h"
#include "base/lock.h"
#include "base/log_line.h"
#include "base/wait.h"

/* Logging must never stop the broker: a terminal that is held, a pipe that nobody reads or a disk
 * that is full stops one thread, the writer, and nobody else. So a caller puts its line together
 * on its own stack and copies it into `filling`, under a leaf lock; the writer swaps `filling`
 * with `writing` and writes without the lock. What finds no room is counted, and the writer says
 * so after its next batch. Another process on the same pipe may fill it between the writer's poll
 * and its write; then log_close leaves the writer behind, and its memory.
 *
 * The writer asks poll first and writes at most PIPE_BUF bytes, whole lines: a pipe that polls
 * writable takes that much at once, so the writer itself notices the end of log_close's patience,
 * and lines of processes that share a pipe do not mix.
 *
 * The rate limit is per event, errors included, so that a peer that provokes one event cannot
 * drown the others; the number left out stands on the next line of that event. The recorder has one
 * too, of another kind.
 *
 * Owners: `filling`, `dropped`, `rates` and `recordings` are under the lock; `writing` is the
 * writer's. */

enum {
    LINES_PER_SECOND_DEFAULT = 10,
    CLOSE_PATIENCE_MS = 1000,
    CLOSE_BLOCKED_MS = 500, /* more, for a writer that is inside of write */
    POLL_MS = 50
};

struct batch {
    size_t size;
    size_t lines;
    char text[LOG_QUEUE_BYTES];
};

struct rate {
    uint64_t window_ms; /* when the current second began */
    uint32_t lines;     /* in it */
    uint64_t suppressed;
};

struct recording {
    struct allowance allowance;
    uint64_t left_out;
};

struct log {
    struct log_options options;             /* set once */
    struct allowance_terms recording_terms; /* set once */
    pthread_t writer;
    atomic_int level;               /* relaxed: a stale level shows or hides a line more */
    atomic_uint_least64_t close_ms; /* 0, or when the writer gives up; written under the lock,
                                       read without it by a writer that waits for its reader */
    struct lock lock;
    pthread_cond_t wake;
    struct batch *filling;
    uint64_t dropped;
    bool finished; /* the writer touches nothing any more but the lock */
    bool joined;   /* or left behind */
    pthread_cond_t finish;
    struct metrics *metrics;
    struct rate rates[LOG_EVENT_COUNT];
    struct recording recordings[LOG_EVENT_COUNT];

    struct thread_mark mark; /* the writer's, as what follows */
    struct batch *writing;
};

static const struct {
    enum log_level level;
    const char *name;
    const char *help;
} events[LOG_EVENT_COUNT] = {
#define LOG_EVENT(name, level, text, help) {LOG_##level, text, help},
#include "base/log.def"
#undef LOG_EVENT
};

const char *log_event_name(enum log_event_id id)
{
    return events[id].name;
}

const char *log_event_help(enum log_event_id id)
{
    return events[id].help;
}

enum log_level log_event_level(enum log_event_id id)
{
    return events[id].level;
}

const char *log_level_name(enum log_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return names[level];
}

/* Whether the writer has lost its patience. Its own clock, because a simulated one may stand. */
static bool is_time_up(const struct log *log)
{
    uint64_t close_ms = atomic_load_explicit(&log->close_ms, memory_order_relaxed);
    return close_ms != 0 && env_monotonic_ms(env_system()) >= close_ms;
}

/* 1: the reader takes more. 0: it will not, within the time or at all. */
static bool wait_writable(const struct log *log)
{
    while (!is_time_up(log)) {
        struct pollfd pollfd = {.fd = log->options.fd, .events = POLLOUT};
        int ready = poll(&pollfd, 1, POLL_MS);
        if (ready > 0)
            return (pollfd.revents & POLLOUT) != 0;
        if (ready < 0 && errno != EINTR)
            return false;
    }
    return false;
}

/* As many whole lines as fit into one atomic write. */
static size_t chunk_size(const char *text, size_t size)
{
    if (size <= PIPE_BUF)
        return size;
    const char *last = memrchr(text, '\n', PIPE_BUF);
    return last != NULL ? (size_t)(last - text) + 1 : PIPE_BUF;
}

static size_t count_lines(const char *text, size_t size)
{
    size_t lines = 0;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    return lines;
}

/* Gives the number of lines that could not be written. */
static size_t write_out(const struct log *log, const char *text, size_t size)
{
    while (size > 0) {
        if (!wait_writable(log))
            return count_lines(text, size);
        ssize_t written = write(log->options.fd, text, chunk_size(text, size));
        if (written < 0 && errno != EINTR && errno != EAGAIN)
            return count_lines(text, size);
        if (written > 0) {
            text += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

static void begin_line(const struct log *log, struct log_line *line, enum log_event_id id)
{
    (log->options.journal ? log_line_begin_journal : log_line_begin)(
        line, log->options.json, env_wall_ms(log->options.env), events[id].level, events[id].name);
}

/* A line about lines that are missing. It is the writer's own, so it needs no room in the queue. */
static size_t write_dropped(const struct log *log, uint64_t dropped)
{
    struct log_line line;
    const struct log_field field = LOG_U("lines", dropped);
    begin_line(log, &line, LOG_EVENT_LOG_DROPPED);
    log_line_field(&line, &field);
    log_line_end(&line);
    return write_out(log, line.text, line.size);
}

/* Waits for lines and takes them all. False: there are none and the log is closing. */
static bool take_batch(struct log *log, uint64_t *dropped)
{
    CHECK(on_thread(&log->mark) && log->writing->size == 0);
    lock_take(&log->lock);
    while (log->filling->size == 0 && log->dropped == 0 &&
           atomic_load_explicit(&log->close_ms, memory_order_relaxed) == 0)
        lock_wait(&log->lock, &log->wake);
    struct batch *batch = log->filling;
    log->filling = log->writing;
    log->writing = batch;
    *dropped = log->dropped;
    log->dropped = 0;
    lock_give(&log->lock);
    return batch->size > 0 || *dropped > 0;
}

static void count(struct log *log, size_t lines, size_t dropped)
{
    lock_take(&log->lock);
    metrics_add(log->metrics, 0, METRIC_log_lines, lines);
    metrics_add(log->metrics, 0, METRIC_log_dropped, dropped);
    lock_give(&log->lock);
}

void log_set_metrics(struct log *log, struct metrics *metrics)
{
    if (log == NULL)
        return;
    lock_take(&log->lock);
    log->metrics = metrics;
    lock_give(&log->lock);
}

static void *run_writer(void *argument)
{
    struct log *log = argument;
    uint64_t missing = 0;
    uint64_t dropped;
    /* Signals are for the main thread; a reader that went away must not end the process. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    thread_begin(&log->mark);
    while (take_batch(log, &dropped)) {
        struct batch *batch = log->writing;
        size_t lost = write_out(log, batch->text, batch->size);
        missing += lost + dropped;
        count(log, batch->lines - lost, lost + dropped);
        if (missing > 0 && lost == 0 && write_dropped(log, missing) == 0)
            missing = 0;
        batch->size = 0;
        batch->lines = 0;
    }
    thread_end(&log->mark);
    lock_take(&log->lock);
    log->finished = true;
    pthread_cond_signal(&log->finish);
    lock_give(&log->lock);
    return NULL;
}

static void log_free(struct log *log)
{
    free(log->filling);
    free(log->writing);
    free(log);
}

/* Of one event the recorder has a quarter of its room at once, and as much in each minute: whoever
 * causes one over and over pushes out what others did in some minutes and not in seconds, and the
 * newest of it come now and then, with the number of those between. */
static struct allowance_terms recording_terms(const struct recorder *recorder)
{
    enum { LINE_BYTES = 128, LINES_MIN = 8, PARTS = 4, MINUTE_US = 60000000 };
    uint64_t lines = recorder != NULL ? recorder_capacity(recorder) / PARTS / LINE_BYTES : 0;
    lines = lines > LINES_MIN ? lines : LINES_MIN;
    return allowance_over(lines < MINUTE_US ? (uint32_t)lines : MINUTE_US, MINUTE_US);
}

int log_open(struct log **to, const struct log_options *options)
{
    struct log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return -ENOMEM;
    log->options = *options;
    if (log->options.lines_per_second_per_event == 0)
        log->options.lines_per_second_per_event = LINES_PER_SECOND_DEFAULT;
    log->recording_terms = recording_terms(options->recorder);
    atomic_init(&log->level, (int)options->level);
    atomic_init(&log->close_ms, 0);
    log->filling = calloc(1, sizeof(*log->filling));
    log->writing = calloc(1, sizeof(*log->writing));
    if (log->filling == NULL || log->writing == NULL) {
        log_free(log);
        return -ENOMEM;
    }
    log->metrics = options->metrics;
    lock_init(&log->lock);
    wait_condition_init(&log->wake);
    wait_condition_init(&log->finish);
    int error = pthread_create(&log->writer, NULL, run_writer, log);
    if (error != 0) {
        log_free(log);
        return -error;
    }
    *to = log;
    return 0;
}

/* Lock is held. */
static bool wait_finished(struct log *log)
{
    CHECK(lock_held(&log->lock));
    struct timespec until =
        wait_time(env_monotonic_ms(env_system()) + CLOSE_PATIENCE_MS + CLOSE_BLOCKED_MS);
    while (!log->finished && lock_wait_until(&log->lock, &log->finish, &until))
        continue;
    return log->finished;
}

/* False: the writer hangs. */
static bool finish(struct log *log)
{
    lock_take(&log->lock);
    atomic_store_explicit(&log->close_ms, env_monotonic_ms(env_system()) + CLOSE_PATIENCE_MS,
                          memory_order_relaxed);
    pthread_cond_signal(&log->wake);
    bool finished = wait_finished(log);
    bool joined = log->joined;
    log->joined = true;
    log->metrics = NULL; /* whoever is left behind counts nowhere */
    lock_give(&log->lock);
    if (!joined)
        (void)(finished ? pthread_join(log->writer, NULL) : pthread_detach(log->writer));
    return finished;
}

void log_finish(struct log *log)
{
    if (log != NULL)
        (void)finish(log);
}

void log_close(struct log *log)
{
    if (log == NULL || !finish(log))
        return;
    pthread_cond_destroy(&log->finish);
    pthread_cond_destroy(&log->wake);
    lock_destroy(&log->lock);
    log_free(log);
}

/* Whether the event may have a line now, and how many were left out before it. */
static bool admit(struct log *log, enum log_event_id id, uint64_t *suppressed)
{
    uint64_t now_ms = env_monotonic_ms(log->options.env);
    lock_take(&log->lock);
    struct rate *rate = &log->rates[id];
    if (now_ms - rate->window_ms >= 1000) {
        rate->window_ms = now_ms;
        rate->lines = 0;
    }
    bool admitted = rate->lines < log->options.lines_per_second_per_event;
    if (admitted) {
        rate->lines++;
        *suppressed = rate->suppressed;
        rate->suppressed = 0;
    } else {
        rate->suppressed++;
    }
    lock_give(&log->lock);
    return admitted;
}

static void enqueue(struct log *log, const struct log_line *line)
{
    lock_take(&log->lock);
    struct batch *batch = log->filling;
    bool was_empty = batch->size == 0 && log->dropped == 0;
    CHECK(batch->size <= sizeof(batch->text));
    if (line->size <= sizeof(batch->text) - batch->size) {
        memcpy(batch->text + batch->size, line->text, line->size);
        batch->size += line->size;
        batch->lines++;
    } else {
        log->dropped++;
    }
    if (was_empty)
        pthread_cond_signal(&log->wake);
    lock_give(&log->lock);
}

static void put_fields(struct log_line *line, const struct log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        log_line_field(line, &fields[i]);
    log_line_end(line);
}

static bool admit_to_recorder(struct log *log, enum log_event_id id, uint64_t *left_out)
{
    uint64_t now_ms = env_monotonic_ms(log->options.env);
    struct recording *recording = &log->recordings[id];
    lock_take(&log->lock);
    bool admitted = allowance_wait_ms(&recording->allowance, log->recording_terms, now_ms) == 0;
    if (admitted)
        allowance_spend(&recording->allowance, log->recording_terms, now_ms);
    *left_out = admitted ? recording->left_out : 0;
    recording->left_out = admitted ? 0 : recording->left_out + 1;
    lock_give(&log->lock);
    return admitted;
}

/* Before the level and the log's rate limit decide: what they leave out is what the recorder is
 * for. */
static void record(struct log *log, enum log_event_id id, const struct log_field *fields,
                   size_t count)
{
    struct log_line line;
    uint64_t left_out;
    if (!admit_to_recorder(log, id, &left_out))
        return;
    log_line_begin_record(&line, env_wall_ms(log->options.env), events[id].level, events[id].name);
    const struct log_field field = LOG_U("suppressed", left_out);
    if (left_out > 0)
        log_line_field(&line, &field);
    put_fields(&line, fields, count);
    recorder_add(log->options.recorder, line.text, line.size);
}

void log_event(struct log *log, enum log_event_id id, const struct log_field *fields, size_t count)
{
    uint64_t suppressed = 0;
    if (log == NULL)
        return;
    if (log->options.recorder != NULL)
        record(log, id, fields, count);
    if ((int)events[id].level < atomic_load_explicit(&log->level, memory_order_relaxed) ||
        !admit(log, id, &suppressed))
        return;
    struct log_line line;
    begin_line(log, &line, id);
    if (suppressed > 0) {
        const struct log_field field = LOG_U("suppressed", suppressed);
        log_line_field(&line, &field);
    }
    put_fields(&line, fields, count);
    enqueue(log, &line);
}

struct recorder *log_recorder(const struct log *log)
{
    return log != NULL ? log->options.recorder : NULL;
}

void log_set_level(struct log *log, enum log_level level)
{
    if (log != NULL)
        atomic_store_explicit(&log->level, (int)level, memory_order_relaxed);
}
