/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/recorder.h"
#include "base/recorder_private.h"

/* The recorder on the disk: when asked for, and when the process dies.
 *
 * In the handler of a deadly signal nothing may be relied upon but memory that was there before and
 * the calls that POSIX allows there: lstat, rename, open, write, fsync, close. So the names are put
 * together beforehand, and the lines are written as they lie. Another thread may be adding a line:
 * it is told to stop (`frozen`), and what it copies lies outside of [tail, head).
 *
 * The first thread that dies writes; others that die meanwhile wait for the end in the handler. The
 * kernel blocks a signal inside of its own handler, so a fault in here ends the process at once.
 *
 * A handler knows nothing but what is global: `crash` is the one exception to the rule that there
 * is no such thing. It is written by one thread while no handler of ours is installed. */

static const int deadly[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE};

enum { DEADLY = sizeof(deadly) / sizeof(deadly[0]), PATH_BYTES = 4096 };

static struct {
    struct recorder *recorder;
    char path[PATH_BYTES], old_path[PATH_BYTES];
    struct sigaction before[DEADLY];
    atomic_flag busy;
} crash;

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno != EINTR)
            return -errno;
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        }
    }
    return 0;
}

static int write_lines(int fd, const struct recorder *recorder, uint64_t tail, uint64_t head)
{
    size_t size = (size_t)(head - tail);
    size_t place = (size_t)(tail % recorder->size);
    size_t first = size < recorder->size - place ? size : recorder->size - place;
    int error = write_all(fd, recorder->bytes + place, first);
    return error != 0 ? error : write_all(fd, recorder->bytes, size - first);
}

/* What was there before is kept once more: a service that is started again and again would
 * otherwise lose the record of its first end to the second. A folder, the store's perhaps, or a
 * device is not put away for it. */
static int open_file(const char *path, const char *old_path)
{
    struct stat status;
    if (lstat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) {
        errno = S_ISDIR(status.st_mode) ? EISDIR : EEXIST;
        return -1;
    }
    (void)rename(path, old_path);
    return open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

struct writing {
    FILE *file;
};

static bool write_line(void *context, const char *line, size_t size)
{
    FILE *file = ((struct writing *)context)->file;
    return fwrite(line, 1, size, file) == size && fputc('\n', file) != EOF;
}

/* Line by line, so that whoever logs does not wait for the disk. */
int recorder_write(struct recorder *recorder, const char *path)
{
    char old_path[PATH_BYTES];
    if (snprintf(old_path, sizeof(old_path), "%s.old", path) >= (int)sizeof(old_path))
        return -ENAMETOOLONG;
    int fd = open_file(path, old_path);
    if (fd < 0)
        return -errno;
    struct writing writing = {.file = fdopen(fd, "w")};
    if (writing.file == NULL) {
        close(fd);
        return -ENOMEM;
    }
    (void)recorder_read(recorder, 0, NULL, write_line, &writing);
    bool failed = fflush(writing.file) != 0 || ferror(writing.file) || fsync(fd) != 0;
    int error = failed ? (errno != 0 ? -errno : -EIO) : 0;
    fclose(writing.file);
    return error;
}

/* --- the handler: only calls that are allowed in one ------------------------------------------ */

static char *put_text(char *to, const char *text)
{
    while (*text != '\0')
        *to++ = *text++;
    return to;
}

static char *put_number(char *to, uint64_t number)
{
    char digits[20];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0)
        *to++ = digits[--count];
    return to;
}

static void write_end(int fd, int signal_number)
{
    char line[160];
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    char *end = put_text(line, "{\"time_ms\":");
    end = put_number(end, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
    end = put_text(end, ",\"level\":\"error\",\"event\":\"crashed\",\"signal\":");
    end = put_number(end, (uint64_t)signal_number);
    end = put_text(end, ",\"pid\":");
    end = put_number(end, (uint64_t)getpid());
    end = put_text(end, "}\n");
    (void)write_all(fd, line, (size_t)(end - line));
}

static void save(int signal_number)
{
    struct recorder *recorder = crash.recorder;
    atomic_store(&recorder->frozen, true);
    int fd = open_file(crash.path, crash.old_path);
    if (fd < 0 && errno == EMFILE) {
        (void)close(STDIN_FILENO); /* nobody needs it any more */
        fd = open_file(crash.path, crash.old_path);
    }
    if (fd < 0)
        return;
    uint64_t head = atomic_load_explicit(&recorder->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&recorder->tail, memory_order_relaxed);
    (void)write_lines(fd, recorder, tail, head);
    write_end(fd, signal_number);
    (void)fsync(fd);
    (void)close(fd);
}

static void on_crash(int signal_number)
{
    while (atomic_flag_test_and_set(&crash.busy))
        (void)pause();
    save(signal_number);
    for (size_t i = 0; i < DEADLY; i++)
        (void)sigaction(deadly[i], &crash.before[i], NULL);
    /* Blocked until the handler returns; then it comes again and meets what was there before us. */
    (void)raise(signal_number);
}

int recorder_crash_to(struct recorder *recorder, const char *path)
{
    CHECK(crash.recorder == NULL);
    if (snprintf(crash.path, sizeof(crash.path), "%s", path) >= (int)sizeof(crash.path) ||
        snprintf(crash.old_path, sizeof(crash.old_path), "%s.old", path) >=
            (int)sizeof(crash.old_path))
        return -ENAMETOOLONG;
    crash.recorder = recorder;
    atomic_flag_clear(&crash.busy);
    struct sigaction action = {.sa_handler = on_crash};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < DEADLY; i++)
        if (sigaction(deadly[i], &action, &crash.before[i]) != 0)
            return -errno;
    return 0;
}

void recorder_crash_forget(void)
{
    if (crash.recorder == NULL)
        return;
    for (size_t i = 0; i < DEADLY; i++)
        (void)sigaction(deadly[i], &crash.before[i], NULL);
    crash.recorder = NULL;
}
