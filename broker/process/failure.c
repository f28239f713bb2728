/* SPDX-License-Identifier: Apache-2.0 */
#include "process/failure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "storage/store.h"

/* Why a start fails: its exit code, and what somebody can do about it. */
struct cause {
    int error;
    int code;
    const char *advice; /* NULL: the message says it */
};

static const struct cause causes[] = {
    {-ECANCELED, BROKER_CANCELLED, NULL},
    {-EUCLEAN, EXIT_DAMAGED,
     "restore the folder from a backup, or move it away to start with an empty store"},
    {-EBUSY, EXIT_IN_USE, NULL},
    {-EADDRINUSE, EXIT_IN_USE, NULL},
    {-EADDRNOTAVAIL, EXIT_IN_USE, NULL},
    {-ENOMEM, EXIT_RESOURCES, "give it more memory, or lower limits.users and limits.connections"},
    {-EMFILE, EXIT_RESOURCES, "raise the limit of open files (LimitNOFILE=, ulimit -n)"},
    {-ENFILE, EXIT_RESOURCES, "the system has no more files: see sysctl fs.file-max"},
    {-EAGAIN, EXIT_RESOURCES, "raise the limit of processes and threads (TasksMax=, ulimit -u)"},
    {-ENOSPC, EXIT_NO_ROOM, "make room on the disk of store.path"},
    {-EDQUOT, EXIT_NO_ROOM, "make room within the quota of usherd's user, or raise it"},
    {-EFBIG, EXIT_NO_ROOM, "raise the limit of a file's size (LimitFSIZE=, ulimit -f)"},
    {-EIO, EXIT_DISK, "the disk of store.path or its file system fails: see the log of the kernel"},
    {-EXFULL, EXIT_CONFIGURATION, "raise store.map_bytes"},
    {-EUSERS, EXIT_CONFIGURATION, "raise limits.users"},
    {-EINVAL, EXIT_CONFIGURATION, NULL},
    {-EACCES, EXIT_CONFIGURATION, NULL},
    {-EEXIST, EXIT_CONFIGURATION, NULL},
    {-ENOENT, EXIT_CONFIGURATION, NULL},
    {-ENOTDIR, EXIT_CONFIGURATION, NULL},
    {-EISDIR, EXIT_CONFIGURATION, NULL},
    {-ELOOP, EXIT_CONFIGURATION, NULL},
    {-EROFS, EXIT_CONFIGURATION, NULL},
    {-EPERM, EXIT_CONFIGURATION, NULL},
    {-ENAMETOOLONG, EXIT_CONFIGURATION, NULL},
};

static const struct cause *cause_of(int error)
{
    static const struct cause unknown = {0, EXIT_INTERNAL, "report it, with the log"};
    for (size_t i = 0; i < sizeof(causes) / sizeof(*causes); i++)
        if (causes[i].error == error)
            return &causes[i];
    return &unknown;
}

int failure_code(int failed)
{
    return cause_of(failed)->code;
}

/* Behind the message, which may be cut for it; that of a damaged store has it already. */
void failure_advise(int failed, char *error, size_t room)
{
    const char *advice = cause_of(failed)->advice;
    size_t size = strlen(error);
    if (advice == NULL || strstr(error, advice) != NULL)
        return;
    size_t most = room - strlen(advice) - sizeof("; ");
    size = size < most ? size : most;
    snprintf(error + size, room - size, "; %s", advice);
}

/* A write that was done in part looks like a disk that fails: whether it is full shows its folder.
 */
int failure_of_disk(const char *store_path, int failed, const char *what, char *error, size_t size)
{
    int probed = failed == -EIO ? store_probe(store_path) : 0;
    if (!store_is_full(probed))
        return failed;
    snprintf(error, size, "store.path %.200s: cannot %s: %s", store_path, what,
             store_error_text(probed));
    return probed;
}
