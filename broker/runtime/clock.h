/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_CLOCK_H
#define USHER_RUNTIME_CLOCK_H

/* The thread that waits for points in time, and posts a tick to the actor that asked for it. Any
 * thread may call what does not say otherwise; nothing blocks but clock_close. */

#include "base/awake.h"
#include "base/log.h"
#include "runtime/scheduler.h"

struct clock;

/* All that it points to outlives the clock. */
struct clock_options {
    struct registry *registry; /* as many actors, as many timers */
    struct scheduler *scheduler;
    const struct env *env;
    struct awake *awake;     /* that it beats for; NULL: for none */
    struct metrics *metrics; /* may be NULL */
    struct log *log;         /* may be NULL */
    uint8_t tick;            /* the kind of message that a tick is */
};

/* 0 or -ENOMEM; then the clock stands still until it is started or stepped. */
int clock_open(struct clock **clock, const struct clock_options *options);

/* 0 or -errno. */
int clock_start(struct clock *clock);

/* Its thread comes round once, if it can; and how often it has. */
void clock_prod(struct clock *clock);
uint64_t clock_beats(const struct clock *clock);

/* Posts the ticks that are due at the env's time, on the calling thread. */
void clock_step(struct clock *clock);

/* The actor's tick comes at due_ms from now on, and not when it was to come before. In the actor's
 * own turn. */
void clock_set(struct clock *clock, actor_handle actor, uint64_t due_ms);

/* Joins its thread: it stands still until it is started again. */
void clock_pause(struct clock *clock);

/* Joins its thread. */
void clock_close(struct clock *clock);

#endif
