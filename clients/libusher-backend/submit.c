/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/backend.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/clock.h"
#include "libusher-backend/pack.h"
#include "libusher-backend/rooms.h"
#include "libusher-backend/stored.h"
#include "proto/link_submit.h"
#include "proto/traceparent.h"

/* Commands on their way to the node.
 *
 * A command is encoded where it is made, by any thread, and waits in a bounded queue (queue.c). The
 * running thread takes as many as fit one frame, splices them into a Submit and keeps both the
 * bytes and the commands until the answer is here: bytes that got no answer go out again unchanged,
 * under the same (link, lane, seq), and the node does them once.
 *
 * If the link itself is lost, a batch that surely never arrived is queued again; of one that may
 * have arrived nobody knows, and repeating it could kick or push twice, so it ends as LOST. A
 * reply never goes out on another link than its call came in on, because the numbers of calls
 * begin anew there and it could answer somebody else. */

enum { TRANSIENT_WAIT_MS = 1000 };

static struct command *command_create(const Usher__V1__Command *message, enum command_kind kind)
{
    size_t size = usher__v1__command__get_packed_size(message);
    struct command *command = calloc(1, sizeof(*command) + size);
    if (command == NULL)
        return NULL;
    command->kind = kind;
    command->size = usher__v1__command__pack(message, command->packed);
    return command;
}

/* Takes the command (NULL: there was no memory for it) for the running thread. */
static int queue_command(struct usher_backend *backend, struct command *command)
{
    int error = command != NULL ? queue_add(&backend->queue, command) : -ENOMEM;
    if (error != 0)
        free(command);
    else
        wake_set(backend->wake);
    return error;
}

static int enqueue_as(struct usher_backend *backend, const Usher__V1__Command *message,
                      enum command_kind kind, uint64_t token)
{
    struct command *command = command_create(message, kind);
    if (command != NULL) {
        command->token = token;
        command->made_ms = clock_ms();
    }
    return queue_command(backend, command);
}

int submit_command(struct usher_backend *backend, const Usher__V1__Command *message, uint64_t token)
{
    return enqueue_as(backend, message, COMMAND_PLAIN, token);
}

/* Bound to the link of its call, whose numbers it speaks of. */
static int reply(struct usher_backend *backend, struct usher_backend_call_id id,
                 Usher__V1__ReplyTo answer)
{
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    struct command *command;
    if (id.call == 0)
        return 0;
    if (answer.payload.len > FRAME_BYTES_MAX || answer.n_rooms > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    answer.call = id.call;
    message.body_case = USHER__V1__COMMAND__BODY_REPLY_TO;
    message.reply_to = &answer;
    command = command_create(&message, COMMAND_REPLY);
    if (command != NULL)
        command->link_count = id.link;
    return queue_command(backend, command);
}

int usher_backend_reply(struct usher_backend *backend, struct usher_backend_call_id id,
                        uint32_t status, const void *payload, size_t payload_size)
{
    Usher__V1__ReplyTo answer = USHER__V1__REPLY_TO__INIT;
    answer.status = status;
    answer.payload = pack_bytes(payload, payload_size);
    return reply(backend, id, answer);
}

int usher_backend_admit(struct usher_backend *backend, struct usher_backend_call_id id,
                        const char *user, uint64_t token_ends_ms)
{
    return usher_backend_admit_rooms(backend, id, user, token_ends_ms, NULL, 0);
}

int usher_backend_admit_rooms(struct usher_backend *backend, struct usher_backend_call_id id,
                              const char *user, uint64_t token_ends_ms, const char *const *rooms,
                              size_t room_count)
{
    Usher__V1__ReplyTo answer = USHER__V1__REPLY_TO__INIT;
    answer.payload = pack_bytes(user, user != NULL ? strlen(user) : 0);
    answer.token_ends_ms = token_ends_ms;
    answer.rooms = (char **)(uintptr_t)rooms;
    answer.n_rooms = room_count;
    return reply(backend, id, answer);
}

/* A traceparent may have come from whoever called this service: one that is none costs nobody his
 * message. */
static char *traceparent_of(const struct usher_backend_message *from)
{
    return pack_text(traceparent_valid(bytes_of_text(from->traceparent)) ? from->traceparent
                                                                         : NULL);
}

static int push_to(struct usher_backend *backend, const struct usher_backend_message *from,
                   Usher__V1__Command *command, uint64_t token)
{
    Usher__V1__Push push = USHER__V1__PUSH__INIT;
    push.n_to = from->user_count;
    push.to = (char **)(uintptr_t)from->users;
    push.payload = pack_bytes(from->payload, from->payload_size);
    push.epoch = from->epoch;
    push.transient = from->transient;
    push.keep_s = from->keep_s;
    push.tag = from->tag;
    push.traceparent = traceparent_of(from);
    command->body_case = USHER__V1__COMMAND__BODY_PUSH;
    command->push = &push;
    return enqueue_as(backend, command,
                      from->transient     ? COMMAND_TRANSIENT
                      : from->keep_s != 0 ? COMMAND_STORED
                                          : COMMAND_PLAIN,
                      token);
}

static int push_to_all(struct usher_backend *backend, const struct usher_backend_message *from,
                       Usher__V1__Command *command, uint64_t token)
{
    Usher__V1__PushAll push = USHER__V1__PUSH_ALL__INIT;
    push.payload = pack_bytes(from->payload, from->payload_size);
    push.transient = from->transient;
    push.traceparent = traceparent_of(from);
    command->body_case = USHER__V1__COMMAND__BODY_PUSH_ALL;
    command->push_all = &push;
    return enqueue_as(backend, command, from->transient ? COMMAND_TRANSIENT : COMMAND_PLAIN, token);
}

int usher_backend_push_message(struct usher_backend *backend,
                               const struct usher_backend_message *message, uint64_t token)
{
    Usher__V1__Command command = USHER__V1__COMMAND__INIT;
    if (message->payload_size > FRAME_BYTES_MAX || message->user_count > FRAME_BYTES_MAX)
        return -EMSGSIZE;
    return message->to_all ? push_to_all(backend, message, &command, token)
                           : push_to(backend, message, &command, token);
}

int usher_backend_push(struct usher_backend *backend, const char *const *users, size_t user_count,
                       const void *payload, size_t payload_size, uint64_t epoch, uint64_t token)
{
    return usher_backend_push_message(backend,
                                      &(struct usher_backend_message){.users = users,
                                                                      .user_count = user_count,
                                                                      .payload = payload,
                                                                      .payload_size = payload_size,
                                                                      .epoch = epoch},
                                      token);
}

int usher_backend_push_transient(struct usher_backend *backend, const char *const *users,
                                 size_t user_count, const void *payload, size_t payload_size,
                                 uint64_t epoch, uint64_t token)
{
    return usher_backend_push_message(backend,
                                      &(struct usher_backend_message){.users = users,
                                                                      .user_count = user_count,
                                                                      .payload = payload,
                                                                      .payload_size = payload_size,
                                                                      .epoch = epoch,
                                                                      .transient = true},
                                      token);
}

int usher_backend_push_all(struct usher_backend *backend, const void *payload, size_t payload_size,
                           uint64_t token)
{
    return usher_backend_push_message(backend,
                                      &(struct usher_backend_message){.to_all = true,
                                                                      .payload = payload,
                                                                      .payload_size = payload_size},
                                      token);
}

int usher_backend_push_all_transient(struct usher_backend *backend, const void *payload,
                                     size_t payload_size, uint64_t token)
{
    return usher_backend_push_message(
        backend,
        &(struct usher_backend_message){
            .to_all = true, .payload = payload, .payload_size = payload_size, .transient = true},
        token);
}

int usher_backend_kick(struct usher_backend *backend, const struct usher_backend_kick *kick,
                       uint64_t token)
{
    Usher__V1__Kick body = USHER__V1__KICK__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    body.user = pack_text(kick->user);
    body.epoch = kick->epoch;
    body.reason = kick->reason;
    body.detail = pack_text(kick->detail);
    body.retry_after_ms = kick->retry_after_ms;
    body.do_not_return = kick->do_not_return;
    message.body_case = USHER__V1__COMMAND__BODY_KICK;
    message.kick = &body;
    return submit_command(backend, &message, token);
}

int usher_backend_drain(struct usher_backend *backend, uint64_t token)
{
    Usher__V1__Drain drain = USHER__V1__DRAIN__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    message.body_case = USHER__V1__COMMAND__BODY_DRAIN;
    message.drain = &drain;
    return submit_command(backend, &message, token);
}

/* Takes the command. */
static void command_end(struct usher_backend *backend, struct command *command, unsigned code)
{
    struct usher_backend_result result = {.code = code};
    if (command->kind == COMMAND_SNAPSHOT)
        presence_page(backend, NULL);
    else if (command->token != 0 && backend->on.on_result != NULL)
        backend->on.on_result(backend->context, command->token, &result);
    free(command);
}

/* The page behind the last one that was seen. */
static struct command *page_command(struct usher_backend *backend)
{
    Usher__V1__Snapshot snapshot = USHER__V1__SNAPSHOT__INIT;
    Usher__V1__Command message = USHER__V1__COMMAND__INIT;
    snapshot.after = pack_text(presence_page_after(&backend->presence));
    message.body_case = USHER__V1__COMMAND__BODY_SNAPSHOT;
    message.snapshot = &snapshot;
    return command_create(&message, COMMAND_SNAPSHOT);
}

/* Moves commands from the queue to the batch; gives the bytes that they need in it. */
static size_t batch_fill(struct usher_backend *backend)
{
    struct batch *batch = &backend->batch;
    size_t room = backend->queue.frame_bytes_max - FRAME_OVERHEAD;
    size_t bytes = 0;
    CHECK(backend->queue.frame_bytes_max >= FRAME_BYTES_MIN);
    while (batch->count < BATCH_COMMANDS_MAX) {
        /* What splicing adds is at most four bytes. */
        size_t left = bytes + 4 > room ? 0 : room - bytes - 4;
        struct command *command = queue_take(&backend->queue, bytes == 0 ? room : left);
        if (command == NULL)
            break;
        if (command->kind == COMMAND_REPLY && command->link_count != backend->link_count) {
            command_end(backend, command, USHER_BACKEND_GONE);
        } else if (command->kind == COMMAND_TRANSIENT &&
                   clock_ms() > command->made_ms + TRANSIENT_WAIT_MS) {
            command_end(backend, command, USHER_BACKEND_LOST);
        } else if (command->size > room) {
            command_end(backend, command, USHER_BACKEND_TOO_LARGE);
        } else {
            batch->commands[batch->count++] = command;
            bytes += link_submit_command_size(command->size);
        }
    }
    return bytes;
}

static int batch_pack(struct usher_backend *backend, size_t command_bytes)
{
    struct batch *batch = &backend->batch;
    backend->request.size = 0;
    int error = link_submit_begin(&backend->request, batch->link, batch->seq, command_bytes);
    CHECK(backend->request.size <= FRAME_OVERHEAD);
    for (size_t i = 0; error == 0 && i < batch->count; i++)
        link_submit_command(&backend->request,
                            (struct bytes){batch->commands[i]->packed, batch->commands[i]->size});
    return error;
}

bool submit_build(struct usher_backend *backend, uint64_t now_ms)
{
    struct batch *batch = &backend->batch;
    bool page = presence_wants_page(&backend->presence, now_ms);
    size_t bytes = 0;
    CHECK(batch->count == 0); /* each command of the one before has ended */
    /* A page answers with a frame of its own size, so it goes alone; the queue takes turns with
     * it, so that a large snapshot does not hold up replies. */
    if (!page || batch->seq % 2 == 0)
        bytes = batch_fill(backend);
    if (batch->count == 0 && page) {
        batch->commands[0] = page_command(backend);
        if (batch->commands[0] == NULL)
            return false;
        bytes = link_submit_command_size(batch->commands[0]->size);
        batch->count = 1;
        backend->presence.page_wanted = false;
    }
    if (batch->count == 0)
        return false;
    batch->link = backend->link;
    batch->seq = ++backend->submit_seq;
    batch->attempts = 0;
    if (batch_pack(backend, bytes) == 0)
        return true;
    backend->submit_seq--;
    submit_fail(backend, USHER_BACKEND_UNAVAILABLE);
    return false;
}

void submit_fail(struct usher_backend *backend, unsigned code)
{
    struct batch *batch = &backend->batch;
    for (size_t i = 0; i < batch->count; i++)
        command_end(backend, batch->commands[i], code);
    batch->count = 0;
}

void submit_undone(struct usher_backend *backend)
{
    if (backend->batch.link == backend->link)
        backend->submit_seq = backend->batch.seq - 1;
}

void submit_stale(struct usher_backend *backend)
{
    struct batch *batch = &backend->batch;
    if (batch->attempts > 1) {
        submit_fail(backend, USHER_BACKEND_LOST);
        return;
    }
    while (batch->count > 0) {
        struct command *command = batch->commands[--batch->count];
        if (command->kind == COMMAND_SNAPSHOT)
            command_end(backend, command, USHER_BACKEND_LOST);
        else
            queue_return(&backend->queue, command);
    }
}

/* Who did not get a push is told as far as memory goes: the sum is right in any case. */
static void report_result(struct usher_backend *backend, const struct command *command,
                          const Usher__V1__Result *from)
{
    struct usher_backend_result result = {.code = (unsigned)from->code};
    struct usher_backend_failure *failures = NULL;
    if (from->value_case == USHER__V1__RESULT__VALUE_PUSH) {
        const Usher__V1__PushReport *report = from->push;
        result.accepted = report->accepted;
        result.dropped = report->dropped;
        result.mid = report->mid;
        if (report->n_failures > 0)
            failures = calloc(report->n_failures, sizeof(*failures));
        for (size_t i = 0; failures != NULL && i < report->n_failures; i++)
            failures[i] = (struct usher_backend_failure){report->failures[i]->user,
                                                         (unsigned)report->failures[i]->code};
        result.failures = failures;
        result.failure_count = failures != NULL ? report->n_failures : 0;
    }
    struct usher_backend_room room;
    if (from->value_case == USHER__V1__RESULT__VALUE_ROOMS && from->rooms->n_rooms == 1) {
        room_convert(&room, from->rooms->rooms[0]);
        result.room = &room;
    }
    if (from->value_case == USHER__V1__RESULT__VALUE_STORED)
        result.accepted = from->stored->count;
    if (command->kind == COMMAND_STORED)
        stored_judge(&result);
    backend->on.on_result(backend->context, command->token, &result);
    free(failures);
}

bool submit_results(struct usher_backend *backend, const Usher__V1__Results *results)
{
    struct batch *batch = &backend->batch;
    if (results->seq != batch->seq || results->n_results != batch->count)
        return false;
    for (size_t i = 0; i < batch->count; i++) {
        struct command *command = batch->commands[i];
        if (command->kind == COMMAND_SNAPSHOT)
            presence_page(backend, results->results[i]);
        else if (command->token != 0 && backend->on.on_result != NULL)
            report_result(backend, command, results->results[i]);
        free(command);
    }
    batch->count = 0;
    return true;
}

void batch_fini(struct usher_backend *backend)
{
    for (size_t i = 0; i < backend->batch.count; i++)
        free(backend->batch.commands[i]);
    backend->batch.count = 0;
}
