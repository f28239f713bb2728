/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/events.h"

#include <stdlib.h>

#include "common/check.h"

/* A plain queue, in order of arrival. It knows no limit itself: the session stops reading the
 * socket when the queue is long, so only what the library itself says (a lost connection, failed
 * requests) goes beyond, and that is bounded by the requests in flight. */

struct event_node *event_create(enum usher_event_type type, size_t bytes)
{
    struct event_node *node = calloc(1, sizeof(*node) + bytes);
    if (node == NULL)
        return NULL;
    node->bytes = sizeof(*node) + bytes;
    node->event.type = type;
    node->event.from = "";
    node->event.service = "";
    node->event.detail = "";
    node->event.node = "";
    node->event.room = "";
    node->event.traceparent = "";
    return node;
}

void events_push(struct event_queue *queue, struct event_node *node)
{
    CHECK(node->next == NULL && node != queue->tail); /* it is in no queue */
    if (queue->tail != NULL)
        queue->tail->next = node;
    else
        queue->head = node;
    queue->tail = node;
    queue->count++;
    queue->bytes += node->bytes;
}

/* The one behind `before`, or the first one when that is NULL. */
static struct event_node *unlink_after(struct event_queue *queue, struct event_node *before)
{
    struct event_node *node = before != NULL ? before->next : queue->head;
    if (node == NULL)
        return NULL;
    if (before != NULL)
        before->next = node->next;
    else
        queue->head = node->next;
    if (queue->tail == node)
        queue->tail = before;
    node->next = NULL;
    CHECK(queue->count > 0 && queue->bytes >= node->bytes);
    queue->count--;
    queue->bytes -= node->bytes;
    return node;
}

struct event_node *events_pop(struct event_queue *queue)
{
    return unlink_after(queue, NULL);
}

struct event_node *events_pop_answer(struct event_queue *queue, uint64_t id)
{
    struct event_node *before = NULL;
    for (struct event_node *node = queue->head; node != NULL; node = node->next) {
        if (node->event.id == id)
            return unlink_after(queue, before);
        before = node;
    }
    return NULL;
}

void events_fini(struct event_queue *queue)
{
    struct event_node *node;
    while ((node = events_pop(queue)) != NULL)
        free(node);
}
