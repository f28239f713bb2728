/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_WEBSOCKET_H
#define USHER_LIBUSHER_WEBSOCKET_H

/* One connection's WebSocket: between the bytes of a socket (or of TLS) and delimited frames. It
 * touches no socket. One thread at a time; never blocks. Errors are negative errno. */

#include "libusher/url.h"
#include "libusher/websocket_frame.h"
#include "libusher/websocket_upgrade.h"
#include "proto/bytes.h"

/* Random masks, drawn by the hundred. Zeroed memory has none yet. */
struct websocket_masks {
    uint8_t pool[256];
    size_t left;
};

/* What goes into one message. */
struct websocket_batch {
    size_t bytes_max;  /* of more than one frame */
    size_t frames_max; /* 0: any number */
};

enum {
    /* More in one message wins nothing: it is what the broker sends at most, and one record of TLS.
     */
    WEBSOCKET_BATCH_BYTES_MAX = 16384,
    WEBSOCKET_CLOSE_TEXT_BYTES = 124, /* with its NUL */
};

struct websocket {
    struct websocket_masks *masks; /* borrowed */
    char accept[UPGRADE_ACCEPT_BYTES + 1];
    struct websocket_answer answer;
    bool open; /* the upgrade is done */
    struct websocket_reader reader;
    uint8_t pong[WEBSOCKET_CONTROL_BYTES_MAX];
    uint8_t pong_bytes;
    bool pong_waits;
    unsigned close_code; /* that the server gave; 0: none */
    char close_text[WEBSOCKET_CLOSE_TEXT_BYTES];

    /* Of the output: bytes at its front that are as they go to the server, those of them (and of
     * what went before) that belong to the piece under way, and all that are not frames of usher.
     */
    size_t wrapped;
    size_t header_left, payload_left;
    bool payload_counts;
    size_t framing;
};

/* Begins: appends the request to the output, which is empty. 0, -ENOMEM, -EAGAIN (see
 * websocket_request). `masks` is borrowed for as long as the WebSocket is used. */
int websocket_begin(struct websocket *websocket, const struct url *url,
                    struct websocket_masks *masks, struct buffer *output);

/* Looks for the answer in what has come: 1, open, and *used bytes of the input were its head; 0,
 * more is needed; -EPROTO, -ECONNREFUSED as websocket_answer_read, see `answer`. */
int websocket_open(struct websocket *websocket, struct bytes input, size_t *used);

/* Raw bytes came: leaves at their front the *payload bytes that belong to frames. 0; -ESHUTDOWN:
 * the server closes (close_code, close_text); or what websocket_read says. With an error, too, what
 * came before it counts. */
int websocket_take(struct websocket *websocket, uint8_t *data, size_t size, size_t *payload);

/* Makes messages of the frames that were appended to the output since the last time, and puts a
 * Pong before them if one is due. 0; -ENOMEM or -EAGAIN, with which the output is nothing any more.
 */
int websocket_wrap(struct websocket *websocket, struct buffer *output,
                   const struct websocket_batch *batch);

/* The first `count` bytes of the output have left, and are still in it: how many of them were of
 * frames. Who does not need to know takes them off `wrapped` himself. */
size_t websocket_sent(struct websocket *websocket, const struct buffer *output, size_t count);

/* Writes a Close for who goes, if there is place for one: its size, or 0 in the middle of a
 * message.
 */
enum { WEBSOCKET_GOODBYE_BYTES_MAX = 8 };
size_t websocket_goodbye(struct websocket *websocket, uint8_t to[WEBSOCKET_GOODBYE_BYTES_MAX],
                         unsigned code);

#endif
