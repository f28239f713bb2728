/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_QUERIES_H
#define USHER_PERSIST_QUERIES_H

/* The thread that reads the store for backends, and what is stored for users for their turns. */

#include "actors/watch.h"
#include "backend.pb-c.h"
#include "base/metrics.h"
#include "instance/instance.h"
#include "persist/stored.h"
#include "rules/room_classes.h"
#include "runtime/scheduler.h"
#include "storage/store.h"

struct queries;

/* All that it points to outlives the queries. */
struct queries_options {
    struct store *store;
    struct registry *registry;
    struct scheduler *scheduler;
    struct metrics *metrics;
    const char *node;                           /* the name that sessions are at */
    struct room_classes *_Atomic *room_classes; /* NULL: there are no rooms */
    struct stored *stored;                      /* NULL: nobody asks for a window */
    struct committer *committer;                /* with `stored`, as the next two */
    const struct env *env;
    struct runner *runner; /* its thread's own, of the turns that wait for a window */
    /* Answers a command of operators with a Result of at most `room` bytes and some. False: it is
     * another's. NULL: there are no operators. On the thread of the queries. */
    bool (*operate)(void *context, const Usher__V1__Command *command, size_t room,
                    struct buffer *out);
    void *context;
};

/* 0 or -ENOMEM; then nothing is answered until it is started or stepped. */
int queries_open(struct queries **queries, const struct queries_options *options);

/* 0 or -errno. */
int queries_start(struct queries *queries);

/* Answers one query on the calling thread. False: none waited. */
bool queries_step(struct queries *queries);

/* Takes the query; any thread, never blocks on the disk. */
void queries_submit(struct queries *queries, struct query_message *query);

/* The same; comes back to its shard, filled. */
void queries_look_up(struct queries *queries, struct watch_look_message *look);

/* Takes a CHANGE_WINDOW; the actor is held until it is read, and then goes on by scheduler_resume
 * on the thread of the queries. Any thread, never blocks on the disk. */
void queries_window(struct queries *queries, struct change *change);

/* No window is read any more: waits for the one that is being read, and the others wait for
 * queries_close. Who waits for one stays held. */
void queries_halt(struct queries *queries);

/* Joins its thread when nothing waits any more; it can be started again. */
void queries_pause(struct queries *queries);

/* Joins its thread; what waits is not answered any more. */
void queries_close(struct queries *queries);

#endif
