/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/wire.h"

#include "proto/varint.h"

/* The rules are those that protobuf's own parsers share: tags and lengths of at most five bytes,
 * values of at most ten, any of them may be longer than needed. Where the parsers disagree (a tag
 * of more than 32 bits, field number 0 in a long form) the frame is refused: what two programs
 * would read differently must not pass between them.
 *
 * Groups are walked without recursion, so a hostile depth costs no stack. */

enum { SHORT_VARINT_BYTES_MAX = 5 };

static const uint8_t *varint_bounded(const uint8_t *at, const uint8_t *end, size_t bytes_max,
                                     uint64_t *value)
{
    size_t left = (size_t)(end - at);
    int used = varint_read_wrapping((struct bytes){at, left < bytes_max ? left : bytes_max}, value);
    return used > 0 ? at + used : NULL;
}

const uint8_t *wire_varint_long(const uint8_t *at, const uint8_t *end, uint64_t *value)
{
    return varint_bounded(at, end, VARINT_BYTES_MAX, value);
}

const uint8_t *wire_tag_long(const uint8_t *at, const uint8_t *end, uint32_t *tag)
{
    uint64_t value;
    at = varint_bounded(at, end, SHORT_VARINT_BYTES_MAX, &value);
    if (at == NULL || value >> 3 == 0 || value > UINT32_MAX)
        return NULL;
    *tag = (uint32_t)value;
    return at;
}

const uint8_t *wire_run_long(const uint8_t *at, const uint8_t *end, struct bytes *run)
{
    uint64_t size;
    at = varint_bounded(at, end, SHORT_VARINT_BYTES_MAX, &size);
    if (at == NULL || size > (size_t)(end - at))
        return NULL;
    *run = (struct bytes){at, (size_t)size};
    return at + size;
}

static const uint8_t *fixed_skip(const uint8_t *at, const uint8_t *end, size_t size)
{
    return (size_t)(end - at) < size ? NULL : at + size;
}

/* All types but groups. */
static const uint8_t *plain_skip(const uint8_t *at, const uint8_t *end, uint32_t tag)
{
    uint64_t value;
    struct bytes run;
    switch (tag & 7) {
    case WIRE_VARINT:
        return wire_varint(at, end, &value);
    case WIRE_FIXED64:
        return fixed_skip(at, end, sizeof(uint64_t));
    case WIRE_RUN:
        return wire_run(at, end, &run);
    case WIRE_FIXED32:
        return fixed_skip(at, end, sizeof(uint32_t));
    default:
        return NULL;
    }
}

static const uint8_t *group_skip(const uint8_t *at, const uint8_t *end, uint32_t number)
{
    uint32_t open[WIRE_GROUP_DEPTH_MAX] = {number};
    size_t depth = 1;
    while (depth > 0 && at != NULL) {
        uint32_t tag;
        at = wire_tag(at, end, &tag);
        if (at == NULL)
            return NULL;
        if ((tag & 7) == WIRE_GROUP) {
            if (depth == WIRE_GROUP_DEPTH_MAX)
                return NULL;
            open[depth++] = tag >> 3;
        } else if ((tag & 7) == WIRE_GROUP_END) {
            if (open[--depth] != tag >> 3)
                return NULL;
        } else {
            at = plain_skip(at, end, tag);
        }
    }
    return at;
}

const uint8_t *wire_skip(const uint8_t *at, const uint8_t *end, uint32_t tag)
{
    return (tag & 7) == WIRE_GROUP ? group_skip(at, end, tag >> 3) : plain_skip(at, end, tag);
}
