/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_UTF8_H
#define USHER_PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

/* Whether text is well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong, at most U+10FFFF)
 * without a NUL byte. The empty text is. Any thread; never blocks. */
bool utf8_valid(struct bytes text);

/* The size of the well-formed character at data, 1 for a NUL; 0: there is none. size is at least 1.
 * Any thread; never blocks. */
size_t utf8_size(const uint8_t *data, size_t size);

/* The size of the character at data when it could steer a terminal or deceive its reader: controls
 * (C0, DEL, C1), Unicode's line ends, invisible characters and those that turn the reading
 * direction. 0 for every other one, and for what is not UTF-8. size is at least 1. Any thread;
 * never blocks. */
size_t utf8_steers(const uint8_t *data, size_t size);

/* Puts a question mark in the place of each character that utf8_steers knows, so that the text is
 * one line that a terminal may be shown. It gets no longer. Any thread; never blocks. */
void utf8_tame(char *text);

#endif
