/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_GUEST_TURNS_H
#define USHER_RUNTIME_GUEST_TURNS_H

/* Where threads that others have made (nng's) run turns. */

#include "base/env.h"
#include "base/lock.h"
#include "runtime/scheduler.h"

struct guest_turns {
    struct scheduler *scheduler;
    const struct env *env;
    struct lock lock;
    struct runner *runner; /* whoever has the lock */
    bool open;             /* under lock */
};

/* Closed at first. Scheduler and runner outlive it. */
void guest_turns_init(struct guest_turns *turns, struct scheduler *scheduler, const struct env *env,
                      struct runner *runner);
void guest_turns_fini(struct guest_turns *turns); /* of one that was never made: nothing */

/* Once it is closed no thread of nng's runs a turn, nor will; waits for the one that does. */
void guest_turns_set_open(struct guest_turns *turns, bool open);

/* A runner to post with, or NULL: post without one. Never blocks. */
struct runner *guest_turns_begin(struct guest_turns *turns);

/* Runs what is listed; NULL is nothing. */
void guest_turns_end(struct guest_turns *turns, struct runner *runner);

#endif
