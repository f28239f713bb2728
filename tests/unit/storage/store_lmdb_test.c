/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "storage/record.h"
#include "unit/storage/meddle.h"
#include "unit/storage/store_contract.h"

/* The contract against the store on disk, and what only a disk can do: fill up, be damaged, be
 * held by another, outlive a kill. The damage is done to the file from outside. */

static int setup(void **state)
{
    static const struct contract contract = {.open = store_open_lmdb, .keeps = true};
    return contract_setup(state, &contract);
}

static const char *in_folder(const struct fixture *fixture, const char *name, char path[128])
{
    (void)snprintf(path, 128, "%s/%s", fixture->folder, name);
    return path;
}

static off_t data_bytes(const struct fixture *fixture)
{
    char path[128];
    struct stat status;
    assert_int_equal(stat(in_folder(fixture, "data.mdb", path), &status), 0);
    return status.st_size;
}

static int try_open(struct fixture *fixture)
{
    memset(fixture->error, 0, sizeof(fixture->error));
    fixture->store = NULL;
    return store_open_lmdb(&fixture->store, &fixture->options, fixture->error);
}

static void shut(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

static void assert_damaged(struct fixture *fixture)
{
    assert_int_equal(try_open(fixture), -EUCLEAN);
    assert_null(fixture->store);
    assert_non_null(strstr(fixture->error, fixture->folder));
}

static void logins(struct store *store, int from, int to, int per_commit)
{
    for (int user = from; user < to;) {
        assert_int_equal(store_begin(store), 0);
        for (int i = 0; i < per_commit && user < to; i++, user++) {
            char name[32];
            (void)snprintf(name, sizeof(name), "player-%06d", user);
            struct session_record record = contract_record((uint64_t)user + 1);
            struct presence_event event = contract_event(name, (uint64_t)user + 1);
            assert_int_equal(store_put_session(store, name, &record), 0);
            assert_int_equal(store_append_event(store, &event), 0);
        }
        assert_int_equal(store_commit(store, (uint64_t)user), 0);
    }
}

/* --- the folder -------------------------------------------------------------------------- */

static void a_second_broker_is_refused(void **state)
{
    struct fixture *fixture = *state;
    struct store *second = NULL;
    char error[STORE_ERROR_BYTES_MAX] = "";
    assert_int_equal(store_open_lmdb(&second, &fixture->options, error), -EBUSY);
    assert_null(second);
    assert_non_null(strstr(error, fixture->folder));
    assert_non_null(strstr(error, "stop it"));
    contract_login(fixture->store, "anna", 1);
    contract_reopen(fixture);
    contract_assert_position(fixture->store, 1, 1, 1, 1);
}

/* Nothing is written to a file that nobody would find again. */
static void a_name_that_is_gone_is_noticed(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"data.mdb", "lock.mdb", "usher.lock"};
    char path[128];
    char aside[128];
    uint64_t epoch = 0;
    contract_login(fixture->store, "anna", ++epoch);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)in_folder(fixture, names[i], path);
        (void)in_folder(fixture, "aside", aside);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(store_look(fixture->store), -ESTALE);
        assert_int_equal(store_begin(fixture->store), -ESTALE);
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600); /* somebody else's */
        assert_true(fd >= 0 && close(fd) == 0);
        assert_int_equal(store_look(fixture->store), -ESTALE);
        assert_int_equal(store_begin(fixture->store), -ESTALE);
        assert_int_equal(rename(aside, path), 0);
        assert_int_equal(store_look(fixture->store), 0);
        contract_login(fixture->store, "anna", ++epoch);
    }
    contract_reopen(fixture);
    contract_assert_position(fixture->store, epoch, 1, epoch, 1);
}

static void parents_are_made_private(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    struct stat status;
    struct store *store;
    struct store_options options = fixture->options;
    options.path = in_folder(fixture, "a/b//c/", path);
    assert_int_equal(store_open_lmdb(&store, &options, fixture->error), 0);
    contract_login(store, "anna", 1);
    store_close(store);
    assert_int_equal(stat(in_folder(fixture, "a", path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(stat(in_folder(fixture, "a/b/c", path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(stat(in_folder(fixture, "a/b/c/data.mdb", path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(stat(in_folder(fixture, "a/b/c/usher.lock", path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void a_file_is_no_folder(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    struct store *store;
    struct store_options options = fixture->options;
    options.path = in_folder(fixture, "data.mdb", path);
    assert_int_equal(store_open_lmdb(&store, &options, fixture->error), -ENOTDIR);
    assert_non_null(strstr(fixture->error, path));
}

/* In a child without privileges, so that it means something for root too. */
static void a_folder_of_others_is_refused(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    struct store_options options = fixture->options;
    options.path = in_folder(fixture, "closed", path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(fixture->folder, 0755), 0);
    assert_int_equal(chmod(path, 0500), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *store;
        char error[STORE_ERROR_BYTES_MAX] = "";
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
            _exit(2);
        int result = store_open_lmdb(&store, &options, error);
        _exit(result == -EACCES && strstr(error, "closed") != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(path, 0700), 0);
}

static void bad_options_are_refused(void **state)
{
    struct fixture *fixture = *state;
    struct store *store;
    struct store_options options = fixture->options;
    options.map_bytes_max = 4096;
    assert_int_equal(store_open_lmdb(&store, &options, fixture->error), -EINVAL);
    options = fixture->options;
    options.path = "";
    assert_int_equal(store_open_lmdb(&store, &options, fixture->error), -EINVAL);
}

static void a_birth_cut_short_does_no_harm(void **state)
{
    struct fixture *fixture = *state;
    char path[128];
    char data[128];
    shut(fixture);
    assert_int_equal(unlink(in_folder(fixture, "data.mdb", data)), 0);
    FILE *file = fopen(in_folder(fixture, "data.mdb.new", path), "w");
    assert_non_null(file);
    fputs("half a page", file);
    fclose(file);
    assert_int_equal(try_open(fixture), 0);
    contract_login(fixture->store, "anna", 1);
    assert_int_equal(access(path, F_OK), -1);
}

/* --- space ------------------------------------------------------------------------------- */

/* One login in a transaction of its own; what commit says. */
static int login_try(struct store *store, const char *user, uint64_t epoch)
{
    struct session_record record = contract_record(epoch);
    struct presence_event event = contract_event(user, epoch);
    assert_int_equal(store_begin(store), 0);
    (void)store_put_session(store, user, &record);
    (void)store_append_event(store, &event);
    return store_commit(store, epoch);
}

static int logout_try(struct store *store, const char *user)
{
    struct presence_event event = contract_event(user, 1);
    assert_int_equal(store_begin(store), 0);
    (void)store_delete_session(store, user);
    (void)store_append_event(store, &event);
    return store_commit(store, 0);
}

static void full_map_check(struct fixture *fixture, unsigned map_kib, uint64_t stored_min)
{
    char name[32];
    fixture->options.map_bytes_max = (uint64_t)map_kib << 10;
    fixture->options.events_kept_max = 1000000;
    contract_reopen(fixture);
    struct store *store = fixture->store;
    uint64_t stored = 0;
    int result = 0;
    for (; result == 0; stored += result == 0) {
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)stored);
        result = login_try(store, name, stored + 1);
        assert_true(stored < 100000);
    }
    assert_int_equal(result, -EXFULL);
    assert_true(stored >= stored_min);
    struct store_position position;
    assert_int_equal(store_position(store, &position), 0);
    assert_int_equal(position.sessions, stored);
    assert_int_equal(position.presence_last, stored);
    assert_int_equal(position.epoch_last, stored);
    print_message("%llu sessions in %u KiB\n", (unsigned long long)stored, map_kib);

    /* Full for new names, but for a few that find a gap; the others still come and go. */
    uint64_t came = 0;
    for (int round = 0; round < 600; round++) {
        (void)snprintf(name, sizeof(name), "newcomer-%06d", round);
        result = login_try(store, name, stored);
        assert_true(result == 0 || result == -EXFULL);
        came += result == 0;
        (void)snprintf(name, sizeof(name), "player-%06d", round * 31 % (int)stored);
        assert_int_equal(login_try(store, name, 1), 0);
    }
    assert_true(came < stored / 4);
    assert_true(data_bytes(fixture) <= (off_t)fixture->options.map_bytes_max);
    for (uint64_t user = 0; user < stored; user++) {
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)user);
        assert_int_equal(logout_try(store, name), 0);
    }
    assert_int_equal(login_try(store, "at last", stored + 3), 0);
    contract_reopen(fixture);
    contract_assert_list(fixture->store, "at", "", 9, "at last", false);
    contract_assert_list(fixture->store, "player", "", 9, "", false);
}

static void a_full_map_recovers(void **state)
{
    full_map_check(*state, 512, 500);
}

static void a_full_tiny_map_recovers(void **state)
{
    full_map_check(*state, 256, 20);
}

/* What one transaction cannot hold is refused whole; a smaller one goes through. */
static void a_transaction_too_large_is_undone(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.map_bytes_max = 512 << 10;
    contract_reopen(fixture);
    struct store *store = fixture->store;
    contract_login(store, "anna", 1);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(store_begin(store), 0);
        int result = 0;
        for (int user = 0; result == 0 && user < 100000; user++) {
            char name[32];
            struct session_record record = contract_record(2);
            (void)snprintf(name, sizeof(name), "player-%06d", user);
            result = store_put_session(store, name, &record);
        }
        assert_int_equal(result, -EXFULL);
        assert_int_equal(store_commit(store, 99), -EXFULL);
        contract_assert_position(store, 1 + (uint64_t)round, 1, 1 + (uint64_t)round, 1);
        contract_login(store, "anna", 2 + (uint64_t)round);
    }
}

/* --- damage ------------------------------------------------------------------------------ */

struct image {
    uint8_t *data;
    size_t bytes;
};

static struct image image_read(const struct fixture *fixture)
{
    char path[128];
    struct image image = {.bytes = (size_t)data_bytes(fixture)};
    image.data = malloc(image.bytes);
    assert_non_null(image.data);
    FILE *file = fopen(in_folder(fixture, "data.mdb", path), "r");
    assert_non_null(file);
    assert_int_equal(fread(image.data, 1, image.bytes, file), image.bytes);
    fclose(file);
    return image;
}

static void image_write(const struct fixture *fixture, const void *data, size_t bytes)
{
    char path[128];
    FILE *file = fopen(in_folder(fixture, "data.mdb", path), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

/* A page that was taken and given back in one transaction is never written, so a file may end
 * before the last page that was ever numbered. That is no damage. */
static void a_file_that_ends_early_is_sound(void **state)
{
    enum { PAGE = 4096, LAST_PAGE_AT = 16 + 120, TRANSACTION_AT = 16 + 128 };
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 1);
    shut(fixture);
    struct image image = image_read(fixture);
    uint64_t transactions[2];
    uint64_t last_page;
    memcpy(&transactions[0], image.data + TRANSACTION_AT, 8);
    memcpy(&transactions[1], image.data + PAGE + TRANSACTION_AT, 8);
    uint8_t *newest = image.data + (transactions[1] > transactions[0] ? PAGE : 0);
    memcpy(&last_page, newest + LAST_PAGE_AT, 8);
    last_page += 10;
    memcpy(newest + LAST_PAGE_AT, &last_page, 8);
    image_write(fixture, image.data, image.bytes);
    free(image.data);
    assert_int_equal(try_open(fixture), 0);
    contract_assert_list(fixture->store, "", "", 9, "anna", false);
    logins(fixture->store, 0, 3000, 64);
    contract_reopen(fixture);
    contract_assert_position(fixture->store, 3000, 2992, 3001, 3001);
}

/* A page in use that is listed as free would be overwritten by the next transactions. */
static void a_page_used_and_free_is_damage(void **state)
{
    enum { PAGE = 4096, FREE_ROOT_AT = 16 + 24 + 40, MAIN_ROOT_AT = 16 + 72 + 40 };
    struct fixture *fixture = *state;
    for (uint64_t epoch = 1; epoch <= 5; epoch++)
        contract_login(fixture->store, "anna", epoch);
    shut(fixture);
    struct image image = image_read(fixture);
    uint64_t transactions[2];
    memcpy(&transactions[0], image.data + 16 + 128, 8);
    memcpy(&transactions[1], image.data + PAGE + 16 + 128, 8);
    const uint8_t *meta = image.data + (transactions[1] > transactions[0] ? PAGE : 0);
    uint64_t free_root;
    uint64_t main_root;
    uint16_t node;
    uint64_t count;
    memcpy(&free_root, meta + FREE_ROOT_AT, 8);
    memcpy(&main_root, meta + MAIN_ROOT_AT, 8);
    memcpy(&node, image.data + free_root * PAGE + 16, 2);
    uint8_t *list = image.data + free_root * PAGE + node + 8 + 8; /* behind node head and key */
    memcpy(&count, list, 8);
    assert_in_range(count, 1, 100);
    memcpy(list + 8, &main_root, 8);
    image_write(fixture, image.data, image.bytes);
    free(image.data);
    assert_damaged(fixture);
}

static void an_empty_file_is_damage(void **state)
{
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 1);
    shut(fixture);
    image_write(fixture, "", 0);
    assert_damaged(fixture);
    assert_int_equal(data_bytes(fixture), 0);
}

static void garbage_is_damage(void **state)
{
    struct fixture *fixture = *state;
    uint8_t garbage[20000];
    shut(fixture);
    for (size_t i = 0; i < sizeof(garbage); i++)
        garbage[i] = (uint8_t)(i * 131 + (i >> 8));
    for (size_t bytes = 1; bytes <= sizeof(garbage); bytes = bytes * 3 + 1) {
        image_write(fixture, garbage, bytes);
        assert_damaged(fixture);
    }
    image_write(fixture, garbage, sizeof(garbage));
    assert_damaged(fixture);
    memset(garbage, 0, sizeof(garbage));
    image_write(fixture, garbage, sizeof(garbage));
    assert_damaged(fixture);
}

static void a_cut_file_is_damage(void **state)
{
    struct fixture *fixture = *state;
    logins(fixture->store, 0, 2000, 64);
    shut(fixture);
    struct image image = image_read(fixture);
    int damaged = 0;
    int cuts = 0;
    for (size_t bytes = 0; bytes < image.bytes; bytes += 1500, cuts++) {
        image_write(fixture, image.data, bytes);
        int result = try_open(fixture);
        if (result == 0) {
            /* Only free pages were cut off: everything must be there. */
            contract_assert_position(fixture->store, 2000, 1991, 2000, 2000);
            shut(fixture);
        } else {
            assert_int_equal(result, -EUCLEAN);
            damaged++;
        }
    }
    assert_true(damaged > cuts * 3 / 4);
    free(image.data);
}

static bool count_session(void *context, const char *user, const struct session_record *record)
{
    uint64_t *sum = context;
    *sum = *sum * 31 + record->epoch;
    for (; *user != '\0'; user++)
        *sum = *sum * 31 + (uint8_t)*user;
    return true;
}

static bool count_event(void *context, const struct presence_event *event)
{
    uint64_t *sum = context;
    *sum = *sum * 31 + event->seq;
    return true;
}

/* A number over everything that can be read; 0 and *result < 0 when something is damaged. */
static uint64_t read_all(struct store *store, int *result)
{
    uint64_t sum = 1;
    uint64_t presence_last = 0;
    bool more = false;
    struct store_position position;
    *result =
        store_list_sessions(store, "", "", 100000, count_session, &sum, &presence_last, &more);
    if (*result == 0)
        *result = store_read_events(store, 0, 100000, count_event, &sum, &position);
    return *result == 0 ? sum * 31 + position.epoch_last : 0;
}

/* Any flipped bit, anywhere: a clear answer, or exactly what was stored. */
static void a_flipped_bit_is_never_believed(void **state)
{
    struct fixture *fixture = *state;
    logins(fixture->store, 0, 400, 16);
    int result;
    uint64_t wanted = read_all(fixture->store, &result);
    assert_int_equal(result, 0);
    shut(fixture);
    struct image image = image_read(fixture);
    uint32_t seed = 7;
    int refused = 0;
    for (int round = 0; round < 1500; round++) {
        seed = seed * 1664525u + 1013904223u;
        /* Half of them in the heads of the pages, where the structure is. */
        size_t at = (seed >> 4) % image.bytes;
        if (round % 2 == 0)
            at = at / 4096 * 4096 + at % 200;
        image.data[at] ^= (uint8_t)(1 << seed % 8);
        image_write(fixture, image.data, image.bytes);
        image.data[at] ^= (uint8_t)(1 << seed % 8);
        result = try_open(fixture);
        uint64_t got = 0;
        if (result == 0)
            got = read_all(fixture->store, &result);
        if (result != -EUCLEAN && (result != 0 || got != wanted))
            fail_msg("bit %u of byte %zu: %d %s", seed % 8, at, result, fixture->error);
        refused += result != 0;
        shut(fixture);
    }
    assert_true(refused > 300);
    free(image.data);
}

static void a_changed_record_is_damage(void **state)
{
    struct fixture *fixture = *state;
    struct session_record record = contract_record(1);
    strcpy(record.client, "find-me-in-the-file");
    contract_login(fixture->store, "anna", 1);
    assert_int_equal(store_begin(fixture->store), 0);
    assert_int_equal(store_put_session(fixture->store, "bob", &record), 0);
    assert_int_equal(store_commit(fixture->store, 2), 0);
    shut(fixture);
    struct image image = image_read(fixture);
    uint8_t *found = memmem(image.data, image.bytes, "find-me", 7);
    assert_non_null(found);
    while (found != NULL) {
        found[0] = 'F';
        found = memmem(image.data, image.bytes, "find-me", 7);
    }
    image_write(fixture, image.data, image.bytes);
    free(image.data);
    assert_int_equal(try_open(fixture), 0);
    assert_int_equal(store_get_session(fixture->store, "anna", &record), 0);
    assert_int_equal(store_get_session(fixture->store, "bob", &record), -EUCLEAN);
    struct seen *seen = seen_create();
    uint64_t presence_last;
    bool more;
    assert_int_equal(
        store_list_sessions(fixture->store, "", "", 9, seen_session, seen, &presence_last, &more),
        -EUCLEAN);
    free(seen);
}

static void another_schema_is_refused(void **state)
{
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 1);
    shut(fixture);
    meddle(fixture->folder, "meta", "schema", "usher-store-4");
    assert_damaged(fixture);
    assert_non_null(strstr(fixture->error, "another version"));
    meddle(fixture->folder, "meta", "schema", "usher-store-3");
    assert_int_equal(try_open(fixture), 0);
}

static void an_older_store_is_upgraded(void **state)
{
    struct fixture *fixture = *state;
    logins(fixture->store, 0, 500, 50);
    int result;
    uint64_t wanted = read_all(fixture->store, &result);
    shut(fixture);
    meddle_to_version_1(fixture->folder);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(try_open(fixture), 0);
        assert_int_equal(read_all(fixture->store, &result), wanted);
        contract_assert_no_inbox(fixture->store, "player-000001");
        assert_int_equal(store_begin(fixture->store), 0);
        contract_put_inbox(fixture->store, "player-000001", 3);
        assert_int_equal(contract_put_message(fixture->store, "player-000001", 1, 100000), 0);
        assert_int_equal(store_commit(fixture->store, 0), 0);
        shut(fixture);
        assert_int_equal(try_open(fixture), 0);
        contract_assert_inbox(fixture->store, "player-000001", 3,
                              (const size_t[][2]){{1, 100000}, {0}});
        shut(fixture);
        if (round == 0)
            meddle_to_version_1(fixture->folder);
        else
            assert_int_equal(try_open(fixture), 0);
    }
    assert_int_equal(contract_login(fixture->store, "anna", 501), 501);
    /* It is of version 3 now, which has inboxes. */
    shut(fixture);
    meddle(fixture->folder, "inboxes", "", "");
    assert_damaged(fixture);
}

/* The versions before have no such part and this one must have it. */
static void a_half_upgrade_is_damage(void **state)
{
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 1);
    shut(fixture);
    meddle_to_version_1(fixture->folder);
    meddle(fixture->folder, "meta", "schema", "usher-store-3");
    assert_damaged(fixture);
    assert_non_null(strstr(fixture->error, "missing"));
}

/* Heads, messages and keys that nobody put: each makes the inbox of anna damaged, and only hers. */
static void a_changed_inbox_is_damage(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        const char *key;
        size_t bytes;
    } meddled[] = {
        {"anna\0", 5},                    /* another head */
        {"anna\0\0\0\0\0\0\0\0\1", 13},   /* another message */
        {"anna\0\0\0\0\0\0\0\0\0", 13},   /* seq 0 */
        {"anna\0\0\0\0\0\0\0\0", 12},     /* too short */
        {"anna\0\0\0\0\0\0\0\0\1\0", 14}, /* too long */
        {"anna\1", 5},                    /* no end of the name */
    };
    for (size_t i = 0; i < sizeof(meddled) / sizeof(meddled[0]); i++) {
        struct saved_inbox inbox;
        struct inbox_seen seen = {0};
        assert_int_equal(store_begin(fixture->store), 0);
        assert_int_equal(store_drop_inboxes(fixture->store), 0);
        contract_put_inbox(fixture->store, "anna", 3);
        assert_int_equal(contract_put_message(fixture->store, "anna", 1, 10), 0);
        contract_put_inbox(fixture->store, "bob", 4);
        assert_int_equal(store_commit(fixture->store, 0), 0);
        shut(fixture);
        meddle_bytes(fixture->folder, "inboxes",
                     (MDB_val){meddled[i].bytes, (void *)meddled[i].key}, "no such thing");
        assert_int_equal(try_open(fixture), 0);
        assert_int_equal(store_read_inbox(fixture->store, "anna", &inbox, seen_message, &seen),
                         -EUCLEAN);
        contract_assert_inbox(fixture->store, "bob", 4, (const size_t[][2]){{0}});
    }
}

/* --- room for inboxes -------------------------------------------------------------------- */

/* An inbox per user, all messages in the first one: the finest steps. What the commit says. */
static int inboxes_try(struct store *store, uint64_t users, uint64_t messages, size_t bytes)
{
    int result = store_begin(store);
    assert_int_equal(result, 0);
    for (uint64_t user = 0; result == 0 && user < users; user++) {
        char name[32];
        struct saved_inbox inbox = contract_inbox(user + 1);
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)user);
        result = store_put_inbox(store, name, &inbox);
    }
    for (uint64_t seq = 1; result == 0 && seq <= messages; seq++)
        result = contract_put_message(store, "player-000000", seq, bytes);
    return store_commit(store, 0);
}

/* What a start does: everybody changes and has an event, and the inboxes go, all at once. */
static int restart_try(struct store *store, uint64_t users)
{
    assert_int_equal(store_begin(store), 0);
    for (uint64_t user = 0; user < users; user++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "player-%06llu", (unsigned long long)user);
        struct session_record record = contract_record(user + 1);
        struct presence_event event = contract_event(name, user + 1);
        record.state = SESSION_DETACHED;
        (void)store_put_session(store, name, &record);
        (void)store_append_event(store, &event);
    }
    (void)store_drop_inboxes(store);
    int result = store_commit(store, 0);
    /* What a transaction sets free is of use to the next but one. */
    for (int i = 0; result == 0 && i < 3; i++)
        result = login_try(store, "player-000000", users);
    return result;
}

/* The largest save of this kind that is taken, found by halves: then the next start must do all
 * its work at once. Gives its messages. */
static uint64_t largest_save(struct fixture *fixture, uint64_t users, size_t bytes)
{
    uint64_t fits = 0;
    uint64_t refused = 1;
    while (inboxes_try(fixture->store, users, refused, bytes) == 0) {
        assert_int_equal(restart_try(fixture->store, users), 0);
        fits = refused;
        refused *= 2;
    }
    while (refused - fits > 1) {
        uint64_t middle = fits + (refused - fits) / 2;
        int result = inboxes_try(fixture->store, users, middle, bytes);
        assert_true(result == 0 || result == -EXFULL);
        if (result == 0)
            assert_int_equal(restart_try(fixture->store, users), 0);
        *(result == 0 ? &fits : &refused) = middle;
    }
    return fits;
}

/* Inboxes never fill a map so far that the next start could not do its work. What was refused is
 * not there, not even in part, and the space is used again and again. */
static void inboxes_leave_room_for_a_start(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        unsigned map_kib;
        unsigned users;
        unsigned bytes;
        unsigned percent_min; /* of the map that must be used by payloads then */
    } kinds[] = {
        {1024, 10, 100, 15},   {1024, 1000, 900, 2},   {4096, 50, 3000, 20},
        {8192, 5000, 200, 10}, {16384, 3, 100000, 25}, {16384, 8000, 3000, 10},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char path[128];
        fixture->options.map_bytes_max = (uint64_t)kinds[i].map_kib << 10;
        fixture->options.events_kept_max = 200;
        shut(fixture);
        assert_int_equal(unlink(in_folder(fixture, "data.mdb", path)), 0);
        assert_int_equal(try_open(fixture), 0);
        logins(fixture->store, 0, (int)kinds[i].users, 64);
        uint64_t fits = largest_save(fixture, kinds[i].users, kinds[i].bytes);
        uint64_t percent = fits * kinds[i].bytes * 100 / fixture->options.map_bytes_max;
        print_message("%u KiB: %u users, %llu messages of %u bytes, %llu%% of the map\n",
                      kinds[i].map_kib, kinds[i].users, (unsigned long long)fits, kinds[i].bytes,
                      (unsigned long long)percent);
        assert_true(percent >= kinds[i].percent_min);
        for (int round = 0; round < 3; round++) {
            assert_int_equal(
                inboxes_try(fixture->store, kinds[i].users, fits * 4 + 4, kinds[i].bytes), -EXFULL);
            contract_assert_no_inbox(fixture->store, "player-000000");
            assert_int_equal(inboxes_try(fixture->store, kinds[i].users, fits / 2, kinds[i].bytes),
                             0);
            contract_reopen(fixture);
            assert_int_equal(restart_try(fixture->store, kinds[i].users), 0);
        }
        assert_true(data_bytes(fixture) <= (off_t)fixture->options.map_bytes_max);
    }
}

static void a_missing_part_is_damage(void **state)
{
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 1);
    shut(fixture);
    meddle(fixture->folder, "sessions", "", "");
    assert_damaged(fixture);
}

static void stray_events_are_damage(void **state)
{
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 1);
    shut(fixture);
    meddle(fixture->folder, "events", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "no event");
    assert_damaged(fixture);
}

/* Under a checksum that is right: after them the numbers would begin at 0 again. */
static void counters_beyond_all_are_damage(void **state)
{
    struct fixture *fixture = *state;
    static const uint64_t counters[][2] = {{UINT64_MAX, 0}, {0, UINT64_MAX}};
    for (size_t i = 0; i < 2; i++) {
        uint8_t position[RECORD_POSITION_BYTES];
        shut(fixture);
        record_pack_position(counters[i][0], counters[i][1], position);
        meddle_value(fixture->folder, "meta", (MDB_val){strlen("position"), "position"},
                     (MDB_val){sizeof(position), position});
        assert_damaged(fixture);
    }
}

/* On each page whose first record has that key, the second one is the first again. */
static unsigned repeat_record(struct image *image, const char *key)
{
    enum { PAGE = 4096, OFFSETS_AT = 16, KEY_AT = 8 };
    unsigned pages = 0;
    for (uint8_t *page = image->data; page < image->data + image->bytes; page += PAGE) {
        uint16_t first;
        memcpy(&first, page + OFFSETS_AT, 2);
        if (first > PAGE - 64 || memcmp(page + first + KEY_AT, key, strlen(key)) != 0)
            continue;
        memcpy(page + OFFSETS_AT + 2, &first, 2);
        pages++;
    }
    return pages;
}

/* Each of the two is sound; who restored both would have one session twice. */
static void a_record_that_comes_twice_is_damage(void **state)
{
    struct fixture *fixture = *state;
    int result;
    contract_login(fixture->store, "anna", 1);
    contract_login(fixture->store, "berta", 2);
    shut(fixture);
    struct image image = image_read(fixture);
    assert_int_not_equal(repeat_record(&image, "anna"), 0);
    image_write(fixture, image.data, image.bytes);
    free(image.data);
    assert_int_equal(try_open(fixture), 0);
    (void)read_all(fixture->store, &result);
    assert_int_equal(result, -EUCLEAN);
}

/* --- kill -------------------------------------------------------------------------------- */

enum { KILL_ROUNDS = 5, KILL_USERS = 50 };

/* Commits until it is killed, and says so after each commit. */
static void commit_until_killed(const struct store_options *options, int report)
{
    struct store *store;
    if (store_open_lmdb(&store, options, NULL) != 0)
        _exit(1);
    struct store_position position;
    if (store_position(store, &position) != 0)
        _exit(2);
    for (uint64_t epoch = position.epoch_last + 1;; epoch++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "player-%llu", (unsigned long long)epoch % KILL_USERS);
        struct session_record record = contract_record(epoch);
        struct presence_event event = contract_event(name, epoch);
        if (store_begin(store) != 0 || store_put_session(store, name, &record) != 0 ||
            store_append_event(store, &event) != 0 || store_commit(store, epoch) != 0)
            _exit(3);
        if (write(report, &epoch, sizeof(epoch)) != sizeof(epoch))
            _exit(4);
    }
}

static uint64_t run_and_kill(struct fixture *fixture, int alive_ms)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        commit_until_killed(&fixture->options, ends[1]);
    }
    (void)close(ends[1]);
    uint64_t last = 0;
    assert_int_equal(read(ends[0], &last, sizeof(last)), sizeof(last));
    usleep((useconds_t)alive_ms * 1000);
    assert_int_equal(kill(child, SIGKILL), 0);
    uint64_t reported;
    while (read(ends[0], &reported, sizeof(reported)) == sizeof(reported)) {
        assert_int_equal(reported, last + 1);
        last = reported;
    }
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    return last;
}

static void a_kill_loses_nothing_reported(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.events_kept_max = 50000;
    shut(fixture);
    for (int round = 0; round < KILL_ROUNDS; round++) {
        uint64_t last = run_and_kill(fixture, 30 + 17 * round);
        struct store_position position;
        assert_int_equal(try_open(fixture), 0);
        assert_int_equal(store_position(fixture->store, &position), 0);
        /* One more may have been committed without its report. */
        assert_in_range(position.epoch_last, last, last + 1);
        assert_int_equal(position.presence_last, position.epoch_last);
        assert_int_equal(position.presence_first, 1);
        int result;
        (void)read_all(fixture->store, &result); /* gaps are damage */
        assert_int_equal(result, 0);
        for (uint64_t epoch = last > KILL_USERS ? last - KILL_USERS + 2 : 1; epoch <= last;
             epoch++) {
            char name[32];
            struct session_record record;
            (void)snprintf(name, sizeof(name), "player-%llu",
                           (unsigned long long)epoch % KILL_USERS);
            assert_int_equal(store_get_session(fixture->store, name, &record), 0);
            assert_true(record.epoch == epoch || record.epoch == last + 1);
        }
        shut(fixture);
    }
}

/* --- readers of other processes ---------------------------------------------------------- */

struct reader {
    pid_t process;
    int order; /* closing it ends the read */
};

/* In a process of its own: reads, says so, and goes when it is told to. */
static void read_until_told(const char *folder, int report, int order)
{
    MDB_env *env;
    MDB_txn *transaction;
    char byte = 0;
    if (mdb_env_create(&env) != 0 || mdb_env_open(env, folder, 0, 0600) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction) != 0 || write(report, &byte, 1) != 1)
        _exit(1);
    if (read(order, &byte, 1) != 0)
        _exit(2);
    mdb_txn_abort(transaction);
    mdb_env_close(env);
    _exit(0);
}

static struct reader reader_start(const struct fixture *fixture)
{
    int report[2];
    int order[2];
    char byte;
    assert_int_equal(pipe(report), 0);
    assert_int_equal(pipe(order), 0);
    struct reader reader = {.process = fork(), .order = order[1]};
    if (reader.process == 0) {
        (void)close(order[1]);
        read_until_told(fixture->folder, report[1], order[0]);
    }
    (void)close(report[1]);
    (void)close(order[0]);
    assert_int_equal(read(report[0], &byte, 1), 1);
    (void)close(report[0]);
    return reader;
}

static int reader_end(struct reader *reader)
{
    int status = 0;
    (void)close(reader->order);
    assert_int_equal(waitpid(reader->process, &status, 0), reader->process);
    return status;
}

/* As many logins of one user, in a transaction each, as many as go through. */
static int login_often(struct store *store, int times, uint64_t *epoch)
{
    int result = 0;
    for (int i = 0; result == 0 && i < times; i++)
        result = login_try(store, "anna", ++*epoch);
    return result;
}

/* Killed in its read, it would keep all pages from being used again, for ever. */
static void a_dead_reader_is_cleared(void **state)
{
    struct fixture *fixture = *state;
    uint64_t epoch = 0;
    static const unsigned maps_kib[] = {256, 64 << 10};
    for (size_t i = 0; i < 2; i++) {
        fixture->options.map_bytes_max = (uint64_t)maps_kib[i] << 10;
        contract_reopen(fixture);
        assert_int_equal(login_often(fixture->store, 10, &epoch), 0);
        struct reader reader = reader_start(fixture);
        assert_int_equal(login_often(fixture->store, 3, &epoch), 0);
        assert_int_equal(kill(reader.process, SIGKILL), 0);
        assert_true(WIFSIGNALED(reader_end(&reader)));
        assert_int_equal(login_often(fixture->store, 150, &epoch), 0);
        off_t bytes = data_bytes(fixture);
        assert_int_equal(login_often(fixture->store, 300, &epoch), 0);
        print_message("%u KiB: file %lld, then %lld bytes\n", maps_kib[i], (long long)bytes,
                      (long long)data_bytes(fixture));
        assert_true(data_bytes(fixture) <= bytes + (64 << 10));
        assert_true(data_bytes(fixture) <= (off_t)fixture->options.map_bytes_max);
    }
}

/* Alive, it must be borne: the file ends at the map, changes are refused, reads go on. When it is
 * gone all works again. */
static void a_stuck_reader_is_borne(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.map_bytes_max = 1 << 20;
    contract_reopen(fixture);
    uint64_t epoch = 0;
    for (int round = 0; round < 2; round++) {
        assert_int_equal(login_often(fixture->store, 10, &epoch), 0);
        struct reader reader = reader_start(fixture);
        assert_int_equal(login_often(fixture->store, 100000, &epoch), -EXFULL);
        for (int again = 0; again < 20; again++) {
            struct session_record record;
            struct saved_inbox inbox = contract_inbox(1);
            assert_int_equal(login_try(fixture->store, "anna", epoch), -EXFULL);
            assert_int_equal(store_begin(fixture->store), 0);
            (void)store_put_inbox(fixture->store, "anna", &inbox);
            assert_int_equal(store_commit(fixture->store, 0), -EXFULL);
            assert_int_equal(store_get_session(fixture->store, "anna", &record), 0);
            contract_assert_record(&record, epoch - 1);
        }
        assert_true(data_bytes(fixture) <= (off_t)fixture->options.map_bytes_max);
        assert_int_equal(reader_end(&reader), 0);
        assert_int_equal(login_often(fixture->store, 200, &epoch), 0);
        if (round == 0)
            contract_reopen(fixture);
    }
    contract_assert_list(fixture->store, "", "", 9, "anna", false);
}

/* --- many -------------------------------------------------------------------------------- */

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Times are printed for people; what is asserted is the content. */
static void a_hundred_thousand_sessions(void **state)
{
    enum { SESSIONS = 100000, GROUP = 64 };
    struct fixture *fixture = *state;
    fixture->options.events_kept_max = SESSIONS;
    fixture->options.map_bytes_max = UINT64_C(128) << 20;
    contract_reopen(fixture);
    double start = now_s();
    logins(fixture->store, 0, SESSIONS, GROUP);
    double committed = now_s() - start;
    shut(fixture);
    start = now_s();
    assert_int_equal(try_open(fixture), 0);
    double opened = now_s() - start;
    contract_assert_position(fixture->store, SESSIONS, 1, SESSIONS, SESSIONS);
    start = now_s();
    uint64_t sum = 1;
    uint64_t presence_last = 0;
    bool more = true;
    assert_int_equal(store_list_sessions(fixture->store, "", "", SIZE_MAX, count_session, &sum,
                                         &presence_last, &more),
                     0);
    double listed = now_s() - start;
    assert_false(more);

    /* A restart touches all of them in one transaction. */
    start = now_s();
    assert_int_equal(store_begin(fixture->store), 0);
    for (int user = 0; user < SESSIONS; user++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "player-%06d", user);
        struct session_record record = contract_record((uint64_t)user + 1);
        struct presence_event event = contract_event(name, (uint64_t)user + 1);
        record.state = SESSION_DETACHED;
        assert_int_equal(store_put_session(fixture->store, name, &record), 0);
        assert_int_equal(store_append_event(fixture->store, &event), 0);
    }
    assert_int_equal(store_commit(fixture->store, SESSIONS), 0);
    double touched = now_s() - start;
    contract_assert_position(fixture->store, SESSIONS, SESSIONS + 1, 2 * SESSIONS, SESSIONS);
    print_message("100000 logins in groups of 64: %.2f s, %.3f ms a group; file %.1f MiB; "
                  "open %.1f ms; list %.1f ms; update all %.2f s\n",
                  committed, committed * 1000 / (SESSIONS / GROUP),
                  (double)data_bytes(fixture) / (1 << 20), opened * 1000, listed * 1000, touched);
}

/* In another process, which is given a lock or is not: its exit code. */
static int open_elsewhere(struct fixture *fixture, int lock, bool writes)
{
    pid_t child = fork();
    if (child == 0) {
        struct store_options options = fixture->options;
        struct store *store;
        struct store_position position = {0};
        options.lock = lock;
        int result = store_open_lmdb(&store, &options, NULL);
        if (result < 0)
            _exit(-result);
        if (store_position(store, &position) != 0 || position.sessions != 3)
            _exit(1);
        if (writes && login_try(store, "child", position.epoch_last + 1) != 0)
            _exit(2);
        store_close(store);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* Who takes over from us may have it open beside us, and nobody else; and if it does not take over,
 * we go on with whatever it has stored. */
static void who_has_the_lock_may_come_in(void **state)
{
    struct fixture *fixture = *state;
    logins(fixture->store, 0, 3, 1);
    int lock = store_lock(fixture->store);
    assert_true(lock > 0);
    assert_int_equal(open_elsewhere(fixture, 0, false), EBUSY);
    assert_int_equal(open_elsewhere(fixture, 1 << 20, false), EBADF);
    assert_int_equal(open_elsewhere(fixture, lock, false), 0);
    assert_int_equal(open_elsewhere(fixture, lock, true), 0);
    assert_int_equal(open_elsewhere(fixture, 0, false), EBUSY);
    struct store_position position;
    assert_int_equal(store_position(fixture->store, &position), 0);
    assert_int_equal(position.sessions, 4);
    assert_int_equal(login_try(fixture->store, "parent", position.epoch_last + 1), 0);
    assert_int_equal(store_position(fixture->store, &position), 0);
    assert_int_equal(position.sessions, 5);
}

/* What it finds changes under its eyes, and is whole all the same. */
static void it_may_come_in_while_we_write(void **state)
{
    struct fixture *fixture = *state;
    logins(fixture->store, 0, 3, 1);
    int lock = store_lock(fixture->store);
    pid_t child = fork();
    if (child == 0) {
        struct store_options options = fixture->options;
        struct store *store;
        options.lock = lock;
        for (unsigned i = 0; i < 300; i++) {
            int result = store_open_lmdb(&store, &options, NULL);
            if (result < 0)
                _exit(-result);
            store_close(store);
        }
        _exit(0);
    }
    int status = 0;
    uint64_t epoch = 100;
    while (waitpid(child, &status, WNOHANG) == 0) {
        char name[32];
        snprintf(name, sizeof(name), "player%llu", (unsigned long long)epoch % 997);
        assert_int_equal(login_try(fixture->store, name, epoch++), 0);
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CONTRACT_TESTS(setup),
        CONTRACT_TEST(a_second_broker_is_refused, setup),
        CONTRACT_TEST(who_has_the_lock_may_come_in, setup),
        CONTRACT_TEST(it_may_come_in_while_we_write, setup),
        CONTRACT_TEST(a_name_that_is_gone_is_noticed, setup),
        CONTRACT_TEST(parents_are_made_private, setup),
        CONTRACT_TEST(a_file_is_no_folder, setup),
        CONTRACT_TEST(a_folder_of_others_is_refused, setup),
        CONTRACT_TEST(bad_options_are_refused, setup),
        CONTRACT_TEST(a_birth_cut_short_does_no_harm, setup),
        CONTRACT_TEST(a_full_map_recovers, setup),
        CONTRACT_TEST(a_full_tiny_map_recovers, setup),
        CONTRACT_TEST(a_transaction_too_large_is_undone, setup),
        CONTRACT_TEST(a_file_that_ends_early_is_sound, setup),
        CONTRACT_TEST(a_page_used_and_free_is_damage, setup),
        CONTRACT_TEST(an_empty_file_is_damage, setup),
        CONTRACT_TEST(garbage_is_damage, setup),
        CONTRACT_TEST(a_cut_file_is_damage, setup),
        CONTRACT_TEST(a_flipped_bit_is_never_believed, setup),
        CONTRACT_TEST(a_changed_record_is_damage, setup),
        CONTRACT_TEST(another_schema_is_refused, setup),
        CONTRACT_TEST(an_older_store_is_upgraded, setup),
        CONTRACT_TEST(a_half_upgrade_is_damage, setup),
        CONTRACT_TEST(a_changed_inbox_is_damage, setup),
        CONTRACT_TEST(inboxes_leave_room_for_a_start, setup),
        CONTRACT_TEST(a_missing_part_is_damage, setup),
        CONTRACT_TEST(stray_events_are_damage, setup),
        CONTRACT_TEST(counters_beyond_all_are_damage, setup),
        CONTRACT_TEST(a_record_that_comes_twice_is_damage, setup),
        CONTRACT_TEST(a_kill_loses_nothing_reported, setup),
        CONTRACT_TEST(a_dead_reader_is_cleared, setup),
        CONTRACT_TEST(a_stuck_reader_is_borne, setup),
        CONTRACT_TEST(a_hundred_thousand_sessions, setup),
    };
    return cmocka_run_group_tests_name("store_lmdb", tests, NULL, NULL);
}
