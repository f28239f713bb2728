/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_EGRESS_H
#define USHER_BROKER_EGRESS_H

/* Everything that leaves: the effects of a turn, carried out in their order on the thread that ran
 * it. A message that cannot be posted bounces here too. */

#include "actors/turn.h"
#include "directory/rooms.h"
#include "link/link.h"
#include "net/net.h"
#include "runtime/clock.h"
#include "user/session.h"

struct committer;
struct queries;
struct services;
struct thread;

/* Backends that ask by HTTP: the answer to an exchange of theirs, and that the presence stream has
 * grown. Any thread; neither blocks for longer than a short lock. NULL: they cannot ask. */
struct egress_http {
    void (*answer)(void *context, uint64_t exchange, struct bytes frame);
    void (*stored)(void *context);
    void *context;
};

/* What it uses; filled by assemble.c, and by who makes the edges. All of it outlives it. The
 * behaviours of kinds.c have it as context. */
struct egress {
    struct net *net;
    struct link *link; /* set before its first request comes */
    struct feed *feed; /* NULL: none */
    struct egress_http http;
    struct registry *registry;
    struct scheduler *scheduler;
    struct services *services;
    struct rooms_directory rooms;
    struct clock *clock;
    struct committer *committer;
    struct queries *queries;
    struct webhook *webhook; /* NULL: none */
    struct thread *workers;  /* the scheduler's, by their numbers */
    const struct limits *limits;
    const struct settings *settings;
    struct counters *counters;
    const struct env *env;
    struct metrics *metrics;
};

/* Carries out what the turn holds, in order, and empties it. */
void egress_perform(struct egress *egress, struct runner *runner, struct turn *turn);

/* The user's session learns what waits in its connection, and goes on when there is room. */
void egress_settle(struct egress *egress, struct runner *runner, actor_handle self,
                   struct session *session);

/* Shows how full the user's inbox is. */
void egress_show(struct egress *egress, actor_handle self, const struct session *session);

/* Changes that are synced: who follows the stream hears of them. The context is the egress. */
void egress_stored(void *context, struct runner *runner, const struct change *list);

/* A message that found no actor; takes it. The context is the egress. */
void egress_bounce(void *context, struct runner *runner, struct message *message);

/* --- among its files -------------------------------------------------------------------------- */

/* Posts a message of our own making; when the actor is gone nobody waits for it. */
void egress_post(struct egress *egress, struct runner *runner, actor_handle to,
                 struct message *message);

/* egress_services.c: what a turn asks of the directory of services. */
void egress_call(struct egress *egress, struct runner *runner, struct message *message);
void egress_link(struct egress *egress, struct runner *runner, struct turn *turn,
                 const struct effect *effect);

/* egress_friends.c: so many events were stored at once. */
void egress_see_crowd(struct egress *egress, const struct runner *runner, uint64_t count);
/* A stored event, to the shard of friends that has its user. */
void egress_tell_friends(struct egress *egress, struct runner *runner,
                         const struct presence_event *event);

#endif
