/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lmdb/check.h"
#include "lmdb/folder.h"
#include "storage/record.h"

/* The file of the store: its birth, its opening with all checks, and its opening anew.
 *
 * The file is born under another name with its schema inside and then renamed. So a data.mdb
 * that is empty or has no schema is never a beginning, it is damage. A file of version 1, which
 * had no inboxes, or of version 2, which had no log, is brought up to date in one transaction when
 * it is opened; any other version is refused.
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
 * not, and answers must not be built on that. */

enum {
    READERS_MAX = 126, /* read transactions at one time, as many as LMDB's default */
    DATABASES = 7,
};

static const char schema_version[] = "usher-store-3";
static const char *const schema_versions_before[] = {"usher-store-1", "usher-store-2"};
static const char data_name[] = "data.mdb";
static const char birth_name[] = "data.mdb.new";

static int path_join(char out[PATH_MAX], const char *folder, const char *name)
{
    int size = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return size < 0 || size >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* LMDB knows readers by their process number. It finds out whether one is dead by a lock on the
 * byte of the lock file that has this number, and takes a place for its own when it reads first. In
 * containers numbers are given apart from each other, so two processes may have the same one, 1
 * most of all, and the second cannot read: EAGAIN. That it is found here, and not at some later
 * read, is what this is for; a broker has its number for as long as the environment is open.
 * (docs/decisions/0077) */
static int number_take(MDB_env *env)
{
    MDB_txn *transaction;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction);
    if (code == 0)
        mdb_txn_abort(transaction);
    return code;
}

int lmdb_explain_open(char *error, int result, const char *path)
{
    if (result != -EBUSY)
        return store_explain(error, result, "cannot open %s: %s", path, store_error_text(result));
    return store_explain(error, result,
                         "%s is open in another container, by a process that has our number there, "
                         "%ld; wait until that one has ended, or run this one beside it",
                         path, (long)getpid());
}

static int env_open(MDB_env **out, const char *path, uint64_t map_bytes, unsigned flags)
{
    MDB_env *env;
    int code = mdb_env_create(&env);
    if (code != 0)
        return lmdb_translate(code);
    if (map_bytes != 0)
        code = mdb_env_set_mapsize(env, map_bytes);
    if (code == 0)
        code = mdb_env_set_maxdbs(env, DATABASES);
    if (code == 0)
        code = mdb_env_set_maxreaders(env, READERS_MAX);
    if (code == 0)
        code = mdb_env_open(env, path, flags | MDB_NOTLS | MDB_NORDAHEAD, 0600);
    if (code == 0)
        code = number_take(env);
    if (code != 0) {
        mdb_env_close(env);
        return lmdb_translate(code);
    }
    *out = env;
    return 0;
}

/* As large as the file says that it is. */
int lmdb_env_open_reader(MDB_env **env, const char *path)
{
    return env_open(env, path, 0, MDB_RDONLY);
}

int lmdb_env_open_private(MDB_env **env, const char *file)
{
    return env_open(env, file, 0, MDB_RDONLY | MDB_NOSUBDIR | MDB_NOLOCK);
}

static int put_log_counters(MDB_txn *transaction, MDB_dbi meta)
{
    uint8_t bytes[RECORD_LOG_BYTES];
    MDB_val key = lmdb_value_of_text(RECORD_LOG_KEY);
    MDB_val value = {sizeof(bytes), bytes};
    record_pack_log(0, 0, bytes);
    return mdb_put(transaction, meta, &key, &value, 0);
}

static int birth_write(MDB_txn *transaction)
{
    MDB_dbi meta;
    MDB_dbi other;
    uint8_t position[RECORD_POSITION_BYTES];
    record_pack_position(0, 0, position);
    MDB_val schema_key = lmdb_value_of_text("schema");
    MDB_val schema = lmdb_value_of_text(schema_version);
    MDB_val position_key = lmdb_value_of_text("position");
    MDB_val position_value = {sizeof(position), position};
    int code = mdb_dbi_open(transaction, "sessions", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "events", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "inboxes", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "log", MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, lmdb_history_names[HISTORY_SESSIONS], MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, lmdb_history_names[HISTORY_REFUSALS], MDB_CREATE, &other);
    if (code == 0)
        code = mdb_dbi_open(transaction, "meta", MDB_CREATE, &meta);
    if (code == 0)
        code = mdb_put(transaction, meta, &schema_key, &schema, 0);
    if (code == 0)
        code = mdb_put(transaction, meta, &position_key, &position_value, 0);
    return code == 0 ? put_log_counters(transaction, meta) : code;
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
    return lmdb_translate(code);
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
    return result == 0 ? 0
                       : store_explain(error, result, "cannot make %s: %s", data_path,
                                       store_error_text(result));
}

/* What is missing to the version of today. Content is only added: a crash leaves the file as it
 * was, and so does a full map; but what a transaction leaves free is more than this takes. */
static int schema_upgrade(struct lmdb_store *store, MDB_txn *transaction)
{
    MDB_val key = lmdb_value_of_text("schema");
    MDB_val value = lmdb_value_of_text(schema_version);
    int code = mdb_dbi_open(transaction, "inboxes", MDB_CREATE, &store->inboxes);
    if (code == 0)
        code = mdb_dbi_open(transaction, "log", MDB_CREATE, &store->log);
    if (code == 0)
        code = put_log_counters(transaction, store->meta);
    if (code == 0)
        code = mdb_put(transaction, store->meta, &key, &value, 0);
    return lmdb_translate(code);
}

/* The older version that this is; NULL: none. */
static const char *older_version(struct bytes version)
{
    for (size_t i = 0; i < sizeof(schema_versions_before) / sizeof(schema_versions_before[0]); i++)
        if (bytes_equal(version, bytes_of_text(schema_versions_before[i])))
            return schema_versions_before[i];
    return NULL;
}

/* The version, and an upgrade where one is due. */
static int schema_open(struct lmdb_store *store, MDB_txn *transaction, const char *path,
                       char *error)
{
    MDB_val key = lmdb_value_of_text("schema");
    MDB_val value;
    int code = mdb_dbi_open(transaction, "meta", 0, &store->meta);
    if (code == 0)
        code = mdb_get(transaction, store->meta, &key, &value);
    if (code != 0) {
        int result = code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
        return store_explain(error, result, "%s is no store of usher", path);
    }
    struct bytes version = lmdb_bytes_of_value(&value);
    if (bytes_equal(version, bytes_of_text(schema_version)))
        return 0;
    const char *before = older_version(version);
    if (before == NULL)
        return store_explain(error, -EUCLEAN,
                             "%s is of another version of usher; this one reads %s and the two "
                             "before it",
                             path, schema_version);
    if (store->beside)
        return store_explain(
            error, -ENOTSUP,
            "%s is of an older version, %s: a restart brings it up to date, and not "
            "a process beside one that reads that version",
            path, before);
    int result = schema_upgrade(store, transaction);
    if (result == 0)
        store->base.upgraded_from = before;
    return result == 0 ? 0
                       : store_explain(error, result, "cannot bring %s to version %s: %s", path,
                                       schema_version, store_error_text(result));
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
        code = mdb_dbi_open(transaction, "log", 0, &store->log);
    if (code == 0)
        return 0;
    return store_explain(error, code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code),
                         "%s is damaged: a part of the store is missing", path);
}

/* Its rings are for people and not a part of the schema: in a store that has none they are made by
 * the first start that has room for them. */
static int history_open(struct lmdb_store *store, MDB_txn *transaction, unsigned flags)
{
    int code = 0;
    for (int ring = 0; code == 0 && ring < HISTORY_RINGS; ring++)
        code = mdb_dbi_open(transaction, lmdb_history_names[ring], flags, &store->histories[ring]);
    store->without_history = code != 0;
    return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
}

/* Without room there is no history; anything else is an error as it would be of the start's next
 * transaction. */
static int history_make(struct lmdb_store *store, const char *path, char *error)
{
    MDB_txn *transaction;
    if (!store->without_history)
        return 0;
    int result = lmdb_translate(mdb_txn_begin(store->env, NULL, 0, &transaction));
    if (result == 0) {
        result = history_open(store, transaction, MDB_CREATE);
        if (result == 0)
            result = lmdb_translate(mdb_txn_commit(transaction));
        else
            mdb_txn_abort(transaction);
    }
    store->without_history = result != 0;
    return result == 0 || store_is_full(result)
               ? 0
               : store_explain(error, result, "cannot write %s: %s", path,
                               store_error_text(result));
}

/* The key at one end of the events: its seq, or -ENOENT when there is none. */
static int event_end(const struct lmdb_store *store, MDB_txn *transaction, MDB_cursor_op end,
                     uint64_t *seq)
{
    MDB_cursor *cursor;
    int code = mdb_cursor_open(transaction, store->events, &cursor);
    if (code != 0)
        return lmdb_translate(code);
    MDB_val key;
    MDB_val value;
    code = mdb_cursor_get(cursor, &key, &value, end);
    mdb_cursor_close(cursor);
    if (code != 0)
        return lmdb_translate(code);
    if (key.mv_size != RECORD_EVENT_KEY_BYTES)
        return -EUCLEAN;
    *seq = record_event_seq(key.mv_data);
    return 0;
}

/* The counters, checked against the events that are there: no gap, none beyond the last. Numbers
 * that nobody could have counted to are damage, too: those that follow would begin at 0 again. */
int lmdb_position_read(const struct lmdb_store *store, MDB_txn *transaction,
                       struct store_position *position)
{
    MDB_val key = lmdb_value_of_text("position");
    MDB_val value;
    CHECK(transaction != NULL && store->env != NULL);
    int code = mdb_get(transaction, store->meta, &key, &value);
    if (code != 0)
        return code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
    if (record_unpack_position(lmdb_bytes_of_value(&value), &position->epoch_last,
                               &position->presence_last) < 0)
        return -EUCLEAN;
    MDB_stat sessions;
    MDB_stat events;
    code = mdb_stat(transaction, store->sessions, &sessions);
    if (code == 0)
        code = mdb_stat(transaction, store->events, &events);
    if (code != 0)
        return lmdb_translate(code);
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
    bool whole = last == position->presence_last && last <= STORE_COUNT_MAX &&
                 position->epoch_last <= STORE_COUNT_MAX && position->presence_first <= last + 1 &&
                 last + 1 - position->presence_first == events.ms_entries;
    return whole ? 0 : -EUCLEAN;
}

static int content_check(struct lmdb_store *store, const char *path, char *error)
{
    MDB_txn *transaction;
    int dead;
    (void)mdb_reader_check(store->env, &dead);
    /* Handles opened in a write transaction stay valid after its commit. */
    int result = lmdb_translate(mdb_txn_begin(store->env, NULL, 0, &transaction));
    if (result < 0)
        return store_explain(error, result, "cannot read %s: %s", path, store_error_text(result));
    struct store_position position;
    result = schema_open(store, transaction, path, error);
    if (result == 0)
        result = handles_open(store, transaction, path, error);
    if (result == 0)
        result = history_open(store, transaction, 0);
    if (result < 0) {
        mdb_txn_abort(transaction);
        return result;
    }
    result = lmdb_position_read(store, transaction, &position);
    if (result == 0)
        result = lmdb_log_position(store, transaction, &position);
    if (result < 0) {
        mdb_txn_abort(transaction);
        return store_explain(error, result, "%s: the counters, the events or the log are damaged",
                             path);
    }
    result = lmdb_translate(mdb_txn_commit(transaction)); /* writes only after an upgrade */
    return result == 0
               ? 0
               : store_explain(error, result, "cannot open %s: %s", path, store_error_text(result));
}

size_t lmdb_transaction_of(MDB_env *env)
{
    MDB_envinfo info;
    return mdb_env_info(env, &info) == 0 ? info.me_last_txnid : 0;
}

void lmdb_env_close(struct lmdb_store *store)
{
    /* What still reads would look at pages that are there no more. */
    CHECK(store->transaction == NULL && store->readers == 0);
    if (store->env != NULL)
        mdb_env_close(store->env);
    store->env = NULL;
    store->map = NULL;
}

/* Only to give memory back (lmdb_rest), so not to know it is no error. */
static void *map_of(const struct lmdb_store *store)
{
    MDB_txn *transaction;
    MDB_stat stat;
    MDB_val key = lmdb_value_of_text("schema");
    MDB_val value;
    if (mdb_txn_begin(store->env, NULL, MDB_RDONLY, &transaction) != 0)
        return NULL;
    bool found = mdb_env_stat(store->env, &stat) == 0 &&
                 mdb_get(transaction, store->meta, &key, &value) == 0;
    void *map = found ? lmdb_file_map(value.mv_data, stat.ms_psize) : NULL;
    mdb_txn_abort(transaction);
    return map;
}

/* Which files have the names. -ENOENT: one has none. */
static int names_read(const struct lmdb_store *store, struct lmdb_name names[LMDB_NAMES])
{
    static const char *const all[LMDB_NAMES] = {data_name, "lock.mdb", "usher.lock"};
    char path[PATH_MAX];
    struct stat status;
    for (int i = 0; i < LMDB_NAMES; i++) {
        int result = path_join(path, store->path, all[i]);
        if (result < 0 || stat(path, &status) != 0)
            return result < 0 ? result : -errno;
        names[i] = (struct lmdb_name){status.st_dev, status.st_ino};
    }
    return 0;
}

/* A file whose name is gone, or another's, still takes what is written to it, and nobody will find
 * it there after a restart; and without the name of a lock file another broker could come. Who may
 * no longer look (-EACCES and the like) has not seen that it is so. */
int lmdb_look(struct store *base)
{
    const struct lmdb_store *store = lmdb_of(base);
    struct lmdb_name names[LMDB_NAMES];
    int result = names_read(store, names);
    if (result == -ENOENT || result == -ENOTDIR)
        return -ESTALE;
    for (int i = 0; result == 0 && i < LMDB_NAMES; i++)
        if (names[i].device != store->names[i].device || names[i].inode != store->names[i].inode)
            result = -ESTALE;
    return result == -ESTALE ? result : 0;
}

/* Opens the environment of a store that holds its lock file. */
int lmdb_file_open(struct lmdb_store *store, bool may_be_new, char *error)
{
    char path[PATH_MAX];
    CHECK(store->env == NULL && store->lock_file >= 0);
    if (path_join(path, store->path, data_name) < 0)
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    int result = lmdb_file_sync(path, error);
    if (result == 0 && !store->beside) /* or it is written meanwhile, by who has checked it */
        result = lmdb_file_check(path, error);
    if (result == -ENOENT && may_be_new && !store->beside)
        result = birth(store, path, error);
    if (result < 0)
        return result == -EPERM ? -EACCES : result;
    result = env_open(&store->env, store->path, store->map_bytes, 0);
    if (result < 0) {
        store->env = NULL;
        return lmdb_explain_open(error, result, path);
    }
    result = content_check(store, path, error);
    if (result == 0 && may_be_new)
        result = history_make(store, path, error);
    if (result == 0 && names_read(store, store->names) < 0)
        result = store_explain(error, -EIO, "%s: its folder changes while it is opened", path);
    if (result < 0)
        lmdb_env_close(store);
    else
        store->map = map_of(store);
    return result;
}

/* Whether reads see the last acknowledged transaction: by the file and by the lock file. */
static bool env_shows_last(const struct lmdb_store *store)
{
    CHECK(on_thread(&store->replacing) && store->env != NULL);
    MDB_txn *transaction;
    if (mdb_txn_begin(store->env, NULL, MDB_RDONLY, &transaction) != 0)
        return false;
    size_t seen = mdb_txn_id(transaction);
    mdb_txn_abort(transaction);
    return seen == store->transaction_last && lmdb_transaction_of(store->env) == seen;
}

/* After a commit that failed. Waits for the reads that are under way. The undo comes first: as
 * long as the environment is open, nobody else takes what the file shows for the last state. */
int lmdb_file_reopen(struct lmdb_store *store)
{
    char path[PATH_MAX];
    CHECK(store->transaction == NULL);
    pthread_rwlock_wrlock(&store->lock);
    thread_begin(&store->replacing);
    int result = path_join(path, store->path, data_name);
    if (result == 0)
        result = lmdb_file_undo(path, store->transaction_last);
    if (result == 0) {
        lmdb_env_close(store);
        result = lmdb_file_open(store, false, NULL);
    }
    if (result == 0 && !env_shows_last(store)) {
        lmdb_env_close(store);
        result = -EIO;
    }
    thread_end(&store->replacing);
    pthread_rwlock_unlock(&store->lock);
    store->broken = result < 0;
    return result;
}
