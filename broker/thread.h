/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_THREAD_H
#define USHER_BROKER_THREAD_H

/* The threads that run turns or count for themselves, and where each has its place: in
 * broker->threads, and by the same number in the metrics. */

#include "actors/turn.h"
#include "runtime/scheduler.h"

struct thread {
    struct runner runner;
    struct turn turn;
    unsigned batches;       /* of frames that an I/O thread has posted */
    _Atomic uint64_t beats; /* how often it came round; see operate/pulse.h */
};

struct thread_counts {
    unsigned io, workers;
};

/* In their order: as many I/O threads and workers as there are, one place for each of the others.
 */
enum thread_role {
    ROLE_IO,
    ROLE_WORKER,
    ROLE_COMMITTER,
    ROLE_QUERIES,
    ROLE_LINK,   /* nng's threads, one at a time */
    ROLE_OTHERS, /* who runs no turns: the admin endpoint */
    ROLES
};

/* The first place of that role; of ROLES, how many places there are. */
static inline unsigned thread_place(struct thread_counts counts, enum thread_role role)
{
    unsigned singles = role > ROLE_COMMITTER ? (unsigned)role - ROLE_COMMITTER : 0;
    return (role > ROLE_IO ? counts.io : 0) + (role > ROLE_WORKER ? counts.workers : 0) + singles;
}

#endif
