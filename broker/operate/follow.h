/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_FOLLOW_H
#define USHER_OPERATE_FOLLOW_H

/* Operators follow a user: what becomes of his messages is written into a trace (base/trace.h). Any
 * thread; blocks on nothing. */

#include "base/env.h"
#include "base/log.h"
#include "base/trace.h"
#include "runtime/scheduler.h"

/* All that it points to outlives it. */
struct follow {
    struct registry *registry;
    struct scheduler *scheduler;
    struct passage *passage; /* of what is posted here */
    struct traces *traces;
    const struct env *env;
    struct log *log;
};

/* Marks a user who has a session, or had one under a trace that still runs. 0, -EINVAL: that is no
 * username; -ENOENT: nobody of that name is there; others as trace_start. */
int follow_begin(const struct follow *follow, const char *user, uint32_t seconds, uint32_t one_in);

/* 0 or -ENOENT: he is not followed. */
int follow_end(const struct follow *follow, const char *user);

/* What was written behind `after`, as trace_read gives it. */
int follow_read(const struct follow *follow, const char *user, uint64_t after, recorder_each *each,
                void *context, struct trace_state *state);

#endif
