/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_JSON_H
#define USHER_COMMON_JSON_H

/* JSON for scripts and for terminals. Texts are somebody else's: whatever bytes they hold, what is
 * printed is UTF-8 and nothing that a terminal obeys or that shows its reader another text than
 * there is (utf8_steers). */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Members of an object. `before` is what stands before the member: "{" or ",". */
void print_json_text(FILE *to, const char *before, const char *key, const char *value);
void print_json_number(FILE *to, const char *before, const char *key, uint64_t value);

/* A string with its quotes. */
void print_json_string(FILE *to, const void *data, size_t size);

/* A line of JSON that came from elsewhere, with a newline behind it. What harms is escaped; the
 * rest is as it came, also when it is no JSON. */
void print_json_line(FILE *to, const char *line);

#endif
