/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "fuzz/fuzz.h"
#include "libusher/websocket.h"
#include "proto/frame.h"

/* A server of any kind, as a client hears it. The first byte says what follows, the second how it
 * is cut:
 *
 *   even   bytes of an open WebSocket. However they are cut, the same frames, Pings and Closes come
 *          out; what comes out is whole frames wherever a message ends; and what is then sent back,
 *          by the second byte's limits, is what RFC 6455 lets a client send
 *   odd    the answer to an upgrade. What is decided of a part holds for the whole */

enum { STORY_BYTES = 1 << 16 };

struct story {
    uint8_t bytes[2 * STORY_BYTES];
    size_t size;
    int end; /* 0, WEBSOCKET_CLOSE or an error */
    bool in_message;
};

static void tell(struct story *story, const void *data, size_t size)
{
    FUZZ_CHECK(story->size + size <= sizeof(story->bytes));
    if (size > 0)
        memcpy(story->bytes + story->size, data, size);
    story->size += size;
}

/* Payloads apart from controls, whose places among them depend on the cuts. */
static void read_all(const uint8_t *data, size_t size, size_t step, struct story *frames,
                     struct story *controls)
{
    struct websocket_reader reader = {0};
    frames->size = controls->size = 0;
    frames->end = 0;
    for (size_t at = 0; at < size && frames->end == 0; at += step) {
        size_t part = size - at < step ? size - at : step;
        uint8_t *copy = malloc(part);
        memcpy(copy, data + at, part);
        struct websocket_input input = {.data = copy, .size = part};
        struct bytes control;
        int result;
        do {
            result = websocket_read(&reader, &input, &control);
            if (result > 0)
                tell(controls, control.data, control.size);
        } while (result == WEBSOCKET_PING);
        FUZZ_CHECK(input.payload <= input.at && input.at <= part);
        FUZZ_CHECK(result != 0 || input.at == part);
        tell(frames, copy, input.payload);
        frames->end = result;
        free(copy);
    }
    frames->in_message = reader.in_message;
}

/* The frames at the front, each whole; gives their size. */
static size_t whole_frames(const uint8_t *data, size_t size)
{
    size_t at = 0, used;
    struct bytes frame;
    while (frame_next((struct bytes){data + at, size - at}, SIZE_MAX, &frame, &used) == 1)
        at += used;
    return at;
}

/* Reads what a client wrote, as a server must: whole masked messages, Pongs between them. */
static void check_output(const struct buffer *out, const uint8_t *frames, size_t size,
                         const struct websocket_batch *batch)
{
    size_t at = 0, seen = 0;
    while (at < out->size) {
        uint8_t *head = out->data + at;
        FUZZ_CHECK(out->size - at >= 6 && (head[0] == 0x82 || head[0] == 0x8a));
        FUZZ_CHECK((head[1] & 0x80) != 0);
        size_t more = (head[1] & 0x7f) == 127 ? 8 : (head[1] & 0x7f) == 126 ? 2 : 0;
        uint64_t length = more == 0 ? head[1] & 0x7f : 0;
        for (size_t i = 0; i < more; i++)
            length = length << 8 | head[2 + i];
        FUZZ_CHECK(more != 2 || length > 125);
        FUZZ_CHECK(more != 8 || length > 65535);
        FUZZ_CHECK(length <= out->size - at - 6 - more);
        uint8_t *payload = head + 6 + more;
        for (uint64_t i = 0; i < length; i++)
            payload[i] ^= head[2 + more + i % 4];
        if (head[0] == 0x82) {
            FUZZ_CHECK(length > 0 && length <= size - seen);
            FUZZ_CHECK(memcmp(payload, frames + seen, length) == 0);
            FUZZ_CHECK(whole_frames(payload, length) == length);
            size_t first = websocket_cut((struct bytes){payload, length}, 0, 1);
            FUZZ_CHECK(length <= batch->bytes_max || length == first);
            seen += length;
        }
        at += 6 + more + length;
    }
    FUZZ_CHECK(seen == size);
}

/* What came goes back, a Pong with it. */
static void send_back(const struct story *frames, uint8_t limits)
{
    const struct websocket_batch batch = {.bytes_max = (size_t)limits * 8,
                                          .frames_max = limits % 4};
    struct websocket_masks masks = {.left = 0};
    struct websocket websocket = {.masks = &masks, .open = true, .pong_waits = (limits & 1) != 0};
    struct buffer out = {0};
    size_t size = whole_frames(frames->bytes, frames->size);
    websocket.pong_bytes = limits % (WEBSOCKET_CONTROL_BYTES_MAX + 1);
    if (size > 0)
        FUZZ_CHECK(buffer_append(&out, frames->bytes, size) == 0);
    FUZZ_CHECK(websocket_wrap(&websocket, &out, &batch) == 0);
    FUZZ_CHECK(out.size == size + websocket.framing);
    check_output(&out, frames->bytes, size, &batch);
    buffer_fini(&out);
}

static void fuzz_frames(const uint8_t *data, size_t size, uint8_t cut)
{
    static struct story whole, cut_up, whole_controls, cut_controls;
    read_all(data, size, size > 0 ? size : 1, &whole, &whole_controls);
    read_all(data, size, (size_t)cut + 1, &cut_up, &cut_controls);
    FUZZ_CHECK(whole.end == cut_up.end);
    FUZZ_CHECK(whole_controls.size == cut_controls.size);
    FUZZ_CHECK(memcmp(whole_controls.bytes, cut_controls.bytes, whole_controls.size) == 0);
    if (whole.end < 0)
        return;
    FUZZ_CHECK(whole.size == cut_up.size);
    FUZZ_CHECK(memcmp(whole.bytes, cut_up.bytes, whole.size) == 0);
    if (!whole.in_message)
        FUZZ_CHECK(whole_frames(whole.bytes, whole.size) == whole.size);
    send_back(&whole, cut);
}

static void fuzz_answer(const uint8_t *data, size_t size)
{
    static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    struct websocket_answer answer, part;
    int result = websocket_answer_read((struct bytes){data, size}, ACCEPT, &answer);
    FUZZ_CHECK(answer.size <= size && answer.retry_after_ms <= 3600 * 1000);
    FUZZ_CHECK((result == 1) == (answer.status == 101 && answer.fault[0] == '\0'));
    for (size_t cut = 0; cut < size; cut += 1 + size / 64) {
        int said = websocket_answer_read((struct bytes){data, cut}, ACCEPT, &part);
        FUZZ_CHECK(said == 0 || (said == result && part.status == answer.status));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > STORY_BYTES)
        return 0;
    if (data[0] & 1)
        fuzz_answer(data + 2, size - 2);
    else
        fuzz_frames(data + 2, size - 2, data[1]);
    return 0;
}
