/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/process.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The broker is asked nothing while it is measured: its CPU time and memory come from the kernel.
 * stat counts in ticks of 10 ms, which is too coarse for a light load, so the sum comes from the
 * process's CPU clock and only the halves from there.
 * Memory is statm's resident size, which is exact to a page once the threads are quiet. */

static bool read_line(uint64_t pid, const char *name, char *line, int size)
{
    char path[64];
    if (pid == 0)
        snprintf(path, sizeof(path), "/proc/self/%s", name);
    else
        snprintf(path, sizeof(path), "/proc/%" PRIu64 "/%s", pid, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool read = fgets(line, size, file) != NULL;
    fclose(file);
    return read;
}

/* Negative: not known. */
static double clock_cpu_s(uint64_t pid)
{
    struct timespec time;
    clockid_t clock;
    if (clock_getcpuclockid((pid_t)pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return -1;
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

bool process_sample(uint64_t pid, struct process_sample *sample)
{
    const double ticks_per_s = (double)sysconf(_SC_CLK_TCK);
    unsigned long user, kernel, resident_pages;
    char line[2048];
    memset(sample, 0, sizeof(*sample));
    if (!read_line(pid, "stat", line, sizeof(line)))
        return false;
    /* The name in brackets may hold anything, so the fields are counted from its end. */
    const char *fields = strrchr(line, ')');
    if (fields == NULL || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                                 &user, &kernel) != 2)
        return false;
    if (!read_line(pid, "statm", line, sizeof(line)) ||
        sscanf(line, "%*u %lu", &resident_pages) != 1)
        return false;
    sample->user_s = (double)user / ticks_per_s;
    sample->system_s = (double)kernel / ticks_per_s;
    sample->cpu_s = clock_cpu_s(pid);
    if (sample->cpu_s < 0)
        sample->cpu_s = sample->user_s + sample->system_s;
    sample->resident_bytes = (uint64_t)resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}
