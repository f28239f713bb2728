/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "admin/prometheus.h"

/* The process_* metrics that every Prometheus client library has, so that ready-made dashboards
 * work. usherd may not be dumped (process.core_dumps), and then the system lets nobody list
 * /proc/self/fd; newer kernels tell the number of files as the size of that folder all the same.
 *
 * When it started is counted in /proc/self/stat from the start of the system. That one's time is
 * in /proc/stat, which a service without ProcSubset=all does not see; the clocks say it too. It is
 * asked once, because a wall clock that is corrected would show it as a restart. */

/* The fields of /proc/self/stat behind the name, which may hold anything. */
struct process_stat {
    double cpu_seconds, start_seconds;
    uint64_t virtual_bytes, resident_bytes;
    long threads;
};

static bool read_stat(struct process_stat *stat)
{
    char line[1024];
    FILE *file = fopen("/proc/self/stat", "re");
    if (file == NULL)
        return false;
    size_t size = fread(line, 1, sizeof(line) - 1, file);
    fclose(file);
    line[size] = '\0';
    const char *rest = strrchr(line, ')');
    uint64_t user, system, start, virtual_bytes;
    int64_t resident_pages;
    if (rest == NULL ||
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64
               " %*d %*d %*d %*d %ld %*d %" SCNu64 " %" SCNu64 " %" SCNd64,
               &user, &system, &stat->threads, &start, &virtual_bytes, &resident_pages) != 6)
        return false;
    double ticks = (double)sysconf(_SC_CLK_TCK);
    stat->cpu_seconds = (double)(user + system) / ticks;
    stat->start_seconds = (double)start / ticks;
    stat->virtual_bytes = virtual_bytes;
    stat->resident_bytes = (uint64_t)resident_pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

double process_started(void)
{
    struct process_stat stat;
    struct timespec wall, up;
    if (!read_stat(&stat) || clock_gettime(CLOCK_REALTIME, &wall) != 0 ||
        clock_gettime(CLOCK_BOOTTIME, &up) != 0)
        return 0;
    double boot = (double)(wall.tv_sec - up.tv_sec) + (double)(wall.tv_nsec - up.tv_nsec) / 1e9;
    return (double)(uint64_t)((boot + stat.start_seconds) * 100) / 100; /* no finer than ticks */
}

/* 0: not known. */
static uint64_t open_files(void)
{
    struct stat status;
    if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0)
        return (uint64_t)status.st_size;
    DIR *folder = opendir("/proc/self/fd");
    uint64_t count = 0;
    if (folder == NULL)
        return 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count > 0 ? count - 1 : 0; /* without the one that reads */
}

/* One metric of the process. */
struct process_row {
    const char *name, *type, *help;
    double value;
};

enum { PROCESS_ROWS = 7 };

/* Gives how many rows it has filled: what the system does not tell is left out. */
static size_t read_rows(double started, struct process_row rows[PROCESS_ROWS])
{
    struct process_stat stat;
    struct rlimit limit;
    size_t count = 0;
    if (read_stat(&stat)) {
        rows[count++] = (struct process_row){"cpu_seconds_total", "counter",
                                             "User and system CPU time spent", stat.cpu_seconds};
        rows[count++] = (struct process_row){"resident_memory_bytes", "gauge", "Resident memory",
                                             (double)stat.resident_bytes};
        rows[count++] = (struct process_row){"virtual_memory_bytes", "gauge",
                                             "Address space; much of it is the map of the store",
                                             (double)stat.virtual_bytes};
        rows[count++] = (struct process_row){"threads", "gauge", "Threads", (double)stat.threads};
    }
    if (started > 0)
        rows[count++] = (struct process_row){"start_time_seconds", "gauge",
                                             "When the process started, Unix time", started};
    uint64_t files = open_files();
    if (files > 0)
        rows[count++] = (struct process_row){"open_fds", "gauge", "Open files", (double)files};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        rows[count++] = (struct process_row){"max_fds", "gauge", "How many files may be open",
                                             (double)limit.rlim_cur};
    return count;
}

void process_write(double started, FILE *out)
{
    struct process_row rows[PROCESS_ROWS];
    size_t count = read_rows(started, rows);
    for (const struct process_row *row = rows; row < rows + count; row++)
        fprintf(out, "# HELP process_%s %s\n# TYPE process_%s %s\nprocess_%s %.15g\n", row->name,
                row->help, row->name, row->type, row->name, row->value);
}

void process_fill(double started, json_t *counters, json_t *gauges)
{
    struct process_row rows[PROCESS_ROWS];
    size_t count = read_rows(started, rows);
    for (const struct process_row *row = rows; row < rows + count; row++) {
        char name[64];
        snprintf(name, sizeof(name), "process_%s", row->name);
        json_object_set_new(strcmp(row->type, "counter") == 0 ? counters : gauges, name,
                            json_real(row->value));
    }
}
