/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PRINT_JSON_H
#define USHER_PRINT_JSON_H

/* Members of a JSON object. `before` is what stands before the member: "{" or ",". */

#include <stdint.h>
#include <stdio.h>

/* The text is UTF-8, perhaps somebody else's: control characters are escaped. */
void json_text(FILE *to, const char *before, const char *key, const char *value);
void json_number(FILE *to, const char *before, const char *key, uint64_t value);

#endif
