/* SPDX-License-Identifier: Apache-2.0 */

/* The contract against the memory store, and its faults. */

#include "unit/storage/store_contract.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TESTS(setup),
        CONTRACT_TEST(failing_commits_undo, setup),
        CONTRACT_TEST(crash_drops_the_open_transaction, setup),
    };
    return cmocka_run_group_tests_name("store_memory", tests, NULL, NULL);
}
