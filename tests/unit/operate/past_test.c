/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/past.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What has happened to a user, of both rings, newest first, however much there is of others. */

enum { NOW_MS = 1000000 };

static uint64_t wall_ms(void *context)
{
    return NOW_MS;
}

static const struct env env = {.wall_ms = wall_ms};

static int set_up(void **state)
{
    const struct store_options kept = {.events_kept_max = 10, .history_max = 100000};
    struct store *store;
    assert_int_equal(store_open_memory(&store, &kept), 0);
    *state = store;
    return 0;
}

static int tear_down(void **state)
{
    store_close(*state);
    return 0;
}

static void tell(struct store *store, enum history_ring ring, const char *user, uint64_t time_ms)
{
    struct history_record record = {.time_ms = time_ms,
                                    .kind = ring == HISTORY_SESSIONS ? HISTORY_ONLINE
                                                                     : HISTORY_LOGIN_REFUSED};
    snprintf(record.user, sizeof(record.user), "%s", user);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_append_history(store, ring, &record), 1);
    assert_int_equal(store_commit(store, 0), 0);
}

static struct past_page read_page(struct store *store, const char *user, size_t limit,
                                  uint64_t age_ms)
{
    const struct past past = {.store = store, .env = &env, .age_ms = age_ms};
    struct past_page page;
    assert_int_equal(past_read(&past, user, limit, &page), 0);
    for (size_t i = 0; i < page.count; i++)
        assert_string_equal(page.list[i].user, user);
    for (size_t i = 1; i < page.count; i++)
        assert_true(page.list[i - 1].time_ms >= page.list[i].time_ms);
    return page;
}

static void both_rings_by_time(void **state)
{
    tell(*state, HISTORY_SESSIONS, "anna", 10);
    tell(*state, HISTORY_REFUSALS, "anna", 20);
    tell(*state, HISTORY_SESSIONS, "anna2", 25); /* begins like her */
    tell(*state, HISTORY_SESSIONS, "anna", 30);
    struct past_page page = read_page(*state, "anna", 0, 0);
    assert_int_equal(page.count, 3);
    assert_false(page.more);
    assert_int_equal(page.kept, 4);
    assert_int_equal(page.first_ms, 10);
    assert_int_equal(page.list[1].kind, HISTORY_LOGIN_REFUSED);
    free(page.list);
    page = read_page(*state, "anna", 2, 0); /* the newest of both, not two of one */
    assert_int_equal(page.count, 2);
    assert_true(page.more);
    assert_int_equal(page.list[0].time_ms, 30);
    assert_int_equal(page.list[1].time_ms, 20);
    free(page.list);
    page = read_page(*state, "nobody", 0, 0);
    assert_int_equal(page.count, 0);
    assert_false(page.more);
    assert_int_equal(page.kept, 4);
    free(page.list);
}

static void a_refusal_is_later_than_what_it_was_refused_for(void **state)
{
    tell(*state, HISTORY_SESSIONS, "bob", 10);
    tell(*state, HISTORY_REFUSALS, "anna", 20); /* its number is the smaller one */
    tell(*state, HISTORY_SESSIONS, "anna", 20);
    struct past_page page = read_page(*state, "anna", 0, 0);
    assert_int_equal(page.count, 2);
    assert_int_equal(page.list[0].kind, HISTORY_LOGIN_REFUSED);
    assert_int_equal(page.list[1].kind, HISTORY_ONLINE);
    free(page.list);
}

static void an_answer_is_bounded(void **state)
{
    for (int i = 0; i < 500; i++) {
        tell(*state, HISTORY_SESSIONS, i % 2 ? "anna" : "bob", 1000 + i);
        tell(*state, HISTORY_REFUSALS, i % 2 ? "anna" : "bob", 1000 + i);
    }
    const struct {
        size_t limit, count;
    } rows[] = {{0, 20}, {1, 1}, {200, 200}, {201, 200}, {1000000, 200}, {SIZE_MAX, 200}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct past_page page = read_page(*state, "anna", rows[i].limit, 0);
        assert_int_equal(page.count, rows[i].count);
        assert_true(page.more);
        assert_int_equal(page.list[0].time_ms, 1499);
        free(page.list);
    }
}

static void old_ones_are_not_told(void **state)
{
    tell(*state, HISTORY_SESSIONS, "anna", NOW_MS - 1001);
    tell(*state, HISTORY_SESSIONS, "anna", NOW_MS - 1000);
    tell(*state, HISTORY_REFUSALS, "anna", NOW_MS - 2000);
    struct past_page page = read_page(*state, "anna", 0, 1000);
    assert_int_equal(page.count, 1);
    assert_int_equal(page.list[0].time_ms, NOW_MS - 1000);
    assert_int_equal(page.first_ms, NOW_MS - 1000);
    free(page.list);
    page = read_page(*state, "anna", 0, 0);
    assert_int_equal(page.count, 3);
    assert_int_equal(page.first_ms, NOW_MS - 2000);
    free(page.list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_rings_by_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refusal_is_later_than_what_it_was_refused_for, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_ones_are_not_told, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
