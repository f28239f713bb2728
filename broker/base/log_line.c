/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log_line.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"

/* The log is read on terminals and by programs, and it carries bytes that strangers chose. So a
 * value is decoded as UTF-8, character by character: what is malformed becomes U+FFFD, what could
 * end the string, start a terminal sequence or turn the reading direction is written as \uXXXX,
 * everything else stays. Both forms use the same escapes.
 *
 * Invariant: END_BYTES stay free until log_line_end, so that it always has its room. A field is
 * written whole or taken back whole. */

enum { END_BYTES = sizeof(",\"cut\":true}\n") - 1 };

#define REPLACEMENT UINT32_C(0xfffd)

/* Only for our own words. False, and nothing written, when they do not fit. */
static bool put(struct log_line *line, const char *data, size_t size)
{
    CHECK(line->size <= sizeof(line->text) - END_BYTES);
    if (size > sizeof(line->text) - END_BYTES - line->size)
        return false;
    memcpy(line->text + line->size, data, size);
    line->size += size;
    return true;
}

static bool put_text(struct log_line *line, const char *text)
{
    return put(line, text, strlen(text));
}

/* How many bytes a character has that begins so; 0 when none does. */
static size_t sequence_size(unsigned char lead)
{
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead >= 0xf5)
        return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* The character at `data` and its size; a malformed byte counts as one REPLACEMENT. */
static uint32_t decode(const unsigned char *data, size_t left, size_t *size)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char lead = data[0];
    size_t length = sequence_size(lead);
    *size = 1;
    if (length <= 1 || length > left)
        return length == 1 ? lead : REPLACEMENT;
    uint32_t code = lead & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((data[i] & 0xc0) != 0x80)
            return REPLACEMENT;
        code = code << 6 | (data[i] & 0x3fu);
    }
    if (code < least[length] || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
        return REPLACEMENT;
    *size = length;
    return code;
}

/* Controls, line ends of Unicode, and the characters that turn the reading direction. */
static bool is_harmful(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c ||
           (code >= 0x200b && code <= 0x200f) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

/* One character as it stands in a quoted value; gives the size, at most 6 bytes. */
static size_t escape(char to[8], const unsigned char *data, size_t size, uint32_t code)
{
    if (code == '"' || code == '\\') {
        to[0] = '\\';
        to[1] = (char)code;
        return 2;
    }
    if (code == REPLACEMENT || is_harmful(code))
        return (size_t)snprintf(to, 8, "\\u%04" PRIx32, code);
    memcpy(to, data, size);
    return size;
}

static bool put_quoted(struct log_line *line, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    size_t written = 0;
    if (!put(line, "\"", 1))
        return false;
    for (size_t at = 0; at < size;) {
        size_t length;
        char piece[8];
        uint32_t code = decode(bytes + at, size - at, &length);
        size_t piece_size = escape(piece, bytes + at, length, code);
        if (written + piece_size > LOG_VALUE_BYTES_MAX - 3)
            return put_text(line, "...\"");
        if (!put(line, piece, piece_size))
            return false;
        written += piece_size;
        at += length;
    }
    return put(line, "\"", 1);
}

/* In text form a plain word stands without quotes. */
static bool is_word(const void *data, size_t size)
{
    const char *text = data;
    for (size_t i = 0; i < size; i++) {
        bool plain = (text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
                     (text[i] >= '0' && text[i] <= '9') ||
                     (text[i] != '\0' && strchr("._:/@+-", text[i]) != NULL);
        if (!plain)
            return false;
    }
    return size > 0 && size <= LOG_VALUE_BYTES_MAX;
}

static bool put_run(struct log_line *line, const void *data, size_t size)
{
    return !line->json && is_word(data, size) ? put(line, data, size)
                                              : put_quoted(line, data, size);
}

static bool put_value(struct log_line *line, const struct log_field *field)
{
    char number[24];
    switch (field->kind) {
    case LOG_NUMBER:
        snprintf(number, sizeof(number), "%" PRIu64, field->number);
        return put_text(line, number);
    case LOG_SIGNED:
        snprintf(number, sizeof(number), "%" PRId64, field->signed_number);
        return put_text(line, number);
    case LOG_BYTES_TEXT:
        return put_run(line, field->run.data, field->run.size);
    case LOG_TEXT:
        break;
    }
    const char *text = field->text != NULL ? field->text : "";
    return put_run(line, text, strnlen(text, LOG_LINE_BYTES_MAX));
}

static void reset(struct log_line *line, bool json)
{
    line->json = json;
    line->cut = false;
    line->size = 0;
}

static void put_head(struct log_line *line, bool json, uint64_t wall_ms, enum log_level level,
                     const char *event)
{
    struct tm tm = {.tm_mday = 1};
    time_t seconds = (time_t)(wall_ms / 1000);
    (void)gmtime_r(&seconds, &tm);
    char time_text[64];
    snprintf(time_text, sizeof(time_text), "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
             (unsigned)(wall_ms % 1000));
    char head[192];
    snprintf(head, sizeof(head),
             json ? "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"" : "%s %-5s %s", time_text,
             log_level_name(level), event);
    put_text(line, head);
}

void log_line_begin(struct log_line *line, bool json, uint64_t wall_ms, enum log_level level,
                    const char *event)
{
    reset(line, json);
    put_head(line, json, wall_ms, level, event);
}

void log_line_begin_journal(struct log_line *line, bool json, uint64_t wall_ms,
                            enum log_level level, const char *event)
{
    /* debug, info, warning, error of syslog(3) */
    static const char *const priorities[] = {"<7>", "<6>", "<4>", "<3>"};
    reset(line, json);
    put_text(line, priorities[level]);
    if (json)
        put_head(line, json, wall_ms, level, event);
    else
        put_text(line, event);
}

void log_line_begin_record(struct log_line *line, uint64_t wall_ms, enum log_level level,
                           const char *event)
{
    char head[128];
    reset(line, true);
    snprintf(head, sizeof(head), "{\"time_ms\":%" PRIu64 ",\"level\":\"%s\",\"event\":\"%s\"",
             wall_ms, log_level_name(level), event);
    put_text(line, head);
}

void log_line_field(struct log_line *line, const struct log_field *field)
{
    size_t before = line->size;
    bool whole = put_text(line, line->json ? ",\"" : " ") && put_text(line, field->key) &&
                 put_text(line, line->json ? "\":" : "=") && put_value(line, field);
    if (!whole) {
        line->size = before;
        line->cut = true;
    }
}

void log_line_end(struct log_line *line)
{
    const char *end =
        line->json ? (line->cut ? ",\"cut\":true}\n" : "}\n") : (line->cut ? " cut=true\n" : "\n");
    size_t size = strlen(end);
    CHECK(size <= sizeof(line->text) - line->size);
    memcpy(line->text + line->size, end, size);
    line->size += size;
}
