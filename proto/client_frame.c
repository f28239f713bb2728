/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/client_frame.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

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
 * The schema is a table: for each body its fields by number, with their kind and place. A row for
 * a new field is all that a new field needs. One pass, forward; every field is written where it
 * belongs at once, and "the last one counts" comes out by itself. */

enum kind { KIND_UNKNOWN, KIND_TEXT, KIND_BYTES, KIND_UINT64, KIND_UINT32, KIND_BOOL };

struct field {
    uint8_t kind;
    uint8_t offset; /* in struct client_frame */
};

enum { ID_NUMBER = 1, FIELD_NUMBER_MAX = 5 };

#define FIELD(kind, member)                         \
    {                                               \
        kind, offsetof(struct client_frame, member) \
    }

static const struct field fields[CLIENT_LOGOUT + 1][FIELD_NUMBER_MAX + 1] = {
    [CLIENT_LOGIN] = {[1] = FIELD(KIND_TEXT, login.username),
                      [2] = FIELD(KIND_BYTES, login.token),
                      [3] = FIELD(KIND_TEXT, login.client),
                      [4] = FIELD(KIND_BOOL, login.acks)},
    [CLIENT_RESUME] = {[1] = FIELD(KIND_TEXT, resume.username),
                       [2] = FIELD(KIND_UINT64, resume.epoch),
                       [3] = FIELD(KIND_BYTES, resume.secret),
                       [4] = FIELD(KIND_UINT64, resume.last_seq),
                       [5] = FIELD(KIND_UINT64, resume.received_seq)},
    [CLIENT_SEND] = {[1] = FIELD(KIND_TEXT, send.to),
                     [2] = FIELD(KIND_BYTES, send.payload),
                     [3] = FIELD(KIND_UINT32, send.until)},
    [CLIENT_CALL] = {[1] = FIELD(KIND_TEXT, call.service),
                     [2] = FIELD(KIND_TEXT, call.method),
                     [3] = FIELD(KIND_BYTES, call.payload),
                     [4] = FIELD(KIND_UINT32, call.timeout_ms)},
    [CLIENT_ACK] = {[1] = FIELD(KIND_UINT64, ack.seq)},
    [CLIENT_PING] = {[1] = FIELD(KIND_UINT64, ping.stamp)},
    [CLIENT_LOGOUT] = {[0] = {KIND_UNKNOWN, 0}},
};

static_assert(sizeof(struct client_frame) <= UINT8_MAX, "field.offset is a byte");

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
    if (at == NULL || (kind == KIND_TEXT && !utf8_valid(run)))
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
    if (number > FIELD_NUMBER_MAX || fields[out->body][number].kind == KIND_UNKNOWN)
        return wire_skip(at, end, tag);
    const struct field *field = &fields[out->body][number];
    void *place = (uint8_t *)out + field->offset;
    bool is_run = field->kind <= KIND_BYTES;
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
    if (number >= CLIENT_LOGIN && number <= CLIENT_LOGOUT)
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
