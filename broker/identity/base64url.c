/* SPDX-License-Identifier: Apache-2.0 */
#include "identity/base64url.h"

#include <errno.h>

/* RFC 4648 section 5. The last character of a text carries bits that no byte needs; they must be
 * zero, or one signature could be written in several ways. Not constant in time: what is decoded
 * here is public, or was read from our own file. */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static int value_of(uint8_t character)
{
    if (character >= 'A' && character <= 'Z')
        return character - 'A';
    if (character >= 'a' && character <= 'z')
        return character - 'a' + 26;
    if (character >= '0' && character <= '9')
        return character - '0' + 52;
    return character == '-' ? 62 : character == '_' ? 63 : -1;
}

int base64url_decode(struct bytes text, uint8_t *to, size_t room, size_t *written)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t size = 0;
    if (text.size % 4 == 1)
        return -EINVAL;
    if (BASE64URL_BYTES(text.size) > room)
        return -ENOSPC;
    for (size_t i = 0; i < text.size; i++) {
        int value = value_of(text.data[i]);
        if (value < 0)
            return -EINVAL;
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        to[size++] = (uint8_t)(bits >> held);
        bits &= (1u << held) - 1;
    }
    if (bits != 0)
        return -EINVAL;
    *written = size;
    return 0;
}

size_t base64url_encode(struct bytes bytes, char *to)
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t size = 0;
    for (size_t i = 0; i < bytes.size; i++) {
        bits = (bits & 0xff) << 8 | bytes.data[i];
        held += 8;
        while (held >= 6) {
            held -= 6;
            to[size++] = alphabet[bits >> held & 63];
        }
    }
    if (held > 0)
        to[size++] = alphabet[bits << (6 - held) & 63];
    to[size] = '\0';
    return size;
}
