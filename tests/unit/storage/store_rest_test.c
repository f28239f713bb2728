/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/storage/store_contract.h"

/* store_rest: the pages that were looked at are no memory of this process any more, everything is
 * there as before, and those who read meanwhile see nothing of it. */

enum { SESSIONS = 3000, GROUP = 250, ROUNDS = 300, LITTLE_BYTES = 16 << 10 };

static int setup(void **state)
{
    static const struct contract contract = {.open = store_open_lmdb, .keeps = true};
    return contract_setup(state, &contract);
}

/* Resident bytes of the store's file, as the kernel tells them. */
static size_t resident_bytes(const struct fixture *fixture)
{
    char line[512];
    char path[128];
    size_t total = 0;
    bool ours = false;
    (void)snprintf(path, sizeof(path), "%s/data.mdb", fixture->folder);
    FILE *file = fopen("/proc/self/smaps", "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        size_t kilobytes;
        char first;
        if (strstr(line, path) != NULL)
            ours = true;
        else if (sscanf(line, "%*x-%*x %c", &first) == 1)
            ours = false;
        else if (ours && sscanf(line, "Rss: %zu kB", &kilobytes) == 1)
            total += kilobytes * 1024;
    }
    (void)fclose(file);
    return total;
}

static void name_of(int user, char name[32])
{
    (void)snprintf(name, 32, "player-%06d", user);
}

static void fill(struct store *store)
{
    for (int user = 0; user < SESSIONS;) {
        assert_int_equal(store_begin(store), 0);
        for (int i = 0; i < GROUP; i++, user++) {
            char name[32];
            name_of(user, name);
            struct session_record record = contract_record((uint64_t)user + 1);
            assert_int_equal(store_put_session(store, name, &record), 0);
        }
        assert_int_equal(store_commit(store, (uint64_t)user), 0);
    }
}

/* -1, or the number of the first session that is not what was stored. No assertions: threads. */
static int first_wrong(struct store *store)
{
    for (int user = 0; user < SESSIONS; user++) {
        char name[32];
        struct session_record record;
        name_of(user, name);
        if (store_get_session(store, name, &record) != 0 || record.epoch != (uint64_t)user + 1)
            return user;
    }
    return -1;
}

static void memory_is_given_back(void **state)
{
    struct fixture *fixture = *state;
    for (int life = 0; life < 2; life++) {
        if (life == 0)
            fill(fixture->store);
        else
            contract_reopen(fixture);
        assert_int_equal(first_wrong(fixture->store), -1);
        assert_true(resident_bytes(fixture) > SESSIONS * 100);
        store_rest(fixture->store);
        assert_true(resident_bytes(fixture) < LITTLE_BYTES);
        assert_int_equal(first_wrong(fixture->store), -1);
    }
    contract_login(fixture->store, "late", SESSIONS + 1);
}

static void inside_a_transaction_nothing_happens(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture->store);
    assert_int_equal(first_wrong(fixture->store), -1);
    size_t before = resident_bytes(fixture);
    assert_int_equal(store_begin(fixture->store), 0);
    store_rest(fixture->store);
    assert_true(resident_bytes(fixture) >= before);
    store_abort(fixture->store);
}

struct reading {
    struct store *store;
    _Atomic bool over;
    _Atomic int rounds;
    int wrong;
};

static void *read_on(void *argument)
{
    struct reading *reading = argument;
    reading->wrong = -1;
    while (!atomic_load(&reading->over) && reading->wrong < 0) {
        reading->wrong = first_wrong(reading->store);
        atomic_fetch_add(&reading->rounds, 1);
    }
    return NULL;
}

static void readers_are_not_disturbed(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture->store);
    struct reading reading = {.store = fixture->store};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reading), 0);
    for (int i = 0; i < ROUNDS || atomic_load(&reading.rounds) < 3; i++) {
        contract_login(fixture->store, "zoe", SESSIONS + 1 + (uint64_t)i);
        store_rest(fixture->store);
    }
    atomic_store(&reading.over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(reading.wrong, -1);
}

/* A store without a file has nothing to give back. */
static void in_memory_it_does_nothing(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = NULL;
    assert_int_equal(store_open_memory(&store, &fixture->options), 0);
    contract_login(store, "ann", 1);
    store_rest(store);
    struct session_record record;
    assert_int_equal(store_get_session(store, "ann", &record), 0);
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(memory_is_given_back, setup, contract_teardown),
        cmocka_unit_test_setup_teardown(inside_a_transaction_nothing_happens, setup,
                                        contract_teardown),
        cmocka_unit_test_setup_teardown(readers_are_not_disturbed, setup, contract_teardown),
        cmocka_unit_test_setup_teardown(in_memory_it_does_nothing, setup, contract_teardown),
    };
    return cmocka_run_group_tests_name("store_rest", tests, NULL, NULL);
}
