/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_PARTS_H
#define USHER_BROKER_PARTS_H

/* The parts of one broker, and how the glue calls itself. For the .c files of this folder.
 *
 * Everything that arrives goes through ingress.c and becomes a post; everything that a turn wants
 * goes through egress.c. persist/ has the two threads that touch the store, runtime/clock.c is the
 * one that waits for points in time. Put together and taken apart by assemble.c, for broker.c,
 * which adds the edges and the threads. */

#include "base/awake.h"
#include "broker/broker.h"
#include "broker/egress.h"
#include "broker/ingress.h"
#include "broker/kinds.h"
#include "broker/thread.h"
#include "persist/queries.h"
#include "persist/survivors.h"
#include "process/activation.h"
#include "upgrade/upgrade.h"

struct operators;

/* Answers a command of operators with a Result of at most `room` bytes and some. False: it is
 * another's. For the thread of queries.c. */
typedef bool operate_command(void *context, const Usher__V1__Command *command, size_t room,
                             struct buffer *out);

struct broker {
    /* set once at start */
    const struct options *options;
    const struct env *env;  /* its clock stands still while the process does: base/awake.h */
    struct passage passage; /* of whoever brings work and is no I/O thread */
    struct awake awake;     /* behind it; zeroed: a simulation's or a test's is in its place */
    struct log *log;
    struct metrics *metrics;
    struct traces *traces;
    struct store *store;
    struct registry *registry;
    struct scheduler *scheduler;
    struct admission *admission; /* NULL with auth.mode open */
    struct logins *logins;
    struct survivors survivors;
    struct stored *stored;
    struct committer *committer;
    struct webhook *webhook;
    struct queries *queries;
    struct services *services;
    struct clock *clock;
    struct limits limits; /* LIVE ones change: operate/reload.c */
    struct settings settings;
    struct counters counters;
    struct passed_sockets passed;
    struct handover *handover;   /* from the process before this one; NULL: there was none */
    struct upgrade_gifts gifts;  /* what came first */
    struct upgrade_report taken; /* and then */
    char **arguments;            /* that it was started by */
    struct thread_counts counts;
    struct thread *threads; /* by their places */
    struct egress egress;
    struct ingress ingress;
    operate_command *operate;    /* NULL: there are no operators, as in the simulation */
    struct operators *operators; /* NULL in the same way; see operate/operators.h */
};

/* --- broker.c --------------------------------------------------------------------------------- */

/* The front end as the options want it, wired to an assembled broker, not yet started. */
int broker_open_net(struct broker *broker, char *error);

/* --- succeed.c -------------------------------------------------------------------------------- */

/* Puts another process in the place of this one, whose `context` is the broker: does not come back
 * but if that fails, and then nothing has changed. */
void broker_succeed(void *context, uint64_t *frozen_ms, char *error);

/* Becomes what the process before this one was; and waits until it may go on. */
int broker_take(struct broker *broker, char *error);
int broker_confirm(struct broker *broker, char *error);

/* --- assemble.c: for broker.c, and for the simulation, which brings its own edges ------------- */

/* Fills a zeroed broker: limits, settings, threads' places, actors, services, committer, clock,
 * queries; starts nothing. `store` is taken by a success. */
int broker_assemble(struct broker *broker, const struct options *options, const struct env *env,
                    struct log *log, struct store *store);

/* The actors that the broker has for itself. Where it takes over from another process, they are
 * made when those of that one are there, in slots that are left. 0 or -errno. */
int broker_make_own(struct broker *broker);

/* Takes in the front end, which is made after the parts and outlives them. Link and feed need only
 * be put into broker->egress. */
void broker_join_net(struct broker *broker, struct net *net);

/* Joins the workers and the committer: nobody runs a turn afterwards. */
void broker_halt(struct broker *broker);

/* Frees what broker_assemble made, the store included but not the registry. No thread may be
 * left; broker_halt may have been called. */
void broker_dismantle(struct broker *broker);

/* The room that the registry has for instances beside limits.users. */
uint32_t broker_instances_max(const struct broker *broker);

#endif
