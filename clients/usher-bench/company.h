/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_COMPANY_H
#define USHER_USHER_BENCH_COMPANY_H

/* The frames of rooms and friends that a broker sends, read in place, item by item: a RoomMessages
 * of sixteen messages comes to each of a thousand members, and all of them are looked at. Nothing
 * is allocated; what is given borrows from the frame. Any thread; never block. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/bytes.h"

/* The numbers are those of the fields in client.proto. */
enum company_body {
    COMPANY_ROOM_STATE = 9,
    COMPANY_ROOM_MESSAGES = 10,
    COMPANY_ROOM_EVENT = 11,
    COMPANY_FRIENDS = 12,
};

enum {
    ROOM_STATE_ROOM = 2,
    ROOM_STATE_INCARNATION = 3,
    ROOM_STATE_OFFSET = 4,
    ROOM_STATE_STATE = 5,
    ROOM_STATE_REPLAY = 6,
    ROOM_MESSAGES_ROOM = 1,
    ROOM_MESSAGES_OFFSET = 2,
    ROOM_MESSAGES_ITEM = 3,
    ROOM_MESSAGE_FROM = 1,
    ROOM_MESSAGE_PAYLOAD = 3,
    FRIENDS_SNAPSHOT = 1,
    FRIENDS_ITEM = 2,
    FRIEND_USER = 1,
    FRIEND_STATE = 2,
    COMPANY_FIELDS = 8,
};

struct company_frame {
    uint64_t id;
    enum company_body body;
    struct bytes bytes; /* the body's */
};

/* 1: it is one of them; 0: it is another frame; -EPROTO: it is not well-formed. */
int company_frame_read(struct bytes frame, struct company_frame *out);

/* The fields of a message by their numbers; 0 or empty when absent, the last one when repeated. */
struct company_fields {
    uint64_t number[COMPANY_FIELDS];
    struct bytes run[COMPANY_FIELDS];
};

/* Reads fields up to the next one of the number `item`, which is repeated, and takes them from
 * *rest: 1 with *found; 0 at the end; -EPROTO. Fields read before are kept in *out, so what stands
 * in front of the first item is there with it. With item 0 all are read. Zero *out first. */
int company_next(struct bytes *rest, uint32_t item, struct company_fields *out,
                 struct bytes *found);

#endif
