/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_REQUESTS_H
#define USHER_LIBUSHER_REQUESTS_H

/* Requests on their way: waiting for the socket, in the output, or sent and unanswered. Never
 * blocks; the client's thread. */

#include "libusher/events.h"
#include "proto/bytes.h"

struct request {
    struct request *next;
    uint64_t id;          /* 0: done once it is written */
    uint64_t deadline_ms; /* 0: none as long as the connection lives */
    uint64_t wire_end;    /* where its last byte is in the connection's output */
    bool transient;       /* goes over this connection or not at all */
    struct buffer frame;  /* until it is written */
    struct event_node *failure;
};

struct request_list {
    struct request *head;
    struct request *tail;
};

/* Zeroed memory is empty. */
struct requests {
    struct request_list waiting;
    struct request_list passed; /* in the output, not all of it written */
    struct request_list sent;
    size_t count; /* of those with an id, in all lists */
    size_t bytes; /* of frames not yet written, and of requests without an id */
};

/* Gives a request without a frame, or NULL without memory. */
struct request *request_create(uint64_t id, uint64_t deadline_ms);
void request_destroy(struct request *request);

/* Takes the request, which has its frame. */
void requests_add(struct requests *requests, struct request *request);

/* Appends waiting frames to the output until that is long; *wire_total counts all bytes ever
 * appended. 0 or -ENOMEM. */
int requests_pass(struct requests *requests, struct buffer *output, uint64_t *wire_total);

/* The first wire_written bytes of the output are in the socket. */
void requests_written(struct requests *requests, uint64_t wire_written);

/* The connection is lost: what was not written whole waits again, in its old order, but for what is
 * transient, which gives its ERROR to the queue. */
void requests_unpass(struct requests *requests, struct event_queue *queue);

/* The session goes on over a new connection: those without a deadline get this one. */
void requests_resumed(struct requests *requests, uint64_t deadline_ms);

/* True if such a request was sent; it is forgotten. */
bool requests_answered(struct requests *requests, uint64_t id);

bool requests_know(const struct requests *requests, uint64_t id);

/* Fails what the broker would not take, as TOO_LARGE. */
void requests_fail_larger(struct requests *requests, size_t frame_bytes_max,
                          struct event_queue *queue);

/* The earliest deadline, or 0. */
uint64_t requests_deadline_ms(const struct requests *requests);

/* These fail requests: each gives its ERROR to the queue. */
void requests_expire(struct requests *requests, uint64_t now_ms, struct event_queue *queue);
void requests_fail_sent(struct requests *requests, struct event_queue *queue);
void requests_fail_all(struct requests *requests, struct event_queue *queue);

void requests_fini(struct requests *requests);

#endif
