/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_FRAME_H
#define USHER_LIBUSHER_FRAME_H

/* What a broker sends, read in place: nothing is allocated, whatever the bytes are. Any thread;
 * never block. */

#include <stdint.h>

#include "proto/bytes.h"

/* The numbers are those of the fields in client.proto. */
enum broker_body {
    BROKER_NONE = 0,
    BROKER_WELCOME = 2,
    BROKER_MESSAGE = 3,
    BROKER_DONE = 4,
    BROKER_REPLY = 5,
    BROKER_ERROR = 6,
    BROKER_PONG = 7,
    BROKER_CLOSE = 8,
    BROKER_ROOM_STATE = 9,
    BROKER_ROOM_MESSAGES = 10,
    BROKER_ROOM_EVENT = 11,
    BROKER_FRIENDS = 12,
    BROKER_BODY_LAST = BROKER_FRIENDS,
};

enum {
    WELCOME_EPOCH = 1,
    WELCOME_SECRET = 2,
    WELCOME_REPLAY = 3,
    WELCOME_NEXT_SEQ = 4,
    WELCOME_HEARTBEAT_MS = 5,
    WELCOME_RESUME_MS = 6,
    WELCOME_FRAME_BYTES_MAX = 7,
    WELCOME_TIME_MS = 8,
    WELCOME_NODE = 9,
    WELCOME_STORED = 11,
    WELCOME_STORED_MESSAGES = 12,
    MESSAGE_SEQ = 1,
    MESSAGE_FROM = 2,
    MESSAGE_SERVICE = 3,
    MESSAGE_PAYLOAD = 4,
    MESSAGE_TIME_MS = 5,
    MESSAGE_REDELIVERED = 6,
    MESSAGE_MID = 7,
    MESSAGE_TRACEPARENT = 8,
    DONE_EPOCH = 1,
    DONE_DROPPED = 2,
    DONE_OFFSET = 3,
    DONE_MID = 4,
    REPLY_STATUS = 1,
    REPLY_PAYLOAD = 2,
    ERROR_CODE = 1,
    REFUSAL_DETAIL = 2, /* of Error and of Close */
    REFUSAL_RETRY_AFTER_MS = 3,
    PONG_TIME_MS = 2,
    CLOSE_REASON = 1,
    CLOSE_DO_NOT_RETURN = 4,
    STATE_NAME = 1,
    STATE_ROOM = 2,
    STATE_INCARNATION = 3,
    STATE_OFFSET = 4,
    STATE_STATE = 5,
    STATE_REPLAY = 6,
    STATE_MEMBERS = 7,
    STATE_TICK_MS = 8,
    STATE_ROSTER = 9, /* each: PRESENCE_USER, PRESENCE_KIND, where 1 is AWAY in any case */
    STATE_DETAIL = 10,
    MESSAGES_ROOM = 1,
    MESSAGES_OFFSET = 2,
    MESSAGES_MESSAGE = 3,
    ITEM_FROM = 1, /* of a RoomMessage */
    ITEM_SERVICE = 2,
    ITEM_PAYLOAD = 3,
    ITEM_TIME_MS = 4,
    EVENT_ROOM = 1,
    EVENT_MEMBERS = 2,
    EVENT_CHANGE = 3,
    PRESENCE_USER = 1, /* of a RoomMember and of a RoomChange */
    PRESENCE_KIND = 2,
    FRIEND_STATES_SNAPSHOT = 1,
    FRIEND_STATES_EACH = 2,
    EACH_FRIEND_USER = 1,
    EACH_FRIEND_STATE = 2,
    EACH_FRIEND_SINCE_MS = 3,
    EACH_FRIEND_STATUS = 4,
    BODY_FIELDS = 13,
};

struct broker_frame {
    uint64_t id;
    enum broker_body body;
    uint64_t number[BODY_FIELDS];  /* the body's fields by their numbers; 0 when absent */
    struct bytes run[BODY_FIELDS]; /* borrowed from the frame; of what is repeated the last */
    struct bytes bytes;            /* of the body */
};

/* Reads a frame without its length: 0, or -EPROTO when it is not well-formed. Fields that are
 * unknown are passed over. */
int broker_frame_read(struct bytes frame, struct broker_frame *out);

/* The next of what is repeated as field `number`, which is a message: its fields are put into
 * *item, whose id and body mean nothing. 1; 0: there is no more; -EPROTO. `rest` begins as the body
 * of a frame that was read, and goes on behind the item. */
int broker_item_read(struct bytes *rest, unsigned number, struct broker_frame *item);

/* What stands at the beginning of a frame, for one that is too large to be read whole. */
struct broker_head {
    size_t length_bytes; /* that say how long it is */
    size_t frame_bytes;  /* that follow them */
    uint64_t id;
    enum broker_body body;
    uint64_t seq; /* of a Message; of RoomMessages the number of the room */
};

enum { BROKER_HEAD_BYTES = 48 }; /* suffice for it */

/* Reads the head of a delimited frame of which `start` holds the first bytes, BROKER_HEAD_BYTES or
 * all that there are: 0, or -EPROTO when it does not begin as a broker would. */
int broker_head_read(struct bytes start, struct broker_head *head);

#endif
