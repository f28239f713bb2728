/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/broker.h"
#include "operate/signals.h"
#include "operate/start_files.h"
#include "process/activation.h"
#include "process/handover.h"
#include "process/open_files.h"
#include "process/prepare.h"

/* Command line -> configuration -> broker -> signals; nothing else. */

enum { LOG_LINES_PER_SECOND = 0 /* the default */ };

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
static int run(const struct options *options, struct log *log, struct handover *handover, int argc,
               char **argv, const sigset_t *set, const char *recorder_path,
               struct kept_sockets *kept, bool *again)
{
    char error[BROKER_ERROR_BYTES];
    struct broker *broker;
    int failed = broker_start(&broker, options, log, handover, error);
    if (failed == BROKER_CANCELLED)
        return 0;
    if (failed != 0) {
        fprintf(stderr, "usherd: %s\n", error);
        if (handover != NULL)
            handover_refuse(handover, error);
        return failed;
    }
    broker_remember(broker, argc, argv);
    broker_keep_sockets(broker, kept);
    *again = broker_serve(broker, set, recorder_path);
    return broker_stop(broker);
}

int main(int argc, char **argv)
{
    struct handover *handover = NULL;
    (void)handover_take(&handover); /* first: it is a descriptor by its number */
    int failed = prepare_process();
    if (failed != 0)
        return failed;
    struct options options;
    enum config_action action;
    failed = config_load(&options, argc, argv, stderr, &action);
    if (failed == 0 && action != CONFIG_EXIT)
        failed = start_files_complain(&options, stderr);
    if (failed != 0 || action != CONFIG_RUN) {
        if (handover != NULL)
            handover_refuse(handover, "it cannot use its configuration; its own lines say why");
        options_fini(&options);
        return failed;
    }
    struct kept_sockets kept = {0};
    sigset_t set;
    signals_block(&set);
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
    failed = run(&options, log, handover, argc, argv, &set, recorder_path, &kept, &again);
    log_close(log);
    recorder_crash_forget();
    recorder_destroy(recorder);
    options_fini(&options);
    return again ? begin_again(argv, &kept) : failed;
}
