/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_VARINT_H
#define USHER_PROTO_VARINT_H

/* protobuf's varints: seven bits per byte, the low ones first, the high bit says that more
 * follows. All functions: any thread; never block. */

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

enum { VARINT_BYTES_MAX = 10 };

/* The bytes that varint_write will use: 1 to VARINT_BYTES_MAX. */
static inline size_t varint_size(uint64_t value)
{
    /* ceil(bits / 7) for 1 to 64 bits, without a division */
    unsigned bits_less_1 = 63 - (unsigned)__builtin_clzll(value | 1);
    return (bits_less_1 * 9 + 73) / 64;
}

/* Writes the shortest form; `to` has room for varint_size(value). Gives the bytes used. */
static inline size_t varint_write(uint8_t *to, uint64_t value)
{
    size_t size = 0;
    while (value >= 0x80) {
        to[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[size++] = (uint8_t)value;
    return size;
}

/* As varint_read, but bits beyond the 64th are dropped, as protobuf's own parsers do with the
 * values of fields. */
static inline int varint_read_wrapping(struct bytes in, uint64_t *value)
{
    uint64_t result = 0;
    size_t size_max = in.size < VARINT_BYTES_MAX ? in.size : VARINT_BYTES_MAX;
    for (size_t i = 0; i < size_max; i++) {
        result |= (uint64_t)(in.data[i] & 0x7f) << (7 * i);
        if (in.data[i] < 0x80) {
            *value = result;
            return (int)i + 1;
        }
    }
    return in.size < VARINT_BYTES_MAX ? 0 : -EPROTO;
}

/* Reads the varint at the start of `in`, also one that is longer than needed. Gives the bytes
 * used, 0 when it is incomplete, -EPROTO when it has more than VARINT_BYTES_MAX bytes or 64 bits.
 * *value is set only when there is one. */
static inline int varint_read(struct bytes in, uint64_t *value)
{
    uint64_t result;
    int used = varint_read_wrapping(in, &result);
    if (used == VARINT_BYTES_MAX && in.data[VARINT_BYTES_MAX - 1] > 1)
        return -EPROTO;
    if (used > 0)
        *value = result;
    return used;
}

#endif
