/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_COMMON_ESCAPE_H
#define USHER_COMMON_ESCAPE_H

/* Other people's texts on a terminal: nothing is let through that it would obey or that would show
 * the reader another text than there is (utf8_steers). Pure; any thread. */

#include <stddef.h>
#include <stdint.h>

enum { ESCAPED_BYTES_MAX = 13 }; /* of one character, with the NUL */

/* Writes the character at the beginning of `left` bytes (one at least) as it may be shown: itself,
 * or each of its bytes as \xNN. Gives how many bytes that character had. */
size_t escape_character(char to[ESCAPED_BYTES_MAX], const uint8_t *at, size_t left);

#endif
