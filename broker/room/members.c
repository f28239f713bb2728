/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/table.h"
#include "room/private.h"

/* The members, in the order of their joining, so that a page of them goes on where the last one
 * ended whoever comes and goes meanwhile. Who leaves makes a hole, because the others' places are
 * known to a fan-out under way; holes are closed when there are as many as members, which costs
 * each leaving a constant.
 *
 * They are found by the slot of their actor, and are who they are by its whole handle: of a slot
 * that has another user now nobody is found. Names are looked up at one moment only, when somebody
 * comes in: a login of his may be over whose Join was still under way, or is allowed late, and a
 * room has one of a name. Both keys stand in one table. */

TABLE_ROW(struct place_row, key);

enum { CAPACITY_MIN = 8, ROWS_MIN = 16, HOLES_MIN = 64 };

static uint32_t hash_slot(uint64_t key, const uint64_t *seed)
{
    return (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static struct table rows_of(const struct room *room)
{
    return (struct table){room->rows, room->row_size, sizeof(*room->rows), hash_slot, NULL};
}

static uint64_t key_of(actor_handle user)
{
    return (uint64_t)actor_slot(user) + 1;
}

static uint64_t key_of_name(const struct room *room, struct bytes name)
{
    return hash_keyed(room->key, name.data, name.size) | UINT64_C(1) << 63; /* no slot is as high */
}

static void grow_rows(struct room *room)
{
    if (!table_is_full(room->row_count + 1, room->row_size))
        return;
    uint32_t size = room->row_size != 0 ? room->row_size * 2 : ROWS_MIN;
    const struct table from = rows_of(room);
    struct place_row *rows;
    MEMORY_MUST((rows = calloc(size, sizeof(*rows))) != NULL, "a room");
    memory_account(MEMORY_OF_ROOMS, (int64_t)((size - room->row_size) * sizeof(*rows)));
    const struct table to = {rows, size, sizeof(*rows), hash_slot, NULL};
    table_move(&to, &from);
    free(room->rows);
    room->rows = rows;
    room->row_size = size;
}

static void grow_places(struct room *room)
{
    if (room->places < room->capacity)
        return;
    uint32_t capacity = room->capacity != 0 ? room->capacity * 2 : CAPACITY_MIN;
    struct member *members;
    MEMORY_MUST((members = realloc(room->members, capacity * sizeof(*members))) != NULL, "a room");
    memory_account(MEMORY_OF_ROOMS, (int64_t)((capacity - room->capacity) * sizeof(*members)));
    room->members = members;
    room->capacity = capacity;
}

struct member *members_find_slot(struct room *room, actor_handle user)
{
    if (room->row_count == 0)
        return NULL;
    const struct table table = rows_of(room);
    const struct place_row *row = &room->rows[table_find(&table, key_of(user))];
    return row->key != 0 ? &room->members[row->place] : NULL;
}

struct member *members_find_name(struct room *room, struct bytes name)
{
    if (room->row_count == 0)
        return NULL;
    const struct table table = rows_of(room);
    const struct place_row *row = &room->rows[table_find(&table, key_of_name(room, name))];
    struct member *member = row->key != 0 ? &room->members[row->place] : NULL;
    return member != NULL && bytes_equal(bytes_of_text(member->name), name) ? member : NULL;
}

struct member *members_find(struct room *room, actor_handle user)
{
    struct member *member = members_find_slot(room, user);
    return member != NULL && member->user == user ? member : NULL;
}

uint32_t members_max(const struct room *room)
{
    bool asked = room->members_asked != 0 && room->members_asked < room->class.members_max;
    return asked ? room->members_asked : room->class.members_max;
}

/* Where the keys of a member are that stands at `place`. */
static void put_rows(struct room *room, uint64_t key, uint32_t place)
{
    const struct table table = rows_of(room);
    struct place_row *row = &room->rows[table_find(&table, key)];
    room->row_count += row->key == 0;
    *row = (struct place_row){key, place};
}

static void drop_row(struct room *room, uint64_t key, const struct member *member)
{
    const struct table table = rows_of(room);
    uint32_t at = table_find(&table, key);
    if (room->rows[at].key == 0 || &room->members[room->rows[at].place] != member)
        return; /* two names of one hash: the later one has it */
    table_free(&table, at);
    room->row_count--;
}

struct member *members_add(struct room *room, actor_handle user, uint64_t epoch, struct bytes name)
{
    CHECK(user != 0 && members_find_slot(room, user) == NULL &&
          members_find_name(room, name) == NULL);
    grow_rows(room);
    grow_places(room);
    char *copy;
    MEMORY_MUST((copy = malloc(name.size + 1)) != NULL, "a room");
    memory_account(MEMORY_OF_ROOMS, (int64_t)(name.size + 1));
    *bytes_put((uint8_t *)copy, name) = '\0';
    put_rows(room, key_of(user), room->places);
    put_rows(room, key_of_name(room, name), room->places);
    struct member *member = &room->members[room->places++];
    *member =
        (struct member){.user = user, .epoch = epoch, .number = ++room->last_number, .name = copy};
    room->count++;
    room->empty_since_ms = 0;
    return member;
}

static void free_name(struct member *member)
{
    memory_account(MEMORY_OF_ROOMS, -(int64_t)(strlen(member->name) + 1));
    free(member->name);
    member->name = NULL;
}

void members_set_away(struct room *room, struct member *member, bool away)
{
    room->away += away && !member->away;
    room->away -= !away && member->away;
    member->away = away;
}

void members_set_owed(struct room *room, struct member *member, bool owed)
{
    room->owed += owed && !member->owed;
    room->owed -= !owed && member->owed;
    member->owed = owed;
}

void members_remove(struct room *room, struct member *member)
{
    CHECK(room->count > 0 && members_find_slot(room, member->user) == member);
    drop_row(room, key_of(member->user), member);
    drop_row(room, key_of_name(room, bytes_of_text(member->name)), member);
    members_set_away(room, member, false);
    members_set_owed(room, member, false);
    room->gone -= member->gone;
    free_name(member);
    member->user = 0;
    room->count--;
}

static void index_place(struct room *room, uint32_t place)
{
    const struct member *member = &room->members[place];
    put_rows(room, key_of(member->user), place);
    put_rows(room, key_of_name(room, bytes_of_text(member->name)), place);
}

/* Rows for as many members as there are, and some. */
static void remake_rows(struct room *room)
{
    uint32_t size = ROWS_MIN;
    while (table_is_full(room->count * 4, size))
        size *= 2;
    struct place_row *rows;
    MEMORY_MUST((rows = calloc(size, sizeof(*rows))) != NULL, "a room");
    memory_account(MEMORY_OF_ROOMS, ((int64_t)size - room->row_size) * (int64_t)sizeof(*rows));
    free(room->rows);
    room->rows = rows;
    room->row_size = size;
    room->row_count = 0;
    for (uint32_t place = 0; place < room->places; place++)
        index_place(room, place);
}

/* A room that was large once is not so for ever. */
static void shrink(struct room *room)
{
    uint32_t capacity = room->count * 2 > CAPACITY_MIN ? room->count * 2 : CAPACITY_MIN;
    struct member *members = realloc(room->members, capacity * sizeof(*members));
    if (members == NULL)
        return;
    memory_account(MEMORY_OF_ROOMS,
                   ((int64_t)capacity - room->capacity) * (int64_t)sizeof(*members));
    room->members = members;
    room->capacity = capacity;
    remake_rows(room);
}

void members_compact(struct room *room)
{
    uint32_t holes = room->places - room->count;
    if (room->out_place != 0 || holes < HOLES_MIN || holes < room->count)
        return;
    uint32_t to = 0;
    for (uint32_t from = 0; from < room->places; from++) {
        if (room->members[from].user == 0)
            continue;
        room->members[to] = room->members[from];
        index_place(room, to++);
    }
    CHECK(to == room->count);
    room->places = to;
    if (room->capacity / 4 > to)
        shrink(room);
}

uint32_t members_behind(const struct room *room, uint64_t number)
{
    uint32_t low = 0, high = room->places;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (room->members[middle].number <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void members_free(struct room *room)
{
    for (uint32_t i = 0; i < room->places; i++)
        if (room->members[i].user != 0)
            free_name(&room->members[i]);
    memory_account(MEMORY_OF_ROOMS, -(int64_t)(room->capacity * sizeof(*room->members) +
                                               room->row_size * sizeof(*room->rows)));
    free(room->members);
    free(room->rows);
}
