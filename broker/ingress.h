/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_INGRESS_H
#define USHER_BROKER_INGRESS_H

/* Everything that arrives, turned into posts: from clients (ingress.c) and from backends
 * (ingress_link.c). */

#include "base/passage.h"
#include "base/trace.h"
#include "broker/egress.h"
#include "door/lobby.h"
#include "runtime/guest_turns.h"

/* What it uses; filled by assemble.c, and by who makes the edges. All of it outlives it. */
struct ingress {
    const struct egress *egress;    /* has the edges: what is answered here leaves by them too */
    struct lobby lobby;             /* of connections without a user */
    struct guest_turns guest_turns; /* of nng's threads */
    struct passage *passage;        /* of nng's threads as well */
    struct registry *registry;
    struct scheduler *scheduler;
    const struct limits *limits;
    const struct settings *settings;
    const struct env *env;
    struct metrics *metrics;
    struct traces *traces;
    struct log *log;
    uint32_t instances_max;
};

/* What the edges call, with the ingress as context; `thread` of net's is a struct thread. */
struct net_events ingress_net_events(struct ingress *ingress);
struct link_events ingress_link_events(struct ingress *ingress);

/* After so long without a byte a connection is over: two heartbeats, and one for what was said at
 * the end of the second and is on its way. */
uint32_t ingress_silence_ms(const struct options *options);

#endif
