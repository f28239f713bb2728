/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_SERVICE_H
#define USHER_USHER_BENCH_SERVICE_H

/* The backend of a run: one instance in a thread of its own. It echoes calls and checks their
 * order, pushes, and follows presence. What it has counted is read after service_stop; the other
 * functions may come from any thread. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/bytes.h"
#include "usher-bench/check.h"
#include "usher-bench/histogram.h"
#include "usher-bench/options.h"

struct service;

/* What the service has seen. */
struct service_counts {
    struct check calls;         /* as they arrived here, per user */
    struct histogram online;    /* ns from the login to its event */
    struct histogram offline;   /* ns from the logout to its event */
    uint64_t events_disordered; /* a gap in the stream, or a user's events out of order */
};

/* Links and gives *service after the node has accepted it; to be ended by service_stop. Blocks for
 * some seconds at most: 0, -ETIMEDOUT (nobody answers), or a negative errno of the library; then
 * *text says more, if anything is known (it stays with the caller, CROWD_ERROR_BYTES_MAX). */
int service_start(struct service **service, const struct bench_options *options, bool presence,
                  char *text);

/* Ends the thread, gives the counts, frees everything. NULL is fine. */
void service_stop(struct service *service, struct service_counts *counts);

/* One message to one user, or to everybody. -EAGAIN: too many wait. */
int service_push(struct service *service, const char *user, struct bytes payload);
int service_push_all(struct service *service, struct bytes payload);

/* How many single deliveries the node has refused. */
uint64_t service_refused(struct service *service);

/* A login or a logout of that user begins: latency counts from here. */
void service_user_begins(struct service *service, uint32_t number, uint64_t now_ns);

/* Events that came in order so far. */
uint64_t service_online_events(struct service *service);
uint64_t service_offline_events(struct service *service);

#endif
