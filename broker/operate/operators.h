/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_OPERATORS_H
#define USHER_OPERATE_OPERATORS_H

/* What operators may ask and do, put together; and the endpoint of backends that ask by HTTP, which
 * is that of operators with another face. They ask by signal (signals.h), by the link
 * (link_commands.h) and by HTTP (http.h), and whoever is asked asks the same modules. For the glue:
 * the thread that makes the broker. */

#include "operate/backends.h"
#include "operate/certificate.h"
#include "operate/follow.h"
#include "operate/http.h"
#include "operate/leave.h"
#include "operate/link_commands.h"
#include "operate/pulse.h"
#include "operate/reload.h"
#include "operate/signals.h"

/* All that it points to outlives the operators, or ends after operators_stop. */
struct operators_options {
    const struct options *config; /* that of the start */
    const struct passed_sockets *passed;
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
    struct traces *traces;
    struct store *store;
    struct stored *stored;
    struct registry *registry;
    struct scheduler *scheduler;
    struct passage *passage; /* of what is posted from outside of turns */
    struct net *net;
    struct admission *admission; /* NULL with auth.mode open */
    struct webhook *webhook;
    struct committer *committer;
    struct services *services;
    struct clock *clock;
    struct limits *limits;
    struct settings *settings;
    const struct counters *counters;
    uint32_t instances_max;
    unsigned io_count, worker_count;
    const _Atomic uint64_t *beats[PULSE_THREADS_MAX]; /* as in struct pulse */
    unsigned metrics_block;
    const struct behaviour *http_behaviour; /* of the actor that asks for backends by HTTP */
    /* A message that is not for whom it came to; takes it. */
    void (*bounce)(void *context, struct runner *runner, struct message *message);
    void *context;
    /* As in struct succession. */
    void (*hand_over)(void *context, uint64_t *frozen_ms, char *error);
    void *successor;
};

struct operators {
    const struct options *config;
    struct net *net;
    struct log *log;
    struct certificate certificate;
    struct follow follow;
    struct leave leave;
    struct succession succession;
    struct pulse pulse;
    struct reload *reload;
    /* who asks */
    struct signals signals;
    struct link_commands commands;
    struct http *http;         /* NULL without admin.listen */
    struct backends *backends; /* NULL without http.listen */
};

/* Reads the keys and tokens of the start; nobody can ask yet. 0 or -errno, mostly with a line in
 * `error` (BROKER_ERROR_BYTES); what was made is to be closed in either case. */
int operators_open(struct operators **operators, const struct operators_options *options,
                   char *error);

/* Listens for operators and backends that ask by HTTP. 0 or -errno in the same way. */
int operators_listen(struct operators *operators, char *error);

/* Takes in the link, which is made after the operators, before anybody is answered. */
void operators_join_link(struct operators *operators, struct link *link);

/* Begins to answer those who ask by HTTP. 0 or -errno in the same way. */
int operators_start(struct operators *operators, char *error);

/* Lines for the log when all is there: where the broker listens, and what is odd. */
void operators_announce(struct operators *operators);

/* Answers nobody any more by HTTP, before the parts that are asked are closed. NULL is fine, here
 * and below. */
void operators_stop(struct operators *operators);

/* No turn is run any more, and nobody asks by the link. */
void operators_close(struct operators *operators);

#endif
