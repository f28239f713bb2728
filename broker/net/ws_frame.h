/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_WS_FRAME_H
#define USHER_NET_WS_FRAME_H

/* Private to net/: the frames of RFC 6455 as a server reads and writes them, without extensions. A
 * message holds whole delimited frames, one behind the other, byte for byte those of TCP. Pure but
 * for the payload of one control frame that comes in pieces; knows no connection. Any thread, a
 * reader by one at a time; never blocks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

enum {
    WS_HEADER_BYTES_MAX = 10, /* of what a server sends */
    WS_CONTROL_BYTES_MAX = 125,
    WS_CLOSE_FRAME_BYTES_MAX = 2 + WS_CONTROL_BYTES_MAX,
};

enum ws_opcode {
    WS_CONTINUATION = 0,
    WS_TEXT = 1,
    WS_BINARY = 2,
    WS_CLOSE = 8,
    WS_PING = 9,
    WS_PONG = 10,
};

/* Of one message: its bytes, and the frames that it may come in (at least 1). They may differ from
 * one call to the next. */
struct ws_limits {
    uint32_t message_bytes;
    uint32_t fragments;
};

/* What has been read of a frame and of the message around it. Zeroed memory is a reader at the
 * beginning of a connection. The members are the reader's own. */
struct ws_reader {
    uint8_t *control; /* a Ping or Close that has come in part; in the book of base/memory.h */
    uint32_t message_bytes; /* of the message, the frame that has come in part included */
    uint32_t fragments;     /* its frames */
    uint32_t frame_bytes;   /* left of the delimited frame, or its length as far as it has come */
    uint32_t left;          /* of the payload, or its length as far as it has come */
    uint8_t mask[4];        /* turned: the next byte's first */
    uint8_t step;           /* which byte of the header comes next, or the payload */
    uint8_t first;          /* byte of the header */
    uint8_t control_size;
    uint8_t in_message : 1;   /* its end has not come */
    uint8_t length_bytes : 3; /* of the delimited frame's length; 0: no length has come in part */
};

/* What has arrived, in place. data[at, size) is still to be read. data[0, payload) is payload,
 * unmasked: what was there before the call, and behind it what the call has found, moved together.
 * payload <= at <= size. */
struct ws_input {
    uint8_t *data;
    size_t size, at, payload;
};

/* The payload of a Ping or Close. A Pong's is dropped. */
struct ws_control {
    size_t size;
    uint8_t data[WS_CONTROL_BYTES_MAX];
};

/* Reads until all has been taken, or until a control frame is whole. Nothing is left behind for the
 * next call to see again: at == size with 0. The same bytes give the same payload, control frames
 * and errors however they are cut into inputs.
 *
 *   0          all is taken
 *   WS_PING, WS_PONG, WS_CLOSE   that came, its payload is in *control: call again for the rest;
 *              behind a Close there is nothing to be read any more
 *   -EPROTO    1002: a rule of the RFC is broken, or the message does not end where a delimited
 *              frame does, or one's length has more than five bytes
 *   -ENOTSUP   1003: text
 *   -EILSEQ    1007: the text of a Close that is not UTF-8
 *   -E2BIG     1009: a message of more frames than may be
 *   -EMSGSIZE  1009: of more bytes than may be, or in it a delimited frame that has more than the
 *              message may have. Both are judged as soon as the length is complete
 *   -ENOMEM    for the part of a control frame
 *
 * After an error the reader is not used again, but for ws_reader_fini; data[0, payload) has what
 * came before the byte that was wrong. */
int ws_read(struct ws_reader *reader, const struct ws_limits *limits, struct ws_input *input,
            struct ws_control *control);

/* Of a zeroed reader: the payload, of that size, of a control frame that has come in part to
 * another process. False without memory. */
bool ws_reader_move_in(struct ws_reader *reader, const uint8_t *control, size_t size);

/* Frees what it keeps. */
void ws_reader_fini(struct ws_reader *reader);

/* The code and the text of a Close that ws_read gave; 1005 without a payload. */
uint16_t ws_close_code(const struct ws_control *close);

/* The header of a whole message or control frame with so many bytes of payload, unmasked. Gives its
 * size. */
size_t ws_header(uint8_t to[WS_HEADER_BYTES_MAX], enum ws_opcode opcode, size_t size);

/* A whole Close. Of detail as many whole characters as there is room for, and none behind what is
 * not UTF-8; NULL: none. Code 0: without a payload. Gives its size. */
size_t ws_close_frame(uint8_t to[WS_CLOSE_FRAME_BYTES_MAX], uint16_t code, const char *detail);

/* How much of these delimited frames makes one message: as many whole ones as fit into `max`, at
 * least one. What cannot be cut is one message. Walks over them only when they do not fit. */
size_t ws_cut(struct bytes frames, size_t max);

#endif
