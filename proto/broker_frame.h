/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_BROKER_FRAME_H
#define USHER_PROTO_BROKER_FRAME_H

/* Writes a BrokerFrame of client.proto, one function per body. Each appends one delimited frame
 * (a varint length and the message) to `out` and gives 0, or -ENOMEM with `out` as it was. What is
 * passed in is borrowed for the call; fields that are 0, empty or NULL are left out. Texts must be
 * valid UTF-8: they are not checked here. id is that of the request answered, or 0. Any thread
 * that owns `out`; never block. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

struct message_fields {
    uint64_t seq;
    struct bytes from, service, payload;
    uint64_t time_ms;
    bool redelivered;
    struct bytes traceparent;
    uint64_t mid; /* of a stored one; 0: it is none */
};

/* The bytes that broker_frame_message will append, its length included. */
size_t broker_frame_message_size(const struct message_fields *m);

int broker_frame_message(struct buffer *out, const struct message_fields *m);

/* The same in two steps, for a message that many get: its tail, which is every field but seq,
 * redelivered and mid, is written once (`to` has room for its size), and then becomes each one's
 * frame. Of several that follow each other, `first_seq` is the first one's (0: none of them has a
 * number); all are written or none. */
size_t broker_frame_tail_size(const struct message_fields *m);
void broker_frame_tail_write(uint8_t *to, const struct message_fields *m);
int broker_frame_messages_of(struct buffer *out, uint64_t first_seq, const struct bytes *tails,
                             size_t count, bool redelivered);

struct welcome_fields {
    uint64_t epoch;
    struct bytes secret;
    uint32_t replay; /* Welcome.Replay */
    uint64_t next_seq;
    uint32_t heartbeat_ms, resume_ms, frame_bytes_max;
    uint64_t time_ms;
    struct bytes node;
    uint64_t token_ms;
    uint32_t stored; /* Welcome.Replay */
    uint32_t stored_messages;
};

int broker_frame_welcome(struct buffer *out, uint64_t id, const struct welcome_fields *w);
int broker_frame_done(struct buffer *out, uint64_t id, uint64_t epoch, bool dropped);

/* The Done of a Send with keep_s. */
int broker_frame_stored(struct buffer *out, uint64_t id, uint64_t epoch, uint64_t mid);

/* The Done of a Publish. */
int broker_frame_published(struct buffer *out, uint64_t id, uint64_t offset);

int broker_frame_reply(struct buffer *out, uint64_t id, uint32_t status, struct bytes payload);

/* The bytes that broker_frame_reply will append, its length included. */
size_t broker_frame_reply_size(uint64_t id, uint32_t status, struct bytes payload);

/* code is an Error.Code. */
int broker_frame_error(struct buffer *out, uint64_t id, uint32_t code, const char *detail,
                       uint32_t retry_after_ms);

int broker_frame_pong(struct buffer *out, uint64_t id, uint64_t stamp, uint64_t time_ms);

/* reason is a Close.Reason. */
int broker_frame_close(struct buffer *out, uint32_t reason, const char *detail,
                       uint32_t retry_after_ms, bool do_not_return);

/* --- rooms ------------------------------------------------------------------------------------ */

/* What is repeated in a frame is made first, item by item: whole fields, which the frame takes as
 * they are, and which can be taken apart again where one ends. */
int broker_frame_room_member(struct buffer *roster, struct bytes user, bool away);
int broker_frame_room_message(struct buffer *messages, struct bytes from, struct bytes service,
                              struct bytes payload, uint64_t time_ms);

/* kind is a RoomChange.Kind. */
int broker_frame_room_change(struct buffer *changes, struct bytes user, uint32_t kind);

struct room_state_fields {
    struct bytes name;
    uint32_t room;
    uint64_t incarnation, offset;
    uint32_t state, replay; /* RoomState.State and RoomState.Replay */
    uint32_t members, tick_ms;
    struct bytes roster; /* by broker_frame_room_member */
    struct bytes detail;
};

int broker_frame_room_state(struct buffer *out, uint64_t id, const struct room_state_fields *s);

/* `messages` are by broker_frame_room_message, the first one has that offset. */
int broker_frame_room_messages(struct buffer *out, uint32_t room, uint64_t offset,
                               struct bytes messages);

/* The bytes that it will append, its length included. */
size_t broker_frame_room_messages_size(uint32_t room, uint64_t offset, size_t messages_bytes);

/* `changes` are by broker_frame_room_change. */
int broker_frame_room_event(struct buffer *out, uint32_t room, uint32_t members,
                            struct bytes changes);

/* --- friends ---------------------------------------------------------------------------------- */

/* One item of a FriendStates; state is a FriendState.State. */
int broker_frame_friend(struct buffer *friends, struct bytes user, uint32_t state,
                        uint64_t since_ms, struct bytes status);

/* `friends` are by broker_frame_friend. */
int broker_frame_friends(struct buffer *out, bool snapshot, struct bytes friends);

#endif
