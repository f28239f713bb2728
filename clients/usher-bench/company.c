/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/company.h"

#include <errno.h>

#include "proto/wire.h"

/* libusher reads a frame into one value for each field, which is right for all others; what is
 * repeated here would be lost. So these bodies are walked. */

enum { TAG_ID = WIRE_TAG(1, WIRE_VARINT) };

static bool is_company(uint32_t tag)
{
    return (tag & 7) == WIRE_RUN && tag >> 3 >= COMPANY_ROOM_STATE && tag >> 3 <= COMPANY_FRIENDS;
}

int company_frame_read(struct bytes frame, struct company_frame *out)
{
    const uint8_t *at = frame.data;
    const uint8_t *end = at + frame.size;
    uint32_t tag;
    int found = 0;
    *out = (struct company_frame){0};
    while (at != NULL && at != end) {
        at = wire_tag(at, end, &tag);
        if (at == NULL)
            break;
        if (tag == TAG_ID) {
            at = wire_varint(at, end, &out->id);
        } else if (is_company(tag)) {
            out->body = (enum company_body)(tag >> 3);
            at = wire_run(at, end, &out->bytes);
            found = 1;
        } else {
            at = wire_skip(at, end, tag);
        }
    }
    return at != NULL || frame.size == 0 ? found : -EPROTO;
}

static const uint8_t *take_field(const uint8_t *at, const uint8_t *end, uint32_t tag,
                                 struct company_fields *out)
{
    uint32_t field = tag >> 3;
    if (field < COMPANY_FIELDS && (tag & 7) == WIRE_VARINT)
        return wire_varint(at, end, &out->number[field]);
    if (field < COMPANY_FIELDS && (tag & 7) == WIRE_RUN)
        return wire_run(at, end, &out->run[field]);
    return wire_skip(at, end, tag);
}

int company_next(struct bytes *rest, uint32_t item, struct company_fields *out, struct bytes *found)
{
    const uint8_t *at = rest->data;
    const uint8_t *end = at + rest->size;
    uint32_t tag;
    int result = 0;
    while (at != NULL && at != end && result == 0) {
        at = wire_tag(at, end, &tag);
        if (at != NULL && tag == WIRE_TAG(item, WIRE_RUN)) {
            at = wire_run(at, end, found);
            result = 1;
        } else if (at != NULL) {
            at = take_field(at, end, tag, out);
        }
    }
    if (at == NULL && rest->size > 0)
        return -EPROTO;
    *rest = (struct bytes){at, at != NULL ? (size_t)(end - at) : 0};
    return result;
}
