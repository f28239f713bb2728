/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_BACKENDS_H
#define USHER_OPERATE_BACKENDS_H

/* Backends ask by HTTP (docs/backend-http.md), at an endpoint of their own, http.listen. For the
 * thread that makes the broker; NULL backends are fine everywhere: there is no endpoint. */

#include "actors/turn.h"
#include "config/config.h"
#include "runtime/scheduler.h"

struct backends;

/* All that it points to outlives the endpoint. */
struct backends_options {
    const struct options *config; /* that of the start */
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
    unsigned block; /* of the metrics */
    const struct limits *limits;
    const struct counters *counters;
    struct registry *registry;
    struct scheduler *scheduler;
    struct passage *passage;           /* of what is posted here */
    const struct behaviour *behaviour; /* of the actor that runs their commands */
};

/* Without http.listen *backends is NULL. Before there are threads that run turns. 0 or -ENOMEM;
 * what was made is to be closed. */
int backends_open(struct backends **backends, const struct backends_options *options);

/* Listens; nothing is answered yet. 0 or a negative errno with a line in `error`
 * (BROKER_ERROR_BYTES). */
int backends_listen(struct backends *backends, char *error);

/* Begins to answer. 0 or a negative errno with a line in `error`. */
int backends_start(struct backends *backends, char *error);

/* 0: it does not listen. */
uint16_t backends_port(const struct backends *backends);

/* For egress_http: the context is the backends. Any thread, until backends_close. */
void backends_answer(void *context, uint64_t exchange, struct bytes frame);
void backends_stored(void *context);

/* Answers nobody any more; who waits hears of it. Takes a second at most, and the answer that is
 * being made. */
void backends_stop(struct backends *backends);

/* Frees it; its actor runs no turn any more. */
void backends_close(struct backends *backends);

#endif
