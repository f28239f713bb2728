/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_WIRE_H
#define USHER_PROTO_WIRE_H

/* protobuf's wire format, one element at a time; for the readers of this folder.
 *
 * Each function reads at `at`, which may equal `end`, and gives where to go on, or NULL when the
 * bytes there are not well-formed. Results are set only on success. Nothing is read at or behind
 * `end`. Any thread; never block. */

#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_RUN = 2, /* a length and that many bytes */
    WIRE_GROUP = 3,
    WIRE_GROUP_END = 4,
    WIRE_FIXED32 = 5,
};

/* The tag of a field; also a constant. */
#define WIRE_TAG(number, type) ((number) << 3 | (type))

/* Groups within groups; more is refused. */
enum { WIRE_GROUP_DEPTH_MAX = 64 };

const uint8_t *wire_varint_long(const uint8_t *at, const uint8_t *end, uint64_t *value);
const uint8_t *wire_tag_long(const uint8_t *at, const uint8_t *end, uint32_t *tag);
const uint8_t *wire_run_long(const uint8_t *at, const uint8_t *end, struct bytes *run);

/* The value of a field; bits beyond the 64th are dropped. */
static inline const uint8_t *wire_varint(const uint8_t *at, const uint8_t *end, uint64_t *value)
{
    if (at == end || *at >= 0x80)
        return wire_varint_long(at, end, value);
    *value = *at;
    return at + 1;
}

/* A tag: field number (1 to 2^29 - 1) << 3 | wire type. The type is not judged. */
static inline const uint8_t *wire_tag(const uint8_t *at, const uint8_t *end, uint32_t *tag)
{
    if (at == end || *at >= 0x80 || *at < 8)
        return wire_tag_long(at, end, tag);
    *tag = *at;
    return at + 1;
}

/* What stands behind a tag of type WIRE_RUN. */
static inline const uint8_t *wire_run(const uint8_t *at, const uint8_t *end, struct bytes *run)
{
    if (at == end || *at >= 0x80 || *at > (size_t)(end - at) - 1)
        return wire_run_long(at, end, run);
    *run = (struct bytes){at + 1, *at};
    return at + 1 + *at;
}

/* Passes over what stands behind `tag`, of any type. A group must be closed by its own number. */
const uint8_t *wire_skip(const uint8_t *at, const uint8_t *end, uint32_t tag);

#endif
