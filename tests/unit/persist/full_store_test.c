/* SPDX-License-Identifier: Apache-2.0 */
#include <ftw.h>

#include "persist_stand.h"

/* A real store with a small map: as many logins as fit get in, whoever they are committed with, and
 * with the map full the broker starts again. */

enum { CROWD = 4000, MAP_BYTES = 512 * 1024 };

struct folder {
    char path[64];
    struct stand *stand;
};

static struct stand *open_stand(struct folder *folder)
{
    struct store_options options = {
        .path = folder->path, .map_bytes_max = MAP_BYTES, .events_kept_max = 1000};
    struct store *store;
    char error[STORE_ERROR_BYTES_MAX] = "";
    if (store_open_lmdb(&store, &options, error) != 0)
        fail_msg("%s", error);
    return stand_make(store);
}

static int set_up_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof(*folder));
    assert_non_null(folder);
    const char *place = getenv("TMPDIR");
    snprintf(folder->path, sizeof(folder->path), "%s/usher-full-XXXXXX",
             place != NULL ? place : "/tmp");
    assert_non_null(mkdtemp(folder->path));
    folder->stand = open_stand(folder);
    *state = folder;
    return 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    return remove(path);
}

static int tear_down_folder(void **state)
{
    struct folder *folder = *state;
    store_close(stand_leave(folder->stand));
    nftw(folder->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(folder);
    return 0;
}

static void log_in_crowd(struct stand *stand, unsigned first, unsigned count)
{
    char user[STORE_NAME_BYTES_MAX + 1];
    for (unsigned i = first; i < first + count; i++) {
        snprintf(user, sizeof(user), "user%05u-with-a-name-of-some-length", i);
        log_in(stand, user, 1 + i);
    }
    hall_run(&stand->hall);
}

static void fill(struct stand *stand)
{
    unsigned first = 0;
    while (stand->refused == 0 && first < CROWD) {
        log_in_crowd(stand, first, 100);
        while (committer_step(stand->committer))
            hall_run(&stand->hall);
        first += 100;
    }
    assert_int_not_equal(stand->refused, 0);
}

/* One transaction for all of them has no room; that must not be the answer to all of them. */
static void of_a_crowd_as_many_get_in_as_fit(void **state)
{
    struct folder *folder = *state;
    struct stand *stand = folder->stand;
    log_in_crowd(stand, 0, CROWD);
    assert_true(committer_step(stand->committer));
    unsigned in = stand->stored;
    unsigned out = stand->refused;
    assert_int_equal(in + out, CROWD);
    assert_true(out > 0); /* else the map is too large for this test */
    printf("%u of %u got in\n", in, CROWD);
    assert_true(in > 1000);
    assert_int_equal(position_of(stand).sessions, in);
    assert_int_equal(position_of(stand).presence_last, in);
}

static void with_a_full_map_it_starts_again(void **state)
{
    struct folder *folder = *state;
    char error[BROKER_ERROR_BYTES] = "";
    fill(folder->stand);
    uint64_t sessions = position_of(folder->stand).sessions;
    uint64_t events = position_of(folder->stand).presence_last;
    assert_true(sessions > 500);
    store_close(stand_leave(folder->stand)); /* as kill -9 does: nobody was told */
    folder->stand = open_stand(folder);
    if (restore_sessions(&folder->stand->survivors, error) != 0)
        fail_msg("%s", error);
    assert_int_equal(position_of(folder->stand).sessions, sessions);
    assert_int_equal(position_of(folder->stand).presence_last, events + sessions);
    assert_int_equal(registry_count(folder->stand->hall.registry), sessions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_a_crowd_as_many_get_in_as_fit, set_up_folder,
                                        tear_down_folder),
        cmocka_unit_test_setup_teardown(with_a_full_map_it_starts_again, set_up_folder,
                                        tear_down_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
