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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_pages_are_kept),
        cmocka_unit_test(a_file_beyond_the_map_is_full),
        cmocka_unit_test(a_large_message_has_pages_of_its_own),
        cmocka_unit_test(a_message_copies_two_pages),
        cmocka_unit_test(many_inboxes_need_a_row),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
