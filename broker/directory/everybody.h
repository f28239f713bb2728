/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_DIRECTORY_EVERYBODY_H
#define USHER_DIRECTORY_EVERYBODY_H

/* Pushes to all users. Any thread that runs a turn; nothing blocks. */

#include "actors/turn.h"
#include "runtime/scheduler.h"

struct everybody {
    struct registry *registry;
    struct scheduler *scheduler;
    const struct limits *limits;
};

/* Carries out the PushAll that the turn's effect `first` is, and those that follow it at once, as
 * far as they fit a bundle; each is posted back to the turn's actor, with how many took it. Gives
 * how many effects that were. */
size_t everybody_push(const struct everybody *everybody, struct runner *runner, struct turn *turn,
                      size_t first);

#endif
