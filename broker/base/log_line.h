/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_LOG_LINE_H
#define USHER_BASE_LOG_LINE_H

/* One log line under construction. Pure; whatever bytes a field holds, the result is one line of
 * well-formed UTF-8 without control characters, in JSON form one JSON object, and at most
 * LOG_LINE_BYTES_MAX long. A value that is too long ends in "..."; a field that finds no room is
 * left out and the line says cut=true. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

enum { LOG_VALUE_BYTES_MAX = 320 }; /* of one value, escaped */

struct log_line {
    bool json;
    bool cut;
    size_t size;
    char text[LOG_LINE_BYTES_MAX];
};

void log_line_begin(struct log_line *line, bool json, uint64_t wall_ms, enum log_level level,
                    const char *event);
/* The same for systemd's journal, which takes "<4>" off again and has a clock of its own: a line of
 * text then begins with the event. */
void log_line_begin_journal(struct log_line *line, bool json, uint64_t wall_ms,
                            enum log_level level, const char *event);

/* The same in JSON for a program: the time as a number, `time_ms`. */
void log_line_begin_record(struct log_line *line, uint64_t wall_ms, enum log_level level,
                           const char *event);
void log_line_field(struct log_line *line, const struct log_field *field);

/* Ends the line with a newline: text and size are complete. */
void log_line_end(struct log_line *line);

#endif
