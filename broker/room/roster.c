/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "room/private.h"

/* What members are told of each other. Changes are gathered, one row for each member who has not
 * left, the last of his states: a storm of joins is some frames and not some thousand. They say how
 * it is, not what to add, so who has the newer roster already reads them without harm. */

enum {
    EVENT_CHANGES = 64, /* in one frame */
    CHANGES_MAX = 1024, /* that wait; then they leave at once */
    EVENT_PART = 4,     /* of the deliveries that a room may have */
    EVENT_MS_MAX = 10000,
    STATE_MORE_BYTES = 1024, /* in a RoomState beside the roster */
    EVENT_MORE_BYTES = 64,   /* in a RoomEvent beside the changes */
    CHANGE_MORE_BYTES = 8,   /* in a change beside the name */
};

static void set_row(struct change_row *row, const char *name, uint8_t kind)
{
    size_t size = strlen(name) + 1;
    MEMORY_MUST((row->name = malloc(size)) != NULL, "a room");
    memory_account(MEMORY_OF_ROOMS, (int64_t)size);
    memcpy(row->name, name, size);
    row->kind = kind;
}

static void clear_row(struct change_row *row)
{
    memory_account(MEMORY_OF_ROOMS, -(int64_t)(strlen(row->name) + 1));
    free(row->name);
}

void roster_put(struct room *room, const char *name, uint8_t kind)
{
    if (room->change_count == room->change_capacity) {
        uint32_t capacity = room->change_capacity != 0 ? room->change_capacity * 2 : 8;
        struct change_row *changes;
        MEMORY_MUST((changes = realloc(room->changes, capacity * sizeof(*changes))) != NULL,
                    "a room");
        room->changes = changes;
        room->change_capacity = capacity;
    }
    set_row(&room->changes[room->change_count++], name, kind);
}

/* For how long changes are gathered. Whoever comes and goes costs a delivery to each member, which
 * nothing else limits; so in a room that is very large events are a quarter of what may be
 * delivered in it, and one who comes and goes all the time takes nothing from what is published. */
static uint64_t gather_ms(const struct room *room, const struct turn *turn)
{
    uint64_t per_second = rooms_deliveries_per_second(turn->limits);
    uint64_t least_ms = room->class.tick_ms != 0 ? room->class.tick_ms : ROOM_EVENT_MS;
    uint64_t pause_ms =
        per_second != 0 ? (uint64_t)room->count * EVENT_PART * 1000 / per_second : 0;
    pause_ms = pause_ms < EVENT_MS_MAX ? pause_ms : EVENT_MS_MAX;
    return pause_ms > least_ms ? pause_ms : least_ms;
}

void roster_note(struct room *room, struct member *member, uint8_t kind, struct turn *turn)
{
    bool only_count = room->class.roster == ROOM_ROSTER_COUNT;
    bool counts =
        kind == USHER__V1__ROOM_CHANGE__KIND__JOINED || kind == USHER__V1__ROOM_CHANGE__KIND__LEFT;
    if (room->class.roster == ROOM_ROSTER_NONE || (only_count && !counts))
        return;
    if (room->closed) /* its end is the last that anybody hears of it */
        return;
    if (room->event_ms == 0)
        room->event_ms = turn->now_ms + gather_ms(room, turn);
    if (only_count)
        return;
    if (member->change != 0) {
        room->changes[member->change - 1].kind = kind;
    } else {
        roster_put(room, member->name, kind);
        member->change = room->change_count;
    }
    if (room->change_count >= CHANGES_MAX)
        room->event_ms = turn->now_ms;
}

/* The members' rows are rows no more. */
static void forget_changes(struct room *room)
{
    for (uint32_t i = 0; i < room->change_count; i++)
        clear_row(&room->changes[i]);
    if (room->change_count > 0)
        for (uint32_t i = 0; i < room->places; i++)
            room->members[i].change = 0;
    room->change_count = 0;
    room->event_ms = 0;
    if (room->change_capacity > EVENT_CHANGES) {
        free(room->changes);
        room->changes = NULL;
        room->change_capacity = 0;
    }
}

static void tell_some(struct room *room, uint32_t from, uint32_t to, struct turn *turn)
{
    struct buffer changes = {0}, frame = {0};
    for (uint32_t i = from; i < to; i++)
        MEMORY_MUST(broker_frame_room_change(&changes, bytes_of_text(room->changes[i].name),
                                             room->changes[i].kind) == 0,
                    "a room's event");
    MEMORY_MUST(broker_frame_room_event(&frame, room_number(turn->self), room->count,
                                        (struct bytes){changes.data, changes.size}) == 0,
                "a room's event");
    struct room_bundle *bundle = out_bundle(room, ROOM_EVENT, turn, frame.size);
    memcpy(bundle->bytes, frame.data, frame.size);
    bundle->size = (uint32_t)frame.size;
    out_add(room, bundle);
    buffer_fini(&changes);
    buffer_fini(&frame);
}

/* A frame takes one more of that name. */
static bool event_takes(const struct turn *turn, size_t size, const char *name)
{
    return size + strlen(name) + CHANGE_MORE_BYTES + EVENT_MORE_BYTES <=
           limits_frame_bytes(turn->limits);
}

/* The changes from there on that one frame takes end before it. */
static uint32_t frame_end(const struct room *room, uint32_t from, const struct turn *turn)
{
    size_t size = 0;
    uint32_t to = from;
    while (to < room->change_count && to - from < EVENT_CHANGES &&
           event_takes(turn, size, room->changes[to].name))
        size += strlen(room->changes[to++].name) + CHANGE_MORE_BYTES;
    return to;
}

void roster_tell(struct room *room, struct turn *turn)
{
    uint32_t from = 0;
    if (room->event_ms == 0)
        return;
    do {
        uint32_t to = frame_end(room, from, turn);
        tell_some(room, from, to, turn);
        from = to;
    } while (from < room->change_count);
    forget_changes(room);
}

/* --- a whole roster --------------------------------------------------------------------------- */

/* Members from `place` on, as long as there is room; gives the place of the next one. */
static uint32_t put_members(const struct room *room, uint32_t place, size_t room_bytes,
                            struct buffer *roster)
{
    for (; place < room->places; place++) {
        const struct member *member = &room->members[place];
        if (member->user == 0)
            continue;
        if (roster->size + strlen(member->name) + 8 > room_bytes)
            break;
        MEMORY_MUST(broker_frame_room_member(roster, bytes_of_text(member->name), member->away) ==
                        0,
                    "a roster");
    }
    return place;
}

/* The rest of a roster that is longer than a frame: who is in it. */
static void put_rest(const struct room *room, const struct turn *turn, uint32_t place,
                     struct buffer *out)
{
    while (place < room->places) {
        struct buffer changes = {0};
        uint32_t count = 0;
        for (; place < room->places && count < EVENT_CHANGES; place++) {
            const struct member *member = &room->members[place];
            if (member->user == 0)
                continue;
            if (!event_takes(turn, changes.size, member->name))
                break;
            uint32_t kind = member->away ? USHER__V1__ROOM_CHANGE__KIND__AWAY
                                         : USHER__V1__ROOM_CHANGE__KIND__JOINED;
            MEMORY_MUST(broker_frame_room_change(&changes, bytes_of_text(member->name), kind) == 0,
                        "a roster");
            count++;
        }
        if (count > 0)
            MEMORY_MUST(broker_frame_room_event(out, room_number(turn->self), room->count,
                                                (struct bytes){changes.data, changes.size}) == 0,
                        "a roster");
        buffer_fini(&changes);
    }
}

void roster_state(const struct room *room, const struct turn *turn, uint64_t id, uint8_t replay,
                  struct buffer *out)
{
    struct buffer roster = {0};
    bool lists = room->class.roster == ROOM_ROSTER_LIST;
    size_t most = limits_frame_bytes(turn->limits) - STATE_MORE_BYTES;
    uint32_t place = lists ? put_members(room, 0, most, &roster) : 0;
    const struct room_state_fields fields = {
        .name = bytes_of_text(room->name),
        .room = room_number(turn->self),
        .incarnation = room->incarnation,
        .offset = room->offset,
        .state = USHER__V1__ROOM_STATE__STATE__JOINED,
        .replay = replay,
        .members = room->class.roster != ROOM_ROSTER_NONE ? room->count : 0,
        .tick_ms = room->class.tick_ms,
        .roster = {roster.data, roster.size},
    };
    MEMORY_MUST(broker_frame_room_state(out, id, &fields) == 0, "a RoomState");
    buffer_fini(&roster);
    if (lists)
        put_rest(room, turn, place, out);
}

void roster_free(struct room *room)
{
    for (uint32_t i = 0; i < room->change_count; i++)
        clear_row(&room->changes[i]);
    free(room->changes);
}
