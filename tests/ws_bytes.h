/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_WS_BYTES_H
#define USHER_TESTS_WS_BYTES_H

/* WebSocket as a client writes and reads it, straight from RFC 6455 and without the code under
 * test. Bytes alone: no sockets. */

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/bytes.h"

enum {
    WS_BYTES_FIN = 0x80,
    WS_BYTES_CONTINUATION = 0,
    WS_BYTES_TEXT = 1,
    WS_BYTES_BINARY = 2,
    WS_BYTES_CLOSE = 8,
    WS_BYTES_PING = 9,
    WS_BYTES_PONG = 10,
    WS_BYTES_MASK = 0x0a0b0c0d,
};

static const char ws_bytes_head[] = "GET /usher HTTP/1.1\r\n"
                                    "Host: localhost\r\n"
                                    "Upgrade: websocket\r\n"
                                    "Connection: keep-alive, Upgrade\r\n"
                                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                    "Sec-WebSocket-Version: 13\r\n"
                                    "Sec-WebSocket-Protocol: usher.v1\r\n";

/* The answer to that key. */
static const char ws_bytes_accept[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

static inline void ws_bytes_append(struct buffer *out, const void *data, size_t size)
{
    if (buffer_append(out, data, size) != 0)
        abort();
}

/* One frame; `first` is its first byte. */
static inline void ws_bytes_put(struct buffer *out, uint8_t first, struct bytes payload,
                                uint32_t mask)
{
    uint8_t header[14] = {first};
    const uint8_t key[4] = {(uint8_t)(mask >> 24), (uint8_t)(mask >> 16), (uint8_t)(mask >> 8),
                            (uint8_t)mask};
    size_t lengths = payload.size < 126 ? 0 : payload.size < 65536 ? 2 : 8;
    header[1] = 0x80 | (uint8_t)(lengths == 0 ? payload.size : lengths == 2 ? 126 : 127);
    for (size_t i = 0; i < lengths; i++)
        header[2 + i] = (uint8_t)((uint64_t)payload.size >> (8 * (lengths - 1 - i)));
    memcpy(header + 2 + lengths, key, sizeof(key));
    ws_bytes_append(out, header, 2 + lengths + sizeof(key));
    size_t at = out->size;
    if (payload.size > 0)
        ws_bytes_append(out, payload.data, payload.size);
    for (size_t i = 0; i < payload.size; i++)
        out->data[at + i] ^= key[i % 4];
}

/* A whole message. */
static inline void ws_bytes_message(struct buffer *out, struct bytes payload)
{
    ws_bytes_put(out, WS_BYTES_FIN | WS_BYTES_BINARY, payload, WS_BYTES_MASK);
}

struct ws_bytes_seen {
    uint8_t opcode;
    struct bytes payload;
};

/* The frame of a server at the front: 1; 0: it is not whole; -1: no server without extensions may
 * send it, or it is none of those that a broker sends: in one piece, its length in the fewest
 * bytes. */
static inline int ws_bytes_take(struct bytes input, struct ws_bytes_seen *seen, size_t *used)
{
    if (input.size < 2)
        return 0;
    uint64_t size = input.data[1];
    size_t lengths = size == 126 ? 2 : size == 127 ? 8 : 0;
    seen->opcode = input.data[0] & 0x0f;
    bool control = seen->opcode >= WS_BYTES_CLOSE;
    if ((input.data[0] & 0xf0) != WS_BYTES_FIN || size > 127 || (control && lengths > 0) ||
        (seen->opcode != WS_BYTES_BINARY && !control) || seen->opcode > WS_BYTES_PONG)
        return -1;
    if (input.size < 2 + lengths)
        return 0;
    size = lengths > 0 ? 0 : size;
    for (size_t i = 0; i < lengths; i++)
        size = size << 8 | input.data[2 + i];
    if ((lengths == 2 && size < 126) || (lengths == 8 && size < 65536))
        return -1;
    if (input.size - 2 - lengths < size)
        return 0;
    seen->payload = (struct bytes){input.data + 2 + lengths, (size_t)size};
    *used = 2 + lengths + (size_t)size;
    return 1;
}

/* Of a Close; 1005: it has none. */
static inline unsigned ws_bytes_code(const struct ws_bytes_seen *seen)
{
    if (seen->payload.size < 2)
        return 1005;
    return (unsigned)seen->payload.data[0] << 8 | seen->payload.data[1];
}

#endif
