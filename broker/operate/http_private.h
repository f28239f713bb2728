/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_HTTP_PRIVATE_H
#define USHER_OPERATE_HTTP_PRIVATE_H

/* Private to operate/: the answers of the admin endpoint. http.c opens and closes it, health.c has
 * what its first thread asks and never waits for. All that follows is for the second one:
 * http_read.c and slowest.c read, http_node.c asks and changes the node, http_kick_push.c does
 * something to a user. */

#include "base/lock.h"
#include "operate/http.h"

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
    /* under lock: the one command that waits */
    struct lock lock;
    pthread_cond_t done;
    uint64_t request; /* 0: none */
    bool answered;
    struct result_message result;
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

/* The actor that gets the results of commands. 0 or -ENOMEM. */
int http_claim_actor(struct http *http);

#endif
