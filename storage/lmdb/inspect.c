/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lmdb/check.h"
#include "lmdb/folder.h"
#include "lmdb/private.h"

/* Why it may look at all: LMDB lets any number of processes read beside the one that writes. A read
 * sees the last commit and takes a place in the lock file, lock.mdb, that tells the writer which
 * pages it still needs. So this opens read-only but with the lock file, never without: a reader
 * that the writer does not know of would read pages that are being written anew.
 *
 * The reader is an lmdb_store whose writing side is never begun, so all reading is the broker's own
 * code, checks included. It does not take usher.lock, since it is no second broker.
 *
 * A store belongs to the user who runs its broker, and so does every name in its folder, which may
 * be a link to anything. Root therefore does there only what that user may do (owner_begin): a link
 * to a file of root's is then refused by the kernel, wherever it is put and whenever, and what is
 * made is the owner's from the beginning. */

enum { MODE_PRIVATE = 0600 };

static const char part_name[] = "data.mdb.part";

static int join(char out[PATH_MAX], const char *folder, const char *name)
{
    int size = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return size < 0 || size >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Whose store it is: who owns its file, or to whom a new one is to belong, which is who owns the
 * folder. False: root, or nobody else can put a name there. */
static bool find_owner(const char *folder, bool of_new, struct stat *owner)
{
    char data[PATH_MAX];
    struct stat file;
    if (stat(folder, owner) != 0 ||
        (owner->st_uid == 0 && (owner->st_mode & (S_IWGRP | S_IWOTH)) == 0))
        return false;
    bool by_folder = of_new && owner->st_uid != 0;
    if (!by_folder && join(data, folder, "data.mdb") == 0 && lstat(data, &file) == 0)
        *owner = file;
    return owner->st_uid != 0;
}

/* Until owner_end: what root opens, makes and renames, it does with the rights of the store's
 * owner. For this thread alone. 0, or -EPERM: it may not put on another's rights. */
static int owner_begin(const char *folder, bool of_new)
{
    struct stat owner;
    if (geteuid() != 0 || !find_owner(folder, of_new, &owner))
        return 0;
    (void)setgroups(0, NULL);
    (void)setfsgid(owner.st_gid);
    (void)setfsuid(owner.st_uid);
    bool became = (gid_t)setfsgid((gid_t)-1) == owner.st_gid &&
                  (uid_t)setfsuid((uid_t)-1) == owner.st_uid; /* which only ask */
    return became ? 0 : -EPERM;
}

static void owner_end(void)
{
    (void)setfsuid(geteuid());
    (void)setfsgid(getegid());
}

static int owner_fault(const char *path, char *error)
{
    owner_end();
    return store_explain(error, -EPERM,
                         "cannot become the owner of the store in %s; run this as that user", path);
}

/* The descriptor that holds the lock, -EBUSY, or -ENOENT where no broker was. Makes nothing. */
static int lock_if_there(const char *path)
{
    char name[PATH_MAX];
    if (join(name, path, "usher.lock") < 0)
        return -ENAMETOOLONG;
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int code = errno;
    (void)close(fd);
    return code == EWOULDBLOCK ? -EBUSY : -code;
}

static int check_structure(const char *path, char *error)
{
    char data[PATH_MAX];
    if (join(data, path, "data.mdb") < 0)
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    int lock = lock_if_there(path);
    if (lock == -EBUSY)
        return store_explain(error, lock, "a broker has %s open", path);
    int result = lmdb_file_check(data, error);
    if (result == -ENOENT)
        result = store_explain(error, result, "there is no store in %s", path);
    if (lock >= 0)
        (void)close(lock);
    return result;
}

int store_check_structure(const char *path, char *error)
{
    if (owner_begin(path, false) != 0)
        return owner_fault(path, error);
    int result = check_structure(path, error);
    owner_end();
    return result;
}

/* The name of the schema, and the parts that its version has. */
static int open_parts(struct lmdb_store *store, MDB_txn *transaction, struct store_about *about)
{
    MDB_val key = lmdb_value_of_text("schema");
    MDB_val value;
    int code = mdb_dbi_open(transaction, "meta", 0, &store->meta);
    if (code == 0)
        code = mdb_get(transaction, store->meta, &key, &value);
    if (code != 0)
        return code;
    snprintf(about->schema, sizeof(about->schema), "%.*s", (int)value.mv_size,
             (const char *)value.mv_data);
    code = mdb_dbi_open(transaction, "sessions", 0, &store->sessions);
    if (code == 0)
        code = mdb_dbi_open(transaction, "events", 0, &store->events);
    if (code != 0)
        return code;
    code = mdb_dbi_open(transaction, "inboxes", 0, &store->inboxes);
    store->without_inboxes = code == MDB_NOTFOUND;
    code = store->without_inboxes ? 0 : code;
    if (code == 0)
        code = mdb_dbi_open(transaction, "log", 0, &store->log);
    store->without_log = code == MDB_NOTFOUND;
    code = store->without_log ? 0 : code;
    for (int ring = 0; code == 0 && ring < HISTORY_RINGS; ring++)
        code = mdb_dbi_open(transaction, lmdb_history_names[ring], 0, &store->histories[ring]);
    store->without_history = code != 0;
    return code == MDB_NOTFOUND ? 0 : code;
}

int lmdb_about_read(struct lmdb_store *store, struct store_about *about)
{
    MDB_txn *transaction;
    MDB_envinfo info;
    int code = mdb_txn_begin(store->env, NULL, MDB_RDONLY, &transaction);
    if (code != 0)
        return lmdb_translate(code);
    code = open_parts(store, transaction, about);
    if (code == 0)
        code = mdb_txn_commit(transaction); /* with it the handles stay */
    else
        mdb_txn_abort(transaction);
    if (code == 0)
        code = mdb_env_info(store->env, &info);
    if (code == 0)
        about->map_bytes = info.me_mapsize;
    return code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
}

static int open_reader(struct lmdb_store *store, struct store_about *about, char *error)
{
    char data[PATH_MAX];
    struct stat status;
    if (join(data, store->path, "data.mdb") < 0)
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    if (stat(data, &status) != 0 || status.st_size == 0)
        return store_explain(error, -ENOENT, "there is no store in %s", store->path);
    about->file_bytes = (uint64_t)status.st_size;
    /* LMDB dies of a file that is cut short; that of a broker which runs was looked at by its
     * start. */
    int result = check_structure(store->path, error);
    about->live = result == -EBUSY;
    if (result < 0 && result != -EBUSY)
        return result;
    result = lmdb_env_open_reader(&store->env, store->path);
    if (result < 0)
        return lmdb_explain_open(error, result, data);
    result = lmdb_about_read(store, about);
    if (result < 0) {
        lmdb_env_close(store);
        return store_explain(error, result, "%s is no store of usher, or damaged", data);
    }
    return 0;
}

int store_open_reader(struct store **out, const char *path, struct store_about *about, char *error)
{
    *about = (struct store_about){.live = false};
    struct lmdb_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return store_explain(error, -ENOMEM, "no memory for the store");
    store->lock_file = -1;
    int result = owner_begin(path, false);
    if (result < 0)
        result = owner_fault(path, error);
    else if (snprintf(store->path, sizeof(store->path), "%s", path) < (int)sizeof(store->path))
        result = open_reader(store, about, error);
    else
        result = store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    owner_end();
    if (result < 0) {
        free(store);
        return result;
    }
    pthread_rwlock_init(&store->lock, NULL);
    store->base.ops = &lmdb_reader_ops;
    *out = &store->base;
    return 0;
}

/* No page is looked at but those that LMDB looks at when it opens: nobody has checked them yet. */
bool store_number_is_taken(const char *path)
{
    char data[PATH_MAX];
    MDB_env *env;
    if (join(data, path, "data.mdb") < 0 || access(data, F_OK) != 0)
        return false;
    int result = owner_begin(path, false);
    if (result == 0)
        result = lmdb_env_open_reader(&env, path);
    owner_end();
    if (result == 0)
        mdb_env_close(env);
    return result == -EBUSY;
}

/* --- backup ---------------------------------------------------------------------------------- */

/* Of `from`. A copy of a damaged record is no backup: no broker starts on it. */
static int check_copy(const char *part, const char *from, char *error)
{
    int result = lmdb_file_check(part, error);
    if (result < 0)
        return result;
    result = lmdb_records_check(part);
    if (result == -EUCLEAN)
        return store_explain(error, result,
                             "a record of the store in %s is damaged; nothing was copied", from);
    return result == 0
               ? 0
               : store_explain(error, result, "cannot check the copy of the store in %s: %s", from,
                               store_error_text(result));
}

/* A copy under another name, checked, and then the name: it is there whole or not at all. */
static int copy(MDB_env *env, const char *from, const char *part, uint64_t *bytes, char *error)
{
    struct stat status;
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, MODE_PRIVATE);
    if (fd < 0)
        return store_explain(error, -errno, "cannot make %s: %s", part, strerror(errno));
    int code = mdb_env_copyfd2(env, fd, MDB_CP_COMPACT);
    int result = lmdb_translate(code);
    if (result == 0 && (fsync(fd) != 0 || fstat(fd, &status) != 0))
        result = -errno;
    (void)close(fd);
    if (result < 0)
        return store_explain(error, result, "cannot write %s: %s", part, store_error_text(result));
    *bytes = (uint64_t)status.st_size;
    return check_copy(part, from, error);
}

static int name(const char *part, const char *data, char *error)
{
    return rename(part, data) == 0
               ? 0
               : store_explain(error, -errno, "cannot make %s: %s", data, strerror(errno));
}

int store_backup(const char *path, const char *folder, uint64_t *bytes, char *error)
{
    char part[PATH_MAX];
    char data[PATH_MAX];
    struct store_about about;
    struct store *base;
    if (join(part, folder, part_name) < 0 || join(data, folder, "data.mdb") < 0)
        return store_explain(error, -ENAMETOOLONG, "the folder's path is too long");
    int result = store_open_reader(&base, path, &about, error);
    if (result < 0)
        return result;
    result = folder_make(folder, error);
    if (result == 0 && access(data, F_OK) == 0)
        result = store_explain(error, -EEXIST, "there is a store in %s already", folder);
    if (result == 0) {
        (void)unlink(part); /* of an attempt that was killed */
        result = copy(lmdb_of(base)->env, path, part, bytes, error);
        if (result == 0)
            result = name(part, data, error);
        if (result < 0)
            (void)unlink(part);
    }
    if (result == 0)
        result = folder_sync(folder);
    store_close(base);
    return result;
}

/* --- restore --------------------------------------------------------------------------------- */

/* The files of a folder that is being restored. */
struct restored {
    char data[PATH_MAX], part[PATH_MAX], before[PATH_MAX], lock[PATH_MAX], broker_lock[PATH_MAX];
};

/* Under the broker's lock. The readers' lock file belongs to the file of before. */
static int replace(const char *folder, const struct restored *files, char *error)
{
    int result = 0;
    if (rename(files->data, files->before) != 0 && errno != ENOENT)
        result =
            store_explain(error, -errno, "cannot put %s aside: %s", files->data, strerror(errno));
    if (result == 0)
        (void)unlink(files->lock);
    if (result == 0)
        result = name(files->part, files->data, error);
    return result == 0 ? folder_sync(folder) : result;
}

static int restore_into(const struct lmdb_store *from, const char *folder, uint64_t *bytes,
                        char *error)
{
    struct restored files;
    if (join(files.data, folder, "data.mdb") < 0 || join(files.part, folder, part_name) < 0 ||
        join(files.before, folder, "data.mdb.before") < 0 ||
        join(files.lock, folder, "lock.mdb") < 0 ||
        join(files.broker_lock, folder, "usher.lock") < 0)
        return store_explain(error, -ENAMETOOLONG, "the folder's path is too long");
    int lock = folder_lock(folder, error);
    if (lock < 0)
        return lock;
    (void)unlink(files.part); /* of an attempt that was killed */
    int result = copy(from->env, from->path, files.part, bytes, error);
    if (result == 0)
        result = replace(folder, &files, error);
    if (result < 0)
        (void)unlink(files.part);
    (void)close(lock);
    return result;
}

int store_restore(const char *backup, const char *folder, uint64_t *bytes, char *error)
{
    struct store_about about;
    struct store *base;
    int result = store_check_structure(backup, error);
    if (result == 0)
        result = store_open_reader(&base, backup, &about, error);
    if (result < 0)
        return result;
    result = folder_make(folder, error);
    if (result == 0)
        result = owner_begin(folder, true) == 0 ? restore_into(lmdb_of(base), folder, bytes, error)
                                                : owner_fault(folder, error);
    owner_end();
    store_close(base);
    return result;
}
