/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/requests.h"

#include <errno.h>
#include <stdlib.h>

#include "common/check.h"
#include "proto/client_frame.h"
#include "proto/varint.h"

/* A request moves waiting -> passed -> sent and keeps its bytes until the socket has them all. A
 * broker cannot act on part of a frame, so after a lost connection the passed ones may be sent
 * anew, and the sent ones may not: that is the line between "certainly not done" and "nobody
 * knows", and the reason for three lists.
 *
 * A Join is the exception: to be asked twice does no harm, and a client that does not know whether
 * it is in a room is of no use. It keeps its bytes until it is answered, and goes back to the
 * waiting ones with each lost connection. What is for a room (its number stands in the frame, and
 * is another one when the room is made anew) waits with it.
 *
 * Each request carries its own failure event from birth, so that failing needs no memory and
 * every request has exactly one answer. */

/* Enough for one good write; more would only be copied twice. */
enum { OUTPUT_BYTES_GOOD = 64 * 1024 };

struct request *request_create(uint64_t id, uint64_t deadline_ms)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        return NULL;
    request->id = request->wire_id = id;
    request->deadline_ms = deadline_ms;
    if (id != 0) {
        request->failure = event_create(USHER_ERROR, 0);
        if (request->failure == NULL) {
            free(request);
            return NULL;
        }
        request->failure->event.id = id;
    }
    return request;
}

void request_destroy(struct request *request)
{
    buffer_fini(&request->frame);
    free(request->failure);
    free(request);
}

static void list_push(struct request_list *list, struct request *request)
{
    request->next = NULL;
    if (list->tail != NULL)
        list->tail->next = request;
    else
        list->head = request;
    list->tail = request;
}

static struct request *list_unlink(struct request_list *list, struct request *before)
{
    struct request *request = before != NULL ? before->next : list->head;
    if (request == NULL)
        return NULL;
    if (before != NULL)
        before->next = request->next;
    else
        list->head = request->next;
    if (list->tail == request)
        list->tail = before;
    return request;
}

/* Out of the last list; frees the request and what it counted. */
static void forget(struct requests *requests, struct request *request)
{
    CHECK(requests->bytes >= request->frame.size && requests->count >= (request->wire_id != 0));
    requests->bytes -= request->frame.size;
    if (request->wire_id != 0)
        requests->count--;
    request_destroy(request);
}

static const char *failure_detail(int code)
{
    if (code == USHER_ERROR_NOT_SENT)
        return "the request was not sent";
    if (code == USHER_ERROR_TOO_LARGE)
        return "the request was not sent: the broker takes no frame of that size";
    return "no answer came: the request may or may not have been carried out";
}

/* Takes the request out of the world; its failure was made with it, so this cannot fail. */
static void fail(struct requests *requests, struct request *request, int code,
                 struct event_queue *queue)
{
    if (request->failure != NULL) {
        request->failure->event.code = code;
        request->failure->event.detail = failure_detail(code);
        events_push(queue, request->failure);
        request->failure = NULL;
    }
    forget(requests, request);
}

void requests_add(struct requests *requests, struct request *request)
{
    /* One without its frame would pass for sent, one without its failure would get no answer. */
    CHECK(request->frame.size > 0 && (request->wire_id != 0) == (request->failure != NULL));
    requests->bytes += request->frame.size;
    if (request->wire_id != 0)
        requests->count++;
    list_push(&requests->waiting, request);
}

int requests_pass(struct requests *requests, struct buffer *output, uint64_t *wire_total)
{
    struct request *before = NULL;
    struct request *request = requests->waiting.head;
    for (; request != NULL && output->size < OUTPUT_BYTES_GOOD;
         request = before != NULL ? before->next : requests->waiting.head) {
        if (request->held) {
            before = request;
            continue;
        }
        int result = buffer_append(output, request->frame.data, request->frame.size);
        if (result < 0)
            return result;
        *wire_total += request->frame.size;
        request->wire_end = *wire_total;
        list_unlink(&requests->waiting, before);
        list_push(&requests->passed, request);
    }
    return 0;
}

bool requests_ready(const struct requests *requests)
{
    const struct request *request = requests->waiting.head;
    while (request != NULL && request->held)
        request = request->next;
    return request != NULL;
}

void requests_written(struct requests *requests, uint64_t wire_written)
{
    struct request *request;
    while ((request = requests->passed.head) != NULL && request->wire_end <= wire_written) {
        list_unlink(&requests->passed, NULL);
        if (request->wire_id == 0) {
            forget(requests, request);
            continue;
        }
        if (!request->joins) {
            requests->bytes -= request->frame.size;
            buffer_fini(&request->frame);
        }
        list_push(&requests->sent, request);
    }
}

static void fail_transient(struct requests *requests, struct event_queue *queue)
{
    struct request *before = NULL;
    struct request *request = requests->waiting.head;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->transient)
            fail(requests, list_unlink(&requests->waiting, before), USHER_ERROR_NOT_SENT, queue);
        else
            before = request;
        request = next;
    }
}

/* The first list before the waiting ones. */
static void wait_again(struct requests *requests, struct request_list *list)
{
    if (list->head == NULL)
        return;
    list->tail->next = requests->waiting.head;
    if (requests->waiting.tail == NULL)
        requests->waiting.tail = list->tail;
    requests->waiting.head = list->head;
    *list = (struct request_list){0};
}

/* Those of `from` that are Joins; the others stay. */
static struct request_list take_joins(struct request_list *from)
{
    struct request_list joins = {0};
    struct request *before = NULL;
    struct request *request = from->head;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->joins)
            list_push(&joins, list_unlink(from, before));
        else
            before = request;
        request = next;
    }
    return joins;
}

void requests_unpass(struct requests *requests, struct event_queue *queue)
{
    struct request_list joins = take_joins(&requests->sent);
    wait_again(requests, &requests->passed);
    wait_again(requests, &joins);
    fail_transient(requests, queue);
    for (struct request *request = requests->waiting.head; request; request = request->next) {
        request->held = request->room != NULL && !request->joins;
        request->asked = request->asked || request->joins;
    }
}

/* Writes the frame anew, as it is to be now: 0 or negative, and then nothing is changed. */
static int rewrite(struct requests *requests, struct request *request, uint32_t room)
{
    struct client_frame frame;
    struct buffer written = {0};
    uint64_t size;
    int head = varint_read((struct bytes){request->frame.data, request->frame.size}, &size);
    CHECK(head > 0 &&
          client_frame_read((struct bytes){request->frame.data + head, (size_t)size}, &frame) == 0);
    frame.id = request->wire_id;
    if (frame.body == CLIENT_PUBLISH)
        frame.publish.room = room;
    else if (frame.body == CLIENT_LEAVE)
        frame.leave.room = room;
    int result = client_frame_write(&written, &frame, SIZE_MAX);
    if (result < 0)
        return result;
    requests->bytes = requests->bytes - request->frame.size + written.size;
    buffer_fini(&request->frame);
    request->frame = written;
    return 0;
}

void requests_renumber(struct requests *requests, uint64_t *next_id, struct event_queue *queue)
{
    struct request *before = NULL;
    struct request *request = requests->waiting.head;
    while (request != NULL) {
        struct request *next = request->next;
        bool again = request->joins && request->asked;
        if (again)
            request->wire_id = (*next_id)++;
        if (again && rewrite(requests, request, 0) < 0)
            fail(requests, list_unlink(&requests->waiting, before), USHER_ERROR_NO_ANSWER, queue);
        else
            before = request;
        request = next;
    }
}

void requests_release(struct requests *requests, const struct room *room, uint32_t number,
                      struct event_queue *queue)
{
    struct request *before = NULL;
    struct request *request = requests->waiting.head;
    while (request != NULL) {
        struct request *next = request->next;
        bool held = request->room == room && request->held;
        if (held && rewrite(requests, request, number) < 0) {
            fail(requests, list_unlink(&requests->waiting, before), USHER_ERROR_NOT_SENT, queue);
        } else {
            request->held = request->held && !held;
            before = request;
        }
        request = next;
    }
}

/* The room is forgotten, and its number may become another one's: over this connection or not at
 * all. */
static void list_leave_room(struct request_list *list, const struct room *room)
{
    for (struct request *request = list->head; request != NULL; request = request->next)
        if (request->room == room) {
            request->room = NULL;
            request->transient = true;
        }
}

void requests_fail_held(struct requests *requests, const struct room *room,
                        struct event_queue *queue)
{
    struct request *before = NULL;
    struct request *request = requests->waiting.head;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->room == room && request->held)
            fail(requests, list_unlink(&requests->waiting, before), USHER_ERROR_NOT_SENT, queue);
        else
            before = request;
        request = next;
    }
    list_leave_room(&requests->waiting, room);
    list_leave_room(&requests->passed, room);
    list_leave_room(&requests->sent, room);
}

static bool list_joins(const struct request_list *list, const struct room *room)
{
    for (const struct request *request = list->head; request != NULL; request = request->next)
        if (request->joins && request->room == room)
            return true;
    return false;
}

bool requests_join(const struct requests *requests, const struct room *room)
{
    return list_joins(&requests->waiting, room) || list_joins(&requests->passed, room) ||
           list_joins(&requests->sent, room);
}

static bool list_joined(struct requests *requests, struct request_list *list,
                        const struct room *room, uint64_t *id)
{
    struct request *before = NULL;
    struct request *request = list->head;
    while (request != NULL && !(request->joins && request->room == room)) {
        before = request;
        request = request->next;
    }
    if (request == NULL)
        return false;
    *id = request->id;
    forget(requests, list_unlink(list, before));
    return true;
}

bool requests_joined(struct requests *requests, const struct room *room, uint64_t *id)
{
    return list_joined(requests, &requests->sent, room, id) ||
           list_joined(requests, &requests->waiting, room, id);
}

void requests_resumed(struct requests *requests, uint64_t deadline_ms)
{
    for (struct request *request = requests->sent.head; request != NULL; request = request->next)
        if (request->deadline_ms == 0)
            request->deadline_ms = deadline_ms;
}

struct request *requests_answered(struct requests *requests, uint64_t wire_id)
{
    struct request *before = NULL;
    for (struct request *request = requests->sent.head; request != NULL; request = request->next) {
        if (request->wire_id == wire_id)
            return list_unlink(&requests->sent, before);
        before = request;
    }
    return NULL;
}

void request_answered(struct requests *requests, struct request *request,
                      struct event_node **failure)
{
    if (failure != NULL) {
        *failure = request->failure;
        request->failure = NULL;
    }
    forget(requests, request);
}

static bool list_knows(const struct request_list *list, uint64_t id)
{
    for (const struct request *request = list->head; request != NULL; request = request->next)
        if (request->id == id)
            return true;
    return false;
}

bool requests_know(const struct requests *requests, uint64_t id)
{
    return list_knows(&requests->sent, id) || list_knows(&requests->passed, id) ||
           list_knows(&requests->waiting, id);
}

static uint64_t list_deadline_ms(const struct request_list *list, uint64_t earliest_ms)
{
    for (const struct request *request = list->head; request != NULL; request = request->next)
        if (request->deadline_ms != 0 && (earliest_ms == 0 || request->deadline_ms < earliest_ms))
            earliest_ms = request->deadline_ms;
    return earliest_ms;
}

/* Passed ones cannot fail: part of them is in the socket. They become sent or waiting again. */
uint64_t requests_deadline_ms(const struct requests *requests)
{
    return list_deadline_ms(&requests->sent, list_deadline_ms(&requests->waiting, 0));
}

/* Those without a deadline wait for the receiver, however long he takes. */
static void list_expire(struct requests *requests, struct request_list *list, uint64_t now_ms,
                        int code, struct event_queue *queue)
{
    struct request *before = NULL;
    struct request *request = list->head;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->deadline_ms != 0 && request->deadline_ms <= now_ms)
            fail(requests, list_unlink(list, before), code, queue);
        else
            before = request;
        request = next;
    }
}

void requests_expire(struct requests *requests, uint64_t now_ms, struct event_queue *queue)
{
    list_expire(requests, &requests->sent, now_ms, USHER_ERROR_NO_ANSWER, queue);
    list_expire(requests, &requests->waiting, now_ms, USHER_ERROR_NOT_SENT, queue);
}

void requests_fail_larger(struct requests *requests, size_t frame_bytes_max,
                          struct event_queue *queue)
{
    /* The frames bear their lengths; a longer body never has a shorter length. */
    size_t most = frame_bytes_max + varint_size(frame_bytes_max);
    struct request *before = NULL;
    struct request *request = requests->waiting.head;
    while (request != NULL) {
        struct request *next = request->next;
        if (request->frame.size > most)
            fail(requests, list_unlink(&requests->waiting, before), USHER_ERROR_TOO_LARGE, queue);
        else
            before = request;
        request = next;
    }
}

static void list_fail(struct requests *requests, struct request_list *list, int code,
                      struct event_queue *queue)
{
    struct request *request;
    while ((request = list_unlink(list, NULL)) != NULL)
        fail(requests, request, code, queue);
}

void requests_fail_sent(struct requests *requests, struct event_queue *queue)
{
    list_fail(requests, &requests->sent, USHER_ERROR_NO_ANSWER, queue);
}

void requests_fail_all(struct requests *requests, struct event_queue *queue)
{
    requests_fail_sent(requests, queue);
    list_fail(requests, &requests->passed, USHER_ERROR_NOT_SENT, queue);
    list_fail(requests, &requests->waiting, USHER_ERROR_NOT_SENT, queue);
}

void requests_fini(struct requests *requests)
{
    struct event_queue failed = {0};
    requests_fail_all(requests, &failed);
    events_fini(&failed);
}
