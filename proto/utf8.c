/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/utf8.h"

#include <string.h>

/* protobuf-c takes any bytes for a string and hands them on as a C string. So a NUL in the middle
 * would cut a name short (`admin\0x` arrives as `admin`), and broken UTF-8 would be passed to
 * receivers whose libraries drop the whole frame over it. Every text of a peer goes through here.
 *
 * Nearly all text is ASCII: eight bytes are judged at once. For bytes below 0x80, subtracting 1
 * from each sets a high bit just where one of them is 0, so a single mask finds both kinds of
 * trouble; the slow path then decides. */

static const uint64_t ONES = UINT64_C(0x0101010101010101);
static const uint64_t HIGHS = UINT64_C(0x8080808080808080);

static bool continues(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* The size of the well-formed character of several bytes at `at`, or 0. The second byte has a
 * narrower range behind some first bytes: that is where overlong forms, surrogates and numbers
 * that are too large are kept out (RFC 3629, part 4). */
static size_t character_size(const uint8_t *at, size_t left)
{
    uint8_t first = at[0];
    if (first < 0xc2 || first > 0xf4)
        return 0;
    size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (left < size || !continues(at[1]))
        return 0;
    bool overlong = (first == 0xe0 && at[1] < 0xa0) || (first == 0xf0 && at[1] < 0x90);
    bool surrogate = first == 0xed && at[1] > 0x9f;
    bool too_large = first == 0xf4 && at[1] > 0x8f;
    if (overlong || surrogate || too_large)
        return 0;
    for (size_t i = 2; i < size; i++)
        if (!continues(at[i]))
            return 0;
    return size;
}

size_t utf8_size(const uint8_t *data, size_t size)
{
    return data[0] < 0x80 ? 1 : character_size(data, size);
}

bool utf8_valid(struct bytes text)
{
    size_t at = 0;
    while (at < text.size) {
        if (text.size - at >= sizeof(uint64_t)) {
            uint64_t word;
            memcpy(&word, text.data + at, sizeof(word));
            if (((word | (word - ONES)) & HIGHS) == 0) {
                at += sizeof(word);
                continue;
            }
        }
        uint8_t byte = text.data[at];
        if (byte == 0)
            return false;
        size_t size = byte < 0x80 ? 1 : character_size(text.data + at, text.size - at);
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

size_t utf8_steers(const uint8_t *data, size_t size)
{
    static const struct {
        uint8_t size;
        uint8_t first[3];
        uint8_t last; /* of the last byte */
    } rows[] = {
        {1, {0x00}, 0x1f},
        {1, {0x7f}, 0x7f},
        {2, {0xc2, 0x80}, 0x9f},
        {2, {0xd8, 0x9c}, 0x9c},       /* U+061C */
        {3, {0xe2, 0x80, 0x8b}, 0x8f}, /* U+200B to U+200F */
        {3, {0xe2, 0x80, 0xa8}, 0xae}, /* U+2028 to U+202E */
        {3, {0xe2, 0x81, 0xa6}, 0xa9}, /* U+2066 to U+2069 */
        {3, {0xef, 0xbb, 0xbf}, 0xbf}, /* U+FEFF */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        size_t last = rows[i].size - 1u;
        if (size > last && memcmp(data, rows[i].first, last) == 0 &&
            data[last] >= rows[i].first[last] && data[last] <= rows[i].last)
            return rows[i].size;
    }
    return 0;
}

void utf8_tame(char *text)
{
    const char *from = text;
    size_t left = strlen(text);
    while (left > 0) {
        size_t steering = utf8_steers((const uint8_t *)from, left);
        size_t size = steering > 0 ? steering : 1;
        *text++ = steering > 0 ? '?' : *from;
        from += size;
        left -= size;
    }
    *text = '\0';
}
