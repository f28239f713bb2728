/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_WEBSOCKET_FRAME_H
#define USHER_LIBUSHER_WEBSOCKET_FRAME_H

/* The frames of RFC 6455, a client's half: reads what a server sends, writes what it may be sent.
 * Knows no connection and allocates nothing. Any thread, one at a time; never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

enum {
    WEBSOCKET_MASK_BYTES = 4,
    WEBSOCKET_READ_HEADER_BYTES_MAX = 10, /* a server's has no mask */
    WEBSOCKET_CONTROL_BYTES_MAX = 125,
};

/* --- from the server -------------------------------------------------------------------------- */

/* Zeroed memory is one that has read nothing. */
struct websocket_reader {
    uint64_t left;        /* of the frame under way */
    uint64_t body_left;   /* of the usher frame that its message is in */
    uint64_t length;      /* of the next one, as far as it has come ... */
    uint8_t length_bytes; /* ... in so many bytes */
    uint8_t opcode;
    bool final;
    bool in_frame;   /* its header is complete */
    bool in_message; /* the last data frame was not the last of its message */
    uint8_t header_bytes, control_bytes;
    uint8_t header[WEBSOCKET_READ_HEADER_BYTES_MAX];
    uint8_t control[WEBSOCKET_CONTROL_BYTES_MAX]; /* the payload of a control frame */
};

/* Raw bytes data[at, size) are still to be looked at; data[0, payload) is what of them was inside
 * of messages, moved to the front. */
struct websocket_input {
    uint8_t *data;
    size_t size, at, payload;
};

/* Goes on until all is taken (0), or until a Ping or a Close is complete: WEBSOCKET_PING or
 * WEBSOCKET_CLOSE, with its payload in *control, borrowed until the next call. The same bytes give
 * the same however they are cut. -EPROTO: no WebSocket, or a message that does not hold whole
 * delimited frames; -ENOTSUP: text; -EILSEQ: a Close whose text is no UTF-8. After an error the
 * reader is not used again. */
int websocket_read(struct websocket_reader *reader, struct websocket_input *input,
                   struct bytes *control);

/* --- to the server ---------------------------------------------------------------------------- */

size_t websocket_header_bytes(size_t payload_bytes);

/* Writes the header of a frame that is a whole message, or a control frame, to where there is room
 * for websocket_header_bytes; gives its size. */
size_t websocket_header(uint8_t *to, enum websocket_opcode opcode, size_t payload_bytes,
                        const uint8_t mask[WEBSOCKET_MASK_BYTES]);

/* Masks a payload, or takes the mask off. */
void websocket_mask(uint8_t *data, size_t size, const uint8_t mask[WEBSOCKET_MASK_BYTES]);

/* How many bytes of the delimited frames at the front make one message: at most `frames_max` whole
 * frames (0: any number) in at most bytes_max bytes, but one frame in any case. `data` holds whole
 * frames, one at least. */
size_t websocket_cut(struct bytes data, size_t bytes_max, size_t frames_max);

#endif
