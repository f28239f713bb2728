/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_CLIENT_FRAME_H
#define USHER_PROTO_CLIENT_FRAME_H

/* A ClientFrame of client.proto, read in place and written. All functions: any thread; never
 * block. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/bytes.h"

/* The numbers are those of the fields in the schema. */
enum client_body {
    CLIENT_NONE = 0, /* absent, or unknown to this version */
#define FIELD(body, number, kind, name)
#define BODY(number, NAME, name, handler, fields) CLIENT_##NAME = number,
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
};

#define CLIENT_TYPE_TEXT struct bytes
#define CLIENT_TYPE_PEER struct bytes
#define CLIENT_TYPE_BYTES struct bytes
#define CLIENT_TYPE_PAYLOAD struct bytes
#define CLIENT_TYPE_UINT64 uint64_t
#define CLIENT_TYPE_UINT32 uint32_t
#define CLIENT_TYPE_BOOL bool
#define CLIENT_TYPE_TEXTS struct client_list
#define CLIENT_TYPE_POSITIONS struct client_list

/* A field that is repeated. Zeroed: none. As it is read, other fields may stand between its items.
 */
struct client_list {
    struct bytes run; /* of whole fields, tags and all */
    uint32_t number;  /* of those that count */
};

/* A member for each row of client_bodies.def, with its fields. Those that were not sent are 0 or
 * empty. Texts are valid UTF-8 without NUL, not terminated. Of an enum any number may come. */
struct client_frame {
    uint64_t id;
    enum client_body body;
    union {
#define FIELD(body, number, kind, name) CLIENT_TYPE_##kind name;
#define BODY(number, NAME, name, handler, fields) \
    struct {                                      \
        fields                                    \
    } name;
#include "proto/client_bodies.def"
#undef BODY
#undef FIELD
    };
};

#undef CLIENT_TYPE_TEXT
#undef CLIENT_TYPE_PEER
#undef CLIENT_TYPE_BYTES
#undef CLIENT_TYPE_PAYLOAD
#undef CLIENT_TYPE_UINT64
#undef CLIENT_TYPE_UINT32
#undef CLIENT_TYPE_BOOL
#undef CLIENT_TYPE_TEXTS
#undef CLIENT_TYPE_POSITIONS

/* A RoomPosition. */
struct client_position {
    uint32_t room;
    uint64_t incarnation, offset;
};

/* The first item, which is taken out of the list; false: there is none. Texts are as those of other
 * fields. Only for what client_frame_read has read, or client_list_add_* made. */
bool client_list_text(struct client_list *list, struct bytes *text);
bool client_list_position(struct client_list *list, struct client_position *position);

/* Appends an item to what becomes the `run` of the list that is field `number`. 0 or -ENOMEM. */
int client_list_add_text(struct buffer *run, uint32_t number, struct bytes text);
int client_list_add_position(struct buffer *run, uint32_t number,
                             const struct client_position *position);

/* Reads a frame without its length. *out borrows from it: it is valid as long as the frame's
 * bytes. Gives 0 or -EPROTO, with which *out means nothing, for
 *
 *   - bytes that are not well-formed protobuf (also groups deeper than WIRE_GROUP_DEPTH_MAX),
 *   - a known field with another wire type than its own,
 *   - a text that utf8_valid refuses, also one that a later field replaces,
 *   - a repeated field that goes on in a second body of the same kind.
 *
 * Otherwise protobuf's rules hold: unknown fields are passed over; of a field given twice the last
 * counts; two bodies of one kind are merged, and one of another kind replaces what came before.
 * Names are not judged here. Never allocates. */
int client_frame_read(struct bytes frame, struct client_frame *out);

/* Appends the frame behind its length, as it is sent. 0, -ENOMEM, or -EMSGSIZE when it is longer
 * than frame_bytes_max without its length; a failed call appends nothing. Texts are not checked. */
int client_frame_write(struct buffer *out, const struct client_frame *frame,
                       size_t frame_bytes_max);

/* What people are told of a frame. It borrows from that. */
struct client_frame_gist {
    const char *word; /* the name of its row, "other" without a body that is known */
    struct bytes peer;
    size_t payload_bytes;
    struct bytes traceparent; /* as it came */
};

struct client_frame_gist client_frame_gist(const struct client_frame *frame);

#endif
