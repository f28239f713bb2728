/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/link_frame.h"

#include "proto/utf8.h"
#include "proto/wire.h"

/* protobuf-c does not look into strings, and after unpacking a NUL inside of one cannot be seen
 * any more. So the raw frame is walked first. Which fields are texts and which are messages is
 * read from the descriptors that protobuf-c generates: no second table that could be forgotten
 * when the schema grows.
 *
 * The walk recurses as deep as the schema is, which has no recursive types (four levels): the
 * depth does not depend on the peer. It refuses what wire.c refuses, so that what it passes is
 * cut into the same fields by protobuf-c. */

static bool texts_valid(const ProtobufCMessageDescriptor *descriptor, struct bytes message);

/* Of one value: a list of numbers may also be packed into one run. */
static enum wire_type type_of(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_RUN;
    default:
        return WIRE_VARINT;
    }
}

static bool is_packed(const ProtobufCFieldDescriptor *field, uint32_t tag)
{
    return field->label == PROTOBUF_C_LABEL_REPEATED && type_of(field) == WIRE_VARINT &&
           (tag & 7) == WIRE_RUN;
}

static const uint8_t *packed_check(const uint8_t *at, const uint8_t *end)
{
    struct bytes run;
    at = wire_run(at, end, &run);
    if (at == NULL || run.size == 0)
        return at;
    const uint8_t *number = run.data;
    while (number != NULL && number != run.data + run.size) {
        uint64_t value;
        number = wire_varint(number, run.data + run.size, &value);
    }
    return number != NULL ? at : NULL;
}

static const uint8_t *field_check(const uint8_t *at, const uint8_t *end, uint32_t tag,
                                  const ProtobufCMessageDescriptor *descriptor)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field(descriptor, tag >> 3);
    if (field == NULL)
        return wire_skip(at, end, tag);
    if (is_packed(field, tag))
        return packed_check(at, end);
    if ((tag & 7) != type_of(field))
        return NULL;
    if (type_of(field) != WIRE_RUN)
        return wire_skip(at, end, tag);
    struct bytes run;
    at = wire_run(at, end, &run);
    if (at == NULL)
        return NULL;
    if (field->type == PROTOBUF_C_TYPE_STRING && !utf8_valid(run))
        return NULL;
    if (field->type == PROTOBUF_C_TYPE_MESSAGE && !texts_valid(field->descriptor, run))
        return NULL;
    return at;
}

static bool texts_valid(const ProtobufCMessageDescriptor *descriptor, struct bytes message)
{
    if (message.size == 0)
        return true;
    const uint8_t *at = message.data;
    const uint8_t *end = message.data + message.size;
    while (at != end) {
        uint32_t tag;
        at = wire_tag(at, end, &tag);
        if (at != NULL)
            at = field_check(at, end, tag, descriptor);
        if (at == NULL)
            return false;
    }
    return true;
}

Usher__V1__LinkRequest *link_request_read(struct arena *arena, struct bytes frame)
{
    if (!texts_valid(&usher__v1__link_request__descriptor, frame))
        return NULL;
    return usher__v1__link_request__unpack(arena_allocator(arena), frame.size, frame.data);
}

Usher__V1__LinkAnswer *link_answer_read(struct arena *arena, struct bytes frame)
{
    if (!texts_valid(&usher__v1__link_answer__descriptor, frame))
        return NULL;
    return usher__v1__link_answer__unpack(arena_allocator(arena), frame.size, frame.data);
}
