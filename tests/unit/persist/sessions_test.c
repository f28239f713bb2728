/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/sessions.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Pages of sessions: which rows, where a page ends, and where the next one begins. The users are a
 * to h; every third one is away. */

enum { USERS = 8 };

struct shelf {
    struct sessions sessions;
    char
        seen[64]; /* the names of the rows, with the inbox where something waits, "!": no session */
    size_t room;  /* for so many rows */
};

static const struct behaviour user = {.name = "user"};

static int set_up(void **state)
{
    struct shelf *shelf = calloc(1, sizeof(*shelf));
    const struct store_options kept = {.events_kept_max = 100};
    assert_non_null(shelf);
    shelf->room = SIZE_MAX;
    assert_int_equal(store_open_memory(&shelf->sessions.store, &kept), 0);
    assert_int_equal(registry_create(&shelf->sessions.registry, 10, 8, env_system()), 0);
    for (unsigned i = 0; i < USERS; i++) {
        const char name[2] = {(char)('a' + i)};
        struct session_record record = {.epoch = 1 + i,
                                        .state = i % 3 == 2 ? SESSION_DETACHED : SESSION_ONLINE};
        struct presence_event event = {.epoch = 1 + i, .user = {name[0]}};
        assert_int_equal(store_begin(shelf->sessions.store), 0);
        assert_int_equal(store_put_session(shelf->sessions.store, name, &record), 0);
        assert_int_equal(store_append_event(shelf->sessions.store, &event), 0);
        assert_int_equal(store_commit(shelf->sessions.store, 1 + i), 0);
    }
    *state = shelf;
    return 0;
}

static int tear_down(void **state)
{
    struct shelf *shelf = *state;
    registry_destroy(shelf->sessions.registry);
    store_close(shelf->sessions.store);
    free(shelf);
    return 0;
}

static bool note(void *context, const struct session_row *row)
{
    struct shelf *shelf = context;
    size_t used = strlen(shelf->seen);
    if (shelf->room-- == 0)
        return false;
    used += (size_t)snprintf(shelf->seen + used, sizeof(shelf->seen) - used, "%s%s", row->user,
                             row->record == NULL ? "!" : "");
    if (row->inbox_messages != 0)
        snprintf(shelf->seen + used, sizeof(shelf->seen) - used, "%u", row->inbox_messages);
    return true;
}

static struct session_page list(struct shelf *shelf, const char *after, enum session_state state,
                                size_t limit)
{
    struct session_page page = {.prefix = "", .after = after, .state = state, .limit = limit};
    shelf->seen[0] = '\0';
    assert_int_equal(sessions_list(&shelf->sessions, &page, note, shelf), 0);
    return page;
}

static void a_page_ends_at_its_limit(void **state)
{
    struct shelf *shelf = *state;
    struct session_page page = list(shelf, "", 0, 3);
    assert_string_equal(shelf->seen, "abc");
    assert_true(page.more);
    assert_string_equal(page.last, "c");
    assert_int_equal(page.presence_seq, USERS);
    page = list(shelf, "c", 0, USERS - 4); /* one is left, the last of all */
    assert_true(page.more);
    assert_string_equal(page.last, "g");
    page = list(shelf, "c", 0, USERS - 3);
    assert_string_equal(shelf->seen, "defgh");
    assert_false(page.more);
}

static void what_is_not_wanted_takes_no_place(void **state)
{
    struct shelf *shelf = *state;
    struct session_page page = list(shelf, "", SESSION_DETACHED, 1);
    assert_string_equal(shelf->seen, "c");
    assert_true(page.more);
    page = list(shelf, page.last, SESSION_DETACHED, 1);
    assert_string_equal(shelf->seen, "f");
    assert_true(page.more); /* nobody has looked behind it */
    page = list(shelf, page.last, SESSION_DETACHED, 1);
    assert_string_equal(shelf->seen, "");
    assert_string_equal(page.last, "h");
    assert_false(page.more);
    list(shelf, "", SESSION_ONLINE, 100);
    assert_string_equal(shelf->seen, "abdegh");
}

static void a_row_without_room_begins_the_next_page(void **state)
{
    struct shelf *shelf = *state;
    shelf->room = 2;
    struct session_page page = list(shelf, "", 0, 100);
    assert_string_equal(shelf->seen, "ab");
    assert_true(page.more);
    assert_string_equal(page.last, "b");
}

static void a_row_shows_what_waits(void **state)
{
    struct shelf *shelf = *state;
    struct registry *registry = shelf->sessions.registry;
    actor_handle handle = registry_claim(registry, "b", 1, &user);
    atomic_store(&registry_actor(registry, actor_slot(handle))->gauge, 7);
    list(shelf, "", 0, 3);
    assert_string_equal(shelf->seen, "ab7c");
}

static void names_are_looked_up_in_their_order(void **state)
{
    static const char *const names[] = {"h", "nobody", "a", "h"};
    struct shelf *shelf = *state;
    uint64_t presence_seq = 0;
    bool more = true;
    assert_int_equal(
        sessions_look_up(&shelf->sessions, names, 4, note, shelf, &presence_seq, &more), 0);
    assert_string_equal(shelf->seen, "hnobody!ah");
    assert_false(more);
    assert_int_equal(presence_seq, USERS);
    shelf->seen[0] = '\0';
    shelf->room = 3;
    assert_int_equal(
        sessions_look_up(&shelf->sessions, names, 4, note, shelf, &presence_seq, &more), 0);
    assert_string_equal(shelf->seen, "hnobody!a");
    assert_true(more);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_page_ends_at_its_limit),
        TEST(what_is_not_wanted_takes_no_place),
        TEST(a_row_without_room_begins_the_next_page),
        TEST(a_row_shows_what_waits),
        TEST(names_are_looked_up_in_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
