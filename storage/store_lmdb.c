/* SPDX-License-Identifier: Apache-2.0 */

/* The store on disk. The only file that knows LMDB; its codes end here.
 *
 * Four databases in one file: `sessions`, `events`, `inboxes` and `meta` (the schema's version,
 * and one record with both counters); storage/record.h has the layout. A transaction reads the
 * counters from the last committed state when it begins and writes them when it commits, so an
 * abort gives the seqs back by itself.
 *
 * LMDB runs in its durable default mode: a commit writes pages that nothing refers to, syncs them,
 * then writes and syncs the meta page. NOSYNC would lose what was promised, and with WRITEMAP a
 * full disk is a SIGBUS. Every read is a short transaction of its own, since a long one keeps
 * pages from being used again.
 *
 * A commit that fails for another reason than space leaves the environment in doubt. It is not
 * used again: the next begin closes it and opens it anew, all checks included, under the lock
 * that readers share. Three things may have failed, in this order (LMDB 0.9.24):
 *
 *   - Writing pages, or their sync. They were free pages, and whoever uses them next writes them
 *     anew before a sync of its own. Nothing hangs on the failed ones.
 *   - Writing the meta page, which is synced by the write itself. The new state may then be in the
 *     page cache, on the disk, both or neither. LMDB puts the old transaction number back, without
 *     looking whether that worked and without a sync, and refuses all further use.
 *
 * So after a failed commit the file may show, now or after a loss of power, a transaction that was
 * reported as failed. Its number would be used again, and so would the pages that it calls free;
 * cut short, that is a damaged file. Therefore the reopening first does what LMDB tried
 * (lmdb_file_undo): it writes the old number again and syncs it, and as long as that fails begin
 * fails too. It is safe: the state before lies under the other meta page, all its pages are in
 * place since a transaction writes to pages only that no living state uses, and no reader has seen
 * the failed one, because LMDB publishes the number of a transaction (in the lock file) only after
 * the meta page was written. No other process writes: the lock file of the folder sees to that,
 * and a number that is neither the acknowledged one nor the next is not touched but refused until
 * a restart. If the process ends before the undo, the next start reads everything anew, and what
 * it finds is the truth; a failed login may then turn out to be there.
 *
 * Opening syncs the file before it reads. After a kill the page cache may hold what the disk does
 * not, and answers must not be built on that.
 *
 * storage/room.c decides whether a change still fits the map, before LMDB is asked to make it.
 * Pages that a reader may still see are not used again: one that stays in its transaction (of
 * another process: those here are short) makes the file grow up to the map's end, and then every
 * commit is refused until it goes. One that died there is cleared, now and then and whenever the
 * end is near.
 *
 * The file is born under another name with its schema inside and then renamed. So a data.mdb
 * that is empty or has no schema is never a beginning, it is damage. A file of version 1, which
 * had no inboxes, is brought up to date in one transaction when it is opened; any other version is
 * refused.
 *
 * Data: `env` and its handles are replaced by the writer under the write side of `lock`; all that
 * is below "the writer's" belongs to the writing thread; the rest is set once. */

#include "storage/store.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/folder.h"
#include "storage/lmdb_file.h"
#include "storage/record.h"
#include "storage/room.h"
#include "storage/store_ops.h"

enum {
    READERS_MAX = 126,          /* read transactions at one time, as many as LMDB's default */
    READER_CHECK_COMMITS = 100, /* clears what dead processes left in the reader table */
    EVENTS_DROPPED_MAX = 64,    /* per append: a lowered limit is reached in small steps */
    EVENTS_SHARE = 4,           /* of the map, 1/n, at most for events */
    MAP_PAGES_MIN = 64,
    DATABASES = 4,
};

static const char schema_version[] = "usher-store-2";
static const char schema_version_before[] = "usher-store-1";
static const char data_name[] = "data.mdb";
static const char birth_name[] = "data.mdb.new";

struct lmdb_store {
    struct store base;

    /* set once at open */
    char path[PATH_MAX];
    uint64_t map_bytes;
    uint64_t events_kept_max;
    int lock_file;

    pthread_rwlock_t lock; /* readers share it; the writer takes it to replace what follows */
    MDB_env *env;          /* NULL after a reopening that failed */
    MDB_dbi sessions;
    MDB_dbi events;
    MDB_dbi inboxes;
    MDB_dbi meta;

    /* the writer's */
    MDB_txn *transaction;
    struct store_position pending;
    bool changed;            /* something of the transaction is to be committed */
    bool broken;             /* a commit failed: reopen before anything else */
    size_t transaction_last; /* the last that was acknowledged */
    struct room room;        /* of the transaction */
    uint64_t commits;
};

static struct lmdb_store *lmdb_of(struct store *base)
{
    return (struct lmdb_store *)base;
}

static bool is_full(int code)
{
    return code == MDB_MAP_FULL || code == MDB_TXN_FULL || code == ENOSPC || code == EDQUOT ||
           code == EFBIG;
}

static int translate(int code)
{
    if (is_full(code))
        return -ENOSPC;
    switch (code) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_INVALID:
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_VERSION_MISMATCH:
    case MDB_INCOMPATIBLE:
        return -EUCLEAN;
    case MDB_READERS_FULL:
        return -EAGAIN;
    case ENOMEM:
        return -ENOMEM;
    case EACCES:
    case EPERM:
    case EROFS:
        return -EACCES;
    default:
        return -EIO;
    }
}

static MDB_val value_of_text(const char *text)
{
    return (MDB_val){strlen(text), (void *)text};
}

static struct bytes bytes_of_value(const MDB_val *value)
{
    return (struct bytes){value->mv_data, value->mv_size};
}

static int path_join(char out[PATH_MAX], const char *folder, const char *name)
{
    int size = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return size < 0 || size >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* --- the file: birth and opening --------------------------------------------------------- */

static int env_open(MDB_env **out, const char *path, uint64_t map_bytes, unsigned flags)
{
    MDB_env *env;
    int code = mdb_env_create(&env);
    if (code != 0)
        return translate(code);
    code = mdb_env_set_mapsize(env, map_bytes);
    if (code == 0)
        code = mdb_env_set_maxdbs(env, DATABASES);
    if (code == 0)
        code = mdb_env_set_maxreaders(env, READERS_MAX);
    if (code == 0)
        code = mdb_env_open(env, path, flags | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (code != 0) {
        mdb_env_close(env);
        return translate(code);
    }
    *out = env;
    return 0;
}

static int birth_write(MDB_txn *transaction)
{
    MDB_dbi meta;
    MDB_dbi other;
    uint8_t position[RECORD_POSITION_BYTES];
    record_pack_position(0, 0, position);
    MDB_val schema_key = value_of_text("schema");
    MDB_val schema = value_of_text(schema_version);
    MDB_val position_key = value_of_text("position");
    MDB_val position_value = {sizeof(position), position};
    int code = mdb_dbi_open(transaction, "sessions", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "events", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "inboxes", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "meta", MDB_CREATE, &meta);
    if (code == 0)
        code = mdb_put(transaction, meta, &schema_key, &schema, 0);
    if (code == 0)
        code = mdb_put(transaction, meta, &position_key, &position_value, 0);
    return code;
}

static int birth_fill(const char *path, uint64_t map_bytes)
{
    MDB_env *env;
    MDB_txn *transaction;
    int result = env_open(&env, path, map_bytes, MDB_NOSUBDIR);
    if (result < 0)
        return result;
    int code = mdb_txn_begin(env, NULL, 0, &transaction);
    if (code == 0) {
        code = birth_write(transaction);
        if (code == 0)
            code = mdb_txn_commit(transaction);
        else
            mdb_txn_abort(transaction);
    }
    mdb_env_close(env);
    return translate(code);
}

/* Makes an empty store beside its name and renames it: it is there whole or not at all. */
static int birth(const struct lmdb_store *store, const char *data_path, char *error)
{
    char path[PATH_MAX];
    char lock_path[PATH_MAX];
    if (path_join(path, store->path, birth_name) < 0 ||
        snprintf(lock_path, sizeof(lock_path), "%s-lock", path) >= (int)sizeof(lock_path))
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    (void)unlink(path);
    int result = birth_fill(path, store->map_bytes);
    (void)unlink(lock_path);
    if (result == 0 && rename(path, data_path) < 0)
        result = -errno;
    if (result == 0)
        result = folder_sync(store->path);
    return result == 0
               ? 0
               : store_explain(error, result, "cannot make %s: %s", data_path, strerror(-result));
}

/* What is missing to the version of today. Content is only added: a crash leaves the file as it
 * was, and so does a full map. */
static int schema_upgrade(struct lmdb_store *store, MDB_txn *transaction)
{
    MDB_val key = value_of_text("schema");
    MDB_val value = value_of_text(schema_version);
    int code = mdb_dbi_open(transaction, "inboxes", MDB_CREATE, &store->inboxes);
    if (code == 0)
        code = mdb_put(transaction, store->meta, &key, &value, 0);
    return translate(code);
}

/* The version, and an upgrade where one is due. */
static int schema_open(struct lmdb_store *store, MDB_txn *transaction, const char *path,
                       char *error)
{
    MDB_val key = value_of_text("schema");
    MDB_val value;
    int code = mdb_dbi_open(transaction, "meta", 0, &store->meta);
    if (code == 0)
        code = mdb_get(transaction, store->meta, &key, &value);
    if (code != 0) {
        int result = code == MDB_NOTFOUND ? -EUCLEAN : translate(code);
        return store_explain(error, result, "%s is no store of usher", path);
    }
    struct bytes version = bytes_of_value(&value);
    if (bytes_equal(version, bytes_of_text(schema_version)))
        return 0;
    if (!bytes_equal(version, bytes_of_text(schema_version_before)))
        return store_explain(error, -EUCLEAN,
                             "%s is of another version of usher; this one reads %s and %s", path,
                             schema_version_before, schema_version);
    int result = schema_upgrade(store, transaction);
    return result == 0 ? 0
                       : store_explain(error, result, "cannot bring %s to version %s: %s", path,
                                       schema_version, strerror(-result));
}

/* The handles of the other databases. A store without one of them is damaged. */
static int handles_open(struct lmdb_store *store, MDB_txn *transaction, const char *path,
                        char *error)
{
    int code = mdb_dbi_open(transaction, "sessions", 0, &store->sessions);
    if (code == 0)
        code = mdb_dbi_open(transaction, "events", 0, &store->events);
    if (code == 0)
        code = mdb_dbi_open(transaction, "inboxes", 0, &store->inboxes);
    if (code == 0)
        return 0;
    return store_explain(error, code == MDB_NOTFOUND ? -EUCLEAN : translate(code),
                         "%s is damaged: a part of the store is missing", path);
}

/* The key at one end of the events: its seq, or -ENOENT when there is none. */
static int event_end(const struct lmdb_store *store, MDB_txn *transaction, MDB_cursor_op end,
                     uint64_t *seq)
{
    MDB_cursor *cursor;
    int code = mdb_cursor_open(transaction, store->events, &cursor);
    if (code != 0)
        return translate(code);
    MDB_val key;
    MDB_val value;
    code = mdb_cursor_get(cursor, &key, &value, end);
    mdb_cursor_close(cursor);
    if (code != 0)
        return translate(code);
    if (key.mv_size != RECORD_EVENT_KEY_BYTES)
        return -EUCLEAN;
    *seq = record_event_seq(key.mv_data);
    return 0;
}

/* The counters, checked against the events that are there: no gap, none beyond the last. */
static int position_read(const struct lmdb_store *store, MDB_txn *transaction,
                         struct store_position *position)
{
    MDB_val key = value_of_text("position");
    MDB_val value;
    int code = mdb_get(transaction, store->meta, &key, &value);
    if (code != 0)
        return code == MDB_NOTFOUND ? -EUCLEAN : translate(code);
    if (record_unpack_position(bytes_of_value(&value), &position->epoch_last,
                               &position->presence_last) < 0)
        return -EUCLEAN;
    MDB_stat sessions;
    MDB_stat events;
    code = mdb_stat(transaction, store->sessions, &sessions);
    if (code == 0)
        code = mdb_stat(transaction, store->events, &events);
    if (code != 0)
        return translate(code);
    position->sessions = sessions.ms_entries;
    position->presence_first = position->presence_last + 1;
    uint64_t last = position->presence_last;
    if (events.ms_entries > 0) {
        int result = event_end(store, transaction, MDB_FIRST, &position->presence_first);
        if (result == 0)
            result = event_end(store, transaction, MDB_LAST, &last);
        if (result < 0)
            return result == -ENOENT ? -EUCLEAN : result;
    }
    bool whole =
        last == position->presence_last && last + 1 - position->presence_first == events.ms_entries;
    return whole ? 0 : -EUCLEAN;
}

static int content_check(struct lmdb_store *store, const char *path, char *error)
{
    MDB_txn *transaction;
    int dead;
    (void)mdb_reader_check(store->env, &dead);
    /* Handles opened in a write transaction stay valid after its commit. */
    int result = translate(mdb_txn_begin(store->env, NULL, 0, &transaction));
    if (result < 0)
        return store_explain(error, result, "cannot read %s: %s", path, strerror(-result));
    struct store_position position;
    result = schema_open(store, transaction, path, error);
    if (result == 0)
        result = handles_open(store, transaction, path, error);
    if (result < 0) {
        mdb_txn_abort(transaction);
        return result;
    }
    result = position_read(store, transaction, &position);
    if (result < 0) {
        mdb_txn_abort(transaction);
        return store_explain(error, result, "%s: the counters or the events are damaged", path);
    }
    result = translate(mdb_txn_commit(transaction)); /* writes only after an upgrade */
    return result == 0
               ? 0
               : store_explain(error, result, "cannot open %s: %s", path, strerror(-result));
}

static size_t transaction_of(MDB_env *env)
{
    MDB_envinfo info;
    return mdb_env_info(env, &info) == 0 ? info.me_last_txnid : 0;
}

static void env_close(struct lmdb_store *store)
{
    if (store->env != NULL)
        mdb_env_close(store->env);
    store->env = NULL;
}

/* Opens the environment of a store that holds its lock file. */
static int file_open(struct lmdb_store *store, bool may_be_new, char *error)
{
    char path[PATH_MAX];
    if (path_join(path, store->path, data_name) < 0)
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    int result = lmdb_file_sync(path, error);
    if (result == 0)
        result = lmdb_file_check(path, error);
    if (result == -ENOENT && may_be_new)
        result = birth(store, path, error);
    if (result < 0)
        return result == -EPERM ? -EACCES : result;
    result = env_open(&store->env, store->path, store->map_bytes, 0);
    if (result < 0) {
        store->env = NULL;
        return store_explain(error, result, "cannot open %s: %s", path, strerror(-result));
    }
    result = content_check(store, path, error);
    if (result < 0)
        env_close(store);
    return result;
}

/* Whether reads see the last acknowledged transaction: by the file and by the lock file. */
static bool env_shows_last(const struct lmdb_store *store)
{
    MDB_txn *transaction;
    if (mdb_txn_begin(store->env, NULL, MDB_RDONLY, &transaction) != 0)
        return false;
    size_t seen = mdb_txn_id(transaction);
    mdb_txn_abort(transaction);
    return seen == store->transaction_last && transaction_of(store->env) == seen;
}

/* After a commit that failed. Waits for the reads that are under way. The undo comes first: as
 * long as the environment is open, nobody else takes what the file shows for the last state. */
static int file_reopen(struct lmdb_store *store)
{
    char path[PATH_MAX];
    pthread_rwlock_wrlock(&store->lock);
    int result = path_join(path, store->path, data_name);
    if (result == 0)
        result = lmdb_file_undo(path, store->transaction_last);
    if (result == 0) {
        env_close(store);
        result = file_open(store, false, NULL);
    }
    if (result == 0 && !env_shows_last(store)) {
        env_close(store);
        result = -EIO;
    }
    pthread_rwlock_unlock(&store->lock);
    store->broken = result < 0;
    return result;
}

/* --- room for a change ------------------------------------------------------------------- */

static size_t free_list_at(const MDB_val *list, size_t index)
{
    size_t number;
    memcpy(&number, (const uint8_t *)list->mv_data + index * sizeof(number), sizeof(number));
    return number;
}

/* Counts the pages that were free at the last commit, and marks them in `bitmap` when there is
 * one. A write transaction may not look at LMDB's list of them, so a short read transaction does.
 */
static int free_list_read(MDB_env *env, uint64_t *pages, uint8_t *bitmap, uint64_t bitmap_pages)
{
    MDB_txn *transaction;
    MDB_cursor *cursor;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction);
    if (code != 0)
        return code;
    code = mdb_cursor_open(transaction, 0, &cursor); /* 0: the list of free pages */
    if (code == 0) {
        MDB_val key;
        MDB_val value;
        while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            size_t count = free_list_at(&value, 0); /* then their numbers */
            *pages += count;
            for (size_t i = 1; bitmap != NULL && i <= count; i++) {
                size_t page = free_list_at(&value, i);
                if (page < bitmap_pages)
                    bitmap[page / 8] |= (uint8_t)(1u << page % 8);
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(transaction);
    return code == MDB_NOTFOUND ? 0 : code;
}

static uint64_t longest_run(const uint8_t *bitmap, uint64_t bits)
{
    uint64_t longest = 0;
    uint64_t run = 0;
    for (uint64_t i = 0; i < bits; i++) {
        run = bitmap[i / 8] & 1u << i % 8 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* What is free inside of the file; rows of pages matter to saved inboxes alone. */
static int room_count(struct lmdb_store *store, enum room_change change)
{
    uint64_t pages = 0;
    uint64_t file_pages = store->room.file.pages_used;
    uint8_t *bitmap = NULL;
    int dead;
    if (change == ROOM_MESSAGE && (bitmap = calloc(1, file_pages / 8 + 1)) == NULL)
        return -ENOMEM;
    (void)mdb_reader_check(store->env, &dead); /* who died in a read keeps pages from use */
    int code = free_list_read(store->env, &pages, bitmap, file_pages);
    if (code == 0)
        room_list(&store->room, pages, bitmap == NULL ? 0 : longest_run(bitmap, file_pages));
    free(bitmap);
    return translate(code);
}

static int room_open(struct lmdb_store *store)
{
    MDB_envinfo info;
    MDB_stat sessions;
    MDB_stat events;
    MDB_stat inboxes;
    int code = mdb_env_info(store->env, &info);
    if (code == 0)
        code = mdb_stat(store->transaction, store->sessions, &sessions);
    if (code == 0)
        code = mdb_stat(store->transaction, store->events, &events);
    if (code == 0)
        code = mdb_stat(store->transaction, store->inboxes, &inboxes);
    if (code != 0)
        return translate(code);
    uint64_t kept = store->pending.presence_last + 1 - store->pending.presence_first;
    room_begin(
        &store->room,
        &(struct room_file){
            .page_bytes = sessions.ms_psize,
            .pages = info.me_mapsize / sessions.ms_psize,
            .pages_used = info.me_last_pgno + 1,
            .session_pages = sessions.ms_branch_pages + sessions.ms_leaf_pages,
            .event_pages = events.ms_branch_pages + events.ms_leaf_pages,
            .inbox_pages = inboxes.ms_branch_pages + inboxes.ms_leaf_pages,
            .inbox_value_pages = inboxes.ms_overflow_pages,
            .sessions = sessions.ms_entries,
            .events_missing = kept < store->events_kept_max ? store->events_kept_max - kept : 0,
        });
    return 0;
}

/* 0 or -ENOSPC for one more change in this transaction, which puts `bytes`. The free pages inside
 * of the file are counted only when those behind it do not do. */
static int room_take(struct lmdb_store *store, enum room_change change, size_t bytes)
{
    struct room *room = &store->room;
    room_add(room, change, bytes);
    if (room_fits(room, change))
        return 0;
    bool counted = room->listed && (change != ROOM_MESSAGE || room->listed_run > 0);
    int result = counted ? 0 : room_count(store, change);
    if (result < 0)
        return result;
    return room_fits(room, change) ? 0 : -ENOSPC;
}

/* --- writing ----------------------------------------------------------------------------- */

static int lmdb_begin(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    if (store->broken && file_reopen(store) < 0)
        return -EIO;
    int code = mdb_txn_begin(store->env, NULL, 0, &store->transaction);
    if (code == MDB_PANIC) {
        if (file_reopen(store) < 0)
            return -EIO;
        code = mdb_txn_begin(store->env, NULL, 0, &store->transaction);
    }
    store->changed = false;
    if (code != 0)
        return translate(code);
    int result = position_read(store, store->transaction, &store->pending);
    if (result == 0)
        result = room_open(store);
    if (result < 0)
        mdb_txn_abort(store->transaction);
    return result;
}

/* Whether the session takes more room than what lies under its name now. */
static int session_grows(struct lmdb_store *store, MDB_val *key, size_t size, bool *grows)
{
    MDB_val value;
    int code = mdb_get(store->transaction, store->sessions, key, &value);
    *grows = code != 0 || value.mv_size < size;
    return code == MDB_NOTFOUND ? 0 : translate(code);
}

static int lmdb_put_session(struct store *base, const char *user,
                            const struct session_record *record)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t bytes[RECORD_BYTES_MAX];
    int size = record_pack_session(user, record, bytes);
    if (size < 0)
        return size;
    MDB_val key = value_of_text(user);
    MDB_val value = {(size_t)size, bytes};
    bool grows;
    int result = session_grows(store, &key, value.mv_size, &grows);
    if (result == 0)
        result = room_take(store, grows ? ROOM_GROWS : ROOM_KEEPS, value.mv_size);
    if (result < 0)
        return result;
    store->changed = true;
    return translate(mdb_put(store->transaction, store->sessions, &key, &value, 0));
}

static int lmdb_delete_session(struct store *base, const char *user)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_val key = value_of_text(user);
    int result = room_take(store, ROOM_KEEPS, 0);
    if (result < 0)
        return result;
    int code = mdb_del(store->transaction, store->sessions, &key, NULL);
    if (code == MDB_NOTFOUND)
        return 0;
    store->changed = true;
    return translate(code);
}

static int events_drop(struct lmdb_store *store)
{
    struct store_position *position = &store->pending;
    for (int i = 0; i < EVENTS_DROPPED_MAX; i++) {
        if (position->presence_last + 1 - position->presence_first <= store->events_kept_max)
            return 0;
        uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
        record_event_key(position->presence_first, key_bytes);
        MDB_val key = {sizeof(key_bytes), key_bytes};
        int code = mdb_del(store->transaction, store->events, &key, NULL);
        if (code != 0)
            return code == MDB_NOTFOUND ? -EUCLEAN : translate(code);
        position->presence_first++;
    }
    return 0;
}

static int lmdb_append_event(struct store *base, struct presence_event *event)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t bytes[RECORD_BYTES_MAX];
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    event->seq = store->pending.presence_last + 1;
    int size = record_pack_event(event, bytes);
    if (size < 0)
        return size;
    int result = room_take(store, ROOM_KEEPS, (size_t)size);
    if (result < 0)
        return result;
    record_event_key(event->seq, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value = {(size_t)size, bytes};
    store->changed = true;
    int code = mdb_put(store->transaction, store->events, &key, &value, MDB_APPEND);
    if (code != 0)
        return code == MDB_KEYEXIST ? -EUCLEAN : translate(code);
    store->pending.presence_last++;
    return events_drop(store);
}

static int lmdb_put_inbox(struct store *base, const char *user, const struct saved_inbox *inbox)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t bytes[RECORD_BYTES_MAX];
    uint8_t key_bytes[RECORD_INBOX_KEY_BYTES_MAX];
    int size = record_pack_inbox(user, inbox, bytes);
    if (size < 0)
        return size;
    MDB_val key = {record_inbox_key(user, 0, key_bytes), key_bytes};
    int result = room_take(store, ROOM_MESSAGE, key.mv_size + (size_t)size);
    if (result < 0)
        return result;
    MDB_val value = {(size_t)size, bytes};
    store->changed = true;
    return translate(mdb_put(store->transaction, store->inboxes, &key, &value, 0));
}

static int lmdb_put_message(struct store *base, const char *user,
                            const struct saved_message *message)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t key_bytes[RECORD_INBOX_KEY_BYTES_MAX];
    int size = record_message_size(message);
    if (size < 0)
        return size;
    MDB_val key = {record_inbox_key(user, message->seq, key_bytes), key_bytes};
    int result = room_take(store, ROOM_MESSAGE, key.mv_size + (size_t)size);
    if (result < 0)
        return result;
    MDB_val value = {(size_t)size, NULL};
    store->changed = true;
    /* LMDB gives the place, so that megabytes are not packed twice. */
    int code = mdb_put(store->transaction, store->inboxes, &key, &value, MDB_RESERVE);
    if (code != 0)
        return translate(code);
    record_pack_message(user, message, value.mv_data);
    return 0;
}

static int lmdb_drop_inboxes(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    store->changed = true;
    return translate(mdb_drop(store->transaction, store->inboxes, 0));
}

static void lmdb_abort(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    mdb_txn_abort(store->transaction);
    store->transaction = NULL;
}

static int position_write(const struct lmdb_store *store)
{
    uint8_t bytes[RECORD_POSITION_BYTES];
    record_pack_position(store->pending.epoch_last, store->pending.presence_last, bytes);
    MDB_val key = value_of_text("position");
    MDB_val value = {sizeof(bytes), bytes};
    return translate(mdb_put(store->transaction, store->meta, &key, &value, 0));
}

static int lmdb_commit(struct store *base, uint64_t epoch_last)
{
    struct lmdb_store *store = lmdb_of(base);
    if (epoch_last > store->pending.epoch_last) {
        store->pending.epoch_last = epoch_last;
        store->changed = true;
    }
    int result = store->changed ? position_write(store) : 0;
    if (result < 0) {
        lmdb_abort(base);
        return result;
    }
    int code = mdb_txn_commit(store->transaction);
    store->transaction = NULL;
    if (code != 0) {
        /* Without space nothing was written that counts, and LMDB goes on from the last state
         * (or answers MDB_PANIC, which begin handles). */
        store->broken = !is_full(code);
        return is_full(code) ? -ENOSPC : -EIO;
    }
    store->transaction_last = transaction_of(store->env);
    store->commits++;
    int dead;
    if (store->commits % READER_CHECK_COMMITS == 0)
        (void)mdb_reader_check(store->env, &dead);
    return 0;
}

/* --- reading ----------------------------------------------------------------------------- */

/* Every 0 is followed by read_end. */
static int read_begin(struct lmdb_store *store, MDB_txn **transaction)
{
    pthread_rwlock_rdlock(&store->lock);
    int result = -EIO;
    if (store->env != NULL)
        result = translate(mdb_txn_begin(store->env, NULL, MDB_RDONLY, transaction));
    if (result < 0)
        pthread_rwlock_unlock(&store->lock);
    return result;
}

static void read_end(struct lmdb_store *store, MDB_txn *transaction)
{
    mdb_txn_abort(transaction);
    pthread_rwlock_unlock(&store->lock);
}

static int lmdb_position(struct store *base, struct store_position *position)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    int result = read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = position_read(store, transaction, position);
    read_end(store, transaction);
    return result;
}

/* -ENOENT: no session. */
static int session_read(struct lmdb_store *store, MDB_txn *transaction, const char *user,
                        struct session_record *record)
{
    if (!store_name_is_usable(user))
        return -ENOENT;
    MDB_val key = value_of_text(user);
    MDB_val value;
    int result = translate(mdb_get(transaction, store->sessions, &key, &value));
    return result == 0 ? record_unpack_session(user, bytes_of_value(&value), record) : result;
}

static int lmdb_look_up(struct store *base, const char *const *users, size_t count,
                        store_session_each *each, void *context, uint64_t *presence_last)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    struct store_position position;
    int result = read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = position_read(store, transaction, &position);
    if (result == 0)
        *presence_last = position.presence_last;
    bool wanted = true;
    for (size_t i = 0; result == 0 && wanted && i < count; i++) {
        struct session_record record;
        int found = session_read(store, transaction, users[i], &record);
        if (found == 0 || found == -ENOENT)
            wanted = each(context, users[i], found == 0 ? &record : NULL);
        else
            result = found;
    }
    read_end(store, transaction);
    return result;
}

/* A key as text. The file is not trusted: a name has 1 to 64 bytes and no NUL. */
static int name_read(const MDB_val *key, char user[STORE_NAME_BYTES_MAX + 1])
{
    if (key->mv_size == 0 || key->mv_size > STORE_NAME_BYTES_MAX ||
        memchr(key->mv_data, '\0', key->mv_size) != NULL)
        return -EUCLEAN;
    memcpy(user, key->mv_data, key->mv_size);
    user[key->mv_size] = '\0';
    return 0;
}

static int list_walk(MDB_cursor *cursor, const struct store_query *query, store_session_each *each,
                     void *context, bool *more)
{
    MDB_val key = value_of_text(query->start);
    MDB_val value;
    size_t given = 0;
    bool wanted = true;
    int code = mdb_cursor_get(cursor, &key, &value, key.mv_size > 0 ? MDB_SET_RANGE : MDB_FIRST);
    for (; code == 0; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        char user[STORE_NAME_BYTES_MAX + 1];
        int result = name_read(&key, user);
        if (result < 0)
            return result;
        if (store_query_is_past(query, user))
            return 0;
        if (!store_query_matches(query, user))
            continue;
        if (!wanted || given == query->limit) {
            *more = true;
            return 0;
        }
        struct session_record record;
        result = record_unpack_session(user, bytes_of_value(&value), &record);
        if (result < 0)
            return result;
        given++;
        wanted = each(context, user, &record);
    }
    return code == MDB_NOTFOUND ? 0 : translate(code);
}

static int lmdb_list_sessions(struct store *base, const struct store_query *query,
                              store_session_each *each, void *context, uint64_t *presence_last,
                              bool *more)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    struct store_position position;
    *more = false;
    int result = read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = position_read(store, transaction, &position);
    if (result == 0)
        result = translate(mdb_cursor_open(transaction, store->sessions, &cursor));
    if (result == 0) {
        *presence_last = position.presence_last;
        result = list_walk(cursor, query, each, context, more);
        mdb_cursor_close(cursor);
    }
    read_end(store, transaction);
    return result;
}

/* `seq` is there when the position says so; a gap is damage. */
static int events_walk(MDB_cursor *cursor, uint64_t seq, uint64_t last, size_t limit,
                       store_event_each *each, void *context)
{
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    record_event_key(seq, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value;
    MDB_cursor_op step = MDB_SET_KEY;
    for (; limit > 0 && seq <= last; limit--, seq++) {
        int code = mdb_cursor_get(cursor, &key, &value, step);
        if (code != 0)
            return code == MDB_NOTFOUND ? -EUCLEAN : translate(code);
        if (key.mv_size != RECORD_EVENT_KEY_BYTES || record_event_seq(key.mv_data) != seq)
            return -EUCLEAN;
        struct presence_event event;
        int result = record_unpack_event(seq, bytes_of_value(&value), &event);
        if (result < 0)
            return result;
        if (!each(context, &event))
            return 0;
        step = MDB_NEXT;
    }
    return 0;
}

static int lmdb_read_events(struct store *base, uint64_t after, size_t limit,
                            store_event_each *each, void *context, struct store_position *position)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    int result = read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = position_read(store, transaction, position);
    if (result == 0 && after < position->presence_last) {
        uint64_t seq = position->presence_first;
        if (after >= seq)
            seq = after + 1;
        result = translate(mdb_cursor_open(transaction, store->events, &cursor));
        if (result == 0) {
            result = events_walk(cursor, seq, position->presence_last, limit, each, context);
            mdb_cursor_close(cursor);
        }
    }
    read_end(store, transaction);
    return result;
}

/* The messages behind the head that the cursor is on. */
static int inbox_walk(MDB_cursor *cursor, const char *user, store_message_each *each, void *context)
{
    struct arena arena = {0};
    MDB_val key;
    MDB_val value;
    uint64_t seq_before = 0;
    int result = 0;
    int code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint64_t seq;
        struct saved_message message;
        result = record_inbox_seq(user, bytes_of_value(&key), &seq);
        if (result <= 0)
            break;
        result = seq > seq_before
                     ? record_unpack_message(user, seq, bytes_of_value(&value), &arena, &message)
                     : -EUCLEAN;
        if (result < 0 || !each(context, &message))
            break;
        seq_before = seq;
    }
    arena_fini(&arena);
    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : translate(code);
    return result;
}

static int inbox_read(MDB_cursor *cursor, const char *user, struct saved_inbox *inbox,
                      store_message_each *each, void *context)
{
    uint8_t key_bytes[RECORD_INBOX_KEY_BYTES_MAX];
    MDB_val key = {record_inbox_key(user, 0, key_bytes), key_bytes};
    MDB_val value;
    int result = translate(mdb_cursor_get(cursor, &key, &value, MDB_SET));
    if (result == 0)
        result = record_unpack_inbox(user, bytes_of_value(&value), inbox);
    return result == 0 ? inbox_walk(cursor, user, each, context) : result;
}

static int lmdb_read_inbox(struct store *base, const char *user, struct saved_inbox *inbox,
                           store_message_each *each, void *context)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    int result = read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = translate(mdb_cursor_open(transaction, store->inboxes, &cursor));
    if (result == 0) {
        result = inbox_read(cursor, user, inbox, each, context);
        mdb_cursor_close(cursor);
    }
    read_end(store, transaction);
    return result;
}

/* --- life -------------------------------------------------------------------------------- */

static void lmdb_close(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    env_close(store);
    pthread_rwlock_destroy(&store->lock);
    /* Last: with it another broker may come. */
    (void)close(store->lock_file);
    free(store);
}

static const struct store_ops lmdb_ops = {
    .close = lmdb_close,
    .begin = lmdb_begin,
    .put_session = lmdb_put_session,
    .delete_session = lmdb_delete_session,
    .append_event = lmdb_append_event,
    .put_inbox = lmdb_put_inbox,
    .put_message = lmdb_put_message,
    .drop_inboxes = lmdb_drop_inboxes,
    .commit = lmdb_commit,
    .abort = lmdb_abort,
    .position = lmdb_position,
    .look_up = lmdb_look_up,
    .list_sessions = lmdb_list_sessions,
    .read_events = lmdb_read_events,
    .read_inbox = lmdb_read_inbox,
};

static int options_take(struct lmdb_store *store, const struct store_options *options, char *error)
{
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    store->map_bytes = options->map_bytes_max - options->map_bytes_max % page_bytes;
    if (store->map_bytes < MAP_PAGES_MIN * page_bytes)
        return store_explain(error, -EINVAL, "a store needs at least %llu bytes",
                             (unsigned long long)(MAP_PAGES_MIN * page_bytes));
    if (snprintf(store->path, sizeof(store->path), "%s", options->path) >= (int)sizeof(store->path))
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    store->events_kept_max = store->map_bytes / EVENTS_SHARE / ROOM_EVENT_BYTES_MAX;
    if (store->events_kept_max > options->events_kept_max)
        store->events_kept_max = options->events_kept_max;
    return 0;
}

static int lock_init(pthread_rwlock_t *lock)
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

static int folder_open(struct lmdb_store *store, char *error)
{
    int result = folder_make(store->path, error);
    if (result < 0)
        return result;
    store->lock_file = folder_lock(store->path, error);
    if (store->lock_file < 0)
        return store->lock_file;
    result = file_open(store, true, error);
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
        result = lock_init(&store->lock);
    if (result == 0) {
        result = folder_open(store, error);
        if (result < 0)
            pthread_rwlock_destroy(&store->lock);
    }
    if (result < 0) {
        free(store);
        return result;
    }
    store->base.ops = &lmdb_ops;
    store->transaction_last = transaction_of(store->env);
    *out = &store->base;
    return 0;
}
