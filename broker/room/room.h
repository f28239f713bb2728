/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ROOM_ROOM_H
#define USHER_ROOM_ROOM_H

/* The behaviour of a room: who is in it, the order of what is published, what it still has of that.
 * Pure like a user's (actors/turn.h). What leaves goes by effects, but for the fan-out:
 * EFFECT_ROOM_OUT asks whoever carries it out to post the room's bundles to some of its members, by
 * the functions at the end, in the same turn. */

#include "actors/room_messages.h"
#include "actors/turn.h"
#include "handover.pb-c.h"

/* One message; takes it. `*state` is NULL in a new actor. False: the turn ends here. */
bool room_receive(struct room **state, struct message *message, struct turn *turn);

/* The messages of the turn are done: what is due goes out, and the next tick is asked for. */
void room_finish(struct room **state, struct turn *turn);

/* What others may see of it. */
void room_show(struct room_place *place);
void room_show_numbers(const struct room_place *place, uint64_t numbers[ROOM_NUMBERS]);

/* The turn has been carried out: whether nothing is left of it to do, and the actor retires. */
bool room_is_over(const struct room *room);

/* It has retired, or the process ends: frees what it holds, and tells nobody. */
void room_fini(struct room **state);

/* --- it goes over to another process ---------------------------------------------------------- */

/* As a HandoverRoom. False: it is on its way out, or in the middle of a fan-out, or there is no
 * memory. */
bool room_move_out(const struct room *room, actor_handle self, const char *name,
                   struct buffer *out);

/* What makes it so over there; NULL without memory. Borrows it until a turn has received that: a
 * history is large, and nobody is served meanwhile. */
struct message *room_move_in(const Usher__V1__HandoverRoom *room);

/* --- the fan-out: for who carries EFFECT_ROOM_OUT out ----------------------------------------- */

enum { ROOM_OUT_MAX = 16 };

/* Bundles for the members at the places [from, to), in their order. */
struct room_out {
    struct room_bundle *const *bundles;
    uint32_t count;
    uint32_t from, to;
};

struct room_out room_out_next(const struct room *room);

/* Who is at that place and gets what goes out now; 0: nobody does. `all`: also who is away. */
actor_handle room_out_member(const struct room *room, uint32_t place, bool all);

/* He is not there any more; his mailbox did not take one of them. */
void room_out_gone(struct room *room, uint32_t place);
void room_out_missed(struct room *room, uint32_t place);

/* They are posted up to `to`. True: more members are to get them, in a turn of its own. */
bool room_out_done(struct room *room);

/* Bundles wait for members still. */
bool room_out_is_left(const struct room *room);

#endif
