/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/memory.h"
#include "process/notify.h"
#include "upgrade/upgrade.h"

/* The old side. Until the last word is said everything here can be taken back: the new process is
 * ended, and with it what it was given is closed; this one has changed nothing meanwhile. The last
 * word is one message that is written whole or not at all, so there is no moment at which two
 * processes serve, or none can.
 *
 * The new one has its configuration read, its parts made and the store open before this one stands
 * still: only what nobody can prepare is done in that time.
 *
 * Behind the last word this process still has the connections that cannot go. They are told then,
 * and not before: what is said to a client cannot be taken back, and those who went are served
 * meanwhile. */

enum {
    PREPARE_MS = 10000,
    FREEZE_MS = 1000,
    WEBHOOK_MS = 500,
    LINGER_MS = 200,
    SPREAD_PART = 4,
    FILES_BESIDE = 256,
};

static uint64_t now_ms(const struct upgrade_parts *parts)
{
    /* The channel's deadlines are of the machine's clock, as the process may stand still. */
    return env_monotonic_ms(parts->awake->machine);
}

static int say(struct handover *handover, struct handover_message *message, enum handover_word word,
               uint64_t until_ms, char *error)
{
    message->word = (uint8_t)word;
    int failed = handover_say(handover, message, until_ms);
    /* It may have said why it has ended. */
    if (failed == -EPIPE)
        (void)handover_hear_some(handover, message, 0, error);
    else if (failed != 0)
        snprintf(error, HANDOVER_ERROR_BYTES, "nothing can be said to the new process: %s",
                 strerror(-failed));
    return failed;
}

/* The lock of the store and the sockets of listeners; the body has for each which it is. */
static int give_gifts(const struct upgrade_parts *parts, struct handover *handover,
                      struct handover_message *message, char *error)
{
    message->fd_count = 0;
    message->size = 0;
    int lock = store_lock(parts->store);
    if (lock >= 0) {
        message->fds[message->fd_count++] = lock;
        message->body[message->size++] = LISTENERS;
    }
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        int fd = net_listen_fd(parts->net, kind);
        if (fd < 0)
            continue;
        message->fds[message->fd_count++] = fd;
        bool managed = parts->passed->managed[kind];
        message->body[message->size++] = (uint8_t)(kind | (managed ? UPGRADE_MANAGED : 0u));
    }
    return say(handover, message, HANDOVER_DESCRIPTORS, now_ms(parts) + PREPARE_MS, error);
}

struct giving {
    struct handover *handover;
    struct handover_message *message;
    uint64_t until_ms;
    struct upgrade_report *report;
};

static int give_descriptors(const struct giving *giving, const struct upgrade_load *load)
{
    struct handover_message *message = giving->message;
    int failed = 0;
    for (size_t at = 0; failed == 0 && at < load->fd_count; at += message->fd_count) {
        size_t left = load->fd_count - at;
        message->size = 0;
        message->fd_count =
            (uint16_t)(left < HANDOVER_DESCRIPTORS_MAX ? left : HANDOVER_DESCRIPTORS_MAX);
        memcpy(message->fds, load->fds + at, message->fd_count * sizeof(int));
        failed = say(giving->handover, message, HANDOVER_DESCRIPTORS, giving->until_ms,
                     giving->report->error);
    }
    return failed;
}

static int give_records(const struct giving *giving, const struct buffer *records)
{
    struct handover_message *message = giving->message;
    struct upgrade_report *report = giving->report;
    int fd = handover_seal(records->data, records->size);
    if (fd < 0) {
        snprintf(report->error, sizeof(report->error), "cannot make a memfd: %s", strerror(-fd));
        return fd;
    }
    message->fds[0] = fd;
    message->fd_count = 1;
    message->size = 0;
    int failed = say(giving->handover, message, HANDOVER_STATE, giving->until_ms, report->error);
    close(fd);
    report->bytes += records->size;
    return failed;
}

/* upgrade_give */
static int give_run(void *context, const struct upgrade_load *load)
{
    const struct giving *giving = context;
    int failed = give_descriptors(giving, load);
    return failed == 0 ? give_records(giving, &load->records) : failed;
}

/* Does it have what it was given? */
static int check_ready(const struct handover_message *message, struct upgrade_report *report)
{
    Usher__V1__HandoverReady *ready =
        usher__v1__handover_ready__unpack(NULL, message->size, message->body);
    bool all = ready != NULL && ready->users == report->users &&
               ready->instances == report->instances && ready->rooms == report->rooms &&
               ready->conns == report->connections && ready->bytes == report->bytes;
    if (ready != NULL)
        usher__v1__handover_ready__free_unpacked(ready, NULL);
    if (!all)
        snprintf(report->error, sizeof(report->error),
                 "the new process has something else than it was given");
    return all ? 0 : -EPROTO;
}

/* While it is frozen. */
static int give_all(const struct upgrade_parts *parts, struct handover *handover,
                    struct handover_message *message, uint64_t until_ms,
                    struct upgrade_report *report)
{
    struct giving giving = {handover, message, until_ms, report};
    int failed = upgrade_pack(parts, give_run, &giving, report);
    if (failed == 0)
        failed = handover_hear(handover, HANDOVER_READY, message, until_ms, report->error);
    if (failed == 0)
        failed = check_ready(message, report);
    return failed;
}

/* True: the last word is said. The webhook rests. */
static bool freeze_and_give(const struct upgrade_parts *parts, struct handover *handover,
                            struct handover_message *message, struct upgrade_report *report)
{
    const uint64_t began_ms = now_ms(parts);
    const uint64_t until_ms = began_ms + FREEZE_MS;
    int failed = upgrade_freeze(parts, env_monotonic_ms(parts->env) + FREEZE_MS / 2);
    if (failed != 0) {
        snprintf(report->error, sizeof(report->error), "the broker does not come to rest: %s",
                 strerror(-failed));
        CHECK(failed == -ETIMEDOUT); /* or it cannot go on either */
        return false;
    }
    failed = give_all(parts, handover, message, until_ms, report);
    report->frozen_ms = now_ms(parts) - began_ms;
    message->fd_count = 0;
    message->size = 0;
    if (failed == 0 && handover_is_wanted()) {
        snprintf(report->error, sizeof(report->error), "a drain was asked for meanwhile");
        failed = -ECANCELED;
    }
    if (failed == 0)
        failed = say(handover, message, HANDOVER_GO, until_ms, report->error);
    if (failed == 0) {
        /* Not before: from the process that it does not take for the first one, the manager
         * believes nothing, so this could not be taken back. */
        notify_manager("MAINPID=%lld", (long long)handover_process(handover));
        handover_pass_signals(handover);
        return true;
    }
    CHECK_DEBT(upgrade_thaw(parts) == 0, "threads that cannot be started again");
    return false;
}

/* Can it have as much as it would get? */
static int check_hello(const struct upgrade_parts *parts, const struct handover_message *message,
                       char *error)
{
    const uint64_t wanted = (uint64_t)net_count(parts->net) + FILES_BESIDE;
    Usher__V1__HandoverHello *hello =
        usher__v1__handover_hello__unpack(NULL, message->size, message->body);
    const uint64_t files = hello != NULL ? hello->files : 0;
    if (hello != NULL)
        usher__v1__handover_hello__free_unpacked(hello, NULL);
    if (files >= wanted)
        return 0;
    snprintf(error, HANDOVER_ERROR_BYTES,
             "the new process may have %llu open files, and %llu are needed",
             (unsigned long long)files, (unsigned long long)wanted);
    return -EMFILE;
}

/* Started, and ready to take over. */
static int prepare(const struct upgrade_parts *parts, const char *program, char *const argv[],
                   struct handover **handover, struct handover_message *message, char *error)
{
    int failed = handover_start(handover, program, argv, error);
    if (failed == 0)
        failed = give_gifts(parts, *handover, message, error);
    if (failed == 0)
        failed =
            handover_hear(*handover, HANDOVER_HELLO, message, now_ms(parts) + PREPARE_MS, error);
    if (failed == 0)
        failed = check_hello(parts, message, error);
    return failed;
}

/* A receiver is not waited for while nobody is served, but before that, a little: what he has got
 * and not answered is posted once more. */
static bool rest_and_give(const struct upgrade_parts *parts, struct handover *handover,
                          struct handover_message *message, struct upgrade_report *report)
{
    webhook_pause(parts->webhook, WEBHOOK_MS);
    bool gone = freeze_and_give(parts, handover, message, report);
    if (!gone)
        CHECK_DEBT(webhook_go_on(parts->webhook) == 0, "a thread that cannot be started again");
    return gone;
}

static bool hand_over(const struct upgrade_parts *parts, const char *program, char *const argv[],
                      struct upgrade_report *report)
{
    struct handover *handover = NULL;
    struct handover_message *message;
    MEMORY_MUST((message = calloc(1, sizeof(*message))) != NULL, "a hand-over");
    int failed = prepare(parts, program, argv, &handover, message, report->error);
    report->process = handover != NULL ? handover_process(handover) : 0;
    bool gone = failed == 0 && rest_and_give(parts, handover, message, report);
    free(message);
    if (gone)
        handover_close(handover);
    else
        handover_cancel(handover);
    return gone;
}

/* They come back at once, and not all at once; and before their sessions are over. */
static void dismiss_left(const struct upgrade_parts *parts, struct upgrade_report *report)
{
    const uint64_t drain_ms = process_drain_ms(parts->limits) / SPREAD_PART;
    const uint64_t resume_ms = session_resume_ms(parts->limits) / SPREAD_PART;
    const struct net_dismissal how = {
        .detail = "the broker is upgraded; come back and resume",
        .spread_ms = (uint32_t)(drain_ms < resume_ms ? drain_ms : resume_ms),
        .linger_ms = LINGER_MS,
    };
    report->told = net_dismiss_left(parts->net, &how);
}

bool upgrade_hand_over(const struct upgrade_parts *parts, const char *program, char *const argv[],
                       struct upgrade_report *report)
{
    char found[PATH_MAX];
    *report = (struct upgrade_report){0};
    if (program[0] == '\0')
        program = handover_program(argv[0], found);
    LOG(parts->log, UPGRADING, LOG_S("program", program));
    bool gone = hand_over(parts, program, argv, report);
    if (gone)
        dismiss_left(parts, report);
    if (gone)
        LOG(parts->log, UPGRADED, LOG_U("to", (uint64_t)report->process),
            LOG_U("users", report->users), LOG_U("instances", report->instances),
            LOG_U("rooms", report->rooms), LOG_U("connections", report->connections),
            LOG_U("left", report->left), LOG_U("told", report->told), LOG_U("bytes", report->bytes),
            LOG_U("frozen_ms", report->frozen_ms));
    else
        LOG(parts->log, UPGRADE_FAILED, LOG_S("error", report->error),
            LOG_U("frozen_ms", report->frozen_ms));
    return gone;
}
