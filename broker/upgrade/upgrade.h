/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_UPGRADE_UPGRADE_H
#define USHER_UPGRADE_UPGRADE_H

/* A broker that puts another process in its place: the old side (freeze.c, hand.c, out.c) and the
 * new one (take.c, in.c). For the thread that makes the broker, and waits for signals. */

#include "actors/turn.h"
#include "base/awake.h"
#include "base/listeners.h"
#include "base/passage.h"
#include "directory/services.h"
#include "door/admission.h"
#include "door/logins.h"
#include "net/net.h"
#include "persist/committer.h"
#include "persist/queries.h"
#include "persist/stored.h"
#include "process/activation.h"
#include "process/handover.h"
#include "runtime/clock.h"
#include "runtime/scheduler.h"
#include "storage/store.h"
#include "webhook/webhook.h"

/* What is handed over, or filled. All of it outlives the hand-over. */
struct upgrade_parts {
    const struct env *env;
    struct awake *awake;
    struct log *log;
    struct store *store;
    struct registry *registry;
    struct scheduler *scheduler;
    struct clock *clock;
    struct committer *committer;
    struct stored *stored;
    struct queries *queries;
    struct net *net;
    const struct passed_sockets *passed;
    struct services *services;
    struct webhook *webhook;
    struct admission *admission; /* NULL: nobody is judged */
    struct logins *logins;
    const struct limits *limits;
    struct settings *settings;
    struct counters *counters;
    struct passage *passage; /* of whoever brings work and is no I/O thread */
    struct runner *runner;   /* of the first I/O thread, for turns while there is none */
    unsigned io_threads, workers;
    void (*prepare)(void *context, struct runner *runner, unsigned worker); /* of a worker */
    const struct behaviour *user, *instance, *room, *shard;
};

/* How it went, for people. */
struct upgrade_report {
    uint64_t users, instances, rooms, connections, bytes;
    uint64_t left; /* connections that cannot go; and of them */
    uint64_t told; /* so many were told to come back */
    uint64_t frozen_ms;
    int64_t process; /* the number of the new one */
    char error[HANDOVER_ERROR_BYTES];
};

/* --- the old process -------------------------------------------------------------------------- */

/* Stops everything that could change something and runs until nothing is left to run. 0;
 * -ETIMEDOUT: it does not come to rest, and goes on. */
int upgrade_freeze(const struct upgrade_parts *parts, uint64_t until_ms);

/* It goes on as if nothing had been. 0 or -errno: a thread cannot be started, and the process
 * cannot go on. */
int upgrade_thaw(const struct upgrade_parts *parts);

/* A run of records. The descriptors of its connections are in the order of their records. */
enum { UPGRADE_RUN_CONNS = 4 * HANDOVER_DESCRIPTORS_MAX };
struct upgrade_load {
    struct buffer records;
    size_t fd_count;
    int fds[UPGRADE_RUN_CONNS];
};

/* Gives a run away: 0, or -errno and the report says why. What it held is the caller's still. */
typedef int upgrade_give(void *context, const struct upgrade_load *load);

/* Everything, run after run, each given away when it has become large enough: the new process makes
 * of one what it was while the next is packed. First the node and its connections, then the rest.
 * 0; -EBUSY: something cannot go now, the report says what; -ENOMEM; or what `give` gave. */
int upgrade_pack(const struct upgrade_parts *parts, upgrade_give *give, void *context,
                 struct upgrade_report *report);
/* What was spent of allowances, of all the tables that remember it (spent.c); and there. 0 or
 * -errno. */
int upgrade_pack_spent(const struct upgrade_parts *parts, struct buffer *out);
int upgrade_take_spent(const struct upgrade_parts *parts, const Usher__V1__HandoverSpent *spent);

/* Starts the program ("": this one, by the path that it was started by) with these arguments and
 * gives it all, which the log says; true: it has, and this process has nothing any more and is to
 * end at once. False: this one goes on, and the report says why. */
bool upgrade_hand_over(const struct upgrade_parts *parts, const char *program, char *const argv[],
                       struct upgrade_report *report);

/* --- the new process -------------------------------------------------------------------------- */

/* What comes first: before there is a store or a front end. For each descriptor a byte says what it
 * is: LISTENERS, the lock, or the kind of a listener, and whether that was passed by the manager.
 */
enum { UPGRADE_MANAGED = 0x80 };
struct upgrade_gifts {
    int lock; /* of the store */
    struct passed_sockets listeners;
};
int upgrade_take_gifts(struct handover *handover, struct upgrade_gifts *gifts, char *error);

/* All parts are there but those that make actors of their own, nothing has been restored and no
 * thread runs: says so, and takes what comes. */
int upgrade_take(const struct upgrade_parts *parts, struct handover *handover,
                 struct upgrade_report *report);

/* All is there: says so, with what upgrade_take has reported, and waits for the last word. 0: it is
 * ours. */
int upgrade_confirm(struct handover *handover, struct upgrade_report *report);

/* Makes of records what they were of, a run of them after the other until upgrade_unpack says that
 * it has come to the end: 1. 0: there is more to come; or -errno, and the report says why. The
 * descriptors are those of the connections of this run, and are taken unless it fails. */
struct upgrade_unpacking;
struct upgrade_unpacking *upgrade_unpacking_create(const struct upgrade_parts *parts,
                                                   struct upgrade_report *report); /* or NULL */
int upgrade_unpack(struct upgrade_unpacking *unpacking, struct bytes records, const int *fds,
                   size_t fd_count);
void upgrade_unpacking_destroy(struct upgrade_unpacking *unpacking); /* or NULL */

#endif
