/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_PULSE_H
#define USHER_OPERATE_PULSE_H

/* Whether the threads that serve move. */

#include "net/net.h"
#include "persist/committer.h"
#include "runtime/clock.h"
#include "runtime/scheduler.h"

enum {
    PULSE_NAME_BYTES = 32,
    PULSE_THREADS_MAX = 64 + 256 + 1 /* options.def: threads.io, threads.workers; the committer */
};

/* All that it points to outlives it. */
struct pulse {
    struct net *net;
    struct scheduler *scheduler;
    struct committer *committer;
    struct clock *clock;
    const struct env *env;
    unsigned io_count, worker_count;
    /* How often they came round: the I/O threads, the workers, the committer. */
    const _Atomic uint64_t *beats[PULSE_THREADS_MAX];
};

/* What whoever asks the following remembers of his last time; all zero at first. */
struct stillness {
    bool found; /* somebody stood still: */
    unsigned place;
    uint64_t beats;
};

/* Whether I/O threads, workers, committer and clock come round when they are called: 0, or -ETIME
 * with the first that does not within `patience_ms` in `still`. Waits for that long at most, mostly
 * a millisecond, and not at all while the one that is `known` has still not moved. Any thread that
 * is none of these, as long as they are there. */
int pulse_check(const struct pulse *pulse, uint32_t patience_ms, struct stillness *known,
                char still[PULSE_NAME_BYTES]);

#endif
