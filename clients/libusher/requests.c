/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/requests.h"

#include <errno.h>
#include <stdlib.h>

#include "common/check.h"
#include "proto/varint.h"

/* A request moves waiting -> passed -> sent and keeps its bytes until the socket has them all. A
 * broker cannot act on part of a frame, so after a lost connection the passed ones may be sent
 * anew, and the sent ones may not: that is the line between "certainly not done" and "nobody
 * knows", and the reason for three lists.
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
    request->id = id;
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
    CHECK(requests->bytes >= request->frame.size && requests->count >= (request->id != 0));
    requests->bytes -= request->frame.size;
    if (request->id != 0)
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
    CHECK(request->frame.size > 0 && (request->id != 0) == (request->failure != NULL));
    requests->bytes += request->frame.size;
    if (request->id != 0)
        requests->count++;
    list_push(&requests->waiting, request);
}

int requests_pass(struct requests *requests, struct buffer *output, uint64_t *wire_total)
{
    while (requests->waiting.head != NULL && output->size < OUTPUT_BYTES_GOOD) {
        struct request *request = requests->waiting.head;
        int result = buffer_append(output, request->frame.data, request->frame.size);
        if (result < 0)
            return result;
        *wire_total += request->frame.size;
        request->wire_end = *wire_total;
        list_unlink(&requests->waiting, NULL);
        list_push(&requests->passed, request);
    }
    return 0;
}

void requests_written(struct requests *requests, uint64_t wire_written)
{
    struct request *request;
    while ((request = requests->passed.head) != NULL && request->wire_end <= wire_written) {
        list_unlink(&requests->passed, NULL);
        if (request->id == 0) {
            forget(requests, request);
            continue;
        }
        requests->bytes -= request->frame.size;
        buffer_fini(&request->frame);
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

void requests_unpass(struct requests *requests, struct event_queue *queue)
{
    if (requests->passed.head != NULL) {
        requests->passed.tail->next = requests->waiting.head;
        if (requests->waiting.tail == NULL)
            requests->waiting.tail = requests->passed.tail;
        requests->waiting.head = requests->passed.head;
        requests->passed = (struct request_list){0};
    }
    fail_transient(requests, queue);
}

void requests_resumed(struct requests *requests, uint64_t deadline_ms)
{
    for (struct request *request = requests->sent.head; request != NULL; request = request->next)
        if (request->deadline_ms == 0)
            request->deadline_ms = deadline_ms;
}

bool requests_answered(struct requests *requests, uint64_t id)
{
    struct request *before = NULL;
    for (struct request *request = requests->sent.head; request != NULL; request = request->next) {
        if (request->id == id) {
            forget(requests, list_unlink(&requests->sent, before));
            return true;
        }
        before = request;
    }
    return false;
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
