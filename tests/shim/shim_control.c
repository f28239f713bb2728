/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/shim_control.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The control file is mapped shared, so the play changes a number and the next call sees it. One
 * lock orders all watched calls: what the log says came first did come first. Waiting (a held
 * sync, a slow one) happens before the lock is taken.
 *
 * The functions that are replaced have no context of ours, so the state is static. It is set once,
 * but for the log's length and the lock. */

enum { HOLD_POLL_NS = 500000 };

static struct {
    pthread_once_t once;
    struct shim_control *control;
    const char *folder;
    int log; /* -1: none */
    pthread_mutex_t lock;
} shim = {.once = PTHREAD_ONCE_INIT, .log = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* Straight to the kernel: our own calls must not come back to ours. */
static int open_straight(const char *path, int flags)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0600);
}

static void map_control(void)
{
    const char *path = getenv("USHER_SHIM_CONTROL");
    shim.folder = getenv("USHER_SHIM_FOLDER");
    if (path == NULL || shim.folder == NULL)
        return;
    int file = open_straight(path, O_RDWR);
    if (file < 0)
        return;
    void *memory =
        mmap(NULL, sizeof(struct shim_control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    (void)syscall(SYS_close, file);
    struct shim_control *control = memory;
    if (memory == MAP_FAILED || atomic_load(&control->magic) != SHIM_CONTROL_MAGIC)
        return;
    const char *log = getenv("USHER_SHIM_LOG");
    if (log != NULL)
        shim.log = open_straight(log, O_WRONLY | O_CREAT | O_APPEND);
    shim.control = control;
}

struct shim_control *shim_control(void)
{
    int error = errno;
    (void)pthread_once(&shim.once, map_control);
    errno = error;
    return shim.control;
}

static __attribute__((constructor)) void start(void)
{
    if (shim_control() == NULL)
        return;
    shim_enter(0);
    shim_record(SHIM_RECORD_START, "", 0, NULL, 0);
    shim_leave();
}

bool shim_watches(const char *path)
{
    if (shim_control() == NULL)
        return false;
    size_t size = strlen(shim.folder);
    if (strncmp(path, shim.folder, size) != 0)
        return false;
    if (path[size] == '\0')
        return true;
    const char *name = strrchr(path, '/') + 1;
    return path[size] == '/' && strncmp(name, "data.mdb", 8) == 0 && strstr(name, "-lock") == NULL;
}

void shim_enter(unsigned kind)
{
    struct shim_control *control = shim.control;
    if ((atomic_load(&control->hold) & kind) != 0) {
        atomic_fetch_add(&control->held, 1);
        struct timespec pause = {.tv_nsec = HOLD_POLL_NS};
        while ((atomic_load(&control->hold) & kind) != 0)
            nanosleep(&pause, NULL);
    }
    uint64_t delay_us = kind == SHIM_SYNCS ? atomic_load(&control->delay_us) : 0;
    if (delay_us > 0) {
        struct timespec pause = {.tv_sec = (time_t)(delay_us / 1000000),
                                 .tv_nsec = (long)(delay_us % 1000000) * 1000};
        nanosleep(&pause, NULL);
    }
    pthread_mutex_lock(&shim.lock);
}

void shim_leave(void)
{
    pthread_mutex_unlock(&shim.lock);
}

bool shim_fails(unsigned kind, unsigned *manner, int *error)
{
    struct shim_control *control = shim.control;
    if ((atomic_load(&control->calls) & kind) == 0)
        return false;
    if (atomic_load(&control->skip) > 0) {
        atomic_fetch_sub(&control->skip, 1);
        return false;
    }
    if (atomic_load(&control->count) == 0)
        return false;
    atomic_fetch_sub(&control->count, 1);
    *manner = (unsigned)atomic_load(&control->manner);
    if (*manner == SHIM_DONE_THEN_DEAD) {
        *manner = atomic_load(&control->failed) == 0 ? SHIM_DONE_AND_DENIED : SHIM_REFUSED;
        atomic_store(&control->calls, SHIM_WRITES | SHIM_SYNCS | SHIM_SYNCED_WRITES);
    }
    atomic_fetch_add(&control->failed, 1);
    *error = (int)atomic_load(&control->error);
    return true;
}

void shim_record(enum shim_record_kind kind, const char *name, uint64_t offset, const void *data,
                 size_t bytes)
{
    if (shim.log < 0)
        return;
    struct shim_record record = {
        .magic = SHIM_RECORD_MAGIC, .kind = kind, .offset = offset, .bytes = bytes};
    strncpy(record.name, name, sizeof(record.name) - 1);
    struct iovec parts[2] = {{&record, sizeof(record)}, {(void *)data, bytes}};
    int error = errno;
    if (syscall(SYS_writev, shim.log, parts, bytes > 0 ? 2 : 1) != (long)(sizeof(record) + bytes))
        abort(); /* a log with a hole would accuse the store of what it did not do */
    errno = error;
    atomic_fetch_add(&shim.control->records, 1);
}

void *shim_next(_Atomic(void *) *cache, const char *name)
{
    void *next = atomic_load_explicit(cache, memory_order_acquire);
    if (next == NULL) {
        next = dlsym(RTLD_NEXT, name);
        if (next == NULL)
            abort();
        atomic_store_explicit(cache, next, memory_order_release);
    }
    return next;
}
