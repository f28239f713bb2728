/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker/pins.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_found),
        cmocka_unit_test(keys_that_collide_are_kept_apart),
        cmocka_unit_test(those_who_are_gone_make_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
