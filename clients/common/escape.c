/* SPDX-License-Identifier: Apache-2.0 */
#include "common/escape.h"

#include <stdio.h>
#include <string.h>

#include "proto/utf8.h"

/* A byte that is no UTF-8 is a character by itself. What steers has three bytes at most. */

size_t escape_character(char to[ESCAPED_BYTES_MAX], const uint8_t *at, size_t left)
{
    size_t length = utf8_size(at, left);
    size_t taken = length != 0 ? length : 1;
    if (length != 0 && utf8_steers(at, left) == 0) {
        memcpy(to, at, taken);
        to[taken] = '\0';
        return taken;
    }
    for (size_t i = 0; i < taken; i++)
        snprintf(to + 4 * i, 5, "\\x%02x", at[i]);
    return taken;
}
