/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_OUTGOING_H
#define USHER_LIBUSHER_OUTGOING_H

/* What the client says, as bytes for the socket: each call appends one frame with its length to
 * the buffer. Arguments are borrowed for the call. 0, -ENOMEM, -EMSGSIZE (longer than
 * frame_bytes_max); a failed call appends nothing. Pure; any thread. */

#include "proto/bytes.h"
#include "usher.h"

struct outgoing_login {
    const char *username;
    struct bytes token;
    const char *client;
    bool acks;
};

struct outgoing_resume {
    const char *username;
    uint64_t epoch;
    struct bytes secret;
    uint64_t last_seq, received_seq;
};

struct outgoing_send {
    const char *to;
    struct bytes payload;
    enum usher_until until;
};

struct outgoing_call {
    const char *service;
    const char *method;
    struct bytes payload;
    uint32_t timeout_ms;
};

int outgoing_login(struct buffer *out, uint64_t id, const struct outgoing_login *login);
int outgoing_resume(struct buffer *out, uint64_t id, const struct outgoing_resume *resume);
int outgoing_send(struct buffer *out, uint64_t id, const struct outgoing_send *send,
                  size_t frame_bytes_max);
int outgoing_call(struct buffer *out, uint64_t id, const struct outgoing_call *call,
                  size_t frame_bytes_max);
int outgoing_ack(struct buffer *out, uint64_t seq);
int outgoing_ping(struct buffer *out, uint64_t id);
int outgoing_logout(struct buffer *out, uint64_t id);

#endif
