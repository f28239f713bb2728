/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_CLIENT_FRAME_H
#define USHER_PROTO_CLIENT_FRAME_H

/* A ClientFrame of client.proto, read in place. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/bytes.h"

/* The numbers are those of the fields in the schema. */
enum client_body {
    CLIENT_NONE = 0, /* absent, or unknown to this version */
    CLIENT_LOGIN = 2,
    CLIENT_RESUME = 3,
    CLIENT_SEND = 4,
    CLIENT_CALL = 5,
    CLIENT_ACK = 6,
    CLIENT_PING = 7,
    CLIENT_LOGOUT = 8,
};

/* Fields that were not sent are 0 or empty. Texts are valid UTF-8 without NUL, not terminated. */
struct client_frame {
    uint64_t id;
    enum client_body body;
    union {
        struct {
            struct bytes username, token, client;
            bool acks;
        } login;
        struct {
            struct bytes username, secret;
            uint64_t epoch, last_seq, received_seq;
        } resume;
        struct {
            struct bytes to, payload;
            uint32_t until; /* Send.Until, but any number may come */
        } send;
        struct {
            struct bytes service, method, payload;
            uint32_t timeout_ms;
        } call;
        struct {
            uint64_t seq;
        } ack;
        struct {
            uint64_t stamp;
        } ping;
    };
};

/* Reads a frame without its length. *out borrows from it: it is valid as long as the frame's
 * bytes. Gives 0 or -EPROTO, with which *out means nothing, for
 *
 *   - bytes that are not well-formed protobuf (also groups deeper than WIRE_GROUP_DEPTH_MAX),
 *   - a known field with another wire type than its own,
 *   - a text that utf8_valid refuses, also one that a later field replaces.
 *
 * Otherwise protobuf's rules hold: unknown fields are passed over; of a field given twice the last
 * counts; two bodies of one kind are merged, and one of another kind replaces what came before.
 * Names are not judged here. Any thread; never blocks, never allocates. */
int client_frame_read(struct bytes frame, struct client_frame *out);

#endif
