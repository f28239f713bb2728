/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/wait.h"
#include "broker/broker.h"
#include "process/activation.h"
#include "process/notify.h"
#include "process/open_files.h"
#include "process/prepare.h"

/* Command line -> configuration -> broker -> signals; nothing else. */

enum { LOG_LINES_PER_SECOND = 0 /* the default */ };

/* Termination is waited for by the main thread alone: every other thread is started with these
 * blocked. */
static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

/* The flight recorder; crashes write it from here on. NULL: there is no memory for one. */
static struct recorder *open_recorder(const struct options *options, char path[PATH_MAX])
{
    struct recorder *recorder = recorder_create((size_t)options->recorder_bytes);
    if (options->recorder_file[0] != '\0')
        snprintf(path, PATH_MAX, "%s", options->recorder_file);
    else
        snprintf(path, PATH_MAX, "%s/recorder.jsonl", options->store_path);
    if (recorder != NULL)
        (void)recorder_crash_to(recorder, path);
    return recorder;
}

static int open_log(struct log **log, const struct options *options, struct recorder *recorder)
{
    bool journal = prepare_is_journal();
    bool text = options->log_format == LOG_FORMAT_TEXT ||
                (options->log_format == LOG_FORMAT_AUTO && (journal || isatty(STDERR_FILENO)));
    struct log_options log_options = {
        .level = (enum log_level)options->log_level,
        .fd = STDERR_FILENO,
        .json = !text,
        .journal = journal,
        .env = env_system(),
        .lines_per_second_per_event = LOG_LINES_PER_SECOND,
        .recorder = recorder,
    };
    return log_open(log, &log_options);
}

static void write_recorder(struct log *log, const char *path)
{
    int error = log_recorder(log) != NULL ? recorder_write(log_recorder(log), path) : -ENOMEM;
    if (error == 0)
        LOG(log, RECORDER_WRITTEN, LOG_S("file", path));
    else
        LOG(log, RECORDER_FAILED, LOG_S("file", path), LOG_S("error", strerror(-error)));
}

/* With what the manager is to know beside it. A reload that was refused is in the status until one
 * is not: the signal that asked for it has long been called a success. */
static void tell_status(struct broker *broker, const char *also)
{
    char refused[BROKER_ERROR_BYTES];
    broker_reload_error(broker, refused);
    notify_manager("%s\nSTATUS=%s, %u client connections%s%.300s", also,
                   broker_state_name(broker_state(broker)), broker_connections(broker),
                   refused[0] != '\0' ? "; the last reload was refused: " : "", refused);
}

static void reload(struct broker *broker)
{
    struct reload_report report;
    notify_reloading();
    (void)broker_reload(broker, &report); /* it says itself how it went */
    tell_status(broker, "READY=1");
}

/* Only when every thread has answered: a timer alone would ping for a broker that stands still. */
static void give_sign_of_life(struct broker *broker, struct log *log)
{
    char still[32];
    struct stillness anew = {0}; /* each sign is the answer to a call of its own */
    if (broker_check_moving(broker, notify_watchdog_ms(), &anew, still) == 0)
        tell_status(broker, "WATCHDOG=1");
    else
        LOG(log, THREAD_STILL, LOG_S("thread", still));
}

/* The next signal, or 0 when so many ms have passed; 0 ms: for as long as it takes. */
static int next_signal(const sigset_t *set, uint32_t wait_ms)
{
    const struct timespec time = wait_time(wait_ms);
    int number = sigtimedwait(set, NULL, wait_ms != 0 ? &time : NULL);
    return number > 0 ? number : 0;
}

/* True: it is to begin again. */
static bool wait_for_the_end(struct broker *broker, struct log *log, const sigset_t *set,
                             const char *recorder_path)
{
    const uint32_t watchdog_ms = notify_watchdog_ms();
    bool draining = false;
    int number = 0;
    while (number != SIGTERM && number != SIGINT) {
        unsigned wait_ms = 0;
        if (number == SIGHUP)
            reload(broker);
        if (number == SIGUSR1)
            write_recorder(log, recorder_path);
        draining = draining || number == SIGUSR2;
        if (draining && broker_drain_step(broker, &wait_ms))
            return broker_restarts(broker);
        if (number == 0 && watchdog_ms != 0)
            give_sign_of_life(broker, log);
        if (watchdog_ms != 0 && (wait_ms == 0 || wait_ms > watchdog_ms))
            wait_ms = watchdog_ms;
        unsigned look_ms = broker_watch_certificate(broker);
        if (look_ms != 0 && (wait_ms == 0 || wait_ms > look_ms))
            wait_ms = look_ms;
        number = next_signal(set, wait_ms);
    }
    return false;
}

/* The program once more, in this process: the manager sees a reload and not an end, and a package
 * that was upgraded meanwhile gives the new one. A signal that came during the stop is pending and
 * blocked and stays so: whoever wants an end gets it from that one. Gives an exit code if it fails.
 */
static int begin_again(char **argv, const struct kept_sockets *kept)
{
    activation_give(kept);
    execvp(argv[0], argv);
    fprintf(stderr, "usherd: cannot begin again: %s: %s\n", argv[0], strerror(errno));
    return EXIT_INTERNAL;
}

/* From ready to stopped; an exit code. *again: it is to begin again. */
static int run(const struct options *options, struct log *log, int argc, char **argv,
               const sigset_t *set, const char *recorder_path, bool *again)
{
    char error[BROKER_ERROR_BYTES];
    struct broker *broker;
    int failed = broker_start(&broker, options, log, error);
    if (failed == BROKER_CANCELLED)
        return 0;
    if (failed != 0) {
        fprintf(stderr, "usherd: %s\n", error);
        return failed;
    }
    broker_remember(broker, argc, argv);
    LOG(log, READY, LOG_U("port", broker_port(broker)));
    notify_manager("READY=1\nSTATUS=serving on port %u", broker_port(broker));
    *again = wait_for_the_end(broker, log, set, recorder_path);
    if (*again)
        notify_restarting();
    else
        notify_manager("STOPPING=1\nEXTEND_TIMEOUT_USEC=%u\nSTATUS=stopping, %u client connections",
                       NOTIFY_EXTEND_US, broker_connections(broker));
    return broker_stop(broker);
}

int main(int argc, char **argv)
{
    if (!prepare_standard_files())
        return EXIT_INTERNAL;
    struct options options;
    enum config_action action;
    int failed = config_load(&options, argc, argv, stderr, &action);
    if (failed == 0 && action != CONFIG_EXIT)
        failed = broker_check_files(&options, stderr);
    if (failed != 0 || action != CONFIG_RUN) {
        options_fini(&options);
        return failed;
    }
    struct kept_sockets kept;
    activation_keep(&kept);
    sigset_t set;
    block_signals(&set);
    open_files_raise();
    prepare_rights(options.process_core_dumps);
    /* Few arenas: memory that one thread frees is reused by another. */
    mallopt(M_ARENA_MAX, (int)options.threads_io + 1);
    char recorder_path[PATH_MAX];
    struct recorder *recorder = open_recorder(&options, recorder_path);
    struct log *log = NULL;
    failed = open_log(&log, &options, recorder);
    if (failed != 0) {
        fprintf(stderr, "usherd: cannot open the log: %s; raise the limits of threads and memory\n",
                strerror(-failed));
        options_fini(&options);
        return EXIT_RESOURCES;
    }
    LOG(log, STARTING, LOG_S("version", USHER_VERSION), LOG_S("node", options.node_name),
        LOG_U("pid", getpid()));
    if (geteuid() == 0)
        LOG(log, RUNNING_AS_ROOT, LOG_S("advice", "run it as a user of its own"));
    bool again = false;
    failed = run(&options, log, argc, argv, &set, recorder_path, &again);
    log_close(log);
    recorder_crash_forget();
    recorder_destroy(recorder);
    options_fini(&options);
    return again ? begin_again(argv, &kept) : failed;
}
