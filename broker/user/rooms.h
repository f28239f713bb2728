/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_ROOMS_H
#define USHER_USER_ROOMS_H

/* The rooms that a user is in, as his own turns know them. company.h says when each of the first
 * functions is called; those behind them are among the files of rooms. */

#include "actors/room_messages.h"
#include "base/allowance.h"
#include "handover.pb-c.h"
#include "proto/arena.h"
#include "user/company.h"

void rooms_lost(struct session *session, struct turn *turn);
void rooms_resumed(struct session *session, struct turn *turn, const struct resume_message *resume);
void rooms_taken_over(struct session *session, struct turn *turn, uint64_t old_epoch);
void rooms_ended(struct session *session, struct turn *turn, uint8_t cause);
void rooms_clear(struct session *session);
bool rooms_wait(const struct session *session);
void rooms_feed(struct session *session, struct turn *turn);

/* --- rooms.c: the table ----------------------------------------------------------------------- */

enum membership_state {
    MEMBER_LIVE,    /* what comes of the room goes to the connection */
    MEMBER_BEHIND,  /* something is missing, and will be asked for */
    MEMBER_PULLING, /* it has been */
    MEMBER_AWAY,    /* no connection */
    /* no member any more, and the client was not there to be told */
    MEMBER_WAS_REMOVED,
    MEMBER_WAS_CLOSED,
};

struct membership {
    actor_handle room;
    uint64_t incarnation;
    uint64_t offset; /* of the last message that the connection was given */
    uint32_t pull;   /* the number of the last one */
    uint8_t state;   /* enum membership_state */
    bool carry : 1;
    bool fresh : 1;   /* the client knows nothing of it: NONE is to be said */
    bool resumed : 1; /* it has named a position: COMPLETE or PARTIAL is to be said */
    bool partial : 1; /* with `resumed`: it is PARTIAL */
    bool roster : 1;  /* it has missed something of the roster */
    uint64_t request; /* id of a Join that the next RoomState answers; 0: none */
    struct allowance rate;
};

/* One allocation with the memberships: each message of a room comes to each of its members, and
 * none of this is in a cache then. rooms_add moves it. */
struct rooms {
    uint32_t count, capacity;
    uint32_t asked;  /* Joins and invitations without an answer */
    uint32_t behind; /* memberships that wait to pull */
    bool pulling;    /* one of them does: one at a time, so that the connection has room for it */
    struct allowance by_name; /* of what he publishes where he is no member */
    struct allowance joins;
    struct allowance left; /* of the room that he left with the least of it */
    struct membership memberships[];
};

struct rooms *rooms_of(struct session *session);

/* The same, with room for so many. */
struct rooms *rooms_with_room(struct session *session, uint32_t capacity);

/* Unless what he has spent of his allowances would be forgotten by it. */
void rooms_drop_empty(struct session *session, const struct turn *turn);

/* NULL: he is not in it, in that life of it. Rooms that he was in are not found by the first. */
struct membership *rooms_find(const struct session *session, actor_handle room,
                              uint64_t incarnation);
struct membership *rooms_find_number(const struct session *session, uint32_t number);

/* He is in as many as he may, with those that have not answered; what he was in does not count. */
bool rooms_are_full(const struct session *session, const struct turn *turn);

/* A zeroed one that is his; it takes the place of one that he was in, if there is no other. */
struct membership *rooms_add(struct session *session, actor_handle room, uint64_t incarnation);
void rooms_remove(struct session *session, struct membership *membership);
void rooms_set(struct session *session, struct membership *membership, enum membership_state state);

/* The membership, of the login `old_epoch`, goes on in the present one, whose client is told of it.
 */
void rooms_carry(struct session *session, struct membership *membership, struct turn *turn,
                 uint64_t old_epoch);

/* To the room: he has no connection. */
void rooms_tell_away(const struct session *session, struct turn *turn, actor_handle room);

/* So much of what rooms say may go to the connection now. */
bool rooms_fit(const struct session *session, const struct turn *turn, size_t size);

/* Asks for what is missing, of one after the other, as far as the connection takes it. */
void rooms_pull(struct session *session, struct turn *turn);

/* A Join of his, or an invitation, is refused with that code. */
void rooms_count_refusal(struct turn *turn, uint16_t code);

/* To the room, of the login `epoch`; token: of an instance that waits. */
void rooms_leave(struct turn *turn, actor_handle room, uint64_t epoch, uint8_t cause,
                 actor_handle asker, uint64_t token);

/* A Join that the next RoomState was to answer: none comes for it any more, but this. */
void rooms_answer_waiting(struct session *session, struct membership *membership, uint32_t code,
                          const char *why, struct turn *turn);

/* A RoomState without a roster goes to the connection. */
void rooms_say(struct session *session, struct turn *turn, uint32_t number, uint64_t incarnation,
               uint32_t state, struct bytes detail);

/* --- rooms_moved.c: with the user to another process ------------------------------------------ */

/* What is made on the way is in the arena; false: that is full. */
bool rooms_move_out(const struct session *session, struct arena *arena,
                    Usher__V1__HandoverUser *user);

/* lost: he was connected, and his connection has not come over. */
void rooms_move_in(struct session *session, const Usher__V1__HandoverMemberships *from, bool lost);

#endif
