/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json.h"

#include <inttypes.h>
#include <string.h>

#include "proto/utf8.h"

/* What has to be escaped stands within a string wherever JSON is what it should be, so one escape
 * serves strings and whole lines. All characters that steer have four digits. */

static unsigned code_of(const uint8_t *at, size_t size)
{
    if (size == 1)
        return at[0];
    if (size == 2)
        return (at[0] & 0x1fu) << 6 | (at[1] & 0x3fu);
    return (at[0] & 0x0fu) << 12 | (at[1] & 0x3fu) << 6 | (at[2] & 0x3fu);
}

/* Gives how many bytes were taken. */
static size_t put_character(FILE *to, const uint8_t *at, size_t left)
{
    size_t size = utf8_size(at, left);
    if (size == 0) {
        fputs("\\ufffd", to);
        return 1;
    }
    if (utf8_steers(at, left) != 0)
        fprintf(to, "\\u%04x", code_of(at, size));
    else
        fwrite(at, 1, size, to);
    return size;
}

void print_json_string(FILE *to, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    fputc('"', to);
    for (size_t at = 0; at < size;) {
        if (bytes[at] == '"' || bytes[at] == '\\')
            fputc('\\', to);
        at += put_character(to, bytes + at, size - at);
    }
    fputc('"', to);
}

void print_json_line(FILE *to, const char *line)
{
    const uint8_t *bytes = (const uint8_t *)line;
    size_t size = strlen(line);
    for (size_t at = 0; at < size;)
        at += put_character(to, bytes + at, size - at);
    fputc('\n', to);
}

void print_json_text(FILE *to, const char *before, const char *key, const char *value)
{
    fprintf(to, "%s\"%s\":", before, key);
    print_json_string(to, value, strlen(value));
}

void print_json_number(FILE *to, const char *before, const char *key, uint64_t value)
{
    fprintf(to, "%s\"%s\":%" PRIu64, before, key, value);
}
