/* SPDX-License-Identifier: Apache-2.0 */
#include "process/prepare.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process/failure.h"

/* False: there is not even /dev/null. */
static bool open_standard_files(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static bool is_stack_large_enough(void)
{
    struct rlimit stack;
    if (getrlimit(RLIMIT_STACK, &stack) != 0 || stack.rlim_cur >= PREPARE_STACK_BYTES_MIN)
        return true;
    fprintf(stderr,
            "usherd: the stack may have %llu KiB, and each thread needs %d; raise the limit "
            "(ulimit -s, LimitSTACK=)\n",
            (unsigned long long)stack.rlim_cur / 1024, PREPARE_STACK_BYTES_MIN / 1024);
    return false;
}

int prepare_process(void)
{
    if (!open_standard_files())
        return EXIT_INTERNAL;
    return is_stack_large_enough() ? 0 : EXIT_RESOURCES;
}

void prepare_rights(bool core_dumps)
{
    umask(S_IRWXG | S_IRWXO);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!core_dumps)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

bool prepare_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat file;
    char text[64];
    if (stream == NULL || fstat(STDERR_FILENO, &file) != 0)
        return false;
    snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)file.st_dev, (uintmax_t)file.st_ino);
    return strcmp(stream, text) == 0;
}
