/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ws_frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "proto/utf8.h"
#include "proto/varint.h"

/* The server's half of RFC 6455 is small, and what is refused here a library's frame level would
 * let pass (docs/decisions/0114).
 *
 * A peer may send one byte at a time, so a header is read byte by byte, always, and each byte is
 * judged when it is there: no way of cutting the input can change what is decided. Payload is
 * unmasked where it lies and moved to the front, over the headers: `to` is never behind `from`, so
 * words may be copied from the front on. What is carried from one input to the next is this state
 * of 32 bytes and nothing of the input, but for a Ping or Close of which a part has come: its
 * payload may stand between two pieces of a message, which go up without it.
 *
 * That a message ends where a delimited frame does is seen here, because only here the end is
 * known: so the lengths in the payload are followed, over its cuts. A length that is larger than a
 * message may be is refused at once: to wait for the rest would only cost memory. */

_Static_assert(sizeof(struct ws_reader) <= 32, "each connection has one");

enum {
    FIN = 0x80,
    RESERVED = 0x70,
    OPCODE = 0x0f,
    CONTROL = 0x08,
    MASKED = 0x80,
    SIZE = 0x7f,
    SIZE_IN_16 = 126,
    SIZE_IN_64 = 127,
    MASK_BYTES = 4,
    CODE_BYTES = 2,
    CLOSE_NO_CODE = 1005,
};

/* The bytes of a header, as they would be numbered if all lengths had 64 bits. */
enum step {
    STEP_FIRST,
    STEP_SIZE,
    STEP_SIZE_64,
    STEP_SIZE_16 = STEP_SIZE_64 + 6,
    STEP_MASK = STEP_SIZE_16 + 2,
    STEP_PAYLOAD = STEP_MASK + MASK_BYTES,
};

/* --- headers ---------------------------------------------------------------------------------- */

static int take_first(struct ws_reader *reader, uint8_t byte)
{
    unsigned opcode = byte & OPCODE;
    bool control = (opcode & CONTROL) != 0;
    if ((byte & RESERVED) != 0 || opcode > WS_PONG || (opcode > WS_BINARY && !control))
        return -EPROTO;
    if (control && (byte & FIN) == 0)
        return -EPROTO;
    if (!control && (opcode == WS_CONTINUATION) != reader->in_message)
        return -EPROTO;
    if (opcode == WS_TEXT)
        return -ENOTSUP;
    reader->first = byte;
    reader->step = STEP_SIZE;
    return 0;
}

static bool is_control(const struct ws_reader *reader)
{
    return (reader->first & CONTROL) != 0;
}

/* The length is complete, and is in `left`. */
static int take_frame(struct ws_reader *reader, const struct ws_limits *limits)
{
    reader->step = STEP_MASK;
    if (is_control(reader)) {
        reader->control_size = (uint8_t)reader->left;
        return 0;
    }
    if (reader->fragments >= limits->fragments)
        return -E2BIG;
    if (reader->left == UINT32_MAX || reader->message_bytes > limits->message_bytes ||
        reader->left > limits->message_bytes - reader->message_bytes)
        return -EMSGSIZE;
    reader->in_message = true;
    reader->fragments++;
    reader->message_bytes += reader->left;
    return 0;
}

static int take_size(struct ws_reader *reader, const struct ws_limits *limits, uint8_t byte)
{
    uint8_t size = byte & SIZE;
    if ((byte & MASKED) == 0 || (is_control(reader) && size > WS_CONTROL_BYTES_MAX))
        return -EPROTO;
    reader->step = size == SIZE_IN_64 ? STEP_SIZE_64 : STEP_SIZE_16;
    if (size >= SIZE_IN_16)
        return 0;
    reader->left = size;
    return take_frame(reader, limits);
}

/* One of the bytes that make a length of 16 or 64 bits, onto the 0 that is left of the frame
 * before. A length of 2^32 - 1 or more stays at that. */
static int take_long_size(struct ws_reader *reader, const struct ws_limits *limits, uint8_t byte)
{
    if (reader->step == STEP_SIZE_64 && byte >= 0x80)
        return -EPROTO;
    bool overflows = reader->left > UINT32_MAX >> 8;
    reader->left = overflows ? UINT32_MAX : reader->left << 8 | byte;
    reader->step++;
    if (reader->step == STEP_SIZE_16 && reader->left == 0) /* 16 bits would have done */
        return -EPROTO;
    if (reader->step < STEP_MASK)
        return 0;
    return reader->left < SIZE_IN_16 ? -EPROTO : take_frame(reader, limits);
}

static int take_header(struct ws_reader *reader, const struct ws_limits *limits,
                       struct ws_input *input)
{
    int result = 0;
    while (result == 0 && reader->step < STEP_PAYLOAD && input->at < input->size) {
        if (reader->step == STEP_MASK && input->size - input->at >= MASK_BYTES) {
            memcpy(reader->mask, input->data + input->at, MASK_BYTES);
            input->at += MASK_BYTES;
            reader->step = STEP_PAYLOAD;
            break;
        }
        uint8_t byte = input->data[input->at++];
        if (reader->step == STEP_FIRST)
            result = take_first(reader, byte);
        else if (reader->step == STEP_SIZE)
            result = take_size(reader, limits, byte);
        else if (reader->step < STEP_MASK)
            result = take_long_size(reader, limits, byte);
        else
            reader->mask[reader->step++ - STEP_MASK] = byte;
    }
    return result;
}

/* --- payload ---------------------------------------------------------------------------------- */

/* `to` is not behind `from`; they may overlap. Turns the mask for what follows. */
static void unmask(uint8_t *to, const uint8_t *from, size_t size, uint8_t mask[MASK_BYTES])
{
    uint8_t key[2 * MASK_BYTES];
    uint64_t word, keys;
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = mask[i % MASK_BYTES];
    memcpy(&keys, key, sizeof(keys));
    size_t at = 0;
    for (; size - at >= sizeof(word); at += sizeof(word)) {
        memcpy(&word, from + at, sizeof(word));
        word ^= keys;
        memcpy(to + at, &word, sizeof(word));
    }
    for (size_t i = 0; at < size; at++, i++)
        to[at] = from[at] ^ key[i];
    memcpy(mask, key + size % MASK_BYTES, MASK_BYTES);
}

/* One byte of a delimited frame's length. */
static int follow_length(struct ws_reader *reader, const struct ws_limits *limits, uint8_t byte)
{
    if (reader->length_bytes == 4 && byte > 0x0f) /* bits beyond the 32nd, or a sixth byte */
        return byte >= 0x80 ? -EPROTO : -EMSGSIZE;
    reader->frame_bytes |= (byte & UINT32_C(0x7f)) << (7 * reader->length_bytes);
    reader->length_bytes++;
    if (byte >= 0x80)
        return 0;
    reader->length_bytes = 0;
    return reader->frame_bytes > limits->message_bytes ? -EMSGSIZE : 0;
}

/* Goes over the next bytes of payload, from one delimited frame to the next. The byte that makes a
 * length wrong is not given: whoever reads frames would end the connection for it before the fault
 * is told as one of WebSocket, and counted. */
static int follow_frames(struct ws_reader *reader, const struct ws_limits *limits,
                         struct ws_input *input, size_t size)
{
    size_t end = input->payload + size;
    int result = 0;
    while (input->payload < end && result == 0) {
        if (reader->length_bytes > 0 || reader->frame_bytes == 0) {
            result = follow_length(reader, limits, input->data[input->payload]);
            input->payload += result == 0;
            continue;
        }
        size_t left = end - input->payload;
        uint32_t taken = left < reader->frame_bytes ? (uint32_t)left : reader->frame_bytes;
        reader->frame_bytes -= taken;
        input->payload += taken;
    }
    return result;
}

static size_t available(const struct ws_reader *reader, const struct ws_input *input)
{
    size_t size = input->size - input->at;
    return size < reader->left ? size : reader->left;
}

static int take_data(struct ws_reader *reader, const struct ws_limits *limits,
                     struct ws_input *input)
{
    size_t size = available(reader, input);
    unmask(input->data + input->payload, input->data + input->at, size, reader->mask);
    input->at += size;
    reader->left -= (uint32_t)size;
    int result = follow_frames(reader, limits, input, size);
    if (result < 0 || reader->left > 0)
        return result;
    reader->step = STEP_FIRST;
    if ((reader->first & FIN) == 0)
        return 0;
    reader->in_message = false;
    reader->message_bytes = reader->fragments = 0;
    return reader->frame_bytes > 0 || reader->length_bytes > 0 ? -EPROTO : 0;
}

/* --- control frames --------------------------------------------------------------------------- */

/* Those that a peer may send (RFC 6455 7.4, and what has been registered since). */
static bool code_valid(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

/* How many bytes of the text, at most `max`, are whole characters of UTF-8. A NUL is one: the RFC
 * does not except it. */
static size_t text_size(const uint8_t *text, size_t size, size_t max)
{
    size_t at = 0;
    while (at < size) {
        size_t character = utf8_size(text + at, size - at);
        if (character == 0 || character > max - at)
            break;
        at += character;
    }
    return at;
}

static int judge_close(const struct ws_control *close)
{
    if (close->size == 0)
        return WS_CLOSE;
    if (close->size < CODE_BYTES || !code_valid(ws_close_code(close)))
        return -EPROTO;
    size_t size = close->size - CODE_BYTES;
    return text_size(close->data + CODE_BYTES, size, size) == size ? WS_CLOSE : -EILSEQ;
}

/* Takes so much of the payload as has come; what is not whole is kept. 0 or -ENOMEM. */
static int take_control_payload(struct ws_reader *reader, struct ws_input *input, size_t size,
                                struct ws_control *control)
{
    if (reader->control == NULL && size < reader->left) {
        reader->control = malloc(reader->control_size);
        if (reader->control == NULL)
            return -ENOMEM;
        memory_account(MEMORY_OF_WEBSOCKET, reader->control_size);
    }
    uint8_t *payload = reader->control != NULL ? reader->control : control->data;
    unmask(payload + reader->control_size - reader->left, input->data + input->at, size,
           reader->mask);
    return 0;
}

/* The opcode when it is whole. */
static int take_control(struct ws_reader *reader, struct ws_input *input,
                        struct ws_control *control)
{
    size_t size = available(reader, input);
    int opcode = reader->first & OPCODE;
    if (opcode != WS_PONG && size > 0 && take_control_payload(reader, input, size, control) < 0)
        return -ENOMEM;
    input->at += size;
    reader->left -= (uint32_t)size;
    if (reader->left > 0)
        return 0;
    reader->step = STEP_FIRST;
    control->size = opcode == WS_PONG ? 0 : reader->control_size;
    if (reader->control != NULL)
        memcpy(control->data, reader->control, control->size);
    ws_reader_fini(reader);
    return opcode == WS_CLOSE ? judge_close(control) : opcode;
}

/* --- the reader ------------------------------------------------------------------------------- */

int ws_read(struct ws_reader *reader, const struct ws_limits *limits, struct ws_input *input,
            struct ws_control *control)
{
    CHECK(input->payload <= input->at && input->at <= input->size);
    for (;;) {
        int result = take_header(reader, limits, input);
        if (result < 0 || reader->step < STEP_PAYLOAD)
            return result;
        result = is_control(reader) ? take_control(reader, input, control)
                                    : take_data(reader, limits, input);
        if (result != 0 || reader->step == STEP_PAYLOAD)
            return result;
    }
}

bool ws_reader_move_in(struct ws_reader *reader, const uint8_t *control, size_t size)
{
    CHECK(reader->control == NULL && size > 0 && size <= WS_CONTROL_BYTES_MAX);
    reader->control = malloc(size);
    if (reader->control == NULL)
        return false;
    memory_account(MEMORY_OF_WEBSOCKET, (int64_t)size);
    memcpy(reader->control, control, size);
    reader->control_size = (uint8_t)size;
    return true;
}

void ws_reader_fini(struct ws_reader *reader)
{
    if (reader->control == NULL)
        return;
    memory_account(MEMORY_OF_WEBSOCKET, -(int64_t)reader->control_size);
    free(reader->control);
    reader->control = NULL;
}

uint16_t ws_close_code(const struct ws_control *close)
{
    if (close->size < CODE_BYTES)
        return CLOSE_NO_CODE;
    return (uint16_t)(close->data[0] << 8 | close->data[1]);
}

/* --- what the broker sends -------------------------------------------------------------------- */

size_t ws_header(uint8_t to[WS_HEADER_BYTES_MAX], enum ws_opcode opcode, size_t size)
{
    size_t length_bytes = size < SIZE_IN_16 ? 0 : size <= UINT16_MAX ? 2 : 8;
    to[0] = (uint8_t)(FIN | opcode);
    to[1] = (uint8_t)(length_bytes == 0 ? size : length_bytes == 2 ? SIZE_IN_16 : SIZE_IN_64);
    for (size_t i = 0; i < length_bytes; i++)
        to[2 + i] = (uint8_t)((uint64_t)size >> (8 * (length_bytes - 1 - i)));
    return 2 + length_bytes;
}

size_t ws_close_frame(uint8_t to[WS_CLOSE_FRAME_BYTES_MAX], uint16_t code, const char *detail)
{
    if (code == 0)
        return ws_header(to, WS_CLOSE, 0);
    struct bytes text = bytes_of_text(detail);
    text.size = text_size(text.data, text.size, WS_CONTROL_BYTES_MAX - CODE_BYTES);
    size_t at = ws_header(to, WS_CLOSE, CODE_BYTES + text.size);
    to[at++] = (uint8_t)(code >> 8);
    to[at++] = (uint8_t)code;
    return (size_t)(bytes_put(to + at, text) - to);
}

size_t ws_cut(struct bytes frames, size_t max)
{
    size_t at = 0;
    if (frames.size <= max)
        return frames.size;
    do {
        uint64_t size;
        int used = varint_read((struct bytes){frames.data + at, frames.size - at}, &size);
        if (used <= 0 || size > frames.size - at - (size_t)used)
            return frames.size;
        size += (size_t)used;
        if (at > 0 && size > max - at)
            break;
        at += size;
    } while (at < max);
    return at;
}
