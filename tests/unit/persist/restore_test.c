/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/restore.h"
#include "unit/broker/broker_fixture.h"

#include "storage/store_ops.h"

/* The start: from where epochs are counted. */

static uint64_t wall_now_ms;

static uint64_t set_wall_ms(void *context)
{
    return wall_now_ms;
}

enum { FLOOR_BITS = 16 };
static const uint64_t START_S = 1767225600; /* 2026-01-01 */

static uint64_t epoch_after_start(struct glue *glue, uint64_t wall_s)
{
    char error[BROKER_ERROR_BYTES];
    wall_now_ms = wall_s * 1000;
    glue->hall.own_env.wall_ms = set_wall_ms;
    assert_int_equal(restore_sessions(&glue->broker, error), 0);
    return atomic_load(&glue->broker.counters.epoch_last);
}

static void store_epoch(struct glue *glue, uint64_t epoch)
{
    assert_int_equal(store_begin(glue->store), 0);
    assert_int_equal(store_commit(glue->store, epoch), 0);
}

static void epochs_begin_at_the_time(void **state)
{
    struct glue *glue = *state;
    assert_int_equal(epoch_after_start(glue, START_S - 1), 0);
    assert_int_equal(epoch_after_start(glue, START_S), 0);
    assert_int_equal(epoch_after_start(glue, START_S + 1), 1 << FLOOR_BITS);
}

/* 65,535 logins a second would have to have come, for all the time since the backup was made,
 * before its epochs came again. */
static void a_store_from_an_old_backup_gives_no_epoch_again(void **state)
{
    struct glue *glue = *state;
    uint64_t backup = epoch_after_start(glue, START_S + 1000) + 10;
    store_epoch(glue, backup); /* more logins followed, which it does not know */
    assert_int_equal(epoch_after_start(glue, START_S + 1100), UINT64_C(1100) << FLOOR_BITS);
}

/* The clock may have been set back. */
static void epochs_never_go_back(void **state)
{
    struct glue *glue = *state;
    uint64_t epoch = (UINT64_C(5000) << FLOOR_BITS) + 7;
    store_epoch(glue, epoch);
    assert_int_equal(epoch_after_start(glue, START_S + 4999), epoch);
    assert_int_equal(epoch_after_start(glue, START_S + 5000), epoch);
    assert_int_equal(epoch_after_start(glue, START_S + 5001), UINT64_C(5001) << FLOOR_BITS);
}

static unsigned rests;

static void count_rest(struct store *store)
{
    rests++;
}

/* A start has looked at every page. */
static void memory_is_given_back_after_the_start(void **state)
{
    struct glue *glue = *state;
    static struct store_ops counting;
    const struct store_ops *ops = glue->store->ops;
    counting = *ops;
    counting.rest = count_rest;
    glue->store->ops = &counting;
    (void)epoch_after_start(glue, START_S);
    assert_int_equal(rests, 1);
    glue->store->ops = ops;
}

#define TEST_OWN_CLOCK(name) cmocka_unit_test_setup_teardown(name, set_up_own_clock, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_OWN_CLOCK(epochs_begin_at_the_time),
        TEST_OWN_CLOCK(a_store_from_an_old_backup_gives_no_epoch_again),
        TEST_OWN_CLOCK(epochs_never_go_back),
        TEST_OWN_CLOCK(memory_is_given_back_after_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
