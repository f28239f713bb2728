/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "instance/access.h"

/* Who may do something on the link: the token, and the numbers of links. */

enum { SLOT_MAX = (1 << LINK_SLOT_BITS) - 1 };

static const uint64_t KEY[2] = {0x0706050403020100, 0x0f0e0d0c0b0a0908};

static void a_number_leads_to_its_slot(void **state)
{
    const uint32_t slots[] = {0, 1, 2, 4711, SLOT_MAX - 1, SLOT_MAX};
    for (uint64_t serial = 1; serial < 100000; serial = serial * 3 + 1)
        for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
            uint32_t slot;
            uint64_t number = access_seal(KEY, serial, slots[i]);
            assert_true(access_slot(KEY, number, &slot));
            assert_int_equal(slot, slots[i]);
        }
}

/* A language that has doubles alone gets each of them whole. */
static void a_number_is_exact_as_a_double(void **state)
{
    uint64_t highest = 0;
    for (uint64_t serial = 0; serial < 10000; serial++) {
        uint64_t number = access_seal(KEY, serial, SLOT_MAX);
        assert_true(number < UINT64_C(1) << 53);
        assert_true((uint64_t)(double)number == number);
        highest = number > highest ? number : highest;
    }
    assert_true(highest > UINT64_C(1) << 51); /* and all bits are in use */
}

static void what_has_more_bits_is_no_number(void **state)
{
    uint32_t slot;
    uint64_t above = UINT64_C(1) << LINK_NUMBER_BITS;
    assert_false(access_slot(KEY, 0, &slot));
    assert_true(access_slot(KEY, above - 1, &slot));
    assert_false(access_slot(KEY, above, &slot));
    assert_false(access_slot(KEY, access_seal(KEY, 1, 1) + above, &slot));
    assert_false(access_slot(KEY, UINT64_MAX, &slot));
}

/* Who knows one number, his own, is as far from the next one as from any: about half of its bits
 * are others, and so they are with another key. */
static void numbers_tell_nothing_of_each_other(void **state)
{
    const uint64_t other[2] = {KEY[0] ^ 1, KEY[1]};
    unsigned near = 0, keyed = 0;
    for (uint64_t serial = 1; serial <= 1000; serial++) {
        uint64_t number = access_seal(KEY, serial, 7);
        near += (unsigned)__builtin_popcountll(number ^ access_seal(KEY, serial + 1, 7));
        keyed += (unsigned)__builtin_popcountll(number ^ access_seal(other, serial, 7));
    }
    assert_in_range(near, 25000, 27000); /* of 52,000 bits */
    assert_in_range(keyed, 25000, 27000);
}

static void no_two_links_have_one_number(void **state)
{
    enum { COUNT = 4096, CELLS = 4 * COUNT };
    uint64_t *seen = calloc(CELLS, sizeof(*seen));
    for (uint64_t serial = 1; serial <= COUNT; serial++) {
        uint64_t number = access_seal(KEY, serial, (uint32_t)serial);
        size_t cell = number % CELLS;
        for (; seen[cell] != 0; cell = (cell + 1) % CELLS)
            assert_true(seen[cell] != number);
        seen[cell] = number;
    }
    free(seen);
}

static void the_token_decides(void **state)
{
    struct settings *settings = calloc(1, sizeof(*settings));
    struct link_token *wanted = calloc(1, sizeof(*wanted) + 6);
    assert_true(access_token_is_right(settings, (struct bytes){0})); /* none is asked for */
    assert_true(access_token_is_right(settings, bytes_of_text("any")));
    wanted->size = 6;
    memcpy(wanted->bytes, "secret", 6);
    settings->link_token = wanted;
    assert_true(access_token_is_right(settings, bytes_of_text("secret")));
    const char *const wrong[] = {"", "secre", "secret ", "secreT", "Secret"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(access_token_is_right(settings, bytes_of_text(wrong[i])));
    free(wanted);
    free(settings);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_leads_to_its_slot),
        cmocka_unit_test(a_number_is_exact_as_a_double),
        cmocka_unit_test(what_has_more_bits_is_no_number),
        cmocka_unit_test(numbers_tell_nothing_of_each_other),
        cmocka_unit_test(no_two_links_have_one_number),
        cmocka_unit_test(the_token_decides),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
