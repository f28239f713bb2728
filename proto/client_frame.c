/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/client_frame.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "proto/field.h"
#include "proto/utf8.h"
#include "proto/wire.h"

/* Why not protobuf-c: it allocates each message, text and payload by itself and costs ten times
 * as much, on the path that every Send takes. A payload needs no copy here: it goes straight from
 * the receive buffer into the frame for its receiver.
 *
 * The danger of a second parser is that it reads something else than the first. So it keeps to
 * the rules of protobuf, and the tests and a fuzzer compare the two. It departs in five points:
 *
 *   - texts are checked (utf8.c says why);
 *   - a known field of the wrong wire type is refused: protobuf-c refuses too, except for a bool,
 *     others treat it as unknown;
 *   - tags that parsers read in different ways are refused (wire.c);
 *   - unknown groups are passed over, as all parsers but protobuf-c do;
 *   - two bodies of one kind are merged, as all parsers but protobuf-c do, which keeps the second.
 *
 * The schema is a table, made of the rows of client_bodies.def: for each body its fields by number,
 * with their kind and place. One pass, forward; every field is written where it belongs at once,
 * and "the last one counts" comes out by itself. The writer goes through the same table. */

enum kind {
    KIND_UNKNOWN,
    KIND_TEXT,
    KIND_PEER, /* a text */
    KIND_BYTES,
    KIND_PAYLOAD, /* bytes */
    KIND_UINT64,
    KIND_UINT32,
    KIND_BOOL
};

struct place {
    uint8_t kind;
    uint8_t offset; /* in struct client_frame */
};

enum { ID_NUMBER = 1 };

/* One more than the highest number of a row, in whatever order they stand. */
enum {
#define FIELD(body, number, kind, name)
#define BODY(number, NAME, name, handler, fields) char name[(number) + 1];
    BODIES = sizeof(union {
#include "proto/client_bodies.def"
    }),
#undef BODY
#undef FIELD
#define FIELD(body, number, kind, name) char body##_##name[(number) + 1];
#define BODY(number, NAME, name, handler, fields) fields
    FIELDS = sizeof(union {
#include "proto/client_bodies.def"
    }),
#undef BODY
#undef FIELD
};

static const struct place places[BODIES][FIELDS] = {
#define FIELD(body, number, kind, name) \
    [number] = {KIND_##kind, offsetof(struct client_frame, body.name)},
#define BODY(number, NAME, name, handler, fields) [number] = {[0] = {KIND_UNKNOWN, 0}, fields},
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
};

/* A bit for each row, by its number. */
static const uint64_t known = 0
#define FIELD(body, number, kind, name)
#define BODY(number, NAME, name, handler, fields) | UINT64_C(1) << (number)
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
    ;

static const char *const words[BODIES] = {
    [CLIENT_NONE] = "other",
#define FIELD(body, number, kind, name)
#define BODY(number, NAME, name, handler, fields) [number] = #name,
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
};

static_assert(sizeof(struct client_frame) <= UINT8_MAX, "place.offset is a byte");
static_assert(BODIES <= 16 && FIELDS <= 16, "field.h writes tags of one byte");

/* Not by an initialiser: that need not reach the members of a union behind the first one. */
static void out_clear(struct client_frame *out, uint64_t id, enum client_body body)
{
    memset(out, 0, sizeof(*out));
    out->id = id;
    out->body = body;
}

static const uint8_t *run_read(const uint8_t *at, const uint8_t *end, enum kind kind, void *place)
{
    struct bytes run;
    at = wire_run(at, end, &run);
    if (at == NULL || (kind <= KIND_PEER && !utf8_valid(run)))
        return NULL;
    *(struct bytes *)place = run;
    return at;
}

static const uint8_t *number_read(const uint8_t *at, const uint8_t *end, enum kind kind,
                                  void *place)
{
    uint64_t value;
    at = wire_varint(at, end, &value);
    if (at == NULL)
        return NULL;
    if (kind == KIND_UINT64)
        *(uint64_t *)place = value;
    else if (kind == KIND_UINT32)
        *(uint32_t *)place = (uint32_t)value;
    else
        *(bool *)place = value != 0;
    return at;
}

static const uint8_t *field_read(const uint8_t *at, const uint8_t *end, uint32_t tag,
                                 struct client_frame *out)
{
    uint32_t number = tag >> 3;
    if (number >= FIELDS || places[out->body][number].kind == KIND_UNKNOWN)
        return wire_skip(at, end, tag);
    const struct place *field = &places[out->body][number];
    void *place = (uint8_t *)out + field->offset;
    bool is_run = field->kind <= KIND_PAYLOAD;
    if ((tag & 7) != (is_run ? WIRE_RUN : WIRE_VARINT))
        return NULL;
    return is_run ? run_read(at, end, field->kind, place)
                  : number_read(at, end, field->kind, place);
}

static const uint8_t *body_read(const uint8_t *at, const uint8_t *end, uint32_t tag,
                                struct client_frame *out)
{
    struct bytes body;
    if ((tag & 7) != WIRE_RUN)
        return NULL;
    const uint8_t *after = wire_run(at, end, &body);
    if (after == NULL)
        return NULL;
    if (out->body != tag >> 3) /* another kind replaces; the same kind goes on */
        out_clear(out, out->id, (enum client_body)(tag >> 3));
    at = body.data;
    while (at != after) {
        uint32_t field_tag;
        at = wire_tag(at, after, &field_tag);
        if (at != NULL)
            at = field_read(at, after, field_tag, out);
        if (at == NULL)
            return NULL;
    }
    return after;
}

static const uint8_t *envelope_read(const uint8_t *at, const uint8_t *end, uint32_t tag,
                                    struct client_frame *out)
{
    uint32_t number = tag >> 3;
    if (number == ID_NUMBER)
        return (tag & 7) == WIRE_VARINT ? wire_varint(at, end, &out->id) : NULL;
    if (number < BODIES && (known >> number & 1) != 0)
        return body_read(at, end, tag, out);
    return wire_skip(at, end, tag);
}

int client_frame_read(struct bytes frame, struct client_frame *out)
{
    out_clear(out, 0, CLIENT_NONE);
    if (frame.size == 0)
        return 0;
    const uint8_t *at = frame.data;
    const uint8_t *end = frame.data + frame.size;
    while (at != end) {
        uint32_t tag;
        at = wire_tag(at, end, &tag);
        if (at != NULL)
            at = envelope_read(at, end, tag, out);
        if (at == NULL)
            return -EPROTO;
    }
    return 0;
}

/* --- the same way back ------------------------------------------------------------------------ */

static struct field field_of(const struct client_frame *frame, const struct place *place)
{
    const void *at = (const uint8_t *)frame + place->offset;
    switch ((enum kind)place->kind) {
    case KIND_TEXT:
    case KIND_PEER:
    case KIND_BYTES:
    case KIND_PAYLOAD:
        return (struct field){.run = *(const struct bytes *)at};
    case KIND_UINT64:
        return (struct field){.value = *(const uint64_t *)at};
    case KIND_UINT32:
        return (struct field){.value = *(const uint32_t *)at};
    case KIND_BOOL:
        return (struct field){.value = *(const bool *)at};
    case KIND_UNKNOWN:
        break;
    }
    return (struct field){0};
}

int client_frame_write(struct buffer *out, const struct client_frame *frame, size_t frame_bytes_max)
{
    struct field fields[FIELDS - 1];
    for (unsigned i = 0; i < FIELDS - 1; i++)
        fields[i] = field_of(frame, &places[frame->body][i + 1]);
    size_t body_bytes = fields_size(fields, FIELDS - 1);
    size_t bytes = number_size(frame->id);
    if (frame->body != CLIENT_NONE)
        bytes += 1 + varint_size(body_bytes) + body_bytes;
    if (bytes > frame_bytes_max)
        return -EMSGSIZE;
    uint8_t *start = buffer_reserve(out, varint_size(bytes) + bytes);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = start + varint_write(start, bytes);
    at = number_put(at, ID_NUMBER, frame->id);
    if (frame->body != CLIENT_NONE) {
        at = tag_put(at, frame->body, WIRE_RUN);
        at += varint_write(at, body_bytes);
        at = fields_put(at, fields, FIELDS - 1);
    }
    out->size += (size_t)(at - start);
    return 0;
}

struct client_frame_gist client_frame_gist(const struct client_frame *frame)
{
    struct client_frame_gist gist = {.word = words[frame->body]};
    for (unsigned number = 1; number < FIELDS; number++) {
        const struct place *place = &places[frame->body][number];
        if (place->kind == KIND_PEER)
            gist.peer = field_of(frame, place).run;
        else if (place->kind == KIND_PAYLOAD)
            gist.payload_bytes = field_of(frame, place).run.size;
    }
    return gist;
}
