/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_REQUESTS_H
#define USHER_LIBUSHER_REQUESTS_H

/* Requests on their way: waiting for the socket, in the output, or sent and unanswered. Never
 * blocks; the client's thread. */

#include "libusher/events.h"
#include "proto/bytes.h"

struct room; /* rooms.h */

struct request {
    struct request *next;
    uint64_t id;          /* 0: done once it is written, unless wire_id says more */
    uint64_t wire_id;     /* what its frame bears; the id, but of what is asked again */
    uint64_t deadline_ms; /* 0: none as long as the connection lives */
    uint64_t wire_end;    /* where its last byte is in the connection's output */
    bool transient;       /* goes over this connection or not at all */
    bool stored;          /* its Done bears a mid */
    struct room *room;    /* that it is about; NULL: none */
    bool joins;           /* it is a Join: asked again over each connection */
    bool held;            /* until its room is joined */
    bool asked;           /* over an earlier connection */
    bool reminds;         /* friends.h asks it by itself */
    struct buffer frame;  /* until it is written; of a Join until it is answered */
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
    size_t count; /* of those that wait for an answer, in all lists */
    size_t bytes; /* of frames not yet written, and of requests without an id */
};

/* Gives a request without a frame and with its id on the wire, or NULL without memory. */
struct request *request_create(uint64_t id, uint64_t deadline_ms);
void request_destroy(struct request *request);

/* Takes the request, which has its frame. */
void requests_add(struct requests *requests, struct request *request);

/* Appends waiting frames to the output until that is long; *wire_total counts all bytes ever
 * appended. 0 or -ENOMEM. */
int requests_pass(struct requests *requests, struct buffer *output, uint64_t *wire_total);

/* The first wire_written bytes of the output are in the socket. */
void requests_written(struct requests *requests, uint64_t wire_written);

/* Whether there is anything to pass. */
bool requests_ready(const struct requests *requests);

/* The connection is lost: what was not written whole waits again, in its old order, and before it
 * the Joins that have no answer; but what is transient gives its ERROR to the queue. What is for a
 * room is held until that is joined again. */
void requests_unpass(struct requests *requests, struct event_queue *queue);

/* Joins that were asked over an earlier connection get numbers of their own: under the old ones the
 * broker may still be busy with them. */
void requests_renumber(struct requests *requests, uint64_t *next_id, struct event_queue *queue);

/* The room is joined, under that number. */
void requests_release(struct requests *requests, const struct room *room, uint32_t number,
                      struct event_queue *queue);

/* The room is no more to be had: what was held for it fails as NOT_SENT. */
void requests_fail_held(struct requests *requests, const struct room *room,
                        struct event_queue *queue);

/* Whether the room's Join waits for sending or for its answer. */
bool requests_join(const struct requests *requests, const struct room *room);

/* The room's Join is answered without its number: true, with the id that the program knows (or 0).
 * False if it is just being written, or there is none. */
bool requests_joined(struct requests *requests, const struct room *room, uint64_t *id);

/* The session goes on over a new connection: those without a deadline get this one. */
void requests_resumed(struct requests *requests, uint64_t deadline_ms);

/* Gives the request that was sent under that number on the wire, to be ended by
 * request_answered; or NULL. */
struct request *requests_answered(struct requests *requests, uint64_t wire_id);

/* Its answer has come; it is forgotten. With `failure` (may be NULL) it gives the event that was
 * made for its failure, or NULL. */
void request_answered(struct requests *requests, struct request *request,
                      struct event_node **failure);

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
