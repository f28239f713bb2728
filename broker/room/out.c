/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "room/private.h"

/* What is on its way to the members: bundles in their order, of which the oldest few go to all
 * members, some hundred places in a turn, before the next ones follow. So each member gets them in
 * one order, and a turn has an end however many there are. Between two turns sockets are looked at:
 * each member is a send, and who has nothing to do with the room waits for some hundred of them at
 * most. What is published meanwhile becomes one bundle, not one for each turn. A room of a thousand
 * is better off in one turn: what comes while it sends is read when it has sent to all, and fills
 * one bundle; in slices a part of it comes too late for that.
 *
 * Who joins meanwhile stands behind the place that the fan-out has come to and gets bundles that
 * hold nothing new for him: his position says so, at his own actor. */

struct room_bundle *out_bundle(struct room *room, enum room_bundle_kind kind, struct turn *turn,
                               size_t more)
{
    struct room_bundle *bundle;
    MEMORY_MUST((bundle = shared_create(sizeof(*bundle) + more)) != NULL, "a room's message");
    memset((uint8_t *)bundle + sizeof(struct shared), 0, sizeof(*bundle) - sizeof(struct shared));
    bundle->kind = (uint8_t)kind;
    bundle->room = turn->self;
    bundle->incarnation = room->incarnation;
    bundle->time_ms = turn->now_ms;
    return bundle;
}

void out_add(struct room *room, struct room_bundle *bundle)
{
    if (room->count == 0) { /* for nobody */
        shared_release(&bundle->shared);
        return;
    }
    if (room->out_count == room->out_capacity) {
        uint32_t capacity = room->out_capacity != 0 ? room->out_capacity * 2 : ROOM_OUT_MAX;
        struct room_bundle **out;
        MEMORY_MUST((out = realloc(room->out, capacity * sizeof(struct room_bundle *))) != NULL,
                    "a room");
        memory_account(MEMORY_OF_ROOMS,
                       (int64_t)((capacity - room->out_capacity) * sizeof(struct room_bundle *)));
        room->out = out;
        room->out_capacity = capacity;
    }
    room->out[room->out_count++] = bundle;
}

static uint32_t batch_of(const struct room *room)
{
    if (room->out_batch != 0)
        return room->out_batch;
    return room->out_ready < ROOM_OUT_MAX ? room->out_ready : ROOM_OUT_MAX;
}

struct room_out room_out_next(const struct room *room)
{
    uint32_t batch = batch_of(room);
    CHECK(batch > 0 && batch <= room->out_count);
    uint32_t step = room->count <= ROOM_WHOLE ? ROOM_POSTS : ROOM_SLICE; /* places have holes */
    if (step > ROOM_POSTS / batch)
        step = ROOM_POSTS / batch;
    uint32_t left = room->places - room->out_place;
    return (struct room_out){.bundles = room->out,
                             .count = batch,
                             .from = room->out_place,
                             .to = room->out_place + (left < step ? left : step)};
}

actor_handle room_out_member(const struct room *room, uint32_t place, bool all)
{
    const struct member *member = &room->members[place];
    return !member->gone && (all || !member->away) ? member->user : 0;
}

/* He is only marked here: others are told of it in a turn. That one comes behind what he posted
 * before he went, so if he said why he leaves, that is what counts. */
void room_out_gone(struct room *room, uint32_t place)
{
    room->gone += !room->members[place].gone;
    room->members[place].gone = true;
}

void room_out_missed(struct room *room, uint32_t place)
{
    struct member *member = &room->members[place];
    members_set_owed(room, member, true);
    member->roster_owed = true;
}

bool room_out_done(struct room *room)
{
    const struct room_out out = room_out_next(room);
    room->out_batch = out.count;
    room->out_place = out.to;
    if (out.to >= room->places) {
        for (uint32_t i = 0; i < out.count; i++)
            shared_release(&room->out[i]->shared);
        memmove(room->out, room->out + out.count,
                (room->out_count - out.count) * sizeof(struct room_bundle *));
        room->out_count -= out.count;
        room->out_ready -= out.count;
        room->out_batch = room->out_place = 0;
    }
    bool hints = room->owed > 0 && room->hint_ms == 0; /* it needs a turn that asks for the tick */
    bool more = room->out_ready > 0 || room->gone > 0 || room->item_count > 0 || hints;
    bool tell = more && !room->told_more;
    room->told_more = room->told_more || more;
    return tell;
}

bool room_out_is_left(const struct room *room)
{
    return room->out_ready > 0;
}

void out_free(struct room *room)
{
    for (uint32_t i = 0; i < room->out_count; i++)
        shared_release(&room->out[i]->shared);
    memory_account(MEMORY_OF_ROOMS, -(int64_t)(room->out_capacity * sizeof(struct room_bundle *)));
    free(room->out);
}
