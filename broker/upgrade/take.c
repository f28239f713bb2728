/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process/open_files.h"
#include "upgrade/upgrade.h"

/* The new side. Until the last word nothing that clients see is touched: connections are put into
 * epolls that nobody waits for, actors are made that nobody writes to. If that word does not come
 * this process ends, and the kernel closes its copies. */

enum { WAIT_MS = 60000 }; /* the old side ends us sooner */

static uint64_t soon(void)
{
    return env_monotonic_ms(env_system()) + WAIT_MS;
}

int upgrade_take_gifts(struct handover *handover, struct upgrade_gifts *gifts, char *error)
{
    struct handover_message *message = calloc(1, sizeof(*message));
    *gifts = (struct upgrade_gifts){0};
    if (message == NULL)
        return -ENOMEM;
    int failed = handover_hear(handover, HANDOVER_DESCRIPTORS, message, soon(), error);
    if (failed == 0 && message->size != message->fd_count)
        failed = -EPROTO;
    for (unsigned i = 0; failed == 0 && i < message->fd_count; i++) {
        unsigned kind = message->body[i] & ~UPGRADE_MANAGED;
        int *place = kind == LISTENERS  ? &gifts->lock
                     : kind < LISTENERS ? &gifts->listeners.fds[kind]
                                        : NULL;
        if (place == NULL || *place != 0)
            failed = -EPROTO;
        else
            *place = message->fds[i];
        if (failed == 0 && kind < LISTENERS)
            gifts->listeners.managed[kind] = (message->body[i] & UPGRADE_MANAGED) != 0;
    }
    free(message);
    return failed;
}

/* --- what comes while the old one stands still ------------------------------------------------ */

struct taking {
    struct handover *handover;
    struct handover_message *message;
    int *fds;
    size_t count;
};

static int keep_descriptors(struct taking *taking)
{
    const struct handover_message *message = taking->message;
    int *bigger =
        realloc(taking->fds, (taking->count + message->fd_count + 1) * sizeof(*taking->fds));
    if (bigger == NULL)
        return -ENOMEM;
    taking->fds = bigger;
    memcpy(bigger + taking->count, message->fds, message->fd_count * sizeof(int));
    taking->count += message->fd_count;
    return 0;
}

/* Descriptors until a run of records comes. */
static int hear_run(struct taking *taking, char *error)
{
    int failed;
    taking->count = 0;
    do {
        failed = handover_hear_some(taking->handover, taking->message, soon(), error);
        if (failed == 0 && taking->message->word == HANDOVER_DESCRIPTORS)
            failed = keep_descriptors(taking);
    } while (failed == 0 && taking->message->word == HANDOVER_DESCRIPTORS);
    if (failed == 0 && (taking->message->word != HANDOVER_STATE || taking->message->fd_count != 1))
        failed = -EPROTO;
    return failed;
}

/* 1: that was the last one. */
static int take_run(struct taking *taking, struct upgrade_unpacking *unpacking)
{
    const uint8_t *data;
    size_t size;
    int fd = taking->message->fds[0];
    int result = handover_map(fd, &data, &size);
    if (result == 0) {
        result = upgrade_unpack(unpacking, (struct bytes){data, size}, taking->fds, taking->count);
        handover_unmap(data, size);
    }
    close(fd);
    return result;
}

/* Run after run. */
static int take_all(const struct upgrade_parts *parts, struct taking *taking,
                    struct upgrade_report *report)
{
    struct upgrade_unpacking *unpacking = upgrade_unpacking_create(parts, report);
    int result = unpacking != NULL ? 0 : -ENOMEM;
    while (result == 0) {
        result = hear_run(taking, report->error);
        if (result == 0)
            result = take_run(taking, unpacking);
    }
    upgrade_unpacking_destroy(unpacking);
    return result < 0 ? result : 0;
}

/* Its body is there. */
static int say(struct handover *handover, struct handover_message *message, enum handover_word word)
{
    message->word = (uint8_t)word;
    message->fd_count = 0;
    return handover_say(handover, message, soon());
}

static int say_hello(struct handover *handover, struct handover_message *message)
{
    Usher__V1__HandoverHello hello = USHER__V1__HANDOVER_HELLO__INIT;
    hello.files = open_files_max();
    message->size = (uint32_t)usher__v1__handover_hello__pack(&hello, message->body);
    return say(handover, message, HANDOVER_HELLO);
}

static int say_ready(struct handover *handover, struct handover_message *message,
                     const struct upgrade_report *report)
{
    Usher__V1__HandoverReady ready = USHER__V1__HANDOVER_READY__INIT;
    ready.users = report->users;
    ready.instances = report->instances;
    ready.rooms = report->rooms;
    ready.conns = report->connections;
    ready.bytes = report->bytes;
    message->size = (uint32_t)usher__v1__handover_ready__pack(&ready, message->body);
    return say(handover, message, HANDOVER_READY);
}

static void explain(struct upgrade_report *report, int failed)
{
    if (failed != 0 && report->error[0] == '\0')
        snprintf(report->error, sizeof(report->error), "%s", strerror(-failed));
}

int upgrade_take(const struct upgrade_parts *parts, struct handover *handover,
                 struct upgrade_report *report)
{
    struct taking taking = {.handover = handover, .message = calloc(1, sizeof(*taking.message))};
    *report = (struct upgrade_report){0};
    int failed = taking.message != NULL ? say_hello(handover, taking.message) : -ENOMEM;
    if (failed == 0)
        failed = take_all(parts, &taking, report);
    free(taking.message);
    free(taking.fds);
    explain(report, failed);
    if (failed == 0)
        LOG(parts->log, TAKEN_OVER, LOG_U("users", report->users),
            LOG_U("instances", report->instances), LOG_U("rooms", report->rooms),
            LOG_U("connections", report->connections), LOG_U("bytes", report->bytes));
    return failed;
}

int upgrade_confirm(struct handover *handover, struct upgrade_report *report)
{
    struct handover_message *message = calloc(1, sizeof(*message));
    int failed = message != NULL ? say_ready(handover, message, report) : -ENOMEM;
    if (failed == 0)
        failed = handover_hear(handover, HANDOVER_GO, message, soon(), report->error);
    free(message);
    explain(report, failed);
    return failed;
}
