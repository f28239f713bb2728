/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_PARTS_H
#define USHER_BROKER_PARTS_H

/* The parts of one broker, and how the glue calls itself. For the .c files of this folder.
 *
 * Everything that arrives goes through ingress.c and becomes a post; everything that a turn wants
 * goes through egress.c. persist/ has the two threads that touch the store, runtime/clock.c is the
 * one that waits for points in time. Put together and taken apart by assemble.c, for broker.c,
 * which adds the edges and the threads. */

#include <pthread.h>

#include "base/awake.h"
#include "base/timer.h"
#include "base/trace.h"
#include "broker/broker.h"
#include "door/lobby.h"
#include "identity/token.h"
#include "instance/instance.h"
#include "link/link.h"
#include "net/net.h"
#include "persist/survivors.h"
#include "process/activation.h"
#include "runtime/clock.h"
#include "runtime/scheduler.h"
#include "user/user.h"

/* A thread that runs turns. */
struct thread {
    struct runner runner;
    struct turn turn;
    unsigned batches;       /* of frames that an I/O thread has posted */
    _Atomic uint64_t beats; /* how often it came round; see operate/pulse.h */
};

/* Where nng's threads run turns (link_turns.c). */
struct link_turns {
    pthread_mutex_t lock;
    struct thread *thread; /* whoever has the lock */
    bool open;
};

struct committer;
struct operators;
struct queries;
struct services;

/* Answers a command of operators with a Result of at most `room` bytes and some. False: it is
 * another's. For the thread of queries.c. */
typedef bool operate_command(void *context, const Usher__V1__Command *command, size_t room,
                             struct buffer *out);

struct broker {
    /* set once at start */
    const struct options *options;
    const struct env *env; /* its clock stands still while the process does: base/awake.h */
    struct awake awake;    /* behind it; zeroed: a simulation's or a test's is in its place */
    struct log *log;
    struct metrics *metrics;
    struct traces *traces;
    struct store *store;
    struct registry *registry;
    struct scheduler *scheduler;
    struct net *net;
    struct link *link;
    struct feed *feed;
    struct admission *admission; /* NULL with auth.mode open */
    struct logins *logins;
    struct lobby lobby;
    struct survivors survivors;
    struct committer *committer;
    struct queries *queries;
    struct services *services;
    struct clock *clock;
    struct limits limits; /* LIVE ones change: operate/reload.c */
    struct settings settings;
    struct counters counters;
    struct passed_sockets passed;
    unsigned io_count, worker_count;
    struct link_turns link_turns;
    /* I/O threads, workers, committer, nng's threads, and one for everybody else */
    struct thread *threads;
    struct net_events net_events;
    struct link_events link_events;
    operate_command *operate;    /* NULL: there are no operators, as in the simulation */
    struct operators *operators; /* NULL in the same way; see operate/operators.h */
};

/* --- broker.c --------------------------------------------------------------------------------- */

/* The front end as the options want it, wired to an assembled broker, not yet started. */
int broker_open_net(struct broker *broker, char *error);

/* --- assemble.c: for broker.c, and for the simulation, which brings its own edges ------------- */

/* Fills a zeroed broker: limits, settings, threads' places, actors, services, committer, clock,
 * queries; starts nothing. `store` is taken by a success. */
int broker_assemble(struct broker *broker, const struct options *options, const struct env *env,
                    struct log *log, struct store *store);

/* Takes in the front end, which is made after the parts and outlives them. */
void broker_join_net(struct broker *broker, struct net *net);

/* Joins the workers and the committer: nobody runs a turn afterwards. */
void broker_halt(struct broker *broker);

/* Frees what broker_assemble made, the store included but not the registry. No thread may be
 * left; broker_halt may have been called. */
void broker_dismantle(struct broker *broker);

/* The room that the registry has for instances beside limits.users. */
uint32_t broker_instances_max(const struct broker *broker);

/* --- ingress.c -------------------------------------------------------------------------------- */

extern const struct behaviour user_behaviour, instance_behaviour, visitors_behaviour; /* kinds.c */

void ingress_wire(struct broker *broker);
void ingress_wire_link(struct broker *broker); /* ingress_link.c; part of ingress_wire */

/* After so long without a byte a connection is over: two heartbeats, and one for what was said at
 * the end of the second and is on its way. */
uint32_t silence_ms(const struct options *options);

/* --- link_turns.c ----------------------------------------------------------------------------- */

/* Closed at first. */
void link_turns_init(struct broker *broker, struct thread *thread);
void link_turns_fini(struct broker *broker);

/* Once it is closed no thread of nng's runs a turn, nor will; waits for the one that does. */
void link_turns_set_open(struct broker *broker, bool open);

/* A runner to post with, or NULL: post without one. Never blocks. */
struct runner *link_turns_begin(struct broker *broker);

/* Runs what is listed; NULL is nothing. */
void link_turns_end(struct broker *broker, struct runner *runner);

/* --- egress.c --------------------------------------------------------------------------------- */

/* Carries out what the turn holds, in order, and empties it. */
void egress_perform(struct broker *broker, struct runner *runner, struct turn *turn);

/* The user's session learns what waits in its connection, and goes on when there is room. */
void egress_settle(struct broker *broker, struct runner *runner, actor_handle self,
                   struct session *session);

/* Shows how full the user's inbox is. */
void egress_show(struct broker *broker, actor_handle self, const struct session *session);

/* Changes that are synced: who follows the stream hears of them. */
void egress_stored(void *context, struct runner *runner, const struct change *list);

/* A message that found no actor; takes it. */
void egress_bounce(void *context, struct runner *runner, struct message *message);

#endif
