/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DIRECTORY_AWAY_H
#define USHER_DIRECTORY_AWAY_H

/* Messages with keep_s, to a user who may have no session. Any thread that runs a turn; nothing
 * blocks. */

#include "actors/turn.h"
#include "runtime/scheduler.h"

struct away {
    struct registry *registry;
    struct scheduler *scheduler;
    struct metrics *metrics;
    const struct limits *limits;
    const struct behaviour *user; /* of the actor that is made for who is away */
};

/* Carries out an EFFECT_FORWARD whose message is to be stored. Who has no actor gets one for the
 * time that it takes; what cannot be posted is refused, which may append to the turn. */
void away_forward(const struct away *away, struct runner *runner, struct turn *turn,
                  const struct effect *effect);

#endif
