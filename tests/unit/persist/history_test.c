/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/history.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* What the committer writes beside its changes: all of it, or nothing for a while when there is no
 * room, and then how much is missing; refusals now and then. */

static uint64_t clock_ms;

static uint64_t monotonic_ns(void *context)
{
    return clock_ms * 1000000;
}

static uint64_t wall_ms(void *context)
{
    return clock_ms;
}

static const struct env env = {.monotonic_ns = monotonic_ns, .wall_ms = wall_ms};

struct stand {
    struct store *store;
    struct history *history;
    struct refusals *refusals;
};

static int set_up(void **state)
{
    const struct store_options kept = {.events_kept_max = 10, .history_max = 100};
    struct stand *stand = calloc(1, sizeof(*stand));
    assert_non_null(stand);
    clock_ms = 100000;
    assert_int_equal(store_open_memory(&stand->store, &kept), 0);
    stand->refusals = refusals_create(&env, NULL);
    stand->history = calloc(1, sizeof(*stand->history));
    assert_non_null(stand->history);
    stand->history->keeps = true;
    stand->history->env = &env;
    stand->history->refusals = stand->refusals;
    *state = stand;
    return 0;
}

static int tear_down(void **state)
{
    struct stand *stand = *state;
    store_close(stand->store);
    refusals_destroy(stand->refusals);
    free(stand->history);
    free(stand);
    return 0;
}

static struct change change_of(const char *user)
{
    struct change change = {.event = {.time_ms = clock_ms, .epoch = 5, .kind = 4, .cause = 6},
                            .note = {.by = "match/m1",
                                     .detail = "afk",
                                     .limit = "session.heartbeat_ms",
                                     .bound = 30000,
                                     .value = 91000}};
    strcpy(change.event.user, user);
    strcpy(change.event.address, "10.0.0.1:1");
    strcpy(change.record.transport, "tls");
    return change;
}

static void write_one(struct stand *stand, const char *user, int fault)
{
    struct change change = change_of(user);
    assert_int_equal(store_begin(stand->store), 0);
    assert_int_equal(history_write(stand->history, stand->store, user[0] ? &change : NULL), 0);
    store_memory_fail(stand->store, fault);
    int error = store_commit(stand->store, 0);
    store_memory_fail(stand->store, 0);
    assert_int_equal(error, fault);
    if (!history_gives_way(stand->history, error))
        history_settle(stand->history, error);
}

struct seen {
    size_t count;
    struct history_record list[64];
};

static bool see(void *context, const struct history_record *record)
{
    struct seen *seen = context;
    seen->list[seen->count++] = *record;
    return true;
}

static struct seen look(struct stand *stand, enum history_ring ring)
{
    struct seen seen = {0};
    const struct history_query query = {.ring = ring, .user = "", .limit = 64};
    struct history_page page;
    assert_int_equal(store_read_history(stand->store, &query, see, &seen, &page), 0);
    return seen;
}

static void a_record_says_what_the_turn_knew(void **state)
{
    struct stand *stand = *state;
    write_one(stand, "anna", 0);
    struct seen seen = look(stand, HISTORY_SESSIONS);
    assert_int_equal(seen.count, 1);
    const struct history_record *record = &seen.list[0];
    assert_string_equal(record->user, "anna");
    assert_string_equal(record->address, "10.0.0.1:1");
    assert_string_equal(record->transport, "tls");
    assert_string_equal(record->by, "match/m1");
    assert_string_equal(record->detail, "afk");
    assert_string_equal(record->limit, "session.heartbeat_ms");
    assert_int_equal(record->bound, 30000);
    assert_int_equal(record->value, 91000);
    assert_int_equal(record->epoch, 5);
    assert_int_equal(record->missing, 0);
}

/* Full: it goes without for ten seconds, and the next record says how many there would have been.
 */
static void without_room_it_keeps_quiet(void **state)
{
    struct stand *stand = *state;
    write_one(stand, "anna", -ENOSPC);
    assert_int_equal(look(stand, HISTORY_SESSIONS).count, 0);
    write_one(stand, "anna", 0); /* what the committer does next: the same, without */
    clock_ms += 9999;
    write_one(stand, "bob", 0);
    assert_int_equal(look(stand, HISTORY_SESSIONS).count, 0);
    clock_ms += 1;
    write_one(stand, "carol", 0);
    write_one(stand, "dave", 0);
    struct seen seen = look(stand, HISTORY_SESSIONS);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.list[1].missing, 2);
    assert_int_equal(seen.list[0].missing, 0);
}

/* A disk that fails otherwise is no matter of room: nothing is tried twice. */
static void other_failures_are_everybodys(void **state)
{
    struct stand *stand = *state;
    write_one(stand, "anna", -EIO);
    write_one(stand, "anna", 0);
    assert_int_equal(look(stand, HISTORY_SESSIONS).count, 1);
}

static void refuse(struct stand *stand, const char *user)
{
    const struct refusal refusal = {
        .kind = HISTORY_LOGIN_REFUSED, .user = user, .address = "10.0.0.1:1", .detail = "no"};
    refusals_note(stand->refusals, &refusal);
}

static void refusals_are_taken_every_five_seconds(void **state)
{
    struct stand *stand = *state;
    assert_false(history_is_due(stand->history));
    refuse(stand, "anna");
    assert_true(history_is_due(stand->history));
    write_one(stand, "", 0);
    assert_int_equal(look(stand, HISTORY_REFUSALS).count, 1);
    refuse(stand, "bob");
    clock_ms += 4999;
    assert_false(history_is_due(stand->history));
    write_one(stand, "carol", 0); /* a transaction that comes sooner leaves them */
    assert_int_equal(look(stand, HISTORY_REFUSALS).count, 1);
    clock_ms += 1;
    assert_true(history_is_due(stand->history));
    write_one(stand, "carol", 0);
    assert_int_equal(look(stand, HISTORY_REFUSALS).count, 2);
    /* Those of a transaction that fails are lost, and said to be. */
    clock_ms += 5000;
    refuse(stand, "dave");
    write_one(stand, "", -EIO);
    clock_ms += 5000;
    refuse(stand, "erin");
    write_one(stand, "", 0);
    struct seen seen = look(stand, HISTORY_REFUSALS);
    assert_int_equal(seen.count, 3);
    assert_string_equal(seen.list[0].user, "erin");
    assert_int_equal(seen.list[0].missing, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_record_says_what_the_turn_knew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_room_it_keeps_quiet, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_failures_are_everybodys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refusals_are_taken_every_five_seconds, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
