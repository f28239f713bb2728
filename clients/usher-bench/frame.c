/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/frame.h"

#include <string.h>

#include "proto/varint.h"
#include "proto/wire.h"

/* A load generator that spends more on a message than the broker measures itself. protobuf-c costs
 * it three times what this and libusher/frame.c do; the rest of the protocol is rare and goes
 * through the library's own encoder. */

enum {
    FRAME_ID = 1,
    TAG_ID = FRAME_ID << 3 | WIRE_VARINT,
    TAG_SEND = 4 << 3 | WIRE_RUN,
    TAG_SEND_TO = 1 << 3 | WIRE_RUN,
    TAG_SEND_PAYLOAD = 2 << 3 | WIRE_RUN,
};

uint8_t *bench_frame_send(struct buffer *out, uint64_t id, struct bytes to, size_t payload_bytes)
{
    size_t send_bytes =
        1 + varint_size(to.size) + to.size + 1 + varint_size(payload_bytes) + payload_bytes;
    size_t frame_bytes = 1 + varint_size(send_bytes) + send_bytes;
    if (id != 0)
        frame_bytes += 1 + varint_size(id);
    uint8_t *start = buffer_reserve(out, varint_size(frame_bytes) + frame_bytes);
    if (start == NULL)
        return NULL;
    uint8_t *at = start + varint_write(start, frame_bytes);
    if (id != 0) {
        *at++ = TAG_ID;
        at += varint_write(at, id);
    }
    *at++ = TAG_SEND;
    at += varint_write(at, send_bytes);
    *at++ = TAG_SEND_TO;
    at += varint_write(at, to.size);
    memcpy(at, to.data, to.size);
    at += to.size;
    *at++ = TAG_SEND_PAYLOAD;
    at += varint_write(at, payload_bytes);
    out->size += (size_t)(at - start) + payload_bytes;
    return at;
}
