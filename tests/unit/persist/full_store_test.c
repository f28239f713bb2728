/* SPDX-License-Identifier: Apache-2.0 */
#include <ftw.h>

#include "persist/committer.h"
#include "persist/restore.h"
#include "unit/broker/broker_fixture.h"

/* A real store with a small map: as many logins as fit get in, whoever they are committed with, and
 * with the map full the broker starts again. */

enum { WELCOME = USHER__V1__BROKER_FRAME__BODY_WELCOME, CROWD = 4000, MAP_BYTES = 512 * 1024 };

struct folder {
    char path[64];
    struct glue *glue;
};

static struct glue *open_glue(struct folder *folder)
{
    struct store_options options = {
        .path = folder->path, .map_bytes_max = MAP_BYTES, .events_kept_max = 1000};
    struct store *store;
    char error[STORE_ERROR_BYTES_MAX] = "";
    if (store_open_lmdb(&store, &options, error) != 0)
        fail_msg("%s", error);
    return glue_make(store, 0, false);
}

static int set_up_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof(*folder));
    assert_non_null(folder);
    const char *place = getenv("TMPDIR");
    snprintf(folder->path, sizeof(folder->path), "%s/usher-full-XXXXXX",
             place != NULL ? place : "/tmp");
    assert_non_null(mkdtemp(folder->path));
    folder->glue = open_glue(folder);
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
    glue_free(folder->glue);
    nftw(folder->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(folder);
    return 0;
}

static void log_in_crowd(struct glue *glue, unsigned first, unsigned count)
{
    char user[STORE_NAME_BYTES_MAX + 1];
    for (unsigned i = first; i < first + count; i++) {
        snprintf(user, sizeof(user), "user%05u-with-a-name-of-some-length", i);
        log_in(glue, user, 1 + i);
    }
    run_turns(glue);
}

static void fill(struct glue *glue)
{
    unsigned first = 0;
    while (told_times(&glue->net, TOLD_UNBIND, 0) == 0 && first < CROWD) {
        log_in_crowd(glue, first, 100);
        while (committer_step(glue->broker.committer))
            run_turns(glue);
        first += 100;
    }
    assert_int_not_equal(told_times(&glue->net, TOLD_UNBIND, 0), 0);
}

/* One transaction for all of them has no room; that must not be the answer to all of them. */
static void of_a_crowd_as_many_get_in_as_fit(void **state)
{
    struct folder *folder = *state;
    struct glue *glue = folder->glue;
    log_in_crowd(glue, 0, CROWD);
    assert_true(committer_step(glue->broker.committer));
    unsigned in = told_times(&glue->net, TOLD_WRITE, 0);
    unsigned out = told_times(&glue->net, TOLD_UNBIND, 0);
    assert_int_equal(in + out, CROWD);
    assert_true(out > 0); /* else the map is too large for this test */
    printf("%u of %u got in\n", in, CROWD);
    assert_true(in > 1000);
    assert_int_equal(position_of(glue).sessions, in);
    assert_int_equal(position_of(glue).presence_last, in);
}

static void with_a_full_map_it_starts_again(void **state)
{
    struct folder *folder = *state;
    char error[BROKER_ERROR_BYTES] = "";
    fill(folder->glue);
    uint64_t sessions = position_of(folder->glue).sessions;
    uint64_t events = position_of(folder->glue).presence_last;
    assert_true(sessions > 500);
    glue_free(folder->glue); /* as kill -9 does: nobody was told */
    folder->glue = open_glue(folder);
    if (restore_sessions(&folder->glue->broker, error) != 0)
        fail_msg("%s", error);
    assert_int_equal(position_of(folder->glue).sessions, sessions);
    assert_int_equal(position_of(folder->glue).presence_last, events + sessions);
    assert_int_equal(registry_count(folder->glue->broker.registry), sessions);
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
