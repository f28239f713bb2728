/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "net/codec.h"
#include "proto/broker_frame.h"
#include "proto/frame.h"
#include "proto/varint.h"

/* The codec that is none: frames come as they go up, one behind the other. */

static int frames_whole(struct bytes input, size_t max, size_t frames, size_t *size)
{
    size_t at = 0;
    int result = 1;
    for (size_t i = 0; i < frames && result == 1; i++) {
        struct bytes frame;
        size_t used = 0;
        result = frame_next((struct bytes){input.data + at, input.size - at}, max, &frame, &used);
        at += used;
    }
    *size = at;
    return result < 0 ? result : 0;
}

static size_t frames_arriving(struct bytes input)
{
    uint64_t size;
    int used = varint_read(input, &size);
    return used > 0 ? (size_t)used + (size_t)size : 0;
}

static int frames_close(struct buffer *out, Usher__V1__Close__Reason reason, const char *detail,
                        uint32_t retry_after_ms)
{
    return broker_frame_close(out, reason, detail, retry_after_ms, false);
}

const struct codec codec_frames = {
    .whole = frames_whole,
    .arriving = frames_arriving,
    .close = frames_close,
    .overhead_bytes = FRAME_PREFIX_BYTES_MAX,
};
