/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_COMMITTER_H
#define USHER_PERSIST_COMMITTER_H

/* The thread that commits what turns ask to be stored, and goes on with them. */

#include "actors/turn.h"
#include "persist/stored.h"
#include "runtime/scheduler.h"
#include "storage/store.h"

struct committer;

/* All that it points to outlives the committer. */
struct committer_options {
    struct store *store;
    const char *store_path; /* for the log */
    const struct env *env;
    struct metrics *metrics;
    struct log *log;
    struct scheduler *scheduler; /* of the turns that wait: scheduler_resume, with the change */
    struct runner *runner;       /* its thread's own, with beats */
    const _Atomic uint64_t *epoch_last;
    const char *reader;          /* of committer_keep; NULL: nobody calls it */
    bool keeps_history;          /* of what is committed, in the same transaction */
    struct refusals *refusals;   /* go to the history as well; NULL: none */
    struct stored *stored;       /* what is stored for users; NULL: nothing can be */
    const struct limits *limits; /* NULL: without `stored` */
    /* These changes are synced, in the order of the stream; before their turns go on. */
    void (*committed)(void *context, struct runner *runner, const struct change *list);
    void *context;
};

int committer_open(struct committer **committer, const struct committer_options *options);
int committer_start(struct committer *committer);

/* Its thread comes round once, if it can. */
void committer_prod(struct committer *committer);

/* Takes the change; the actor is held until it is done. Messages of a CHANGE_STORE for which
 * inbox.waiting_bytes has no room are BUSY. */
void committer_submit(struct committer *committer, struct change *change);

/* As stored_done and stored_drop: noted with the next transaction, or within some seconds when
 * there is none, or by committer_close. Any thread; blocks on nothing. */
void committer_done(struct committer *committer, const char *user, uint64_t mid);
uint32_t committer_drop_stored(struct committer *committer, const char *user, uint64_t up_to_mid,
                               uint64_t *bytes);

/* How far the one who reads the stream beside us has come: kept with the next transaction, or
 * within a second when there is none, or by committer_close. A later one replaces it. A full store
 * keeps it later. Any thread; blocks on nothing. */
void committer_keep(struct committer *committer, uint64_t seq);

/* Commits what waits, on the calling thread: what the thread does in a loop, and the simulation
 * when its schedule says so. False: nothing waited. */
bool committer_step(struct committer *committer);

/* Commits what is noted of what is stored, as its thread does when nothing else came for a while,
 * and at its end. On the calling thread, as committer_step. */
void committer_note(struct committer *committer);

/* How it is doing; any thread. Each number is of some moment lately. */
struct committer_look {
    uint32_t waiting;          /* changes that no transaction has taken yet */
    int error;                 /* how the last transaction ended */
    uint64_t failing_since_ms; /* monotonic; 0: it works */
    uint64_t failed_ms;        /* when one failed last */
    uint64_t began_ms;         /* the transaction in progress, monotonic; 0: none */
    struct stored_look stored;
};
struct committer_look committer_look(struct committer *committer);

/* Waits until nothing is queued or in progress. */
void committer_drain(struct committer *committer);

/* The same, and joins its thread; it can be started again. */
void committer_pause(struct committer *committer);
void committer_close(struct committer *committer);

#endif
