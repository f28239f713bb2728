/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "broker/broker.h"
#include "broker/notify.h"

/* Command line -> configuration -> broker -> signals; nothing else. */

enum { EXIT_INTERNAL = 70, LOG_LINES_PER_SECOND = 0 /* the default */ };

/* Whoever starts us may have closed 0, 1 or 2, and the next file opened, perhaps the store, would
 * then be taken for stderr and written over by the log. So these three are always something. False:
 * there is not even /dev/null. */
static bool hold_standard_files(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Termination is waited for by the main thread alone: every other thread is started with these
 * blocked. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* What the process needs never: more rights than it was started with, files for others, and unless
 * asked for, a picture of its memory on the disk. */
static void drop_privileges(const struct options *options)
{
    umask(S_IRWXG | S_IRWXO);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!options->process_core_dumps)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/* One file per connection: use what the system allows. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* What the service manager says of the stream that it gave us: device and inode. Whoever redirects
 * stderr elsewhere leaves the variable behind, so it is compared. */
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat file;
    char text[64];
    if (stream == NULL || fstat(STDERR_FILENO, &file) != 0)
        return false;
    snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)file.st_dev, (uintmax_t)file.st_ino);
    return strcmp(stream, text) == 0;
}

static int open_log(struct log **log, const struct options *options)
{
    bool journal = stderr_is_journal();
    bool text = options->log_format == LOG_FORMAT_TEXT ||
                (options->log_format == LOG_FORMAT_AUTO && (journal || isatty(STDERR_FILENO)));
    struct log_options log_options = {
        .level = (enum log_level)options->log_level,
        .fd = STDERR_FILENO,
        .json = !text,
        .journal = journal,
        .env = env_system(),
        .lines_per_second_per_event = LOG_LINES_PER_SECOND,
    };
    return log_open(log, &log_options);
}

static void reload(struct broker *broker)
{
    notify_reloading();
    broker_reload(broker);
    notify_manager("READY=1");
}

/* Only when every thread has answered: a timer alone would ping for a broker that stands still. */
static void give_sign_of_life(struct broker *broker, struct log *log)
{
    char still[32];
    if (broker_check_moving(broker, notify_watchdog_ms(), still) == 0)
        notify_manager("WATCHDOG=1\nSTATUS=%u client connections", broker_connections(broker));
    else
        LOG(log, THREAD_STILL, LOG_S("thread", still));
}

static void wait_for_the_end(struct broker *broker, const sigset_t *set, struct log *log)
{
    uint32_t pause_ms = notify_watchdog_ms();
    const struct timespec pause = {.tv_sec = pause_ms / 1000,
                                   .tv_nsec = (long)(pause_ms % 1000) * 1000000};
    int signal_number;
    do {
        signal_number = sigtimedwait(set, NULL, pause_ms != 0 ? &pause : NULL);
        if (signal_number == SIGHUP)
            reload(broker);
        else if (signal_number < 0 && errno == EAGAIN)
            give_sign_of_life(broker, log);
    } while (signal_number == SIGHUP || signal_number < 0);
}

int main(int argc, char **argv)
{
    if (!hold_standard_files())
        return EXIT_INTERNAL;
    struct options options;
    enum config_action action;
    int failed = config_load(&options, argc, argv, stderr, &action);
    if (failed != 0 || action == CONFIG_EXIT) {
        options_fini(&options);
        return failed;
    }
    sigset_t set;
    block_signals(&set);
    raise_file_limit();
    drop_privileges(&options);
    /* Few arenas: memory that one thread frees is reused by another. */
    mallopt(M_ARENA_MAX, (int)options.threads_io + 1);
    struct log *log = NULL;
    if (open_log(&log, &options) != 0) {
        options_fini(&options);
        return EXIT_INTERNAL;
    }
    LOG(log, STARTING, LOG_S("version", USHER_VERSION), LOG_S("node", options.node_name),
        LOG_U("pid", getpid()));
    if (geteuid() == 0)
        LOG(log, RUNNING_AS_ROOT, LOG_S("advice", "run it as a user of its own"));
    char error[BROKER_ERROR_BYTES];
    struct broker *broker;
    failed = broker_start(&broker, &options, log, error);
    if (failed == 0) {
        LOG(log, READY, LOG_U("port", broker_port(broker)));
        notify_manager("READY=1\nSTATUS=serving on port %u", broker_port(broker));
        wait_for_the_end(broker, &set, log);
        notify_manager("STOPPING=1\nSTATUS=stopping, %u client connections",
                       broker_connections(broker));
        broker_stop(broker);
    }
    log_close(log);
    if (failed != 0)
        fprintf(stderr, "usherd: %s\n", error);
    options_fini(&options);
    return failed;
}
