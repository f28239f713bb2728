/* SPDX-License-Identifier: Apache-2.0 */
#include "process/prepare.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

bool prepare_standard_files(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
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
