/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/store_ops.h"

/* Two brokers on one folder would each believe to own every epoch, so the folder is locked with
 * flock: the kernel gives the lock back when the process is gone, however it went. The lock file
 * itself stays; removing it would let two processes lock two different files of one name.
 *
 * A new name in a folder is durable only after the folder was synced, so each folder that is
 * made is synced into its parent. */

enum { PROBE_BYTES = 256 * 1024 };

static int permission(int code)
{
    return code == EPERM || code == EROFS ? -EACCES : -code;
}

int folder_sync(const char *path)
{
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return -errno;
    int result = fsync(folder) < 0 ? -errno : 0;
    (void)close(folder);
    return result;
}

static int parent_sync(const char *path)
{
    char parent[PATH_MAX];
    (void)snprintf(parent, sizeof(parent), "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        return folder_sync(".");
    slash[slash == parent ? 1 : 0] = '\0';
    return folder_sync(parent);
}

static int make_one(const char *path, char *error)
{
    if (mkdir(path, 0700) == 0) {
        int result = parent_sync(path);
        return result < 0 ? store_explain(error, result, "cannot sync the folder of %s: %s", path,
                                          strerror(-result))
                          : 0;
    }
    int code = errno;
    struct stat status;
    if (stat(path, &status) == 0)
        return S_ISDIR(status.st_mode) ? 0
                                       : store_explain(error, -ENOTDIR, "%s is not a folder", path);
    return store_explain(error, permission(code), "cannot make the folder %s: %s", path,
                         strerror(code));
}

/* Until all is written, or something fails: a part of it may be done before the rest is refused. */
static int write_out(int file)
{
    static const char zeros[4096];
    size_t left = PROBE_BYTES;
    while (left > 0) {
        size_t rest = left % sizeof(zeros); /* of a block that was taken in part */
        size_t size = rest != 0 ? rest : sizeof(zeros);
        ssize_t done = write(file, zeros, size);
        if (done < 0 && errno != EINTR)
            return -errno;
        left -= done > 0 ? (size_t)done : 0;
    }
    return fdatasync(file) < 0 ? -errno : 0;
}

int store_probe(const char *path)
{
    char name[PATH_MAX];
    if (snprintf(name, sizeof(name), "%s/data.mdb-probe", path) >= (int)sizeof(name))
        return -ENAMETOOLONG;
    int file = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0)
        return -errno;
    int result = write_out(file);
    (void)close(file);
    (void)unlink(name);
    return result;
}

int folder_make(const char *path, char *error)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof(part))
        return store_explain(error, -EINVAL, "the store's path is empty or too long");
    memcpy(part, path, size + 1);
    while (size > 1 && part[size - 1] == '/')
        part[--size] = '\0';
    for (size_t i = 1; i < size; i++) {
        if (part[i] != '/' || part[i - 1] == '/')
            continue;
        part[i] = '\0';
        int result = make_one(part, error);
        part[i] = '/';
        if (result < 0)
            return result;
    }
    return make_one(part, error);
}

int folder_lock(const char *path, char *error)
{
    char name[PATH_MAX];
    if (snprintf(name, sizeof(name), "%s/usher.lock", path) >= (int)sizeof(name))
        return store_explain(error, -ENAMETOOLONG, "the store's path is too long");
    int lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (lock < 0) {
        int code = errno;
        return store_explain(error, permission(code),
                             "cannot open %s: %s; the broker's user must be able to write there",
                             name, strerror(code));
    }
    if (flock(lock, LOCK_EX | LOCK_NB) == 0)
        return lock;
    int code = errno;
    (void)close(lock);
    if (code != EWOULDBLOCK)
        return store_explain(error, -code, "cannot lock %s: %s", name, strerror(code));
    return store_explain(error, -EBUSY,
                         "%s is held by another broker; stop it, or give this one another "
                         "store.path",
                         name);
}
