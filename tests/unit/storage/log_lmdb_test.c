/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "storage/inspect.h"
#include "storage/record.h"
#include "unit/storage/log_contract.h"
#include "unit/storage/meddle.h"

/* The log of the store on disk: the contract, and what only a disk can do to it. */

static int setup(void **state)
{
    static const struct contract contract = {.open = store_open_lmdb, .keeps = true};
    return contract_setup(state, &contract);
}

static void shut(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

static int try_open(struct fixture *fixture)
{
    fixture->store = NULL;
    return store_open_lmdb(&fixture->store, &fixture->options, fixture->error);
}

static void assert_damaged(struct fixture *fixture)
{
    assert_int_equal(try_open(fixture), -EUCLEAN);
    assert_non_null(strstr(fixture->error, fixture->folder));
}

/* A store in which nothing is, with a map of that size. */
static void renew(struct fixture *fixture, uint64_t map_bytes)
{
    char path[128];
    shut(fixture);
    (void)snprintf(path, sizeof(path), "%s/data.mdb", fixture->folder);
    assert_int_equal(unlink(path), 0);
    fixture->options.map_bytes_max = map_bytes;
    assert_int_equal(try_open(fixture), 0);
}

static MDB_val key_of(uint64_t number, uint8_t bytes[RECORD_EVENT_KEY_BYTES])
{
    record_event_key(number, bytes);
    return (MDB_val){RECORD_EVENT_KEY_BYTES, bytes};
}

/* --- layout ------------------------------------------------------------------------------- */

static MDB_stat stat_of(const struct fixture *fixture)
{
    MDB_env *env;
    MDB_txn *transaction;
    MDB_dbi log;
    MDB_stat stat;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, fixture->folder, MDB_RDONLY, 0600), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction), 0);
    assert_int_equal(mdb_dbi_open(transaction, "log", 0, &log), 0);
    assert_int_equal(mdb_stat(transaction, log, &stat), 0);
    mdb_txn_abort(transaction);
    mdb_env_close(env);
    return stat;
}

/* Two of the largest that share pages fill one, so appending wastes nothing. */
static void values_share_pages(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(store_begin(fixture->store), 0);
    for (int i = 0; i < 100; i++)
        contract_append(fixture->store, 1, STORE_LOG_VALUE_BYTES);
    assert_int_equal(store_commit(fixture->store, 0), 0);
    shut(fixture);
    MDB_stat stat = stat_of(fixture);
    assert_int_equal(stat.ms_entries, 100);
    assert_int_equal(stat.ms_overflow_pages, 0);
    assert_int_equal(stat.ms_leaf_pages, 50);
    assert_int_equal(try_open(fixture), 0);
    contract_append_one(fixture->store, 1, STORE_LOG_VALUE_BYTES + 40);
    shut(fixture);
    assert_int_equal(stat_of(fixture).ms_overflow_pages, 1);
    assert_int_equal(try_open(fixture), 0);
}

/* --- older stores ------------------------------------------------------------------------- */

static void an_older_store_gets_an_empty_log(void **state)
{
    struct fixture *fixture = *state;
    for (int version = 1; version <= 2; version++) {
        renew(fixture, CONTRACT_MAP_BYTES);
        contract_login(fixture->store, "anna", 7);
        contract_append_one(fixture->store, 1, 10);
        shut(fixture);
        if (version == 1)
            meddle_to_version_1(fixture->folder);
        else
            meddle_to_version_2(fixture->folder);
        /* From outside it is as it was. */
        struct store_about about;
        assert_int_equal(
            store_open_reader(&fixture->store, fixture->folder, &about, fixture->error), 0);
        assert_string_equal(about.schema, version == 1 ? "usher-store-1" : "usher-store-2");
        contract_assert_log(fixture->store, 1, 0, 0, 0);
        struct contract_log log = {.count = 0};
        assert_int_equal(
            store_get_log(fixture->store, (const uint64_t[]){1}, 1, contract_take_log, &log), 0);
        assert_int_equal(log.count, 0);
        shut(fixture);
        fixture->options.lock = STDOUT_FILENO; /* of a process that reads it as it is */
        assert_int_equal(try_open(fixture), -ENOTSUP);
        fixture->options.lock = 0;
        assert_int_equal(try_open(fixture), 0);
        assert_string_equal(store_upgraded_from(fixture->store),
                            version == 1 ? "usher-store-1" : "usher-store-2");
        contract_assert_log(fixture->store, 1, 0, 0, 0);
        contract_assert_position(fixture->store, 7, 1, 1, 1);
        assert_int_equal(contract_append_one(fixture->store, 2, 20), 1);
        contract_reopen(fixture);
        assert_null(store_upgraded_from(fixture->store));
        contract_assert_log(fixture->store, 1, 1, 1, 20);
    }
}

static int login_try(struct store *store, const char *name, uint64_t epoch)
{
    struct session_record record = contract_record(epoch);
    struct presence_event event = contract_event(name, epoch);
    assert_int_equal(store_begin(store), 0);
    (void)store_put_session(store, name, &record);
    (void)store_append_event(store, &event);
    return store_commit(store, epoch);
}

/* Who comes from before has perhaps no room for anything; what each transaction leaves will do. */
static void a_full_map_is_upgraded(void **state)
{
    struct fixture *fixture = *state;
    renew(fixture, 512 << 10);
    uint64_t epoch = 0;
    char name[32];
    do
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)++epoch);
    while (login_try(fixture->store, name, epoch) == 0);
    shut(fixture);
    meddle_to_version_2(fixture->folder);
    assert_int_equal(try_open(fixture), 0);
    contract_assert_position(fixture->store, epoch - 1, epoch - CONTRACT_KEPT, epoch - 1,
                             epoch - 1);
    contract_assert_log(fixture->store, 1, 0, 0, 0);
    assert_int_equal(login_try(fixture->store, "player-000001", 1), 0);
}

/* --- damage ------------------------------------------------------------------------------- */

static void spoil(const struct fixture *fixture, uint64_t number, const char *content)
{
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    meddle_value(fixture->folder, "log", key_of(number, key),
                 (MDB_val){strlen(content), (void *)content});
}

/* It costs what is in it: the store opens, whoever reads is told, and it can be dropped. */
static void a_damaged_value_is_passed_over(void **state)
{
    struct fixture *fixture = *state;
    static const char *const contents[] = {"a changed value of some length", "x", "\1\1\1\1\1",
                                           "\1\1\1\1\1and so on"};
    for (size_t i = 0; i < 4; i++) {
        renew(fixture, CONTRACT_MAP_BYTES);
        for (uint8_t value = 1; value <= 5; value++)
            contract_append_one(fixture->store, value, 10);
        shut(fixture);
        spoil(fixture, 3, contents[i]);
        assert_int_equal(try_open(fixture), 0);
        struct contract_log log = {.count = 0};
        if (strlen(contents[i]) > RECORD_HEADER_BYTES) {
            log = contract_log_of(fixture->store, 2);
            assert_int_equal(log.count, 4);
            assert_memory_equal(log.firsts, ((const uint8_t[]){2, 0, 4, 5}), 4);
            log = (struct contract_log){.count = 0};
            const uint64_t asked[] = {3, 4};
            assert_int_equal(store_get_log(fixture->store, asked, 2, contract_take_log, &log), 0);
            assert_memory_equal(log.firsts, ((const uint8_t[]){0, 4}), 2);
        }
        struct store_position position;
        assert_int_equal(store_position(fixture->store, &position), 0);
        assert_int_equal(position.log_values, 5);
        assert_int_equal(contract_append_one(fixture->store, 6, 10), 6);
        contract_drop_one(fixture->store, 3);
        log = contract_log_of(fixture->store, 0);
        assert_int_equal(log.count, 5);
        assert_memory_equal(log.firsts, ((const uint8_t[]){1, 2, 4, 5, 6}), 5);
    }
}

/* Under another's number a sound value is damaged, too. */
static void a_value_is_of_its_number(void **state)
{
    struct fixture *fixture = *state;
    uint8_t value[RECORD_HEADER_BYTES + 10];
    for (uint8_t byte = 1; byte <= 3; byte++)
        contract_append_one(fixture->store, byte, 10);
    shut(fixture);
    record_pack_log_value(2, (struct bytes){(const uint8_t *)"\2\2\2\2\2\2\2\2\2\2", 10}, value);
    uint8_t key[RECORD_EVENT_KEY_BYTES];
    meddle_value(fixture->folder, "log", key_of(1, key), (MDB_val){sizeof(value), value});
    assert_int_equal(try_open(fixture), 0);
    struct contract_log log = contract_log_of(fixture->store, 0);
    assert_memory_equal(log.firsts, ((const uint8_t[]){0, 2, 3}), 3);
}

/* Numbers that nobody gave, keys that are none, counters that are gone or beyond all. */
static void a_damaged_log_is_refused(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 6; i++) {
        uint8_t counters[RECORD_LOG_BYTES];
        renew(fixture, CONTRACT_MAP_BYTES);
        contract_append_one(fixture->store, 1, 10);
        contract_append_one(fixture->store, 2, 10);
        contract_append_one(fixture->store, 3, 10);
        shut(fixture);
        if (i == 0)
            spoil(fixture, 4, "nobody gave that number");
        if (i == 1)
            spoil(fixture, 0, "nor 0");
        if (i == 2)
            meddle(fixture->folder, "log", "short", "no key");
        if (i == 3)
            meddle(fixture->folder, "meta", "log", "no counters");
        if (i == 4)
            record_pack_log(UINT64_MAX, 30, counters);
        if (i == 5)
            record_pack_log(2, 30, counters);
        if (i == 4 || i == 5)
            meddle_value(fixture->folder, "meta", (MDB_val){3, "log"},
                         (MDB_val){sizeof(counters), counters});
        assert_damaged(fixture);
        fixture->store = NULL;
    }
}

/* The log is what may be changed without anybody noticing it when the store is opened: then its
 * reader does. */
static void a_flipped_bit_is_never_believed(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/data.mdb", fixture->folder);
    for (uint8_t value = 1; value <= 40; value++)
        contract_append_one(fixture->store, value, 30u * value);
    contract_drop_one(fixture->store, 7);
    shut(fixture);
    FILE *file = fopen(path, "r+");
    struct stat status;
    assert_non_null(file);
    assert_int_equal(stat(path, &status), 0);
    uint32_t seed = 3;
    unsigned refused = 0;
    unsigned damaged = 0;
    for (int round = 0; round < 1500; round++) {
        long at = (long)model_random(&seed, (uint32_t)status.st_size);
        int bit = 1 << model_random(&seed, 8);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        int byte = fgetc(file);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_equal(fputc(byte ^ bit, file), byte ^ bit);
        assert_int_equal(fflush(file), 0);
        int result = try_open(fixture);
        struct contract_log log = {.count = 0};
        if (result == 0)
            result = store_read_log(fixture->store, 0, contract_take_log, &log);
        if (result == 0) {
            assert_int_equal(log.count, 39);
            for (size_t i = 0; i < log.count; i++) {
                uint64_t number = i + (i < 6 ? 1 : 2);
                assert_int_equal(log.numbers[i], number);
                damaged += log.firsts[i] == 0;
                if (log.firsts[i] != 0) {
                    assert_int_equal(log.firsts[i], number);
                    assert_int_equal(log.sizes[i], 30 * number);
                }
            }
        } else {
            assert_int_equal(result, -EUCLEAN);
            refused++;
        }
        shut(fixture);
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_equal(fputc(byte, file), byte);
        assert_int_equal(fflush(file), 0);
    }
    fclose(file);
    print_message("%u refused, %u with a damaged value\n", refused, damaged);
    assert_true(refused > 5 && damaged > 100);
}

/* --- room --------------------------------------------------------------------------------- */

/* How many of `values` there was room for in one transaction. */
static uint64_t append_some(struct store *store, size_t size, uint64_t values)
{
    static const uint8_t value[70000];
    uint64_t number;
    uint64_t stored = 0;
    assert_int_equal(store_begin(store), 0);
    for (; stored < values; stored++) {
        int result = store_append_log(store, (struct bytes){value, size}, &number);
        assert_true(result == 0 || result == 1);
        if (result == 0)
            break;
    }
    assert_int_equal(store_commit(store, 0), 0);
    return stored;
}

static bool append_try(struct store *store, size_t size)
{
    return append_some(store, size, 1) == 1;
}

/* In steps of some pages, and at the end one by one. */
static uint64_t fill_log(struct store *store, size_t size)
{
    uint64_t step = 1 + 40000 / size;
    uint64_t all = 0;
    for (uint64_t stored = step; stored > 0; all += stored)
        stored = append_some(store, size, stored == step ? step : 1);
    return all;
}

static void drop_values(struct store *store, uint64_t first, uint64_t last)
{
    while (first <= last) {
        assert_int_equal(store_begin(store), 0);
        for (int i = 0; i < 50 && first <= last; i++, first++)
            assert_int_equal(store_drop_log(store, first), 0);
        assert_int_equal(store_commit(store, 0), 0);
    }
}

static void fill_sessions(struct store *store, uint64_t users)
{
    char name[32];
    for (uint64_t user = 1; user <= users;) {
        assert_int_equal(store_begin(store), 0);
        for (int group = 0; group < 20; group++, user++) {
            struct session_record record = contract_record(user);
            (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)user);
            assert_int_equal(store_put_session(store, name, &record), 0);
        }
        assert_int_equal(store_commit(store, user), 0);
    }
}

/* Half of the map, and not much less: then sessions go on, and what is dropped makes room again. */
static void the_log_takes_half_of_the_map(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {100, 1300, 2000, 9000, 70000};
    enum { MAP = 8 << 20 };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        renew(fixture, MAP);
        struct store *store = fixture->store;
        uint64_t values = fill_log(store, sizes[i]);
        uint64_t bytes = values * sizes[i];
        print_message("%zu bytes: %llu values, %llu%% of the map\n", sizes[i],
                      (unsigned long long)values, (unsigned long long)bytes * 100 / MAP);
        assert_true(bytes <= MAP / 2);
        assert_true(bytes >= MAP / 100 * 30);
        fill_sessions(store, 8000);
        contract_reopen(fixture);
        store = fixture->store;
        struct store_position position;
        assert_int_equal(store_position(store, &position), 0);
        assert_int_equal(position.sessions, 8000);
        assert_int_equal(position.log_values, values);
        assert_int_equal(position.log_bytes, bytes);
        assert_false(append_try(store, sizes[i]));
        drop_values(store, 1, values);
        assert_int_equal(store_position(store, &position), 0);
        assert_int_equal(position.log_bytes, 0);
        assert_true(fill_log(store, sizes[i]) >= values / 4);
    }
}

/* Sessions, events and history have all that the map has: the log has no room, and what is in it
 * can still be dropped, one by one, in any order. */
static void a_full_map_drops_values(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.events_kept_max = 1000000;
    fixture->options.history_max = 1000000;
    renew(fixture, 1 << 20);
    struct store *store = fixture->store;
    char name[32];
    for (int i = 0; i < 100; i++)
        assert_true(append_try(store, 1500));
    uint64_t epoch = 0;
    do {
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)++epoch);
        struct history_record record = contract_told(name, epoch);
        assert_int_equal(store_begin(store), 0);
        (void)store_append_history(store, HISTORY_SESSIONS, &record);
        assert_int_equal(store_commit(store, 0), 0);
    } while (login_try(store, name, epoch) == 0);
    assert_false(append_try(store, 1500));
    for (uint64_t i = 0; i < 100; i++)
        contract_drop_one(store, i * 37 % 100 + 1);
    contract_assert_log(store, 101, 100, 0, 0);
    assert_int_equal(login_try(store, "player-000001", epoch), 0);
}

/* Sessions until there is no room for one more. */
static void fill_map(struct store *store)
{
    uint64_t user = 0;
    for (int group = 64; group > 0; group /= 2) {
        int result = 0;
        while (result == 0) {
            assert_int_equal(store_begin(store), 0);
            for (int i = 0; result == 0 && i < group; i++) {
                char name[32];
                struct session_record record = contract_record(1);
                (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)++user);
                result = store_put_session(store, name, &record);
            }
            result = store_commit(store, 1);
        }
        assert_int_equal(result, -EXFULL);
    }
}

/* So is a row of them in one transaction, which is how the log is cleaned, however long it is. */
static void a_full_map_drops_a_row(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {40, 700, 1990, 5000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint64_t row = 10; row <= 1000; row *= 100) {
            renew(fixture, 2 << 20);
            struct store *store = fixture->store;
            uint64_t values = append_some(store, sizes[i], 300000 / sizes[i]);
            fill_map(store);
            for (uint64_t number = 1; number <= values;) {
                assert_int_equal(store_begin(store), 0);
                for (uint64_t n = 0; n < row && number <= values; n++, number++)
                    (void)store_drop_log(store, number);
                assert_int_equal(store_commit(store, 0), 0);
                assert_int_equal(login_try(store, "player-000001", 1), 0);
            }
            contract_assert_log(store, values + 1, values, 0, 0);
        }
    }
}

/* The history gives way to it, as to sessions. */
static void the_history_makes_room(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.history_max = 1000000;
    renew(fixture, 512 << 10);
    struct store *store = fixture->store;
    char name[32];
    for (uint64_t user = 1; user <= 200; user++) {
        struct history_record record = contract_told("anna", user);
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)user);
        assert_int_equal(login_try(store, name, user), 0);
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_append_history(store, HISTORY_SESSIONS, &record), 1);
        assert_int_equal(store_commit(store, 0), 0);
    }
    struct history_query query = {.ring = HISTORY_SESSIONS, .user = "nobody", .limit = 1};
    struct history_page page;
    struct contract_past past = {.most = 64};
    assert_int_equal(store_read_history(store, &query, contract_take_past, &past, &page), 0);
    uint64_t before = page.records;
    uint64_t values = 0;
    while (append_try(store, 1000))
        values++;
    assert_int_equal(store_read_history(store, &query, contract_take_past, &past, &page), 0);
    assert_int_equal(page.records, before); /* not before it is asked for */
    for (int i = 0; i < 20; i++)
        values += append_try(store, 1000);
    assert_int_equal(store_read_history(store, &query, contract_take_past, &past, &page), 0);
    print_message("%llu records of the history; then none, and %llu values\n",
                  (unsigned long long)before, (unsigned long long)values);
    assert_int_equal(page.records, 0);
    contract_assert_position(store, 200, 191, 200, 200);
}

/* What was refused takes nothing from those who come behind it. */
static void a_refused_value_leaves_no_trace(void **state)
{
    struct fixture *fixture = *state;
    renew(fixture, 8 << 20);
    struct store *store = fixture->store;
    assert_int_equal(store_begin(store), 0);
    contract_put_inbox(store, "anna", 1);
    for (uint64_t seq = 1; seq <= 1300; seq++)
        assert_int_equal(contract_put_message(store, "anna", seq, 3000), 0);
    assert_int_equal(store_commit(store, 0), 0);
    uint64_t values = fill_log(store, 1500);
    print_message("%llu values beside an inbox\n", (unsigned long long)values);
    assert_true(values < (8 << 20) / 1500 / 3); /* that is in the way, not its share */
    for (int large = 0; large < 2; large++) {
        struct session_record record = contract_record(7000);
        assert_int_equal(store_begin(store), 0);
        for (int i = 0; i < 2000; i++) {
            static const uint8_t value[70000];
            uint64_t number;
            struct bytes bytes = {value, large ? sizeof(value) : 1500};
            assert_int_equal(store_append_log(store, bytes, &number), 0);
        }
        for (int i = 0; i < 20; i++) {
            char name[32];
            (void)snprintf(name, sizeof(name), "at last %d", i);
            assert_int_equal(store_put_session(store, name, &record), 0);
        }
        assert_int_equal(store_commit(store, 7000), 0);
    }
}

/* A transaction too large for what is there: what does not fit is said, the rest is stored. */
static void a_burst_is_stored_in_part(void **state)
{
    struct fixture *fixture = *state;
    renew(fixture, 1 << 20);
    uint64_t number = 0;
    uint64_t stored = 0;
    static const uint8_t value[2000];
    assert_int_equal(store_begin(fixture->store), 0);
    struct session_record record = contract_record(1);
    assert_int_equal(store_put_session(fixture->store, "anna", &record), 0);
    while (store_append_log(fixture->store, (struct bytes){value, 2000}, &number) == 1)
        assert_int_equal(number, ++stored);
    assert_true(stored > 50);
    assert_int_equal(store_put_session(fixture->store, "bob", &record), 0);
    assert_int_equal(store_commit(fixture->store, 1), 0);
    contract_assert_log(fixture->store, 1, stored, stored, stored * 2000);
    contract_assert_list(fixture->store, "", "", 9, "anna bob", false);
}

/* --- kill --------------------------------------------------------------------------------- */

/* Commit k appends values 2k - 1 and 2k and drops k, and says so. */
static void commit_until_killed(const struct store_options *options, int report)
{
    struct store *store;
    struct store_position position;
    if (store_open_lmdb(&store, options, NULL) != 0 || store_position(store, &position) != 0)
        _exit(1);
    for (uint64_t k = position.epoch_last + 1;; k++) {
        uint64_t numbers[2];
        uint8_t value[600];
        memset(value, (int)(k % 255) + 1, sizeof(value));
        struct bytes bytes = {value, sizeof(value)};
        if (store_begin(store) != 0 || store_append_log(store, bytes, &numbers[0]) != 1 ||
            store_append_log(store, bytes, &numbers[1]) != 1 || store_drop_log(store, k) != 0 ||
            store_commit(store, k) != 0 || numbers[0] != 2 * k - 1 || numbers[1] != 2 * k)
            _exit(1);
        if (write(report, &k, sizeof(k)) != sizeof(k))
            _exit(1);
    }
}

static void a_kill_loses_nothing_reported(void **state)
{
    struct fixture *fixture = *state;
    shut(fixture);
    for (int round = 0; round < 5; round++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t child = fork();
        if (child == 0)
            commit_until_killed(&fixture->options, pipes[1]);
        close(pipes[1]);
        uint64_t reported = 0;
        for (int i = 0; i < 60; i++)
            assert_int_equal(read(pipes[0], &reported, sizeof(reported)), sizeof(reported));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        while (read(pipes[0], &reported, sizeof(reported)) == sizeof(reported))
            continue;
        close(pipes[0]);
        assert_int_equal(try_open(fixture), 0);
        struct store_position position;
        assert_int_equal(store_position(fixture->store, &position), 0);
        uint64_t k = position.epoch_last;
        assert_true(k == reported || k == reported + 1);
        assert_int_equal(position.log_last, 2 * k);
        assert_int_equal(position.log_first, k + 1);
        assert_int_equal(position.log_values, k);
        assert_int_equal(position.log_bytes, k * 600);
        for (uint64_t from = k + 1; from <= 2 * k; from += 200) {
            struct contract_log log = {.stop_after = 200};
            assert_int_equal(store_read_log(fixture->store, from, contract_take_log, &log), 0);
            for (size_t i = 0; i < log.count; i++) {
                assert_int_equal(log.numbers[i], from + i);
                assert_int_equal(log.firsts[i], (from + i + 1) / 2 % 255 + 1);
            }
        }
        shut(fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_LOG_TESTS(setup),
        CONTRACT_TEST(values_share_pages, setup),
        CONTRACT_TEST(an_older_store_gets_an_empty_log, setup),
        CONTRACT_TEST(a_full_map_is_upgraded, setup),
        CONTRACT_TEST(a_damaged_value_is_passed_over, setup),
        CONTRACT_TEST(a_value_is_of_its_number, setup),
        CONTRACT_TEST(a_damaged_log_is_refused, setup),
        CONTRACT_TEST(a_flipped_bit_is_never_believed, setup),
        CONTRACT_TEST(the_log_takes_half_of_the_map, setup),
        CONTRACT_TEST(a_full_map_drops_values, setup),
        CONTRACT_TEST(a_full_map_drops_a_row, setup),
        CONTRACT_TEST(the_history_makes_room, setup),
        CONTRACT_TEST(a_refused_value_leaves_no_trace, setup),
        CONTRACT_TEST(a_burst_is_stored_in_part, setup),
        CONTRACT_TEST(a_kill_loses_nothing_reported, setup),
    };
    return cmocka_run_group_tests_name("log_lmdb", tests, NULL, NULL);
}
