/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/arena.h"
#include "proto/handover.h"
#include "room/private.h"

/* A room that goes over to another process, between two of its turns: who is in it and in which
 * order, what was published and has not left, what it still has of the rest, who waits for a word
 * of its owner.
 *
 * Only one that is at rest goes. The turns of a fan-out and the end of a room follow one another by
 * posts to oneself, so there is none of that where nobody has a message; what is left waits for a
 * time or for the owner. A bundle that is in the history and has not left is one allocation over
 * there, too.
 *
 * Its class goes with it, because the new process may have read another configuration: what that
 * says holds from then on, as after a reload, and if it says nothing the room goes on by what it
 * knew.
 *
 * Over there it says nothing in the turn that makes it: those to whom it would are perhaps yet to
 * come. What is due by then is done by its tick, which comes at once. */

/* --- out -------------------------------------------------------------------------------------- */

/* Everything that is made on the way, so that a large room needs no more than others know. */
static size_t arena_bytes(const struct room *room)
{
    enum { POINTER_BYTES = sizeof(void *), ENDS_BYTES = ROOM_BUNDLE_MAX * sizeof(uint32_t) };
    size_t bundles = room->kept_count + (size_t)room->out_count;
    return 4096 + (size_t)room->count * (sizeof(Usher__V1__HandoverMember) + 2 * POINTER_BYTES) +
           bundles * (sizeof(Usher__V1__HandoverBundle) + ENDS_BYTES + 2 * POINTER_BYTES) +
           (size_t)room->change_count * (sizeof(Usher__V1__HandoverChange) + 2 * POINTER_BYTES) +
           (size_t)room->ask_count * (sizeof(Usher__V1__HandoverAsk) + 2 * POINTER_BYTES);
}

/* Room for `count` structs and pointers to them; it is there, by arena_bytes. */
static void *rows(struct arena *arena, size_t count, size_t size, void *pointers)
{
    void *list = handover_part(arena, count * size);
    void *found = handover_part(arena, count * sizeof(void *));
    CHECK(list != NULL && found != NULL);
    memcpy(pointers, &found, sizeof(found));
    return list;
}

static void describe_members(const struct room *room, struct arena *arena,
                             Usher__V1__HandoverRoom *to)
{
    Usher__V1__HandoverMember *list = rows(arena, room->count, sizeof(*list), &to->members);
    for (uint32_t place = 0; place < room->places; place++) {
        const struct member *member = &room->members[place];
        if (member->user == 0)
            continue;
        Usher__V1__HandoverMember *one = &list[to->n_members];
        usher__v1__handover_member__init(one);
        one->user = member->user;
        one->epoch = member->epoch;
        one->number = member->number;
        one->name = member->name;
        one->change = member->change;
        one->away = member->away;
        one->carry = member->carry;
        one->owed = member->owed;
        one->roster_owed = member->roster_owed;
        to->members[to->n_members++] = one;
    }
    CHECK(to->n_members == room->count);
}

static void describe_bundle(const struct room_bundle *bundle, Usher__V1__HandoverBundle *to)
{
    usher__v1__handover_bundle__init(to);
    to->first = bundle->first;
    to->time_ms = bundle->time_ms;
    to->items_at = bundle->items_at;
    to->ends = (uint32_t *)(uintptr_t)bundle->ends;
    to->n_ends = bundle->count;
    to->frame = handover_binary((struct bytes){bundle->bytes, bundle->size});
}

/* Both lists are in the order of what was published. */
static void describe_bundles(const struct room *room, struct arena *arena,
                             Usher__V1__HandoverRoom *to)
{
    size_t most = room->kept_count + (size_t)room->out_count;
    Usher__V1__HandoverBundle *list = rows(arena, most, sizeof(*list), &to->bundles);
    for (uint32_t kept = 0, out = 0; kept < room->kept_count || out < room->out_count;) {
        const struct room_bundle *old =
            kept < room->kept_count ? history_at(room, kept) : room->out[out];
        const struct room_bundle *waits = out < room->out_count ? room->out[out] : old;
        const struct room_bundle *next = waits->first < old->first ? waits : old;
        Usher__V1__HandoverBundle *one = &list[to->n_bundles];
        describe_bundle(next, one);
        one->kept = kept < room->kept_count && next == old;
        one->waits = out < room->out_count && next == waits;
        kept += one->kept;
        out += one->waits;
        to->bundles[to->n_bundles++] = one;
    }
}

static void describe_changes(const struct room *room, struct arena *arena,
                             Usher__V1__HandoverRoom *to)
{
    Usher__V1__HandoverChange *list = rows(arena, room->change_count, sizeof(*list), &to->changes);
    for (uint32_t i = 0; i < room->change_count; i++) {
        usher__v1__handover_change__init(&list[i]);
        list[i].name = room->changes[i].name;
        list[i].kind = room->changes[i].kind;
        to->changes[to->n_changes++] = &list[i];
    }
}

static void describe_ask(const struct ask *ask, Usher__V1__HandoverAsk *to)
{
    const struct room_join_message *join = ask->join;
    usher__v1__handover_ask__init(to);
    to->call = ask->call;
    to->deadline_ms = ask->deadline_ms;
    to->creates = ask->creates;
    to->asker = join->call.asker;
    to->request = join->call.request;
    to->user = join->user;
    to->epoch = join->epoch;
    to->user_request = join->user_request;
    to->incarnation = join->incarnation;
    to->offset = join->offset;
    to->carry = join->carry;
    to->recover = join->recover;
    to->again_only = join->again_only;
    to->name = handover_binary((struct bytes){join->bytes + join->call.name_size, join->user_size});
}

static void describe_asks(const struct room *room, struct arena *arena, Usher__V1__HandoverRoom *to)
{
    Usher__V1__HandoverAsk *list = rows(arena, room->ask_count, sizeof(*list), &to->asks);
    for (const struct ask *ask = room->asks; ask != NULL; ask = ask->next) {
        describe_ask(ask, &list[to->n_asks]);
        to->asks[to->n_asks] = &list[to->n_asks];
        to->n_asks++;
    }
    CHECK(to->n_asks == room->ask_count);
}

static void describe_class(const struct room_class *class, Usher__V1__HandoverRoomClass *to)
{
    to->pattern = (char *)(uintptr_t) class->pattern;
    to->owner = (char *)(uintptr_t) class->owner;
    to->create = class->create;
    to->join = class->join;
    to->publish = class->publish;
    to->roster = class->roster;
    to->follows_messages = class->follows_messages;
    to->webhook = class->webhook;
    to->members_max = class->members_max;
    to->history_messages = class->history_messages;
    to->tick_ms = class->tick_ms;
    to->history_ms = class->history_ms;
    to->idle_ms = class->idle_ms;
}

static void describe(const struct room *room, Usher__V1__HandoverRoom *to)
{
    to->named_class = (char *)(uintptr_t)room->named_class;
    to->members_asked = room->members_asked;
    to->incarnation = room->incarnation;
    to->offset = room->offset;
    to->sealed = room->sealed;
    to->opened_ms = room->opened_ms;
    to->news_seq = room->news_seq;
    to->last_number = room->last_number;
    to->empty_since_ms = room->empty_since_ms;
    to->flush_ms = room->flush_ms;
    to->spent_ns = room->spent_ns;
    to->deliveries = room->deliveries;
    to->event_ms = room->event_ms;
    to->hint_ms = room->hint_ms;
    to->items = handover_binary((struct bytes){room->items.data, room->items.size});
    to->ends = (uint32_t *)(uintptr_t)room->ends;
    to->n_ends = room->item_count;
}

static bool is_at_rest(const struct room *room)
{
    return !room_is_over(room) && !room->closing && !room->told_more && room->gone == 0 &&
           room->out_ready == 0 && !room_is_sending(room);
}

bool room_move_out(const struct room *room, actor_handle self, const char *name, struct buffer *out)
{
    Usher__V1__HandoverRoomClass class = USHER__V1__HANDOVER_ROOM_CLASS__INIT;
    Usher__V1__HandoverRoom to = USHER__V1__HANDOVER_ROOM__INIT;
    Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
    struct arena arena;
    if (!is_at_rest(room) || arena_init(&arena, arena_bytes(room)) != 0)
        return false;
    to.handle = self;
    to.name = (char *)(uintptr_t)name;
    describe(room, &to);
    describe_class(&room->class, &class);
    to.class_ = &class;
    describe_members(room, &arena, &to);
    describe_bundles(room, &arena, &to);
    describe_changes(room, &arena, &to);
    describe_asks(room, &arena, &to);
    record.body_case = USHER__V1__HANDOVER_RECORD__BODY_ROOM;
    record.room = &to;
    int error = handover_append(out, &record);
    arena_fini(&arena);
    return error == 0;
}

/* --- in --------------------------------------------------------------------------------------- */

struct moved_message {
    struct message header;
    const Usher__V1__HandoverRoom *room;
};

struct message *room_move_in(const Usher__V1__HandoverRoom *room)
{
    struct moved_message *message = message_create(MESSAGE_MOVED, sizeof(*message));
    if (message != NULL)
        message->room = room;
    return message != NULL ? &message->header : NULL;
}

static void fill_members(struct room *room, const Usher__V1__HandoverRoom *from, struct turn *turn)
{
    for (size_t i = 0; i < from->n_members; i++) {
        const Usher__V1__HandoverMember *one = from->members[i];
        const struct bytes name = bytes_of_text(one->name);
        CHECK(name.size <= USERNAME_BYTES_MAX && one->number > room->last_number &&
              one->change <= from->n_changes);
        struct member *member = members_add(room, one->user, one->epoch, name);
        member->number = room->last_number = one->number;
        member->change = one->change;
        member->carry = one->carry;
        member->roster_owed = one->roster_owed;
        members_set_away(room, member, one->away);
        members_set_owed(room, member, one->owed);
    }
    CHECK(from->last_number >= room->last_number);
    room->last_number = from->last_number;
    room->empty_since_ms = from->empty_since_ms;
    turn_count(turn, METRIC_room_members, room->count);
}

/* The ends of so many bytes, which rise. */
static bool are_ends(const uint32_t *ends, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++)
        if (ends[i] > size || (i > 0 && ends[i] < ends[i - 1]))
            return false;
    return count <= ROOM_BUNDLE_MAX && (count == 0 ? size == 0 : ends[count - 1] == size);
}

static void fill_bundles(struct room *room, const Usher__V1__HandoverRoom *from, struct turn *turn)
{
    for (size_t i = 0; i < from->n_bundles; i++) {
        const Usher__V1__HandoverBundle *one = from->bundles[i];
        struct room_bundle *bundle = out_bundle(room, ROOM_MESSAGES, turn, one->frame.len);
        CHECK(one->n_ends > 0 && are_ends(one->ends, one->n_ends, one->frame.len) &&
              one->items_at <= one->ends[0] && one->first + one->n_ends - 1 <= from->sealed);
        bytes_put(bundle->bytes, handover_bytes(one->frame));
        bundle->first = one->first;
        bundle->count = (uint32_t)one->n_ends;
        bundle->time_ms = one->time_ms;
        bundle->size = (uint32_t)one->frame.len;
        bundle->items_at = one->items_at;
        memcpy(bundle->ends, one->ends, one->n_ends * sizeof(one->ends[0]));
        if (one->kept && one->waits)
            shared_hold(&bundle->shared);
        CHECK(one->kept || one->waits);
        if (one->kept)
            history_put(room, bundle);
        if (one->waits)
            out_add(room, bundle);
    }
}

/* What was taken and is not in a bundle yet. */
static void fill_items(struct room *room, const Usher__V1__HandoverRoom *from)
{
    CHECK(are_ends(from->ends, from->n_ends, from->items.len) &&
          from->sealed + from->n_ends == from->offset);
    MEMORY_MUST(buffer_append(&room->items, from->items.data, from->items.len) == 0,
                "a room's message");
    memory_account(MEMORY_OF_ROOMS, (int64_t)room->items.capacity);
    for (size_t i = 0; i < from->n_ends; i++)
        room->ends[i] = from->ends[i];
    room->item_count = (uint32_t)from->n_ends;
}

static void fill_asks(struct room *room, const Usher__V1__HandoverRoom *from)
{
    for (size_t i = 0; i < from->n_asks; i++) {
        const Usher__V1__HandoverAsk *one = from->asks[i];
        struct room_join_message *join;
        CHECK(one->name.len <= USERNAME_BYTES_MAX);
        MEMORY_MUST(
            (join = room_join_create(bytes_of_text(room->name), handover_bytes(one->name))) != NULL,
            "a Join");
        join->call.asker = one->asker;
        join->call.request = one->request;
        join->user = one->user;
        join->epoch = one->epoch;
        join->user_request = one->user_request;
        join->carry = one->carry;
        join->recover = one->recover;
        join->again_only = one->again_only;
        join->incarnation = one->incarnation;
        join->offset = one->offset;
        join_wait(room, &(struct ask){.call = one->call,
                                      .deadline_ms = one->deadline_ms,
                                      .creates = one->creates,
                                      .join = join});
    }
}

static void fill_class(struct room *room, const Usher__V1__HandoverRoomClass *from)
{
    struct room_class *class = &room->class;
    CHECK(strlen(from->pattern) < sizeof(class->pattern) &&
          strlen(from->owner) < sizeof(class->owner) && from->members_max > 0);
    strcpy(class->pattern, from->pattern);
    strcpy(class->owner, from->owner);
    class->create = (uint8_t)from->create;
    class->join = (uint8_t)from->join;
    class->publish = (uint8_t)from->publish;
    class->roster = (uint8_t)from->roster;
    class->follows_messages = from->follows_messages;
    class->webhook = from->webhook;
    class->members_max = from->members_max;
    class->history_messages = from->history_messages;
    class->tick_ms = from->tick_ms;
    class->history_ms = from->history_ms;
    class->idle_ms = from->idle_ms;
    room->classes = NULL; /* the table of here is looked at next */
}

static void fill(struct room *room, const Usher__V1__HandoverRoom *from)
{
    CHECK(strlen(from->named_class) < sizeof(room->named_class));
    strcpy(room->named_class, from->named_class);
    room->members_asked = from->members_asked;
    room->incarnation = from->incarnation;
    room->offset = from->offset;
    room->sealed = from->sealed;
    room->opened_ms = from->opened_ms;
    room->news_seq = from->news_seq;
    room->flush_ms = from->flush_ms;
    room->spent_ns = from->spent_ns;
    room->deliveries = from->deliveries;
    room->event_ms = from->event_ms;
    room->hint_ms = from->hint_ms;
    fill_class(room, from->class_);
}

void room_moved(struct room *room, struct message *message, struct turn *turn)
{
    const Usher__V1__HandoverRoom *from = ((const struct moved_message *)message)->room;
    /* It is this process that ends otherwise, and the one before it goes on. */
    CHECK(room->incarnation == 0 && room->asks == NULL && from->class_ != NULL);
    fill(room, from);
    for (size_t i = 0; i < from->n_changes; i++)
        roster_put(room, from->changes[i]->name, (uint8_t)from->changes[i]->kind);
    fill_members(room, from, turn);
    fill_bundles(room, from, turn);
    fill_items(room, from);
    fill_asks(room, from);
    room->moved = true;
    message_destroy(message);
}
