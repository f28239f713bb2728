/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/outgoing.h"

#include <errno.h>

#include "client.pb-c.h"
#include "common/pack.h"
#include "proto/varint.h"

/* Frames that the library makes itself are small; this bounds names that a caller gave. */
enum { CONTROL_BYTES_MAX = 64 * 1024 };

static ProtobufCBinaryData binary(struct bytes borrowed)
{
    return pack_bytes(borrowed.data, borrowed.size);
}

static int append(struct buffer *out, const Usher__V1__ClientFrame *frame, size_t frame_bytes_max)
{
    size_t size = usher__v1__client_frame__get_packed_size(frame);
    if (size > frame_bytes_max)
        return -EMSGSIZE;
    size_t prefix = varint_size(size);
    uint8_t *place = buffer_reserve(out, prefix + size);
    if (place == NULL)
        return -ENOMEM;
    varint_write(place, size);
    usher__v1__client_frame__pack(frame, place + prefix);
    out->size += prefix + size;
    return 0;
}

int outgoing_login(struct buffer *out, uint64_t id, const struct outgoing_login *login)
{
    Usher__V1__Login body = USHER__V1__LOGIN__INIT;
    body.username = pack_text(login->username);
    body.token = binary(login->token);
    body.client = pack_text(login->client);
    body.acks = login->acks;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGIN;
    frame.login = &body;
    return append(out, &frame, CONTROL_BYTES_MAX);
}

int outgoing_resume(struct buffer *out, uint64_t id, const struct outgoing_resume *resume)
{
    Usher__V1__Resume body = USHER__V1__RESUME__INIT;
    body.username = pack_text(resume->username);
    body.epoch = resume->epoch;
    body.secret = binary(resume->secret);
    body.last_seq = resume->last_seq;
    body.received_seq = resume->received_seq;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_RESUME;
    frame.resume = &body;
    return append(out, &frame, CONTROL_BYTES_MAX);
}

int outgoing_send(struct buffer *out, uint64_t id, const struct outgoing_send *send,
                  size_t frame_bytes_max)
{
    Usher__V1__Send body = USHER__V1__SEND__INIT;
    body.to = pack_text(send->to);
    body.payload = binary(send->payload);
    body.until = (Usher__V1__Send__Until)send->until;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_SEND;
    frame.send = &body;
    return append(out, &frame, frame_bytes_max);
}

int outgoing_call(struct buffer *out, uint64_t id, const struct outgoing_call *call,
                  size_t frame_bytes_max)
{
    Usher__V1__Call body = USHER__V1__CALL__INIT;
    body.service = pack_text(call->service);
    body.method = pack_text(call->method);
    body.payload = binary(call->payload);
    body.timeout_ms = call->timeout_ms;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_CALL;
    frame.call = &body;
    return append(out, &frame, frame_bytes_max);
}

int outgoing_ack(struct buffer *out, uint64_t seq)
{
    Usher__V1__Ack body = USHER__V1__ACK__INIT;
    body.seq = seq;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_ACK;
    frame.ack = &body;
    return append(out, &frame, CONTROL_BYTES_MAX);
}

int outgoing_ping(struct buffer *out, uint64_t id)
{
    Usher__V1__Ping body = USHER__V1__PING__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_PING;
    frame.ping = &body;
    return append(out, &frame, CONTROL_BYTES_MAX);
}

int outgoing_logout(struct buffer *out, uint64_t id)
{
    Usher__V1__Logout body = USHER__V1__LOGOUT__INIT;
    Usher__V1__ClientFrame frame = USHER__V1__CLIENT_FRAME__INIT;
    frame.id = id;
    frame.body_case = USHER__V1__CLIENT_FRAME__BODY_LOGOUT;
    frame.logout = &body;
    return append(out, &frame, CONTROL_BYTES_MAX);
}
