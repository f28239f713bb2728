/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/print_json.h"

#include <inttypes.h>
#include <stdio.h>

static void json_string(FILE *to, const char *text)
{
    fputc('"', to);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            fprintf(to, "\\%c", *at);
        else if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* C1 */
            fprintf(to, "\\u%04x", *++at);
        else if (*at < 0x20 || *at == 0x7f)
            fprintf(to, "\\u%04x", *at);
        else
            fputc(*at, to);
    }
    fputc('"', to);
}

void json_text(FILE *to, const char *before, const char *key, const char *value)
{
    fprintf(to, "%s\"%s\":", before, key);
    json_string(to, value);
}

void json_number(FILE *to, const char *before, const char *key, uint64_t value)
{
    fprintf(to, "%s\"%s\":%" PRIu64, before, key, value);
}
