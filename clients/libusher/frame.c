/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/frame.h"

#include <errno.h>
#include <string.h>

#include "proto/varint.h"
#include "proto/wire.h"

/* protobuf-c makes an object of each field that it does not know, so that a frame of two-byte
 * fields becomes fifty times its size: too much to grant to whoever is at the other end. Here a
 * frame costs what it costs to hold its bytes. */

enum {
    FRAME_ID = 1,
    TAG_ID = WIRE_TAG(FRAME_ID, WIRE_VARINT),
    TAG_SEQ = WIRE_TAG(MESSAGE_SEQ, WIRE_VARINT),
};

/* Fields are kept by number, whatever the body: a body that does not know one never looks. */
static const uint8_t *read_field(const uint8_t *at, const uint8_t *end, uint32_t tag,
                                 struct broker_frame *out)
{
    uint32_t field = tag >> 3;
    if (field < BODY_FIELDS && (tag & 7) == WIRE_VARINT)
        return wire_varint(at, end, &out->number[field]);
    if (field < BODY_FIELDS && (tag & 7) == WIRE_RUN)
        return wire_run(at, end, &out->run[field]);
    return wire_skip(at, end, tag);
}

static int read_body(struct bytes body, struct broker_frame *out)
{
    const uint8_t *at = body.data;
    const uint8_t *end = at + body.size;
    uint32_t tag;
    while (at != NULL && at != end) {
        at = wire_tag(at, end, &tag);
        if (at != NULL)
            at = read_field(at, end, tag, out);
    }
    return at != NULL ? 0 : -EPROTO;
}

int broker_frame_read(struct bytes frame, struct broker_frame *out)
{
    const uint8_t *at = frame.data;
    const uint8_t *end = at + frame.size;
    struct bytes body = {0};
    uint32_t tag;
    memset(out, 0, sizeof(*out));
    while (at != NULL && at != end) {
        at = wire_tag(at, end, &tag);
        if (at == NULL)
            break;
        if (tag == TAG_ID) {
            at = wire_varint(at, end, &out->id);
        } else if ((tag & 7) == WIRE_RUN && tag >> 3 <= BROKER_BODY_LAST) {
            out->body = (enum broker_body)(tag >> 3);
            at = wire_run(at, end, &body);
        } else {
            at = wire_skip(at, end, tag);
        }
    }
    if (at == NULL && frame.size > 0)
        return -EPROTO;
    out->bytes = body;
    return body.size > 0 ? read_body(body, out) : 0;
}

int broker_item_read(struct bytes *rest, unsigned number, struct broker_frame *item)
{
    const uint8_t *at = rest->data;
    const uint8_t *end = rest->data + rest->size;
    struct bytes run = {0};
    uint32_t tag = 0;
    while (rest->size > 0 && at != end && tag != WIRE_TAG(number, WIRE_RUN)) {
        at = wire_tag(at, end, &tag);
        if (at != NULL)
            at = tag == WIRE_TAG(number, WIRE_RUN) ? wire_run(at, end, &run)
                                                   : wire_skip(at, end, tag);
        if (at == NULL)
            return -EPROTO;
    }
    *rest = (struct bytes){at, (size_t)(end - at)};
    if (tag != WIRE_TAG(number, WIRE_RUN))
        return 0;
    memset(item, 0, sizeof(*item));
    return run.size == 0 || read_body(run, item) == 0 ? 1 : -EPROTO;
}

/* A length whose bytes need not be there. */
static const uint8_t *read_length(const uint8_t *at, const uint8_t *end, uint64_t *length)
{
    return at != NULL ? wire_varint(at, end, length) : NULL;
}

int broker_head_read(struct bytes start, struct broker_head *head)
{
    const uint8_t *end = start.data + start.size;
    uint64_t frame_bytes, body_bytes;
    uint32_t tag = 0;
    const uint8_t *at = read_length(start.data, end, &frame_bytes);
    *head = (struct broker_head){0};
    if (at == NULL)
        return -EPROTO;
    head->length_bytes = (size_t)(at - start.data);
    head->frame_bytes = (size_t)frame_bytes;
    at = wire_tag(at, end, &tag);
    if (at != NULL && tag == TAG_ID) {
        at = wire_varint(at, end, &head->id);
        at = at != NULL ? wire_tag(at, end, &tag) : NULL;
    }
    if (at == NULL || (tag & 7) != WIRE_RUN || tag >> 3 > BROKER_BODY_LAST)
        return -EPROTO;
    head->body = (enum broker_body)(tag >> 3);
    at = read_length(at, end, &body_bytes);
    if ((head->body == BROKER_MESSAGE || head->body == BROKER_ROOM_MESSAGES) && at != NULL) {
        at = wire_tag(at, end, &tag);
        at = at != NULL && tag == TAG_SEQ ? wire_varint(at, end, &head->seq) : NULL;
    }
    return at != NULL ? 0 : -EPROTO;
}
