/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/storage/log_contract.h"

/* The contract against the memory store, and its faults. */

static int open_memory(struct store **store, const struct store_options *options, char *error)
{
    return store_open_memory(store, options);
}

static int setup(void **state)
{
    static const struct contract contract = {.open = open_memory, .keeps = false};
    return contract_setup(state, &contract);
}

static void failing_commits_undo(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct session_record record = contract_record(2);
    struct presence_event event = contract_event("bob", 2);
    contract_login(store, "anna", 1);
    static const int errors[] = {-ENOSPC, -EIO};
    for (size_t i = 0; i < 2; i++) {
        store_memory_fail(store, errors[i]);
        for (int again = 0; again < 2; again++) {
            assert_int_equal(store_begin(store), 0);
            assert_int_equal(store_put_session(store, "bob", &record), 0);
            assert_int_equal(store_delete_session(store, "anna"), 0);
            assert_int_equal(store_append_event(store, &event), 0);
            assert_int_equal(event.seq, 2);
            assert_int_equal(store_commit(store, 2), errors[i]);
            contract_assert_position(store, 1, 1, 1, 1);
        }
    }
    store_memory_fail(store, 0);
    assert_int_equal(contract_login(store, "bob", 2), 2);
    contract_assert_list(store, "", "", 9, "anna bob", false);
}

static void crash_drops_the_open_transaction(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct session_record record = contract_record(2);
    struct presence_event event = contract_event("bob", 2);
    contract_login(store, "anna", 1);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_session(store, "bob", &record), 0);
    assert_int_equal(store_append_event(store, &event), 0);
    store_memory_crash(store);
    store_memory_crash(store);
    contract_assert_position(store, 1, 1, 1, 1);
    assert_int_equal(contract_login(store, "carl", 3), 2);
    contract_assert_list(store, "", "", 9, "anna carl", false);
}

/* Power is lost in a commit: it is there afterwards or not, whole, and until then nothing is
 * answered. */
static void a_cut_is_all_or_nothing(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    contract_login(store, "anna", 1);
    for (int kept = 0; kept < 2; kept++) {
        struct session_record record = contract_record(2);
        struct presence_event event = contract_event("bob", 2);
        struct store_position position;
        struct saved_inbox inbox;
        uint64_t presence_last;
        bool more;
        store_memory_cut(store, kept != 0);
        store_memory_fail(store, -ENOSPC); /* comes first: that commit does not succeed */
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_commit(store, 2), -ENOSPC);
        assert_false(store_memory_is_cut(store));
        store_memory_fail(store, 0);

        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_put_session(store, "bob", &record), 0);
        assert_int_equal(store_append_event(store, &event), 0);
        contract_put_inbox(store, "bob", 3);
        assert_int_equal(contract_put_message(store, "bob", 1, 10), 0);
        assert_int_equal(store_commit(store, 2), -EIO);
        assert_true(store_memory_is_cut(store));
        for (int again = 0; again < 2; again++) {
            assert_int_equal(store_begin(store), -EIO);
            assert_int_equal(store_position(store, &position), -EIO);
            assert_int_equal(store_get_session(store, "anna", &record), -EIO);
            assert_int_equal(
                store_list_sessions(store, "", "", 9, seen_session, NULL, &presence_last, &more),
                -EIO);
            assert_int_equal(store_read_events(store, 0, 9, seen_event, NULL, &position), -EIO);
            assert_int_equal(store_read_inbox(store, "bob", &inbox, seen_message, NULL), -EIO);
        }
        store_memory_crash(store);
        assert_false(store_memory_is_cut(store));
        contract_assert_position(store, 1 + (uint64_t)kept, 1, 1 + (uint64_t)kept,
                                 1 + (uint64_t)kept);
        contract_assert_list(store, "", "", 9, kept ? "anna bob" : "anna", false);
        if (kept)
            contract_assert_inbox(store, "bob", 3, (const size_t[][2]){{1, 10}, {0}});
        else
            contract_assert_no_inbox(store, "bob");
    }
    assert_int_equal(contract_login(store, "carl", 3), 3);
}

static void a_crash_takes_a_cut_back(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    store_memory_cut(store, true);
    assert_int_equal(store_begin(store), 0);
    store_memory_crash(store);
    contract_login(store, "anna", 1);
    assert_false(store_memory_is_cut(store));
}

/* Of those that come: what is there may be more. */
static void the_log_has_a_bound(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    uint64_t number = 0;
    store_memory_bound_log(store, 100);
    assert_int_equal(store_begin(store), 0);
    contract_append(store, 1, 60);
    contract_append(store, 2, 40);
    assert_int_equal(store_append_log(store, bytes_of_text("x"), &number), 0);
    assert_int_equal(store_commit(store, 0), 0);
    contract_assert_log(store, 1, 2, 2, 100);
    store_memory_bound_log(store, 99);
    contract_drop_one(store, 2);
    assert_int_equal(contract_append_one(store, 3, 39), 3);
    store_memory_bound_log(store, 0);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_append_log(store, bytes_of_text("x"), &number), 0);
    assert_int_equal(store_commit(store, 0), 0);
    store_memory_bound_log(store, UINT64_MAX);
    assert_int_equal(contract_append_one(store, 4, 1000), 4);
}

static void a_value_is_damaged(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (uint8_t i = 1; i <= 3; i++)
        contract_append_one(store, i, 10);
    store_memory_damage_log(store, 2);
    store_memory_damage_log(store, 9);
    struct contract_log log = contract_log_of(store, 0);
    assert_int_equal(log.count, 3);
    assert_memory_equal(log.firsts, ((const uint8_t[]){1, 0, 3}), 3);
    assert_int_equal(store_get_log(store, (const uint64_t[]){2}, 1, contract_take_log, &log), 0);
    assert_int_equal(log.count, 4);
    assert_int_equal(log.firsts[3], 0);
    contract_drop_one(store, 2);
    contract_assert_log(store, 1, 3, 2, 20);
}

/* With the transaction that it came in, and with no other. */
static void a_cut_takes_the_log_along(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    contract_append_one(store, 1, 10);
    for (int kept = 0; kept < 2; kept++) {
        store_memory_cut(store, kept != 0);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(contract_append(store, 2, 10), 2);
        assert_int_equal(store_drop_log(store, 1), 0);
        assert_int_equal(store_commit(store, 0), -EIO);
        assert_int_equal(store_read_log(store, 0, contract_take_log, NULL), -EIO);
        assert_int_equal(store_get_log(store, NULL, 0, contract_take_log, NULL), -EIO);
        store_memory_crash(store);
        contract_assert_log(store, kept ? 2 : 1, kept ? 2 : 1, 1, 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TESTS(setup),
        CONTRACT_LOG_TESTS(setup),
        CONTRACT_TEST(failing_commits_undo, setup),
        CONTRACT_TEST(crash_drops_the_open_transaction, setup),
        CONTRACT_TEST(a_cut_is_all_or_nothing, setup),
        CONTRACT_TEST(a_crash_takes_a_cut_back, setup),
        CONTRACT_TEST(the_log_has_a_bound, setup),
        CONTRACT_TEST(a_value_is_damaged, setup),
        CONTRACT_TEST(a_cut_takes_the_log_along, setup),
    };
    return cmocka_run_group_tests_name("store_memory", tests, NULL, NULL);
}
