/* SPDX-License-Identifier: Apache-2.0 */
#include "process/open_files.h"

#include <stdbool.h>
#include <sys/resource.h>

void open_files_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

uint64_t open_files_max(void)
{
    struct rlimit limit;
    bool known = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
    return known ? limit.rlim_cur : UINT64_MAX;
}

uint64_t open_files_left(uint64_t reserved, uint64_t most)
{
    uint64_t files = open_files_max();
    uint64_t left = files > reserved ? files - reserved : 1;
    return left < most ? left : most;
}
