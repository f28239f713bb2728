/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DIRECTORY_ROOMS_H
#define USHER_DIRECTORY_ROOMS_H

/* Where rooms are: by name, made when they may be, and how what they say gets to all of their
 * members. Any thread that runs a turn; nothing blocks. */

#include "actors/room_messages.h"
#include "actors/turn.h"
#include "base/metrics.h"
#include "runtime/scheduler.h"

struct room;

/* All that it points to outlives it. */
struct rooms_directory {
    struct registry *registry;
    struct scheduler *scheduler;
    const struct limits *limits;
    const struct behaviour *behaviour; /* of a room */
    uint32_t rooms_max;
};

/* To the room that it names, which is made when that may be. Takes the message and gives 0, or
 * gives an Error.Code or RESULT_ROOMS_FULL, and the message is still the caller's. */
uint16_t rooms_send(const struct rooms_directory *rooms, struct runner *runner,
                    struct room_call *call);

/* The result of a room_call that did not reach a room: appended to the turn. Takes the message. */
void rooms_refuse(struct turn *turn, struct room_call *call, uint16_t code);

/* Fills in the room that it names. */
void rooms_resolve(const struct rooms_directory *rooms, struct room_member_message *message);

struct rooms_posted {
    uint32_t count;
    uint32_t missed; /* members whose mailboxes had no room */
};

/* Posts what the room has for its members, or for some thousand of them. */
struct rooms_posted rooms_fan_out(const struct rooms_directory *rooms, struct runner *runner,
                                  struct room *room);

#endif
