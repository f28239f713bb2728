/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broken.h"
#include "directory/pins.h"

/* The table of pins: found again, replaced, and small again when those who had them are gone. */

static bool above(void *context, const struct pin *pin)
{
    return pin->user > *(const uint64_t *)context;
}

static void each_is_found(void **state)
{
    struct pins pins = {0};
    uint64_t none = 0;
    assert_null(pins_find(&pins, 7));
    for (uint64_t i = 1; i <= 5000; i++) {
        struct pin pin = {i * UINT64_C(0x9e3779b97f4a7c15) | 1, i, 100000 + i, 0, 0};
        assert_true(pins_set(&pins, &pin, above, &none));
    }
    for (uint64_t i = 1; i <= 5000; i++)
        assert_int_equal(pins_find(&pins, i * UINT64_C(0x9e3779b97f4a7c15) | 1)->instance,
                         100000 + i);
    assert_null(pins_find(&pins, 7));
    pins_clear(&pins);
    assert_null(pins_find(&pins, 7));
}

static void keys_that_collide_are_kept_apart(void **state)
{
    struct pins pins = {0};
    uint64_t none = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        struct pin pin = {i << 32 | 5, i, i, 0, 0};
        assert_true(pins_set(&pins, &pin, above, &none));
    }
    pins_find(&pins, UINT64_C(50) << 32 | 5)->instance = 999;
    assert_int_equal(pins.count, 100);
    for (uint64_t i = 1; i <= 100; i++)
        assert_int_equal(pins_find(&pins, i << 32 | 5)->instance, i == 50 ? 999 : i);
    pins_clear(&pins);
}

/* However many come and go, the table holds those who are there, and a little more. */
static void those_who_are_gone_make_room(void **state)
{
    struct pins pins = {0};
    for (uint64_t i = 1; i <= 100000; i++) {
        uint64_t gone = i > 100 ? i - 100 : 0;
        struct pin pin = {i * UINT64_C(0x9e3779b97f4a7c15) | 1, i, i, 0, 0};
        assert_true(pins_set(&pins, &pin, above, &gone));
        assert_true(pins.size <= 512);
    }
    for (uint64_t i = 99901; i <= 100000; i++)
        assert_int_equal(pins_find(&pins, i * UINT64_C(0x9e3779b97f4a7c15) | 1)->instance, i);
    pins_clear(&pins);
}

struct asked {
    uint64_t gone; /* users up to this are */
    unsigned times;
};

static bool above_and_count(void *context, const struct pin *pin)
{
    struct asked *asked = context;
    asked->times++;
    return pin->user > asked->gone;
}

static uint64_t key_of(uint64_t user)
{
    return user * UINT64_C(0x9e3779b97f4a7c15) | 1;
}

/* However many there are, one more costs a look at some of them; and all are found, also while they
 * move, and those that were changed in the meantime as they were changed. */
static void no_step_walks_all_of_them(void **state)
{
    struct pins pins = {0};
    struct asked asked = {0};
    for (uint64_t i = 1; i <= 100000; i++) {
        struct pin pin = {key_of(i), i, i, 0, 0};
        asked.times = 0;
        assert_true(pins_set(&pins, &pin, above_and_count, &asked));
        assert_true(asked.times <= 256 + 8);
        uint64_t some = 1 + (i * UINT64_C(2654435761) >> 7) % i;
        struct pin *found = pins_find(&pins, key_of(some));
        assert_non_null(found);
        assert_true(found->user == some && found->instance % 1000000 == some % 1000000);
        found->instance += 1000000;
    }
    assert_int_equal(pins.count, 100000);
    for (uint64_t i = 1; i <= 100000; i++)
        assert_int_equal(pins_find(&pins, key_of(i))->user, i);
    pins_clear(&pins);
}

/* Who was dropped is not found in the table that he was dropped from. */
static void who_is_dropped_is_gone(void **state)
{
    struct pins pins = {0};
    struct asked asked = {0};
    uint64_t i = 0;
    while (pins.old == NULL || pins.size < 1024) {
        i++;
        struct pin pin = {key_of(i), i, i, 0, 0};
        assert_true(pins_set(&pins, &pin, above_and_count, &asked));
    }
    asked.gone = i;
    while (pins.old != NULL && pins.moved_to < pins.old_size / 2) {
        i++;
        struct pin pin = {key_of(i), i, i, 0, 0};
        assert_true(pins_set(&pins, &pin, above_and_count, &asked));
    }
    size_t left = 0;
    for (uint64_t k = 1; k <= i; k++)
        left += pins_find(&pins, key_of(k)) != NULL;
    assert_int_equal(left, pins.count);
    for (uint64_t k = 1; k <= asked.gone; k++) { /* they come back */
        struct pin pin = {key_of(k), i + k, 77, 0, 0};
        if (pins_find(&pins, key_of(k)) == NULL)
            assert_true(pins_set(&pins, &pin, above_and_count, &asked));
        else
            pins_find(&pins, key_of(k))->user = i + k;
    }
    for (uint64_t k = 1; k <= asked.gone; k++)
        assert_int_equal(pins_find(&pins, key_of(k))->user, i + k);
    pins_clear(&pins);
}

/* Whoever is gone when the next table is made, and back before his pin has moved, keeps it: again
 * and again, and nobody may be left without a place. */
static void those_who_come_back_have_room(void **state)
{
    struct pins pins = {0};
    struct asked asked = {0};
    for (uint64_t i = 1; i <= 5000; i++) {
        struct pin pin = {key_of(i), i, i, 0, 0};
        bool begins = pins.old == NULL && 4 * (pins.count + 1) > 3 * pins.size;
        asked.gone = begins && pins.size >= 1024 ? i - 1 : 0;
        assert_true(pins_set(&pins, &pin, above_and_count, &asked));
        assert_true(pins.count < pins.size);
    }
    pins_clear(&pins);
}

static void set_twice(void *argument)
{
    struct pins pins = {0};
    uint64_t none = 0;
    pins_set(&pins, argument, above, &none);
    pins_set(&pins, argument, above, &none);
}

static void a_key_is_odd_and_set_once(void **state)
{
    struct pin odd = {7, 1, 1, 0, 0}, even = {8, 1, 1, 0, 0};
    assert_true(is_broken(set_twice, &odd, "to->key == 0") ||
                is_broken(set_twice, &odd, "pins_find")); /* the slow check is the first */
    assert_true(is_broken(set_twice, &even, "key % 2 == 1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_found),
        cmocka_unit_test(keys_that_collide_are_kept_apart),
        cmocka_unit_test(those_who_are_gone_make_room),
        cmocka_unit_test(no_step_walks_all_of_them),
        cmocka_unit_test(who_is_dropped_is_gone),
        cmocka_unit_test(those_who_come_back_have_room),
        cmocka_unit_test(a_key_is_odd_and_set_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
