/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/rooms.h"

#include "actors/kinds.h"
#include "actors/room_messages.h"
#include "backend.pb-c.h"
#include "unit/hall.h"

/* The listing of rooms: by name, whatever the registry's order, page by page, and complete. */

enum { ACTORS = 4096, ROOMS = 1500 };

static void show(const void *state, uint64_t numbers[ACTOR_NUMBERS])
{
    memcpy(numbers, state, ROOM_NUMBERS * sizeof(*numbers));
}

static const struct behaviour a_room = {.name = "room", .kind = KIND_ROOM, .show = show};
static const struct behaviour a_user = {.name = "user", .kind = KIND_USER, .show = show};

static void make(struct hall *hall, const struct behaviour *behaviour, const char *name,
                 const uint64_t numbers[ROOM_NUMBERS])
{
    actor_handle self = registry_claim(hall->registry, name, strlen(name), behaviour);
    assert_int_not_equal(self, 0);
    memcpy(registry_actor(hall->registry, actor_slot(self))->state, numbers,
           ROOM_NUMBERS * sizeof(*numbers));
}

static int set_up(void **state)
{
    struct hall *hall = calloc(1, sizeof(*hall));
    assert_non_null(hall);
    hall_open(hall, ACTORS, false);
    *state = hall;
    return 0;
}

static int tear_down(void **state)
{
    hall_close(*state);
    free(*state);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static Usher__V1__Result *list(struct hall *hall, const struct room_classes *classes,
                               struct room_page page, size_t room)
{
    struct link_page items = {.room = room};
    struct buffer out = {0};
    assert_int_equal(rooms_list(hall->registry, classes, &page, &items), 0);
    assert_int_equal(link_result_rooms(&out, &items, page.more), 0);
    Usher__V1__Result *result = usher__v1__result__unpack(NULL, out.size, out.data);
    assert_non_null(result);
    assert_int_equal(result->value_case, USHER__V1__RESULT__VALUE_ROOMS);
    buffer_fini(&items.items);
    buffer_fini(&out);
    return result;
}

static void drop(Usher__V1__Result *result)
{
    usher__v1__result__free_unpacked(result, NULL);
}

/* All of them, in pages of that size, or as they fit. */
static void walk(struct hall *hall, size_t limit, size_t room)
{
    char after[USERNAME_BYTES_MAX + 1] = "";
    unsigned count = 0;
    for (bool more = true; more;) {
        Usher__V1__Result *page = list(
            hall, NULL, (struct room_page){.prefix = "r", .after = after, .limit = limit}, room);
        assert_in_range(page->rooms->n_rooms, 1, limit);
        for (size_t i = 0; i < page->rooms->n_rooms; i++) {
            char wanted[16];
            snprintf(wanted, sizeof(wanted), "r%05u", count++);
            assert_string_equal(page->rooms->rooms[i]->name, wanted);
            assert_int_equal(page->rooms->rooms[i]->offset, count);
        }
        strcpy(after, page->rooms->rooms[page->rooms->n_rooms - 1]->name);
        more = page->rooms->more;
        drop(page);
    }
    assert_int_equal(count, ROOMS);
}

static void every_room_once_and_in_order(void **state)
{
    struct hall *hall = *state;
    for (unsigned i = 0; i < ROOMS; i++) {
        unsigned place = i * 7 % ROOMS; /* 7 is no part of it */
        char name[16];
        uint64_t numbers[ROOM_NUMBERS] = {9, place + 1};
        snprintf(name, sizeof(name), "#r%05u", place);
        make(hall, &a_room, name, numbers);
        snprintf(name, sizeof(name), "r%05u", place);
        make(hall, &a_user, name, numbers);
    }
    walk(hall, 1024, SIZE_MAX);
    walk(hall, ROOMS, SIZE_MAX);
    walk(hall, 100, SIZE_MAX);
    walk(hall, 7, SIZE_MAX);
    walk(hall, 1024, 500);
}

static void what_is_said_of_one(void **state)
{
    struct hall *hall = *state;
    char error[ROOM_CLASS_ERROR_BYTES];
    char *const items[] = {"m:* owner=maker", "m:1 owner=other", "x"};
    struct room_classes *classes;
    const uint64_t numbers[ROOM_NUMBERS] = {
        [ROOM_NUMBER_INCARNATION] = 70,
        [ROOM_NUMBER_OFFSET] = 9,
        [ROOM_NUMBER_MEMBERS] = UINT64_C(2) << 32 | 5,
        [ROOM_NUMBER_HISTORY_MESSAGES] = 3,
        [ROOM_NUMBER_HISTORY_BYTES] = 400,
        [ROOM_NUMBER_DELIVERIES] = 45,
        [ROOM_NUMBER_OPENED_MS] = 1700000000000,
        [ROOM_NUMBER_CLASS] = 1,
    };
    uint64_t stale[ROOM_NUMBERS] = {1, [ROOM_NUMBER_CLASS] = 2};
    assert_int_equal(room_classes_read(items, 3, &classes, error), 0);
    make(hall, &a_room, "#m:1", numbers);
    make(hall, &a_room, "#m:2", stale); /* of a table before: what fits the name counts */
    Usher__V1__Result *result =
        list(hall, classes, (struct room_page){.prefix = "", .after = "", .limit = 10}, 1000);
    assert_int_equal(result->rooms->n_rooms, 2);
    const Usher__V1__RoomInfo *room = result->rooms->rooms[0];
    assert_string_equal(room->name, "m:1");
    assert_int_equal(room->incarnation, 70);
    assert_int_equal(room->offset, 9);
    assert_int_equal(room->members, 5);
    assert_int_equal(room->away, 2);
    assert_int_equal(room->history_messages, 3);
    assert_int_equal(room->history_bytes, 400);
    assert_int_equal(room->deliveries, 45);
    assert_int_equal(room->opened_ms, 1700000000000);
    assert_string_equal(room->class_, "m:1");
    assert_string_equal(room->owner, "other");
    assert_string_equal(result->rooms->rooms[1]->class_, "m:*");
    assert_string_equal(result->rooms->rooms[1]->owner, "maker");
    drop(result);
    free(classes);
}

static void only_open_ones_of_that_beginning(void **state)
{
    struct hall *hall = *state;
    const uint64_t open[ROOM_NUMBERS] = {1}, shut[ROOM_NUMBERS] = {0};
    make(hall, &a_room, "#ab", open);
    make(hall, &a_room, "#abc", shut);
    make(hall, &a_room, "#abd", open);
    make(hall, &a_room, "#b", open);
    Usher__V1__Result *result =
        list(hall, NULL, (struct room_page){.prefix = "ab", .after = "", .limit = 2}, 1000);
    assert_int_equal(result->rooms->n_rooms, 2);
    assert_false(result->rooms->more);
    assert_string_equal(result->rooms->rooms[0]->name, "ab");
    assert_string_equal(result->rooms->rooms[1]->name, "abd");
    assert_string_equal(result->rooms->rooms[0]->class_, "");
    drop(result);
    result = list(hall, NULL, (struct room_page){.prefix = "ab", .after = "", .limit = 1}, 1000);
    assert_true(result->rooms->more);
    drop(result);
    result = list(hall, NULL, (struct room_page){.prefix = "c", .after = "", .limit = 1}, 1000);
    assert_int_equal(result->rooms->n_rooms, 0);
    assert_false(result->rooms->more);
    drop(result);
}

static uint64_t by_offset(void *context, const uint64_t numbers[ROOM_NUMBERS])
{
    (*(unsigned *)context)++;
    return numbers[ROOM_NUMBER_OFFSET] / 10;
}

static void the_greatest_first_and_names_among_equals(void **state)
{
    struct hall *hall = *state;
    unsigned ranked = 0;
    for (unsigned i = 0; i < ROOMS; i++) {
        char name[16];
        unsigned place = i * 7 % ROOMS;
        uint64_t numbers[ROOM_NUMBERS] = {9, place};
        snprintf(name, sizeof(name), "#r%05u", ROOMS - place);
        make(hall, &a_room, name, numbers);
    }
    struct room_page page = {.prefix = "r", .limit = 15, .rank = by_offset, .context = &ranked};
    struct room_row *rows;
    size_t count;
    assert_int_equal(rooms_pick(hall->registry, &page, &rows, &count), 0);
    assert_int_equal(ranked, ROOMS);
    assert_int_equal(count, 15);
    assert_true(page.more);
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "r%05u", i + 1);
        assert_string_equal(rows[i].name, name);
        assert_int_equal(rows[i].rank, i < 10 ? ROOMS / 10 - 1 : ROOMS / 10 - 2);
    }
    free(rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_room_once_and_in_order),
        TEST(what_is_said_of_one),
        TEST(only_open_ones_of_that_beginning),
        TEST(the_greatest_first_and_names_among_equals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
