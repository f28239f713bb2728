/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "micro.h"
#include "storage/store.h"

/* A login in the store: its record and its event, fifty of them in each commit. The disk's part is
 * the kernel's and is not counted. */

enum { BATCH = 50 };

static char path[] = "/tmp/usher-micro-XXXXXX";
static struct store *store;
static struct session_record record = {.epoch = 1836620578817,
                                       .since_ms = 1836620578817,
                                       .state = SESSION_ONLINE,
                                       .address = "127.0.0.1:46320",
                                       .client = "usher-bench"};
static struct presence_event event = {.time_ms = 1836620578817,
                                      .epoch = 1836620578817,
                                      .kind = 1,
                                      .cause = 1,
                                      .address = "127.0.0.1:46320",
                                      .client = "usher-bench"};

/* At the end: a store whose files are gone takes nothing any more. */
static void remove_files(void)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "usher.lock"};
    char file[64];

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(file, sizeof(file), "%s/%s", path, names[i]);
        unlink(file);
    }
    rmdir(path);
}

void micro_setup(void)
{
    char error[STORE_ERROR_BYTES_MAX];

    micro_need(mkdtemp(path) != NULL, "mkdtemp");
    struct store_options options = {
        .path = path, .map_bytes_max = 64 << 20, .events_kept_max = 262144};
    micro_need(atexit(remove_files) == 0, "atexit");
    micro_need(store_open_lmdb(&store, &options, error) == 0, "store_open_lmdb");
}

void micro_loop(void)
{
    char user[32];

    for (unsigned i = 0; i < MICRO_ROUNDS; i++) {
        snprintf(user, sizeof(user), "bench-%u", i);
        memcpy(event.user, user, sizeof(user));
        if (i % BATCH == 0)
            micro_need(store_begin(store) == 0, "store_begin");
        micro_need(store_put_session(store, user, &record) == 0, "store_put_session");
        micro_need(store_append_event(store, &event) == 0, "store_append_event");
        if (i % BATCH == BATCH - 1)
            micro_need(store_commit(store, record.epoch) == 0, "store_commit");
    }
}
