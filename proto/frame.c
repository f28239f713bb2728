/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame.h"

#include <errno.h>

#include "proto/varint.h"

/* A peer may send one byte at a time. Whatever is decided must not change with the bytes that
 * come later, and a length beyond the limit must be refused before its body takes up memory:
 * hence only the length is judged, and it is judged when its last byte is there. */

int frame_next(struct bytes input, size_t frame_bytes_max, struct bytes *frame, size_t *used)
{
    struct bytes prefix = input;
    if (prefix.size > FRAME_PREFIX_BYTES_MAX)
        prefix.size = FRAME_PREFIX_BYTES_MAX;
    uint64_t length;
    int prefix_bytes = varint_read(prefix, &length);
    if (prefix_bytes < 0)
        return prefix_bytes;
    if (prefix_bytes == 0)
        return prefix.size == FRAME_PREFIX_BYTES_MAX ? -EPROTO : 0;
    if (length > frame_bytes_max)
        return -EMSGSIZE;
    if (length > input.size - (size_t)prefix_bytes)
        return 0;
    *frame = (struct bytes){input.data + prefix_bytes, (size_t)length};
    *used = (size_t)prefix_bytes + (size_t)length;
    return 1;
}
