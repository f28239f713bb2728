/* SPDX-License-Identifier: Apache-2.0 */
#include "broken.h"
#include "persist/queries.h"
#include "persist_stand.h"

/* What the headers of persist/ promise of their callers, broken on purpose. */

static void step_beside_the_thread(void *argument)
{
    struct stand *stand = argument;
    static _Atomic uint64_t beats;
    stand->committing.beats = &beats;
    (void)committer_start(stand->committer);
    WAIT_FOR(atomic_load(&beats) > 0);
    (void)committer_step(stand->committer);
}

static void start_twice(void *argument)
{
    struct stand *stand = argument;
    static _Atomic uint64_t beats;
    stand->committing.beats = &beats;
    (void)committer_start(stand->committer);
    (void)committer_start(stand->committer);
}

static void store_for_nobody(void *argument)
{
    struct stand *stand = argument;
    struct change change = {.self = 0};
    committer_submit(stand->committer, &change);
}

static void restore_beside_users(void *argument)
{
    struct stand *stand = argument;
    char error[BROKER_ERROR_BYTES];
    log_in(stand, "anna", 1);
    stand_run(stand);
    (void)restore_sessions(&stand->survivors, error);
}

/* The turn of anna's that waits for the store is not over. */
static void save_beside_a_turn(void *argument)
{
    struct stand *stand = argument;
    log_in(stand, "anna", 1);
    hall_run(&stand->hall);
    (void)save_inboxes(&stand->survivors, NULL);
}

static void promises(void **state)
{
    assert_true(is_broken(step_beside_the_thread, *state, "mark"));
    assert_true(is_broken(start_twice, *state, "!committer->started"));
    assert_true(is_broken(store_for_nobody, *state, "self != 0"));
    assert_true(is_broken(restore_beside_users, *state, "KIND_USER"));
    assert_true(is_broken(save_beside_a_turn, *state, "actor_in_turn(actor)"));
}

/* --- queries ---------------------------------------------------------------------------------- */

static struct queries *open_queries(struct stand *stand)
{
    const struct queries_options options = {.store = stand->store,
                                            .registry = stand->hall.registry,
                                            .scheduler = stand->hall.scheduler,
                                            .metrics = stand->hall.metrics,
                                            .node = "n1"};
    struct queries *queries;
    assert_int_equal(queries_open(&queries, &options), 0);
    return queries;
}

static void start_queries_twice(void *argument)
{
    struct queries *queries = argument;
    (void)queries_start(queries);
    (void)queries_start(queries);
}

static void ask_what_cannot_be_read(void *argument)
{
    struct queries *queries = argument;
    struct query_message *query = message_create(0, sizeof(*query) + 1);
    struct message header = query->header;
    memset(query, 0, sizeof(*query) + 1);
    query->header = header;
    query->kind = QUERY_COMMAND;
    query->size = 1;
    query->bytes[0] = 0xff;
    queries_submit(queries, query);
    (void)queries_step(queries);
}

static void promises_of_queries(void **state)
{
    struct queries *queries = open_queries(*state);
    assert_true(is_broken(start_queries_twice, queries, "!queries->started"));
    assert_true(is_broken(ask_what_cannot_be_read, queries, "command != NULL"));
    queries_close(queries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(promises),
        TEST(promises_of_queries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
