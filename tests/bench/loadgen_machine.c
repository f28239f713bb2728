/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>

#include "loadgen.h"

/* What /proc says of the machine. CPU is summed over the processes (reaped children included),
 * because /proc/stat samples by tick and misjudges short bursts. */

static double busy_of(const char *pid)
{
    char path[64], line[2048];
    unsigned long user, kernel;
    long child_user, child_kernel;
    double busy = 0;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    const char *fields = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
    if (fields && sscanf(fields + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld",
                         &user, &kernel, &child_user, &child_kernel) == 4)
        busy = (double)(user + kernel) + (double)(child_user + child_kernel);
    fclose(file);
    return busy / (double)sysconf(_SC_CLK_TCK);
}

void machine_cpu(double *busy_s, double *stolen_s)
{
    unsigned long fields[8];
    struct dirent *entry;
    DIR *folder = opendir("/proc");

    *busy_s = *stolen_s = 0;
    while (folder && (entry = readdir(folder)))
        if (isdigit((unsigned char)entry->d_name[0]))
            *busy_s += busy_of(entry->d_name);
    if (folder)
        closedir(folder);
    FILE *file = fopen("/proc/stat", "r");
    if (file && fscanf(file, "cpu %lu %lu %lu %lu %lu %lu %lu %lu", fields, fields + 1, fields + 2,
                       fields + 3, fields + 4, fields + 5, fields + 6, fields + 7) == 8)
        *stolen_s = (double)fields[7] / (double)sysconf(_SC_CLK_TCK);
    if (file)
        fclose(file);
}

/* The number behind `key` on its line; with `word`, behind that word of the line. */
static long number_in(const char *path, const char *key, const char *word)
{
    char line[512];
    long value = 0;
    FILE *file = fopen(path, "r");

    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, key, strlen(key)))
            continue;
        const char *at = word ? strstr(line, word) : line;
        if (at)
            value = atol(at + strlen(word ? word : key));
        break;
    }
    if (file)
        fclose(file);
    return value;
}

struct memory memory_of(pid_t pid)
{
    char path[64];
    struct memory memory;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    memory.rss_kb = number_in(path, "Rss:", NULL);
    memory.pss_kb = number_in(path, "Pss:", NULL);
    memory.anonymous_kb = number_in(path, "Anonymous:", NULL);
    memory.slab_kb = number_in("/proc/meminfo", "Slab:", NULL);
    memory.tcp_pages = number_in("/proc/net/sockstat", "TCP:", "mem ");
    return memory;
}
