/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DOOR_LOBBY_H
#define USHER_DOOR_LOBBY_H

/* Where connections are that have no user yet. Called by ingress.c, on the I/O thread of the
 * connection, with the runner of that thread; nothing blocks. */

#include "door/admission.h"
#include "door/logins.h"
#include "net/net.h"

/* What it uses; filled by who made it, and all of it outlives it. It keeps nothing of its own. */
struct lobby {
    struct net *net;
    struct registry *registry;
    struct scheduler *scheduler;
    const struct behaviour *user; /* of the actors that logins make */
    struct admission *admission;  /* NULL with auth.mode open */
    struct logins *logins;
    struct refusals *refusals; /* NULL: no history is kept */
    const uint64_t *proof_key; /* see actors/proof.h */
    uint64_t users_max;
    const struct limits *limits; /* what a refusal says to the history */
    const struct env *env;
    struct metrics *metrics;
    struct log *log;
};

/* One frame before login, and no other one until it is answered. */
void lobby_admit(const struct lobby *lobby, struct runner *runner, conn_handle conn,
                 struct bytes bytes);

/* Takes a login that is good to its user, or answers why not. Takes the message. */
void lobby_attach(const struct lobby *lobby, struct runner *runner, struct attach_message *message);

/* Goes on with the logins of this thread that were judged. */
void lobby_take_verdicts(const struct lobby *lobby, struct runner *runner);

/* The connection ended, or is to be ended for that reason. */
void lobby_end(const struct lobby *lobby, struct runner *runner, conn_handle conn,
               enum conn_end end);

#endif
