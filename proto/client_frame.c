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
 * the rules of protobuf, and the tests and a fuzzer compare the two. It departs in six points:
 *
 *   - texts are checked (utf8.c says why);
 *   - a known field of the wrong wire type is refused: protobuf-c refuses too, except for a bool,
 *     others treat it as unknown;
 *   - tags that parsers read in different ways are refused (wire.c);
 *   - unknown groups are passed over, as all parsers but protobuf-c do;
 *   - two bodies of one kind are merged, as all parsers but protobuf-c do, which keeps the second;
 *   - but not what is repeated in them: its items are left where they are, in one run, and that
 *     has no end of one body and head of another in it. No client writes such a frame.
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
    KIND_BOOL,
    KIND_TEXTS,
    KIND_POSITIONS
};

enum { POSITION_FIELDS = 3 };

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
static_assert((int)BODIES <= 16 && (int)FIELDS <= 16, "field.h writes tags of one byte");

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

/* False: it is not well-formed. */
static bool position_read(struct bytes item, struct client_position *position)
{
    const uint8_t *at = item.data;
    const uint8_t *end = item.data + item.size;
    uint64_t numbers[POSITION_FIELDS + 1] = {0};
    while (at != end) {
        uint32_t tag;
        at = wire_tag(at, end, &tag);
        bool is_ours = at != NULL && tag >> 3 <= POSITION_FIELDS;
        if (at == NULL || (is_ours && (tag & 7) != WIRE_VARINT))
            return false;
        at = is_ours ? wire_varint(at, end, &numbers[tag >> 3]) : wire_skip(at, end, tag);
        if (at == NULL)
            return false;
    }
    *position = (struct client_position){(uint32_t)numbers[1], numbers[2], numbers[3]};
    return true;
}

/* One more item, which is well-formed and stays where it is; `start` is its tag. */
static const uint8_t *item_read(const uint8_t *start, const uint8_t *at, const uint8_t *end,
                                enum kind kind, const uint8_t *body, struct client_list *list)
{
    struct bytes item;
    struct client_position position;
    at = wire_run(at, end, &item);
    if (at == NULL || (kind == KIND_TEXTS ? !utf8_valid(item) : !position_read(item, &position)))
        return NULL;
    if (list->run.data != NULL && list->run.data < body)
        return NULL; /* of another body */
    if (list->run.data == NULL)
        list->run.data = start;
    list->run.size = (size_t)(at - list->run.data);
    return at;
}

/* The field whose tag begins at `start`, of the body that begins at `body`. */
static const uint8_t *field_read(const uint8_t *start, const uint8_t *at, const uint8_t *end,
                                 uint32_t tag, const uint8_t *body, struct client_frame *out)
{
    uint32_t number = tag >> 3;
    if (number >= FIELDS || places[out->body][number].kind == KIND_UNKNOWN)
        return wire_skip(at, end, tag);
    const struct place *field = &places[out->body][number];
    void *place = (uint8_t *)out + field->offset;
    if (field->kind >= KIND_TEXTS) {
        struct client_list *list = place;
        list->number = number;
        return (tag & 7) == WIRE_RUN ? item_read(start, at, end, field->kind, body, list) : NULL;
    }
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
        const uint8_t *start = at;
        at = wire_tag(at, after, &field_tag);
        if (at != NULL)
            at = field_read(start, at, after, field_tag, body.data, out);
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

/* --- what is repeated ------------------------------------------------------------------------- */

/* The next item, whole; what stands before it is passed over. NULL: there is none. */
static const uint8_t *list_next(struct client_list *list, struct bytes *item, struct bytes *whole)
{
    while (list->run.size > 0) {
        const uint8_t *start = list->run.data;
        const uint8_t *end = start + list->run.size;
        uint32_t tag = 0;
        const uint8_t *at = wire_tag(start, end, &tag);
        bool counts = tag == WIRE_TAG(list->number, WIRE_RUN);
        at = at == NULL ? NULL : counts ? wire_run(at, end, item) : wire_skip(at, end, tag);
        if (at == NULL)
            break;
        list->run = (struct bytes){at, (size_t)(end - at)};
        *whole = (struct bytes){start, (size_t)(at - start)};
        if (counts)
            return at;
    }
    list->run.size = 0;
    return NULL;
}

bool client_list_text(struct client_list *list, struct bytes *text)
{
    struct bytes whole;
    return list_next(list, text, &whole) != NULL;
}

bool client_list_position(struct client_list *list, struct client_position *position)
{
    struct bytes item, whole;
    return list_next(list, &item, &whole) != NULL && position_read(item, position);
}

/* An empty text is an item as well. */
static int list_add(struct buffer *run, uint32_t number, struct bytes item)
{
    uint8_t *start = buffer_reserve(run, 1 + varint_size(item.size) + item.size);
    if (start == NULL)
        return -ENOMEM;
    uint8_t *at = tag_put(start, number, WIRE_RUN);
    at = bytes_put(at + varint_write(at, item.size), item);
    run->size += (size_t)(at - start);
    return 0;
}

int client_list_add_text(struct buffer *run, uint32_t number, struct bytes text)
{
    return list_add(run, number, text);
}

int client_list_add_position(struct buffer *run, uint32_t number,
                             const struct client_position *position)
{
    const struct field fields[POSITION_FIELDS] = {
        {.value = position->room}, {.value = position->incarnation}, {.value = position->offset}};
    uint8_t item[POSITION_FIELDS * (1 + VARINT_BYTES_MAX)];
    size_t size = (size_t)(fields_put(item, fields, POSITION_FIELDS) - item);
    return list_add(run, number, (struct bytes){item, size});
}

static size_t list_size(struct client_list list)
{
    struct bytes item, whole;
    size_t size = 0;
    while (list_next(&list, &item, &whole) != NULL)
        size += whole.size;
    return size;
}

static uint8_t *list_put(uint8_t *at, struct client_list list)
{
    struct bytes item, whole;
    while (list_next(&list, &item, &whole) != NULL)
        at = bytes_put(at, whole);
    return at;
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
    case KIND_TEXTS:
    case KIND_POSITIONS:
        break;
    }
    return (struct field){0};
}

/* NULL: the field is not repeated. */
static const struct client_list *list_of(const struct client_frame *frame,
                                         const struct place *place)
{
    const void *at = (const uint8_t *)frame + place->offset;
    return place->kind >= KIND_TEXTS ? at : NULL;
}

static size_t body_size(const struct client_frame *frame)
{
    size_t bytes = 0;
    for (unsigned number = 1; number < FIELDS; number++) {
        const struct place *place = &places[frame->body][number];
        const struct client_list *list = list_of(frame, place);
        struct field field = field_of(frame, place);
        bytes += list != NULL ? list_size(*list) : field_size(&field);
    }
    return bytes;
}

static uint8_t *body_put(uint8_t *at, const struct client_frame *frame)
{
    for (unsigned number = 1; number < FIELDS; number++) {
        const struct place *place = &places[frame->body][number];
        const struct client_list *list = list_of(frame, place);
        struct field field = field_of(frame, place);
        at = list != NULL ? list_put(at, *list) : field_put(at, number, &field);
    }
    return at;
}

int client_frame_write(struct buffer *out, const struct client_frame *frame, size_t frame_bytes_max)
{
    size_t body_bytes = body_size(frame);
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
        at = body_put(at, frame);
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
    if (frame->body == CLIENT_SEND)
        gist.traceparent = frame->send.traceparent;
    else if (frame->body == CLIENT_CALL)
        gist.traceparent = frame->call.traceparent;
    return gist;
}
