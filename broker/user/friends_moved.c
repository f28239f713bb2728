/* SPDX-License-Identifier: Apache-2.0 */
#include "user/friends_moved.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/memory.h"
#include "user/friends_private.h"

/* Whom a user watches goes over place by place, since the shards know each pair by its position and
 * serial. How somebody looks does not: he who watches him and his shard hold one record, so over
 * there the shards come first, and each name is looked for in its own. It is the same record, since
 * nothing was on its way between the two; of a pair that is pending there is none.
 *
 * What was gathered goes with what the client knew. A crowd that is waited for, a snapshot that is
 * half told, a status that is to be said later: all of them are points in time, for which the next
 * tick is asked as after any turn. No list of a service waits, because its shards have answered. */

enum {
    MARK_THERE = 1,
    MARK_PENDING = 2,
    MARK_SHOWN = 4,
    MARK_DIRTY = 8,
    MARK_SERVICE = 16,
    MARK_UNSAID = 32,
};

/* --- out -------------------------------------------------------------------------------------- */

static uint32_t marks_of(const struct pair *pair)
{
    return MARK_THERE | (pair->pending ? MARK_PENDING : 0) | (pair->shown ? MARK_SHOWN : 0) |
           (pair->dirty ? MARK_DIRTY : 0) | (pair->service ? MARK_SERVICE : 0) |
           (pair->unsaid ? MARK_UNSAID : 0);
}

static bool describe_pairs(const struct friends *friends, struct arena *arena,
                           Usher__V1__HandoverFriends *to)
{
    size_t names_bytes = 0;
    for (uint32_t i = 0; i < friends->top; i++)
        names_bytes +=
            friends->pairs[i].record != NULL ? 1 + pair_name(&friends->pairs[i]).size : 0;
    to->names.data = handover_part(arena, names_bytes);
    to->serials = handover_part(arena, friends->top * sizeof(*to->serials));
    to->marks = handover_part(arena, friends->top * sizeof(*to->marks));
    if (to->names.data == NULL || to->serials == NULL || to->marks == NULL)
        return false;
    uint8_t *at = to->names.data;
    for (uint32_t i = 0; i < friends->top; i++) {
        const struct pair *pair = &friends->pairs[i];
        to->serials[i] = pair->serial;
        to->marks[i] = pair->record != NULL ? marks_of(pair) : 0;
        if (pair->record == NULL)
            continue;
        struct bytes name = pair_name(pair);
        *at++ = (uint8_t)name.size;
        at = bytes_put(at, name);
    }
    to->names.len = names_bytes;
    to->n_serials = to->n_marks = friends->top;
    return true;
}

static void describe_look(const struct watch_record *record, Usher__V1__HandoverLook *to)
{
    usher__v1__handover_look__init(to);
    to->name = handover_binary(watch_record_name(record));
    to->state = record->state;
    to->since_ms = record->since_ms;
    to->status = handover_binary(watch_record_status(record));
}

static bool describe_gathered(const struct friends *friends, struct arena *arena,
                              Usher__V1__HandoverFriends *to)
{
    if (friends->gathered_count == 0)
        return true;
    struct one {
        Usher__V1__HandoverGathered gathered;
        Usher__V1__HandoverLook told;
    } *all = handover_part(arena, friends->gathered_count * sizeof(*all));
    to->gathered = handover_part(arena, friends->gathered_count * sizeof(*to->gathered));
    if (all == NULL || to->gathered == NULL)
        return false;
    for (uint32_t i = 0; i < friends->gathered_count; i++) {
        const struct gathered *from = &friends->gathered[i];
        usher__v1__handover_gathered__init(&all[i].gathered);
        describe_look(from->told, &all[i].told);
        all[i].gathered.position = from->position;
        all[i].gathered.serial = from->serial;
        all[i].gathered.told = &all[i].told;
        to->gathered[i] = &all[i].gathered;
    }
    to->n_gathered = friends->gathered_count;
    return true;
}

static bool describe_to_say(const struct watch_status_message *status, struct arena *arena,
                            Usher__V1__HandoverFriends *to)
{
    if (status == NULL)
        return true;
    to->to_say = handover_part(arena, sizeof(*to->to_say));
    if (to->to_say == NULL)
        return false;
    usher__v1__handover_status__init(to->to_say);
    to->to_say->epoch = status->epoch;
    to->to_say->invisible = status->invisible;
    to->to_say->gone = status->gone;
    to->to_say->text =
        handover_binary((struct bytes){status->bytes + status->name_size, status->status_size});
    return true;
}

static void describe_rest(const struct friends *friends, Usher__V1__HandoverFriends *to)
{
    to->free = friends->free;
    to->serial = friends->serial;
    to->say_due_ms = friends->say_due_ms;
    to->say_last_ms = friends->say_last_ms;
    to->gathered_seen = friends->gathered_seen;
    to->snapshot_at = friends->snapshot_at;
    to->batch_due_ms = friends->batch_due_ms;
    to->batch_last_ms = friends->batch_last_ms;
    to->wanted_ms = friends->wanted_ms;
    to->snapshot_ms = friends->snapshot_ms;
    to->wanted = friends->wanted;
    to->snapping = friends->snapping;
    to->first = friends->first;
    to->blocks = friends->blocks;
    to->said = friends->said;
    to->say_next_ms = friends->say_next_ms;
}

bool friends_move_out(const struct session *session, struct arena *arena,
                      Usher__V1__HandoverUser *user)
{
    const struct friends *friends = friends_if_any(session);
    if (friends == NULL)
        return true;
    if (friends->lists != NULL)
        return false;
    user->friends = handover_part(arena, sizeof(*user->friends));
    if (user->friends == NULL)
        return false;
    usher__v1__handover_friends__init(user->friends);
    describe_rest(friends, user->friends);
    return describe_pairs(friends, arena, user->friends) &&
           describe_gathered(friends, arena, user->friends) &&
           describe_to_say(friends->to_say, arena, user->friends);
}

/* --- in --------------------------------------------------------------------------------------- */

/* The places of a record, one after the other. */
struct walk {
    const Usher__V1__HandoverFriends *from;
    size_t names_at;
    uint32_t position; /* of the next one */
    uint32_t serial, marks;
    struct bytes name;
};

static bool next_place(struct walk *walk)
{
    const Usher__V1__HandoverFriends *from = walk->from;
    CHECK(from->n_serials == from->n_marks);
    if (walk->position == from->n_marks) {
        CHECK(walk->names_at == from->names.len);
        return false;
    }
    walk->serial = from->serials[walk->position];
    walk->marks = from->marks[walk->position++];
    if ((walk->marks & MARK_THERE) == 0)
        return true;
    CHECK(walk->names_at < from->names.len);
    walk->name.size = from->names.data[walk->names_at++];
    walk->name.data = from->names.data + walk->names_at;
    walk->names_at += walk->name.size;
    CHECK(walk->names_at <= from->names.len);
    return true;
}

static bool has_record(const struct walk *walk)
{
    return (walk->marks & (MARK_THERE | MARK_PENDING)) == MARK_THERE;
}

/* The names of those whom shards know, and how they look. */
static uint32_t find_records(const Usher__V1__HandoverFriends *from,
                             const struct moved_records *records, struct bytes *names,
                             struct watch_record **found)
{
    uint32_t count = 0;
    for (struct walk walk = {.from = from}; next_place(&walk);) {
        CHECK((walk.marks & MARK_THERE) == 0 || username_valid(walk.name));
        if (has_record(&walk))
            names[count++] = walk.name;
    }
    records->find(records->context, names, count, found);
    for (uint32_t i = 0; i < count; i++)
        CHECK(found[i] != NULL); /* his shard is another one, or has come behind him */
    return count;
}

void *friends_move_message(const Usher__V1__HandoverUser *user, size_t size,
                           const struct moved_records *records)
{
    const Usher__V1__HandoverFriends *from = user->friends;
    if (from == NULL || from->n_marks == 0)
        return message_create(MESSAGE_MOVED, size);
    struct watch_record **found = calloc(from->n_marks, sizeof(struct watch_record *));
    struct bytes *names = calloc(from->n_marks, sizeof(*names));
    void *message = NULL;
    if (found != NULL && names != NULL) {
        uint32_t count = find_records(from, records, names, found);
        size += -size % sizeof(uint64_t);
        static_assert(offsetof(struct watch_record, header) == 0, "a record is what is shared");
        message = message_create_holding_many(MESSAGE_MOVED, size,
                                              (struct shared *const *)(void *)found, count);
    }
    free((void *)found);
    free(names);
    return message;
}

/* Those that are pending have their names for themselves. */
static struct names *make_names(const Usher__V1__HandoverFriends *from)
{
    uint32_t count = 0;
    size_t bytes = 0;
    for (struct walk walk = {.from = from}; next_place(&walk);) {
        count += (walk.marks & MARK_PENDING) != 0;
        bytes += (walk.marks & MARK_PENDING) != 0 ? walk.name.size : 0;
    }
    return names_create(count, bytes);
}

static void fill_pair(struct friends *friends, const struct walk *walk, struct turn *turn)
{
    struct pair *pair = &friends->pairs[friends->top++];
    *pair = (struct pair){.serial = walk->serial};
    if ((walk->marks & MARK_THERE) == 0)
        return;
    pair->hash = pair_hash(watch_hash(turn->settings, walk->name));
    pair->pending = (walk->marks & MARK_PENDING) != 0;
    pair->shown = (walk->marks & MARK_SHOWN) != 0;
    pair->dirty = (walk->marks & MARK_DIRTY) != 0;
    pair->service = (walk->marks & MARK_SERVICE) != 0;
    pair->unsaid = (walk->marks & MARK_UNSAID) != 0;
    CHECK(pair->pending || !pair->unsaid);
    friends->count++;
    friends->pending += pair->pending;
    friends->unsaid += pair->unsaid;
}

static void fill_pairs(struct friends *friends, const Usher__V1__HandoverFriends *from,
                       const struct message *message, struct turn *turn)
{
    uint32_t held = 0;
    if (from->n_marks == 0)
        return;
    struct names *names = make_names(from);
    pairs_grow(friends, (uint32_t)from->n_marks);
    for (struct walk walk = {.from = from}; next_place(&walk);) {
        struct pair *pair = &friends->pairs[friends->top];
        fill_pair(friends, &walk, turn);
        if (has_record(&walk)) {
            pair->record = (struct watch_record *)message_held(message, held++);
            shared_hold(&pair->record->header);
        } else if ((walk.marks & MARK_THERE) != 0) {
            pair->name = names_add(names, walk.name);
        }
    }
    names_close(names);
    pairs_take(turn, friends->count);
}

static struct watch_record *make_record(const Usher__V1__HandoverLook *look)
{
    CHECK(look != NULL && look->name.len <= UINT8_MAX &&
          look->status.len <= WATCH_STATUS_BYTES_MAX && look->state <= WATCH_AWAY);
    return watch_record_create(handover_bytes(look->name), (uint8_t)look->state, look->since_ms,
                               handover_bytes(look->status));
}

static void fill_gathered(struct friends *friends, const Usher__V1__HandoverFriends *from)
{
    for (size_t i = 0; i < from->n_gathered; i++) {
        const Usher__V1__HandoverGathered *one = from->gathered[i];
        CHECK(one->position < friends->top);
        tell_gather(friends, (struct gathered){make_record(one->told), one->position, one->serial});
    }
    CHECK(from->gathered_seen <= friends->gathered_count || friends->gathered_count == 0);
    friends->gathered_seen = from->gathered_seen;
}

static void fill_rest(struct friends *friends, const Usher__V1__HandoverFriends *from)
{
    uint32_t free_count = 0;
    friends->free = from->free;
    for (uint32_t next = friends->free; next != 0; next = friends->pairs[next - 1].serial)
        CHECK(next <= friends->top && friends->pairs[next - 1].record == NULL &&
              ++free_count <= friends->top);
    CHECK(free_count + friends->count == friends->top && from->snapshot_at <= friends->top);
    friends->serial = from->serial;
    friends->say_due_ms = from->say_due_ms;
    friends->say_last_ms = from->say_last_ms;
    friends->snapshot_at = from->snapshot_at;
    friends->batch_due_ms = from->batch_due_ms;
    friends->batch_last_ms = from->batch_last_ms;
    friends->wanted_ms = from->wanted_ms;
    friends->snapshot_ms = from->snapshot_ms;
    friends->wanted = from->wanted;
    friends->snapping = from->snapping;
    friends->first = from->first;
    friends->blocks = from->blocks;
    friends->said = from->said;
    friends->say_next_ms = from->say_next_ms;
}

void friends_move_in(struct session *session, const Usher__V1__HandoverUser *user,
                     const struct message *message, struct turn *turn)
{
    const Usher__V1__HandoverFriends *from = user->friends;
    if (from == NULL)
        return;
    struct friends *friends = friends_of(session);
    fill_pairs(friends, from, message, turn);
    fill_gathered(friends, from);
    fill_rest(friends, from);
    const Usher__V1__HandoverStatus *to_say = from->to_say;
    if (to_say == NULL)
        return;
    CHECK(to_say->text.len <= WATCH_STATUS_BYTES_MAX);
    friends->to_say = watch_status_create(bytes_of_text(turn->name), handover_bytes(to_say->text));
    friends->to_say->epoch = to_say->epoch;
    friends->to_say->invisible = to_say->invisible;
    friends->to_say->gone = to_say->gone;
}
