/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim/shim_control.h"

/* The calls that reach the disk, each in three steps: is the file watched, is the call to fail,
 * record what it did. A descriptor is known as watched from its open to its close; everything else
 * about it (name, O_DSYNC, position) is asked of the kernel when needed, so a rename is followed
 * by itself. msync is held and failed like a sync; the store maps its file read-only, so it never
 * writes that way. */

enum { FILES_MAX = 65536 };

static _Atomic bool watched[FILES_MAX];

static bool is_watched(int file)
{
    return file >= 0 && file < FILES_MAX &&
           atomic_load_explicit(&watched[file], memory_order_relaxed);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static void name_of(int file, char name[SHIM_NAME_BYTES])
{
    char link[64];
    char path[PATH_MAX];
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof(path) - 1);
    path[size > 0 ? size : 0] = '\0';
    (void)snprintf(name, SHIM_NAME_BYTES, "%.*s", SHIM_NAME_BYTES - 1, base_name(path));
}

static bool is_folder(int file)
{
    struct stat about;
    return fstat(file, &about) == 0 && S_ISDIR(about.st_mode);
}

/* --- opening and closing ----------------------------------------------------------------- */

SHIM_EXPORT int open(const char *path, int flags, ...)
{
    static _Atomic(void *) cache;
    int (*next)(const char *, int, ...) = shim_next(&cache, "open");
    va_list rest;
    va_start(rest, flags);
    unsigned mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(rest, unsigned) : 0;
    va_end(rest);
    int file = next(path, flags, mode);
    if (file >= 0 && file < FILES_MAX)
        atomic_store_explicit(&watched[file], shim_watches(path), memory_order_relaxed);
    return file;
}

SHIM_EXPORT int close(int file)
{
    static _Atomic(void *) cache;
    int (*next)(int) = shim_next(&cache, "close");
    if (file >= 0 && file < FILES_MAX)
        atomic_store_explicit(&watched[file], false, memory_order_relaxed);
    return next(file);
}

/* --- writing ----------------------------------------------------------------------------- */

static size_t bytes_of(const struct iovec *parts, int count)
{
    size_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    return bytes;
}

/* The parts as one piece of memory, which the caller frees. */
static char *joined(const struct iovec *parts, int count)
{
    size_t bytes = bytes_of(parts, count);
    char *data = malloc(bytes + 1);
    if (data == NULL)
        abort();
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        memcpy(data + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    return data;
}

/* A write of any kind to a watched file, at `offset`. */
static ssize_t write_watched(int file, const struct iovec *parts, int count, off_t offset)
{
    static _Atomic(void *) cache;
    ssize_t (*next)(int, const void *, size_t, off_t) = shim_next(&cache, "pwrite");
    bool synced = (fcntl(file, F_GETFL) & O_DSYNC) != 0;
    unsigned kind = synced ? SHIM_SYNCED_WRITES : SHIM_WRITES;
    unsigned manner = SHIM_REFUSED;
    int error = 0;
    char *data = joined(parts, count);
    size_t bytes = bytes_of(parts, count);
    shim_enter(kind);
    bool fails = shim_fails(kind, &manner, &error);
    ssize_t done = -1;
    if (fails && manner == SHIM_HALF && bytes > 1)
        done = next(file, data, bytes / 2, offset);
    else if (!fails || manner == SHIM_DONE_AND_DENIED)
        done = next(file, data, bytes, offset);
    if (done > 0) {
        char name[SHIM_NAME_BYTES];
        name_of(file, name);
        shim_record(synced ? SHIM_RECORD_SYNCED_WRITE : SHIM_RECORD_WRITE, name, (uint64_t)offset,
                    data, (size_t)done);
    }
    shim_leave();
    free(data);
    if (!fails || (manner == SHIM_HALF && done > 0))
        return done;
    errno = error;
    return -1;
}

/* The same at the position of the descriptor, which moves on. */
static ssize_t write_at_position(int file, const struct iovec *parts, int count)
{
    off_t offset = lseek(file, 0, SEEK_CUR);
    ssize_t done = write_watched(file, parts, count, offset);
    if (done > 0)
        (void)lseek(file, offset + done, SEEK_SET);
    return done;
}

SHIM_EXPORT ssize_t pwrite(int file, const void *data, size_t bytes, off_t offset)
{
    static _Atomic(void *) cache;
    ssize_t (*next)(int, const void *, size_t, off_t) = shim_next(&cache, "pwrite");
    struct iovec part = {(void *)data, bytes};
    return is_watched(file) ? write_watched(file, &part, 1, offset)
                            : next(file, data, bytes, offset);
}

SHIM_EXPORT ssize_t pwritev(int file, const struct iovec *parts, int count, off_t offset)
{
    static _Atomic(void *) cache;
    ssize_t (*next)(int, const struct iovec *, int, off_t) = shim_next(&cache, "pwritev");
    return is_watched(file) ? write_watched(file, parts, count, offset)
                            : next(file, parts, count, offset);
}

SHIM_EXPORT ssize_t write(int file, const void *data, size_t bytes)
{
    static _Atomic(void *) cache;
    ssize_t (*next)(int, const void *, size_t) = shim_next(&cache, "write");
    struct iovec part = {(void *)data, bytes};
    return is_watched(file) ? write_at_position(file, &part, 1) : next(file, data, bytes);
}

SHIM_EXPORT ssize_t writev(int file, const struct iovec *parts, int count)
{
    static _Atomic(void *) cache;
    ssize_t (*next)(int, const struct iovec *, int) = shim_next(&cache, "writev");
    return is_watched(file) ? write_at_position(file, parts, count) : next(file, parts, count);
}

/* --- syncing ----------------------------------------------------------------------------- */

static int sync_watched(int file, int (*next)(int))
{
    unsigned manner = SHIM_REFUSED;
    int error = 0;
    shim_enter(SHIM_SYNCS);
    bool fails = shim_fails(SHIM_SYNCS, &manner, &error);
    int result = fails && manner != SHIM_DONE_AND_DENIED ? -1 : next(file);
    if (result == 0) {
        char name[SHIM_NAME_BYTES];
        name_of(file, name);
        shim_record(is_folder(file) ? SHIM_RECORD_FOLDER_SYNC : SHIM_RECORD_SYNC, name, 0, NULL, 0);
    }
    shim_leave();
    if (!fails)
        return result;
    errno = error;
    return -1;
}

SHIM_EXPORT int fsync(int file)
{
    static _Atomic(void *) cache;
    int (*next)(int) = shim_next(&cache, "fsync");
    return is_watched(file) ? sync_watched(file, next) : next(file);
}

SHIM_EXPORT int fdatasync(int file)
{
    static _Atomic(void *) cache;
    int (*next)(int) = shim_next(&cache, "fdatasync");
    return is_watched(file) ? sync_watched(file, next) : next(file);
}

SHIM_EXPORT int msync(void *memory, size_t bytes, int flags)
{
    static _Atomic(void *) cache;
    int (*next)(void *, size_t, int) = shim_next(&cache, "msync");
    unsigned manner = SHIM_REFUSED;
    int error = 0;
    if (shim_control() == NULL)
        return next(memory, bytes, flags);
    shim_enter(SHIM_SYNCS);
    bool fails = shim_fails(SHIM_SYNCS, &manner, &error);
    int result = fails ? -1 : next(memory, bytes, flags);
    shim_leave();
    if (fails)
        errno = error;
    return result;
}

/* --- names and lengths ------------------------------------------------------------------- */

SHIM_EXPORT int ftruncate(int file, off_t bytes)
{
    static _Atomic(void *) cache;
    int (*next)(int, off_t) = shim_next(&cache, "ftruncate");
    if (!is_watched(file))
        return next(file, bytes);
    shim_enter(0);
    int result = next(file, bytes);
    if (result == 0) {
        char name[SHIM_NAME_BYTES];
        name_of(file, name);
        shim_record(SHIM_RECORD_TRUNCATE, name, (uint64_t)bytes, NULL, 0);
    }
    shim_leave();
    return result;
}

SHIM_EXPORT int rename(const char *from, const char *to)
{
    static _Atomic(void *) cache;
    int (*next)(const char *, const char *) = shim_next(&cache, "rename");
    if (!shim_watches(from))
        return next(from, to);
    shim_enter(0);
    int result = next(from, to);
    if (result == 0)
        shim_record(SHIM_RECORD_RENAME, base_name(from), 0, base_name(to), strlen(base_name(to)));
    shim_leave();
    return result;
}

SHIM_EXPORT int unlink(const char *path)
{
    static _Atomic(void *) cache;
    int (*next)(const char *) = shim_next(&cache, "unlink");
    if (!shim_watches(path))
        return next(path);
    shim_enter(0);
    int result = next(path);
    if (result == 0)
        shim_record(SHIM_RECORD_UNLINK, base_name(path), 0, NULL, 0);
    shim_leave();
    return result;
}
