/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lmdb/space.h"

/* The estimate of what still fits a map, case by case. That it is safe is shown with a real map in
 * store_lmdb_test; here is what a real map does not show at will. */

static struct space space_of(uint64_t pages, uint64_t pages_used)
{
    struct space_file file = {.page_bytes = 4096, .pages = pages, .pages_used = pages_used};
    struct space space;
    space_begin(&space, &file);
    return space;
}

static void the_last_pages_are_kept(void **state)
{
    for (uint64_t behind = 0; behind < 60; behind++) {
        struct space space = space_of(1000, 1000 - behind);
        space_add(&space, SPACE_KEEPS, 100);
        assert_int_equal(space_fits(&space, SPACE_KEEPS), behind >= 18);
        assert_int_equal(space_fits(&space, SPACE_GROWS), behind >= 34);
        struct space listed = space_of(1000, 1000);
        space_add(&listed, SPACE_KEEPS, 100);
        space_list(&listed, behind, 1);
        assert_int_equal(space_fits(&listed, SPACE_KEEPS), behind >= 18);
    }
}

/* A map that was made smaller than its file. */
static void a_file_beyond_the_map_is_full(void **state)
{
    struct space space = space_of(1000, 1001);
    space_list(&space, 500, 500);
    assert_false(space_fits(&space, SPACE_KEEPS));
    assert_false(space_fits(&space, SPACE_MESSAGE));
}

/* Two nodes fit a page of 4,096 bytes without its head, or each has pages of its own. */
static void a_large_message_has_pages_of_its_own(void **state)
{
    struct space space = space_of(1000, 0);
    space_add(&space, SPACE_MESSAGE, 2030);
    assert_int_equal(space.inbox_value_pages, 0);
    space_add(&space, SPACE_MESSAGE, 2031);
    assert_int_equal(space.inbox_value_pages, 1);
}

/* How many pages must be free for 100 small messages. */
static uint64_t pages_wanted(uint64_t inbox_pages)
{
    for (uint64_t free_pages = 0;; free_pages++) {
        struct space_file file = {.page_bytes = 4096,
                                  .pages = 20000,
                                  .pages_used = 20000 - free_pages,
                                  .inbox_pages = inbox_pages};
        struct space space;
        space_begin(&space, &file);
        for (unsigned i = 0; i < 100; i++)
            space_add(&space, SPACE_MESSAGE, 10);
        if (space_fits(&space, SPACE_MESSAGE))
            return free_pages;
    }
}

/* But no page is copied twice. */
static void a_message_copies_two_pages(void **state)
{
    uint64_t none = pages_wanted(0);
    assert_int_equal(pages_wanted(1), none + 1);
    assert_int_equal(pages_wanted(199), none + 199);
    assert_int_equal(pages_wanted(200), none + 200);
    assert_int_equal(pages_wanted(201), none + 200);
}

static bool inboxes_fit(uint64_t behind, uint64_t listed, uint64_t run, unsigned messages)
{
    struct space space = space_of(20000, 20000 - behind);
    for (unsigned i = 0; i < messages; i++)
        space_add(&space, SPACE_MESSAGE, 4000); /* a page each */
    space_list(&space, listed, run);
    return space_fits(&space, SPACE_MESSAGE);
}

/* Dropping many pages at once lists them in a row, so there must be one. */
static void many_inboxes_need_a_row(void **state)
{
    assert_true(inboxes_fit(10000, 0, 0, 3000));
    assert_true(inboxes_fit(0, 10000, 10000, 3000));
    assert_false(inboxes_fit(0, 10000, 1, 3000));
    assert_false(inboxes_fit(0, 10000, 2999, 3000));
    assert_true(inboxes_fit(3100, 10000, 1, 3000));
    assert_false(inboxes_fit(3000, 10000, 1, 3000)); /* the values may take those behind */
    assert_true(inboxes_fit(0, 10000, 1, 300));      /* a list of one page needs no row */
    assert_false(inboxes_fit(0, 320, 320, 300));
}

/* Appending copies one way down the tree, whatever comes; dropping copies pages anywhere. */
static void the_log_is_appended_to(void **state)
{
    for (unsigned values = 1; values <= 1000; values *= 10) {
        struct space_file file = {
            .page_bytes = 4096, .pages = 20000, .pages_used = 10000, .log_pages = 5000};
        struct space space;
        space_begin(&space, &file);
        for (unsigned i = 0; i < values; i++)
            space_add(&space, SPACE_LOG, 100);
        uint64_t wanted = 2 * ((values * 110 + 4095) / 4096) + 8 + 2 + 3 * 16;
        for (uint64_t behind = wanted - 2; behind <= wanted + 2; behind++) {
            space.file.pages_used = 20000 - behind;
            assert_int_equal(space_fits(&space, SPACE_LOG), behind >= wanted);
        }
        for (unsigned i = 0; i < 100; i++)
            space_add(&space, SPACE_LOG_DROP, 0);
        space.file.pages_used = 20000 - wanted - 199;
        assert_false(space_fits(&space, SPACE_LOG));
        space.file.pages_used = 20000 - wanted - 200;
        assert_true(space_fits(&space, SPACE_LOG));
    }
}

/* Half of the map, what comes included. */
static void the_log_has_its_share(void **state)
{
    struct space_file file = {.page_bytes = 4096, .pages = 20000, .log_pages = 6000};
    for (uint64_t own = 3990; own < 4003; own++) {
        struct space space;
        file.log_value_pages = own;
        space_begin(&space, &file);
        space_add(&space, SPACE_LOG, 100);
        assert_int_equal(space_log_is_full(&space, SPACE_LOG), own + 2 > 4000);
        assert_int_equal(space_fits(&space, SPACE_LOG), own + 2 <= 4000);
        assert_true(space_fits(&space, SPACE_GROWS));
    }
}

/* What comes leaves an eighth of it, and pages of the file, to what makes room. */
static void what_makes_room_has_some(void **state)
{
    struct space_file file = {.page_bytes = 4096, .pages = 20000, .log_pages = 8700};
    struct space space;
    for (; file.log_pages < 8800; file.log_pages++) {
        space_begin(&space, &file);
        space_add(&space, SPACE_LOG_SPARING, 100);
        assert_int_equal(space_log_is_full(&space, SPACE_LOG_SPARING), file.log_pages + 2 > 8750);
        assert_int_equal(space_fits(&space, SPACE_LOG_SPARING), file.log_pages + 2 <= 8750);
        assert_true(space_fits(&space, SPACE_LOG));
    }
    file.log_pages = 100;
    for (uint64_t behind = 50; behind < 100; behind++) {
        file.pages_used = 20000 - behind;
        space_begin(&space, &file);
        space_add(&space, SPACE_LOG_SPARING, 100);
        assert_int_equal(space_fits(&space, SPACE_LOG_SPARING), behind >= 2 + 8 + 2 + 4 * 16);
        assert_int_equal(space_fits(&space, SPACE_LOG), behind >= 2 + 8 + 2 + 3 * 16);
    }
}

/* A value on pages of its own needs a row of them. */
static void a_large_value_needs_a_row(void **state)
{
    struct space space = space_of(20000, 20000);
    space_add(&space, SPACE_LOG, 70000);
    assert_int_equal(space.log_value_pages, 18);
    space_list(&space, 1000, 17);
    assert_false(space_fits(&space, SPACE_LOG));
    space_list(&space, 1000, 1000);
    assert_true(space_fits(&space, SPACE_LOG));
    space.file.pages_used = 20000 - 18;
    space_list(&space, 1000, 1);
    assert_true(space_fits(&space, SPACE_LOG));
    space.file.pages_used = 20000 - 17;
    assert_false(space_fits(&space, SPACE_LOG));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_pages_are_kept),
        cmocka_unit_test(a_file_beyond_the_map_is_full),
        cmocka_unit_test(a_large_message_has_pages_of_its_own),
        cmocka_unit_test(a_message_copies_two_pages),
        cmocka_unit_test(many_inboxes_need_a_row),
        cmocka_unit_test(the_log_is_appended_to),
        cmocka_unit_test(the_log_has_its_share),
        cmocka_unit_test(what_makes_room_has_some),
        cmocka_unit_test(a_large_value_needs_a_row),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
