/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/websocket_frame.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "proto/frame.h"
#include "proto/utf8.h"
#include "proto/varint.h"

/* A server is believed as little as any peer: what RFC 6455 does not let it send ends the
 * connection, and so does what no usher broker sends (text; a message that ends within a frame).
 *
 * Nothing is gathered: the payload of a data frame is handed on as it comes, so a message may be
 * of any length and in any number of fragments and costs no more than its bytes on their way. The
 * limits of what is held are those of usher's frames, where these are read. What is kept here is
 * one header and one control frame, which have lengths that end.
 *
 * The walk over the lengths within messages is what tells whether a message ends where a frame
 * ends; the frames themselves are read by those who get the bytes. */

static size_t smaller(uint64_t a, size_t b)
{
    return a < b ? (size_t)a : b;
}

static bool is_control(const struct websocket_reader *reader)
{
    return (reader->opcode & 8) != 0;
}

/* --- headers ---------------------------------------------------------------------------------- */

/* The length that the second byte tells of needs so many bytes more. */
static size_t more_length_bytes(uint8_t second)
{
    return (second & 0x7f) == 127 ? 8 : (second & 0x7f) == 126 ? 2 : 0;
}

static int judge_opcode(const struct websocket_reader *reader)
{
    switch (reader->opcode) {
    case WEBSOCKET_CONTINUATION:
        return reader->in_message ? 0 : -EPROTO;
    case WEBSOCKET_BINARY:
        return reader->in_message ? -EPROTO : 0;
    case WEBSOCKET_TEXT:
        return -ENOTSUP;
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        return reader->final && (reader->header[1] & 0x7f) <= WEBSOCKET_CONTROL_BYTES_MAX ? 0
                                                                                          : -EPROTO;
    default:
        return -EPROTO;
    }
}

/* A length must be in its shortest form. */
static int judge_length(const struct websocket_reader *reader, size_t more)
{
    if (more == 2)
        return reader->left > WEBSOCKET_CONTROL_BYTES_MAX ? 0 : -EPROTO;
    if (more == 8)
        return reader->left > UINT16_MAX && reader->left <= INT64_MAX ? 0 : -EPROTO;
    return 0;
}

/* The first two bytes are there: reserved bits, a mask, an opcode are judged before more comes. */
static int begin_header(struct websocket_reader *reader)
{
    const uint8_t *header = reader->header;
    if ((header[0] & 0x70) != 0 || (header[1] & 0x80) != 0)
        return -EPROTO;
    reader->final = (header[0] & 0x80) != 0;
    reader->opcode = header[0] & 0x0f;
    return judge_opcode(reader);
}

static int end_header(struct websocket_reader *reader, size_t more)
{
    reader->left = reader->header[1] & 0x7f;
    if (more > 0)
        reader->left = 0;
    for (size_t i = 0; i < more; i++)
        reader->left = reader->left << 8 | reader->header[2 + i];
    reader->header_bytes = 0;
    reader->control_bytes = 0;
    reader->in_frame = true;
    if (!is_control(reader))
        reader->in_message = true;
    return judge_length(reader, more);
}

/* A byte at a time: there are few of them. */
static int read_header(struct websocket_reader *reader, uint8_t byte)
{
    int result = 0;
    reader->header[reader->header_bytes++] = byte;
    if (reader->header_bytes == 2)
        result = begin_header(reader);
    if (result < 0 || reader->header_bytes < 2)
        return result;
    size_t more = more_length_bytes(reader->header[1]);
    return reader->header_bytes == 2 + more ? end_header(reader, more) : 0;
}

/* --- payloads --------------------------------------------------------------------------------- */

/* Goes over the lengths of usher's frames. */
static int walk(struct websocket_reader *reader, const uint8_t *at, size_t size)
{
    const uint8_t *end = at + size;
    while (at != end) {
        if (reader->body_left > 0) {
            size_t step = smaller(reader->body_left, (size_t)(end - at));
            reader->body_left -= step;
            at += step;
            continue;
        }
        reader->length |= (uint64_t)(*at & 0x7f) << 7 * reader->length_bytes;
        reader->length_bytes++;
        if (*at++ < 0x80) {
            reader->body_left = reader->length;
            reader->length = 0;
            reader->length_bytes = 0;
        } else if (reader->length_bytes == FRAME_PREFIX_BYTES_MAX) {
            return -EPROTO;
        }
    }
    return 0;
}

/* Moves what of the message is there to the front. */
static int read_data(struct websocket_reader *reader, struct websocket_input *input)
{
    size_t size = smaller(reader->left, input->size - input->at);
    uint8_t *to = input->data + input->payload;
    CHECK(input->payload <= input->at && size <= input->size - input->at);
    if (size > 0 && input->payload != input->at)
        memmove(to, input->data + input->at, size);
    reader->left -= size;
    input->at += size;
    input->payload += size;
    return walk(reader, to, size);
}

static void read_control(struct websocket_reader *reader, struct websocket_input *input)
{
    size_t size = smaller(reader->left, input->size - input->at);
    CHECK(size <= sizeof(reader->control) - reader->control_bytes);
    if (size > 0)
        memcpy(reader->control + reader->control_bytes, input->data + input->at, size);
    reader->control_bytes = (uint8_t)(reader->control_bytes + size);
    reader->left -= size;
    input->at += size;
}

/* Codes that a server may send; 1004 to 1006 and 1015 are for what never is on the wire. */
static bool close_code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) ||
           (code >= 3000 && code <= 4999);
}

static int judge_close(struct bytes payload)
{
    if (payload.size == 0)
        return WEBSOCKET_CLOSE;
    if (payload.size == 1 || !close_code_valid((unsigned)payload.data[0] << 8 | payload.data[1]))
        return -EPROTO;
    const struct bytes text = {payload.data + 2, payload.size - 2};
    return utf8_valid(text) ? WEBSOCKET_CLOSE : -EILSEQ;
}

/* The frame is complete: 0 to go on, or what the caller must know. */
static int end_frame(struct websocket_reader *reader, struct bytes *control)
{
    reader->in_frame = false;
    if (is_control(reader)) {
        *control = (struct bytes){reader->control, reader->control_bytes};
        if (reader->opcode == WEBSOCKET_CLOSE)
            return judge_close(*control);
        return reader->opcode == WEBSOCKET_PING ? WEBSOCKET_PING : 0;
    }
    if (!reader->final)
        return 0;
    reader->in_message = false;
    return reader->body_left == 0 && reader->length_bytes == 0 ? 0 : -EPROTO;
}

int websocket_read(struct websocket_reader *reader, struct websocket_input *input,
                   struct bytes *control)
{
    int result = 0;
    while (result == 0) {
        if (reader->in_frame) {
            if (is_control(reader))
                read_control(reader, input);
            else
                result = read_data(reader, input);
            if (result == 0 && reader->left == 0)
                result = end_frame(reader, control);
            else if (result == 0)
                return 0;
        } else if (input->at < input->size) {
            result = read_header(reader, input->data[input->at++]);
        } else {
            return 0;
        }
    }
    return result;
}

/* --- to the server ---------------------------------------------------------------------------- */

size_t websocket_header_bytes(size_t payload_bytes)
{
    size_t more = payload_bytes > UINT16_MAX                    ? 8
                  : payload_bytes > WEBSOCKET_CONTROL_BYTES_MAX ? 2
                                                                : 0;
    return 2 + more + WEBSOCKET_MASK_BYTES;
}

size_t websocket_header(uint8_t *to, enum websocket_opcode opcode, size_t payload_bytes,
                        const uint8_t mask[WEBSOCKET_MASK_BYTES])
{
    size_t size = websocket_header_bytes(payload_bytes);
    size_t more = size - 2 - WEBSOCKET_MASK_BYTES;
    to[0] = (uint8_t)(0x80 | opcode);
    to[1] = (uint8_t)(0x80 | (more == 0 ? payload_bytes : more == 2 ? 126 : 127));
    for (size_t i = 0; i < more; i++)
        to[2 + i] = (uint8_t)((uint64_t)payload_bytes >> 8 * (more - 1 - i));
    memcpy(to + 2 + more, mask, WEBSOCKET_MASK_BYTES);
    return size;
}

void websocket_mask(uint8_t *data, size_t size, const uint8_t mask[WEBSOCKET_MASK_BYTES])
{
    uint8_t twice[8];
    uint64_t wide;
    memcpy(twice, mask, WEBSOCKET_MASK_BYTES);
    memcpy(twice + WEBSOCKET_MASK_BYTES, mask, WEBSOCKET_MASK_BYTES);
    memcpy(&wide, twice, sizeof(wide));
    size_t i = 0;
    for (; i + sizeof(wide) <= size; i += sizeof(wide)) {
        uint64_t part;
        memcpy(&part, data + i, sizeof(part));
        part ^= wide;
        memcpy(data + i, &part, sizeof(part));
    }
    for (; i < size; i++)
        data[i] ^= mask[i % WEBSOCKET_MASK_BYTES];
}

size_t websocket_cut(struct bytes data, size_t bytes_max, size_t frames_max)
{
    size_t size = 0;
    for (size_t frames = 0; size < data.size && (frames_max == 0 || frames < frames_max);
         frames++) {
        uint64_t length = 0;
        int used = varint_read((struct bytes){data.data + size, data.size - size}, &length);
        CHECK(used > 0 && length <= data.size - size - (size_t)used); /* we wrote them ourselves */
        size_t whole = (size_t)used + (size_t)length;
        if (frames > 0 && size + whole > bytes_max)
            break;
        size += whole;
    }
    return size;
}
