/* SPDX-License-Identifier: Apache-2.0 */
#include "clients/print_json.h"

#include <inttypes.h>
#include <stdio.h>

static void json_string(const char *text)
{
    putchar('"');
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0) /* C1 */
            printf("\\u%04x", *++at);
        else if (*at < 0x20 || *at == 0x7f)
            printf("\\u%04x", *at);
        else
            putchar(*at);
    }
    putchar('"');
}

void json_text(const char *before, const char *key, const char *value)
{
    printf("%s\"%s\":", before, key);
    json_string(value);
}

void json_number(const char *before, const char *key, uint64_t value)
{
    printf("%s\"%s\":%" PRIu64, before, key, value);
}
