/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_LOG_H
#define USHER_BASE_LOG_H

/* Events for operators: one line each, JSON or readable text. A caller never waits for the reader
 * of the log: a line that finds no room is dropped and counted, and the count is logged later.
 * Whatever bytes the fields hold, a line stays one line of harmless characters. User payload and
 * secrets are never logged; that is the callers' duty. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"
#include "base/metrics.h"
#include "base/recorder.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* The rows of log.def: LOG_EVENT_READY and so on. */
enum log_event_id {
#define LOG_EVENT(name, level, text, help) LOG_EVENT_##name,
#include "base/log.def"
#undef LOG_EVENT
    LOG_EVENT_COUNT
};

enum {
    LOG_LINE_BYTES_MAX = 1024,   /* with the newline; fields that do not fit are cut or left out */
    LOG_QUEUE_BYTES = 256 * 1024 /* lines that wait; what does not fit is dropped and counted */
};

enum log_field_kind { LOG_TEXT, LOG_NUMBER, LOG_SIGNED, LOG_BYTES_TEXT };

struct log_field {
    const char *key; /* a constant of ours: lower case, digits, underscore */
    enum log_field_kind kind;
    const char *text; /* LOG_TEXT; NULL reads as "" */
    struct {
        const void *data;
        size_t size;
    } run; /* LOG_BYTES_TEXT: bytes that are meant to be text, perhaps hostile ones */
    uint64_t number;
    int64_t signed_number;
};

struct log_options {
    enum log_level level; /* less important events are ignored */
    int fd;               /* borrowed; never closed */
    bool json;            /* else readable text */
    bool journal;         /* each line begins with its priority for syslog, and text has no time */
    const struct env *env;
    uint32_t lines_per_second_per_event; /* 0: the default of 10; UINT32_MAX: no limit */
    struct metrics *metrics;             /* may be NULL; log_lines and log_dropped, block 0 */
    struct recorder *recorder; /* may be NULL; borrowed; gets every event, whatever the level */
};

struct log;

/* Starts the writer thread. 0, -ENOMEM or what pthread_create says. */
int log_open(struct log **log, const struct log_options *options);

/* Writes out what is queued, for at most a second, stops the thread and frees; a thread that hangs
 * in its write is left to the end of the process after half a second more. No other thread logs any
 * more. NULL is fine. */
void log_close(struct log *log);

/* The same for a process that is about to end with all its threads: nothing is freed until
 * log_close, and what others log from now on is not written. NULL is fine. */
void log_finish(struct log *log);

/* Any thread; never blocks on the reader; the fields are borrowed for the call. A NULL log: nothing
 * happens. An event below the level: only the recorder gets it. */
void log_event(struct log *log, enum log_event_id id, const struct log_field *fields, size_t count);

/* What log_options named, or NULL; also for a NULL log. */
struct recorder *log_recorder(const struct log *log);

/* Where lines are counted from now on; NULL: nowhere. The old ones are not touched any more. */
void log_set_metrics(struct log *log, struct metrics *metrics);

/* May change while others log. */
void log_set_level(struct log *log, enum log_level level);

const char *log_event_name(enum log_event_id id);
const char *log_event_help(enum log_event_id id);
enum log_level log_event_level(enum log_event_id id);
const char *log_level_name(enum log_level level);

/* Text may be NULL; numbers are uint64_t, LOG_I for signed ones; LOG_B takes bytes and size. */
#define LOG_S(key_, text_)                               \
    {                                                    \
        .key = (key_), .kind = LOG_TEXT, .text = (text_) \
    }
#define LOG_U(key_, number_)                                             \
    {                                                                    \
        .key = (key_), .kind = LOG_NUMBER, .number = (uint64_t)(number_) \
    }
#define LOG_I(key_, number_)                                                   \
    {                                                                          \
        .key = (key_), .kind = LOG_SIGNED, .signed_number = (int64_t)(number_) \
    }
#define LOG_B(key_, data_, size_)                                                         \
    {                                                                                     \
        .key = (key_), .kind = LOG_BYTES_TEXT, .run = {.data = (data_), .size = (size_) } \
    }

/* LOG(log, LOGIN, LOG_S("user", name), LOG_U("epoch", epoch)); also without any field. The first
 * row of the array is a filler, so that the list may be empty. */
#define LOG(log_, event_, ...)                                                 \
    log_event((log_), LOG_EVENT_##event_,                                      \
              (const struct log_field[]){{.key = NULL}, __VA_ARGS__} + 1,      \
              sizeof((const struct log_field[]){{.key = NULL}, __VA_ARGS__}) / \
                      sizeof(struct log_field) -                               \
                  1)

#endif
