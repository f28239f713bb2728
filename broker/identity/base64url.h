/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_IDENTITY_BASE64URL_H
#define USHER_IDENTITY_BASE64URL_H

/* Base64 with - and _ and without padding, as tokens and key files write bytes. Pure; any
 * thread. */

#include "proto/bytes.h"

/* The bytes that `size` characters stand for, and the characters for `size` bytes. */
#define BASE64URL_BYTES(size) ((size) / 4 * 3 + (size) % 4 * 3 / 4)
#define BASE64URL_TEXT(size) (((size)*4 + 2) / 3)

/* Strict: one text per run of bytes, and no other character, padding or white space. 0 with
 * *written set; -EINVAL: not such a text; -ENOSPC: more than `room` bytes. */
int base64url_decode(struct bytes text, uint8_t *to, size_t room, size_t *written);

/* Writes BASE64URL_TEXT(size) characters and a NUL; gives their number. */
size_t base64url_encode(struct bytes bytes, char *to);

#endif
