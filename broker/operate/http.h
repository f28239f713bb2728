/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_HTTP_H
#define USHER_OPERATE_HTTP_H

/* Private to operate/ and the glue: how the admin endpoint asks the broker. operate/http.c opens
 * and closes it, operate/health.c has what the HTTP thread asks and never waits for,
 * operate/http_read.c what the second thread reads, operate/http_kick_push.c what changes
 * something. */

#include "admin/admin.h"
#include "broker/parts.h"

struct admin_glue {
    /* set once */
    struct broker *broker;
    struct admin *admin; /* NULL until it is started */
    int listener;        /* until it is started; -1 */
    uint16_t port;
    uint64_t started_ms;        /* wall */
    uint64_t up_ms;             /* monotonic */
    actor_handle actor;         /* gets the results of commands */
    struct stillness stillness; /* of the HTTP thread */
    /* under lock: the one command that waits */
    pthread_mutex_t lock;
    pthread_cond_t done; /* monotonic */
    uint64_t request;    /* 0: none */
    bool answered;
    struct result_message result;
};

/* Listens; nothing is answered yet. Without admin.listen *glue stays NULL. 0 or a negative errno
 * with a line in `error` (BROKER_ERROR_BYTES). */
int admin_glue_open(struct admin_glue **glue, struct broker *broker, char *error);
int admin_glue_start(struct admin_glue *glue, char *error);

/* Answers nobody any more; before the parts that it asks are closed. NULL is fine, here and below.
 * */
void admin_glue_stop(struct admin_glue *glue);

/* Frees it; its actor runs no turn any more. */
void admin_glue_close(struct admin_glue *glue);

/* --- operate/health.c --- */
void admin_read(void *context, uint64_t readings[READING_COUNT]);
enum admin_state admin_state_of(void *context);
unsigned admin_alive(void *context, struct admin_check checks[ADMIN_CHECKS_MAX]);
unsigned admin_ready(void *context, struct admin_check checks[ADMIN_CHECKS_MAX]);

/* --- operate/http_read.c, operate/slowest.c --- */
admin_answer admin_node, admin_sessions, admin_session, admin_services, admin_presence;
admin_answer admin_slowest;

/* --- operate/http_node.c --- */
admin_answer admin_recorder, admin_reload, admin_drain;
admin_answer admin_trace, admin_trace_end, admin_trace_read;

/* What the flight recorder has of the user, oldest first. */
json_t *admin_timeline(struct broker *broker, const char *user);

/* --- operate/http_kick_push.c --- */
/* A whole number that is not below 0, or absent (0). */
bool admin_number_of(const json_t *body, const char *key, uint64_t *number);

extern const struct behaviour admin_behaviour;
admin_answer admin_kick, admin_push;

#endif
