/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_HTTP_H
#define USHER_OPERATE_HTTP_H

/* Operators ask by HTTP (docs/admin.md): what the admin endpoint (admin/) asks the broker. For the
 * thread that makes the broker; a NULL http is fine everywhere: there is no endpoint. */

#include "actors/turn.h"
#include "config/config.h"
#include "operate/follow.h"
#include "operate/health.h"
#include "operate/past.h"
#include "rules/room_classes.h"

struct http;
struct services;

/* All that it points to outlives the endpoint. */
struct http_options {
    const struct options *config; /* that of the start */
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
    unsigned block; /* of the metrics */
    const struct limits *limits;
    const char *node_boot; /* which start of the node this is */
    struct store *store;
    struct stored *stored;
    struct registry *registry;
    struct scheduler *scheduler;
    struct passage *passage; /* of what is posted here */
    struct services *services;
    uint32_t instances_max;
    struct room_classes *_Atomic *room_classes;
    struct net *net;
    /* What comes to its actor and is not for it; takes it. */
    void (*bounce)(void *context, struct runner *runner, struct message *message);
    void *context;
    /* whom it asks */
    const struct follow *follow;
    struct leave *leave;
    struct reload *reload;
    struct past past;
    struct health health; /* but for its link */
};

/* Without admin.listen *http is NULL. Before there are threads that run turns: its actor is made,
 * which finds the endpoint in its state. 0 or -ENOMEM; what was made is to be closed. */
int http_open(struct http **http, const struct http_options *options);

/* Listens; nothing is answered yet. 0 or a negative errno with a line in `error`
 * (BROKER_ERROR_BYTES). */
int http_listen(struct http *http, char *error);

/* Takes in the link, before the endpoint is started. */
void http_join_link(struct http *http, struct link *link);

/* Begins to answer. 0 or a negative errno with a line in `error`. */
int http_start(struct http *http, char *error);

/* 0: it does not listen. */
uint16_t http_port(const struct http *http);

/* Answers nobody any more; before the parts that it asks are closed. */
void http_stop(struct http *http);

/* Frees it; its actor runs no turn any more. */
void http_close(struct http *http);

#endif
