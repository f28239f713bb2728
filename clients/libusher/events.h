/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_EVENTS_H
#define USHER_LIBUSHER_EVENTS_H

/* Events that wait to be taken. Never blocks; the client's thread. */

#include "usher.h"

/* One event and, behind it, the texts and bytes that it points to: one allocation, free(). */
struct event_node {
    struct event_node *next;
    size_t bytes; /* what it counts in the queue's limit */
    struct usher_event event;
    uint8_t data[];
};

struct event_queue {
    struct event_node *head;
    struct event_node *tail;
    size_t count;
    size_t bytes;
};

/* Gives an empty event with room for `bytes` of data and all its texts "". NULL without memory. */
struct event_node *event_create(enum usher_event_type type, size_t bytes);

/* Takes the node. */
void events_push(struct event_queue *queue, struct event_node *node);

/* Gives the oldest, or NULL. */
struct event_node *events_pop(struct event_queue *queue);

/* Gives the first answer that bears the id, whatever is before it, or NULL. */
struct event_node *events_pop_answer(struct event_queue *queue, uint64_t id);

void events_fini(struct event_queue *queue);

#endif
