/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/room_rates.h"

#include "actors/kinds.h"
#include "unit/hall.h"

/* What rooms do in a second, by two looks at what they count. */

enum { ACTORS = 2048, WALL_MS = 1000000 };

static void show(const void *state, uint64_t numbers[ACTOR_NUMBERS])
{
    memcpy(numbers, state, ROOM_NUMBERS * sizeof(*numbers));
}

static const struct behaviour a_room = {.name = "room", .kind = KIND_ROOM, .show = show};
static const struct behaviour a_user = {.name = "user", .kind = KIND_USER, .show = show};

static uint64_t *make(struct hall *hall, const struct behaviour *behaviour, const char *name,
                      uint64_t incarnation)
{
    actor_handle self = registry_claim(hall->registry, name, strlen(name), behaviour);
    assert_int_not_equal(self, 0);
    uint64_t *numbers = (uint64_t *)registry_actor(hall->registry, actor_slot(self))->state;
    numbers[ROOM_NUMBER_INCARNATION] = incarnation;
    numbers[ROOM_NUMBER_OPENED_MS] = WALL_MS;
    return numbers;
}

static void count(uint64_t *numbers, uint64_t offset, uint64_t deliveries)
{
    numbers[ROOM_NUMBER_OFFSET] = offset;
    numbers[ROOM_NUMBER_DELIVERIES] = deliveries;
}

static void expect(const struct room_rates *rates, const uint64_t *numbers, double messages,
                   double deliveries)
{
    struct room_rate rate = room_rates_of(rates, numbers);
    assert_true(rate.messages == messages);
    assert_true(rate.deliveries == deliveries);
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

static void look(struct room_rates *rates, struct hall *hall, uint64_t now_ms)
{
    room_rates_look(rates, hall->registry, now_ms, WALL_MS + now_ms);
}

/* At first of its whole life, then of what passed between two looks, two seconds at least. */
static void of_the_time_between(void **state)
{
    struct hall *hall = *state;
    struct room_rates rates = {0};
    uint64_t *one = make(hall, &a_room, "#one", 7), *two = make(hall, &a_room, "#two", 5);
    count(one, 100, 1000);
    look(&rates, hall, 10000);
    expect(&rates, one, 10, 100);
    expect(&rates, two, 0, 0);
    count(one, 110, 1100);
    look(&rates, hall, 11999); /* too early to be compared with */
    expect(&rates, one, 110 / 11.999, 1100 / 11.999);
    look(&rates, hall, 12000);
    expect(&rates, one, 5, 50);
    count(one, 130, 1200);
    count(two, 8, 16);
    look(&rates, hall, 14000); /* since 12000 */
    expect(&rates, one, 10, 50);
    expect(&rates, two, 4, 8);
    look(&rates, hall, 15000); /* however often one looks */
    expect(&rates, one, 20 / 3.0, 100 / 3.0);
    room_rates_clear(&rates);
}

/* Another life of a name is another room; who is no room, or not open, is not counted. */
static void of_one_life_each(void **state)
{
    struct hall *hall = *state;
    struct room_rates rates = {0};
    uint64_t *room = make(hall, &a_room, "#room", 7);
    count(make(hall, &a_user, "user", 8), 1000, 1000);
    count(make(hall, &a_room, "#unborn", 0), 1000, 1000);
    count(room, 500, 500);
    look(&rates, hall, 1000);
    assert_int_equal(rates.newer.count, 1);
    look(&rates, hall, 4000);
    expect(&rates, room, 0, 0);
    room[ROOM_NUMBER_INCARNATION] = 9;
    room[ROOM_NUMBER_OPENED_MS] = WALL_MS + 2000;
    expect(&rates, room, 250, 250);
    room_rates_clear(&rates);
}

static void of_many(void **state)
{
    struct hall *hall = *state;
    struct room_rates rates = {0};
    uint64_t *rooms[1500];
    for (unsigned i = 0; i < 1500; i++) {
        char name[16];
        snprintf(name, sizeof(name), "#r%u", i);
        rooms[i] = make(hall, &a_room, name, (i * 7 % 1500) + 1); /* 7 is no part of it */
        count(rooms[i], 10, 10);
    }
    look(&rates, hall, 1000);
    for (unsigned i = 0; i < 1500; i++)
        count(rooms[i], 10 + i * 2, 10);
    look(&rates, hall, 3000);
    for (unsigned i = 0; i < 1500; i++)
        expect(&rates, rooms[i], i, 0);
    room_rates_clear(&rates);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(of_the_time_between),
        TEST(of_one_life_each),
        TEST(of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
