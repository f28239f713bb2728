/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lmdb/folder.h"

/* The store on disk. It and the files of lmdb/private.h are the only ones that know LMDB; its codes
 * end there.
 *
 * Seven databases in one file: `sessions`, `events`, `inboxes`, `log`, `history`, `refusals` and
 * `meta` (the schema's version, and records with the counters); storage/record.h has the layout. A
 * transaction reads the counters from the last committed state when it begins and writes them when
 * it commits, so an abort gives the seqs back by itself.
 *
 * LMDB runs in its durable default mode: a commit writes pages that nothing refers to, syncs them,
 * then writes and syncs the meta page. NOSYNC would lose what was promised, and with WRITEMAP a
 * full disk is a SIGBUS. Every read is a short transaction of its own, since a long one keeps
 * pages from being used again.
 *
 * How the file is born, opened and opened anew after a failed commit is argued in open.c, when a
 * change is refused for lack of space in space.c.
 *
 * Data: `env` and its handles are replaced by the writer under the write side of `lock`; all that
 * is below "the writer's" belongs to the writing thread; the rest is set once. */

enum {
    EVENTS_SHARE = 4, /* of the map, 1/n, at most for events */
    HISTORY_SHARE = 8,
    REFUSALS_PART = 4, /* of the history, in addition */
    MAP_PAGES_MIN = 64,
};

static void lmdb_close(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    lmdb_env_close(store);
    pthread_rwlock_destroy(&store->lock);
    /* Last: with it another broker may come. */
    if (store->lock_file >= 0)
        (void)close(store->lock_file);
    free(store);
}

static int lmdb_lock(const struct store *base)
{
    return ((const struct lmdb_store *)base)->lock_file;
}

static const struct store_ops lmdb_ops = {
    .close = lmdb_close,
    .lock = lmdb_lock,
    .look = lmdb_look,
    .begin = lmdb_begin,
    .put_session = lmdb_put_session,
    .delete_session = lmdb_delete_session,
    .append_event = lmdb_append_event,
    .append_history = lmdb_append_history,
    .append_log = lmdb_append_log,
    .drop_log = lmdb_drop_log,
    .put_inbox = lmdb_put_inbox,
    .put_message = lmdb_put_message,
    .drop_inboxes = lmdb_drop_inboxes,
    .put_cursor = lmdb_put_cursor,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .rest = lmdb_rest,
    .position = lmdb_position,
    .look_up = lmdb_look_up,
    .list_sessions = lmdb_list_sessions,
    .read_events = lmdb_read_events,
    .get_cursor = lmdb_get_cursor,
    .read_history = lmdb_read_history,
    .read_log = lmdb_read_log,
    .get_log = lmdb_get_log,
    .read_inbox = lmdb_read_inbox,
};

static int reader_begin(struct store *base)
{
    return -EACCES;
}

const struct store_ops lmdb_reader_ops = {
    .close = lmdb_close,
    .begin = reader_begin,
    .position = lmdb_position,
    .look_up = lmdb_look_up,
    .list_sessions = lmdb_list_sessions,
    .read_events = lmdb_read_events,
    .get_cursor = lmdb_get_cursor,
    .read_history = lmdb_read_history,
    .read_log = lmdb_read_log,
    .get_log = lmdb_get_log,
    .read_inbox = lmdb_read_inbox,
};

/* A record of the history is no larger, whatever it tells. */
static uint64_t history_share(const struct lmdb_store *store, uint64_t wanted, uint64_t share)
{
    uint64_t most = store->map_bytes / share / SPACE_HISTORY_BYTES_MAX;
    return wanted < most ? wanted : most;
}

static int options_take(struct lmdb_store *store, const struct store_options *options, char *error)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    store->map_bytes = options->map_bytes_max - options->map_bytes_max % page_bytes;
    if (store->map_bytes < MAP_PAGES_MIN * page_bytes)
        return store_explain(error, -EINVAL, "a store needs at least %llu bytes",
                             (unsigned long long)(MAP_PAGES_MIN * page_bytes));
    if (snprintf(store->path, sizeof(store->path), "%s", options->path) >= (int)sizeof(store->path))
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    store->events_kept_max = store->map_bytes / EVENTS_SHARE / SPACE_EVENT_BYTES_MAX;
    if (store->events_kept_max > options->events_kept_max)
        store->events_kept_max = options->events_kept_max;
    store->history_max[HISTORY_SESSIONS] =
        history_share(store, options->history_max, HISTORY_SHARE);
    store->history_max[HISTORY_REFUSALS] = history_share(
        store, options->history_max / REFUSALS_PART, (uint64_t)HISTORY_SHARE * REFUSALS_PART);
    store->history_age_ms = options->history_age_ms;
    return 0;
}

static int shared_lock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;
    int code = pthread_rwlockattr_init(&attributes);
    if (code != 0)
        return -code;
    /* A steady stream of readers must not keep the writer from reopening. */
    (void)pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    code = pthread_rwlock_init(lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    return -code;
}

static int folder_open(struct lmdb_store *store, int lock, char *error)
{
    int result = folder_make(store->path, error);
    if (result < 0)
        return result;
    store->beside = lock != 0;
    store->lock_file =
        lock != 0 ? fcntl(lock, F_DUPFD_CLOEXEC, 0) : folder_lock(store->path, error);
    if (store->lock_file < 0)
        return lock == 0 ? store->lock_file
                         : store_explain(error, -EBADF, "the lock that was handed over is none");
    result = lmdb_file_open(store, true, error);
    store->beside = false; /* it is ours when it is opened again */
    if (result < 0)
        (void)close(store->lock_file);
    return result;
}

int store_open_lmdb(struct store **out, const struct store_options *options, char *error)
{
    struct lmdb_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return store_explain(error, -ENOMEM, "no memory for the store");
    int result = options_take(store, options, error);
    if (result == 0)
        result = shared_lock_init(&store->lock);
    if (result == 0) {
        result = folder_open(store, options->lock, error);
        if (result < 0)
            pthread_rwlock_destroy(&store->lock);
    }
    if (result < 0) {
        free(store);
        return result;
    }
    store->base.ops = &lmdb_ops;
    store->transaction_last = lmdb_transaction_of(store->env);
    *out = &store->base;
    return 0;
}
