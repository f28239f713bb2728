/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_FUZZ_CLIENT_FRAME_ORACLE_H
#define USHER_TESTS_FUZZ_CLIENT_FRAME_ORACLE_H

/* Compares client_frame_read with protobuf-c.
 *
 * protobuf-c does not do all that the contract says (client_frame.c has the list), so the frame is
 * first put into a plain form by a slow reader of its own: unknown groups left out, bodies of one
 * kind joined (to join the bytes of two messages is to merge them; what is repeated in both is
 * refused), texts checked. Then protobuf-c unpacks the plain form, and every field and every item
 * must be equal. Nothing of proto/wire.h is used. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.pb-c.h"
#include "proto/client_frame.h"

enum { ORACLE_GROUP_DEPTH_MAX = 64 };

struct oracle_record {
    uint64_t number;
    unsigned type;
    uint64_t value;     /* of a varint */
    struct bytes run;   /* of a run */
    struct bytes whole; /* with the tag */
};

static inline bool oracle_varint(struct bytes *in, size_t bytes_max, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < bytes_max && in->size > 0; i++) {
        uint64_t byte = *in->data++;
        in->size--;
        *value += i < 9 ? (byte % 128) << (7 * i) : (byte % 2) << 63;
        if (byte < 128)
            return true;
    }
    return false;
}

static inline bool oracle_drop(struct bytes *in, uint64_t size)
{
    if (size > in->size)
        return false;
    in->data += size;
    in->size -= size;
    return true;
}

/* Takes the next field off `in`; false when it is malformed. `depth`: of groups around it. */
static inline bool oracle_record(struct bytes *in, int depth, struct oracle_record *record)
{
    struct bytes start = *in;
    uint64_t number;
    if (!oracle_varint(in, 5, &number) || number > UINT32_MAX || number < 8)
        return false;
    memset(record, 0, sizeof(*record));
    record->number = number / 8;
    record->type = number % 8;
    bool good = false;
    if (record->type == 0) {
        good = oracle_varint(in, 10, &record->value);
    } else if (record->type == 1 || record->type == 5) {
        good = oracle_drop(in, record->type == 1 ? 8 : 4);
    } else if (record->type == 2) {
        uint64_t size;
        good = oracle_varint(in, 5, &size);
        record->run = (struct bytes){in->data, (size_t)size};
        good = good && oracle_drop(in, size);
    } else if (record->type == 3 && depth < ORACLE_GROUP_DEPTH_MAX) {
        struct oracle_record inner;
        while ((good = oracle_record(in, depth + 1, &inner)) && inner.type != 4)
            continue;
        good = good && inner.number == record->number;
    } else if (record->type == 4) {
        good = depth > 0;
    }
    record->whole = (struct bytes){start.data, start.size - in->size};
    return good;
}

/* By decoding each character, unlike utf8_valid. */
static inline bool oracle_text(struct bytes text)
{
    static const uint32_t lowest[5] = {0, 1, 0x80, 0x800, 0x10000};
    for (size_t at = 0; at < text.size;) {
        uint8_t first = text.data[at];
        size_t size = first < 0x80 ? 1 : first < 0xc0 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
        if (size == 0 || first >= 0xf8 || size > text.size - at)
            return false;
        uint32_t code = size == 1 ? first : first & (0x7fu >> size);
        for (size_t i = 1; i < size; i++) {
            if (text.data[at + i] / 64 != 2)
                return false;
            code = code * 64 + text.data[at + i] % 64;
        }
        if (code < lowest[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            return false;
        at += size;
    }
    return true;
}

/* A body or a field as the schema has it, and not as the rows of client_bodies.def do. NULL: there
 * is none of that number. */
static inline const ProtobufCFieldDescriptor *
oracle_field(const ProtobufCMessageDescriptor *message, uint64_t number)
{
    return number <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(message, (unsigned)number)
                                : NULL;
}

static inline const ProtobufCMessageDescriptor *oracle_message(uint64_t body)
{
    return oracle_field(&usher__v1__client_frame__descriptor, body)->descriptor;
}

static inline bool oracle_is(const ProtobufCFieldDescriptor *field, ProtobufCType type)
{
    return field != NULL && field->type == type;
}

static inline bool oracle_repeats(const ProtobufCFieldDescriptor *field)
{
    return field != NULL && field->label == PROTOBUF_C_LABEL_REPEATED;
}

static inline void oracle_put_run(struct buffer *out, uint64_t number, const struct buffer *run)
{
    uint8_t head[6] = {(uint8_t)(number * 8 + 2)};
    size_t size = run->size;
    for (int i = 1; i <= 5; i++, size /= 128)
        head[i] = (uint8_t)(size % 128 + (i < 5 ? 128 : 0));
    buffer_append(out, head, sizeof(head));
    buffer_append(out, run->data, run->size);
}

static inline bool oracle_message_plain(struct bytes in, const ProtobufCMessageDescriptor *message,
                                        uint64_t *repeated, struct buffer *out);

/* Appends the plain form of one field. */
static inline bool oracle_field_plain(const struct oracle_record *record,
                                      const ProtobufCFieldDescriptor *field, struct buffer *out)
{
    /* protobuf-c looks at bits of a bool that the number does not have any more */
    uint8_t plain_bool[2] = {(uint8_t)(record->number * 8), record->value != 0};
    bool good = true;
    if (record->type == 3)
        return field == NULL;
    if (oracle_is(field, PROTOBUF_C_TYPE_BOOL)) {
        good = record->type == 0;
        buffer_append(out, plain_bool, sizeof(plain_bool));
    } else if (oracle_is(field, PROTOBUF_C_TYPE_MESSAGE)) {
        struct buffer inner = {0};
        uint64_t none = 0;
        good = record->type == 2 &&
               oracle_message_plain(record->run, field->descriptor, &none, &inner);
        oracle_put_run(out, record->number, &inner);
        buffer_fini(&inner);
    } else {
        if (record->type == 2 && oracle_is(field, PROTOBUF_C_TYPE_STRING))
            good = oracle_text(record->run);
        buffer_append(out, record->whole.data, record->whole.size);
    }
    return good;
}

/* Appends the plain form of a message's content. *repeated has a bit for each repeated field that
 * an earlier part of the same message had, and gets those of this one. */
static inline bool oracle_message_plain(struct bytes in, const ProtobufCMessageDescriptor *message,
                                        uint64_t *repeated, struct buffer *out)
{
    uint64_t before = *repeated;
    while (in.size > 0) {
        struct oracle_record record;
        if (!oracle_record(&in, 0, &record))
            return false;
        const ProtobufCFieldDescriptor *field = oracle_field(message, record.number);
        if (oracle_repeats(field) && (before >> record.number & 1) != 0)
            return false;
        if (oracle_repeats(field))
            *repeated |= UINT64_C(1) << record.number;
        if (!oracle_field_plain(&record, field, out))
            return false;
    }
    return true;
}

/* Appends the plain form of a frame. */
static inline bool oracle_plain(struct bytes in, struct buffer *out, struct buffer *body)
{
    uint64_t current = 0, repeated = 0;
    while (in.size > 0) {
        struct oracle_record record;
        if (!oracle_record(&in, 0, &record))
            return false;
        bool known = oracle_field(&usher__v1__client_frame__descriptor, record.number) != NULL;
        if (record.type == 3 && known)
            return false;
        if (record.type == 2 && known && record.number > 1) {
            if (current != record.number && current != 0) {
                oracle_put_run(out, current, body);
                body->size = 0;
                repeated = 0;
            }
            current = record.number;
            if (!oracle_message_plain(record.run, oracle_message(current), &repeated, body))
                return false;
        } else if (record.type != 3) {
            buffer_append(out, record.whole.data, record.whole.size);
        }
    }
    if (current != 0)
        oracle_put_run(out, current, body);
    return true;
}

static inline bool oracle_same_text(struct bytes ours, const char *theirs)
{
    return bytes_equal(ours, bytes_of_text(theirs));
}

static inline bool oracle_same_bytes(struct bytes ours, ProtobufCBinaryData theirs)
{
    return bytes_equal(ours, (struct bytes){theirs.data, theirs.len});
}

static inline bool oracle_same_texts(struct client_list ours, char *const *theirs, size_t count)
{
    struct bytes text;
    size_t i = 0;
    for (; client_list_text(&ours, &text); i++)
        if (i >= count || !oracle_same_text(text, theirs[i]))
            return false;
    return i == count;
}

static inline bool oracle_same_positions(struct client_list ours,
                                         Usher__V1__RoomPosition *const *theirs, size_t count)
{
    struct client_position at;
    size_t i = 0;
    for (; client_list_position(&ours, &at); i++)
        if (i >= count || at.room != theirs[i]->room || at.offset != theirs[i]->offset ||
            at.incarnation != theirs[i]->incarnation)
            return false;
    return i == count;
}

#define ORACLE_TEXT(ours, theirs, name) oracle_same_text(ours.name, theirs->name)
#define ORACLE_PEER ORACLE_TEXT
#define ORACLE_BYTES(ours, theirs, name) oracle_same_bytes(ours.name, theirs->name)
#define ORACLE_PAYLOAD ORACLE_BYTES
#define ORACLE_UINT64(ours, theirs, name) (ours.name == theirs->name)
#define ORACLE_UINT32(ours, theirs, name) (ours.name == (uint32_t)theirs->name)
#define ORACLE_BOOL(ours, theirs, name) (ours.name == (theirs->name != 0))
#define ORACLE_TEXTS(ours, theirs, name) \
    oracle_same_texts(ours.name, theirs->name, theirs->n_##name)
#define ORACLE_POSITIONS(ours, theirs, name) \
    oracle_same_positions(ours.name, theirs->name, theirs->n_##name)

/* A body of the schema that has no row is a case that is missing here, and does not compile. */
static inline bool oracle_same(const struct client_frame *ours,
                               const Usher__V1__ClientFrame *theirs)
{
    if (ours->id != theirs->id || (int)ours->body != (int)theirs->body_case)
        return false;
    switch (theirs->body_case) {
#define FIELD(body, number, kind, name) &&ORACLE_##kind(ours->body, theirs->body, name)
#define BODY(number, NAME, name, handler, fields) \
    case USHER__V1__CLIENT_FRAME__BODY_##NAME:    \
        return ours->body == CLIENT_##NAME fields;
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
    case USHER__V1__CLIENT_FRAME__BODY__NOT_SET:
    case _USHER__V1__CLIENT_FRAME__BODY__CASE_IS_INT_SIZE:
        break;
    }
    return true;
}

/* What protobuf-c makes of the plain form; NULL: refused. */
static inline Usher__V1__ClientFrame *oracle_unpack(struct bytes frame)
{
    struct buffer plain = {0}, body = {0};
    Usher__V1__ClientFrame *theirs = NULL;
    if (oracle_plain(frame, &plain, &body))
        theirs = usher__v1__client_frame__unpack(NULL, plain.size, plain.data);
    buffer_fini(&plain);
    buffer_fini(&body);
    return theirs;
}

enum oracle_verdict { ORACLE_BOTH_REFUSE, ORACLE_BOTH_ACCEPT, ORACLE_DIFFER };

/* Reads from a copy of exactly the frame's size, so that a read beyond its end is seen. */
static inline enum oracle_verdict oracle_compare(struct bytes frame)
{
    uint8_t *copy = malloc(frame.size > 0 ? frame.size : 1);
    if (copy == NULL)
        abort();
    if (frame.size > 0)
        memcpy(copy, frame.data, frame.size);
    struct client_frame ours;
    bool accepted = client_frame_read((struct bytes){copy, frame.size}, &ours) == 0;

    Usher__V1__ClientFrame *theirs = oracle_unpack(frame);
    bool equal = accepted == (theirs != NULL) && (!accepted || oracle_same(&ours, theirs));
    if (theirs != NULL)
        usher__v1__client_frame__free_unpacked(theirs, NULL);
    free(copy);
    return !equal ? ORACLE_DIFFER : accepted ? ORACLE_BOTH_ACCEPT : ORACLE_BOTH_REFUSE;
}

#endif
