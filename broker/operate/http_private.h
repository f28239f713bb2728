/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_HTTP_PRIVATE_H
#define USHER_OPERATE_HTTP_PRIVATE_H

/* Private to operate/: the answers of the admin endpoint. http.c opens and closes it, health.c has
 * what its first thread asks and never waits for. All that follows is for the second one:
 * http_read.c and slowest.c read, http_node.c asks and changes the node, http_kick_push.c does
 * something to a user, http_rooms.c is about rooms. http_ask.c waits for what actors say. */

#include "actors/room_messages.h"
#include "base/lock.h"
#include "operate/http.h"
#include "operate/room_rates.h"
#include "operate/samples.h"

struct http {
    /* set once */
    struct http_options options;
    struct admin *admin; /* NULL until it is started */
    int listener;        /* until it is started; -1 */
    uint16_t port;
    uint64_t started_ms; /* wall */
    actor_handle actor;  /* gets the results of commands */
    struct health health;
    /* of the second thread, from its first answer on */
    struct thread_mark mark;
    struct room_rates rates;
    struct samples *samples;
    /* under lock: the one command that waits */
    struct lock lock;
    pthread_cond_t done;
    uint64_t request; /* 0: none */
    bool answered;
    struct result_message result;
    struct message *told; /* what a room said; NULL: it was a result */
};

/* On the second thread: the context of an answer. */
struct http *http_of(void *context);

/* A whole number that is not below 0, or absent (0). */
bool http_number_of(const json_t *body, const char *key, uint64_t *number);

/* What the flight recorder has of the user, oldest first. */
json_t *http_timeline(const struct http *http, const char *user);

admin_answer http_node, http_sessions, http_session, http_services, http_presence;
admin_answer slowest_users;
admin_answer http_recorder, http_reload, http_drain;
admin_answer http_trace, http_trace_end, http_trace_read;
admin_answer http_kick, http_push;
admin_answer http_rooms, http_room, http_room_close, http_session_rooms;
admin_answer http_samples;

/* --- http_ask.c ------------------------------------------------------------------------------- */

/* The actor that gets the results of commands. 0 or -ENOMEM. */
int http_claim_actor(struct http *http);

/* The number under which the result of the next command will come; one at a time. */
uint64_t http_expect(struct http *http);

/* Posts to the actor of that name, and waits for what comes of it. 0 with *result and, where a room
 * answered, *told (the caller's; may be NULL when none can); -ESRCH: nobody has that name,
 * -ENOBUFS: its mailbox is full, -ETIMEDOUT: nothing came in time, and it may still take effect.
 * Takes the message. */
int http_ask(struct http *http, struct bytes name, struct message *message,
             struct result_message *result, struct message **told);

/* 409, and why it was refused. */
unsigned http_conflict(json_t *answer, const char *code, const char *detail);

#endif
