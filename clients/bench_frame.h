/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BENCH_FRAME_H
#define USHER_BENCH_FRAME_H

/* The frames that a load generator handles by the million, without unpacking: a BrokerFrame read
 * in place, and Send. All other frames are usher_outgoing.h's. Any thread; never block. */

#include <stdint.h>

#include "proto/bytes.h"

/* The numbers are those of the fields in client.proto. */
enum broker_body {
    BROKER_NONE = 0,
    BROKER_WELCOME = 2,
    BROKER_MESSAGE = 3,
    BROKER_DONE = 4,
    BROKER_REPLY = 5,
    BROKER_ERROR = 6,
    BROKER_PONG = 7,
    BROKER_CLOSE = 8,
};

enum {
    WELCOME_EPOCH = 1,
    WELCOME_SECRET = 2,
    WELCOME_REPLAY = 3,
    WELCOME_NEXT_SEQ = 4,
    WELCOME_HEARTBEAT_MS = 5,
    MESSAGE_SEQ = 1,
    MESSAGE_PAYLOAD = 4,
    MESSAGE_REDELIVERED = 6,
    REPLY_STATUS = 1,
    REPLY_PAYLOAD = 2,
    ERROR_CODE = 1,
    REFUSAL_RETRY_AFTER_MS = 3, /* of Error and of Close */
    CLOSE_REASON = 1,
    BODY_FIELDS = 10,
};

struct broker_frame {
    uint64_t id;
    enum broker_body body;
    uint64_t number[BODY_FIELDS];  /* the body's fields by their numbers; 0 when absent */
    struct bytes run[BODY_FIELDS]; /* borrowed from the frame */
};

/* Reads a frame without its length: 0, or -EPROTO when it is not well-formed. Fields that are
 * unknown are passed over. */
int bench_frame_read(struct bytes frame, struct broker_frame *out);

/* Appends a delimited Send; id 0 asks for no answer. Gives where the payload of `payload_bytes` is
 * to be written, valid until `out` changes, or NULL without memory. */
uint8_t *bench_frame_send(struct buffer *out, uint64_t id, struct bytes to, size_t payload_bytes);

#endif
