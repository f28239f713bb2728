/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_KINDS_H
#define USHER_BROKER_KINDS_H

/* The kinds of actors that run turns: a row for each. Their context is a struct egress, their
 * runner's scratch a struct thread. */

#include "runtime/actor.h"

extern const struct behaviour user_behaviour, instance_behaviour, visitors_behaviour,
    http_behaviour, room_behaviour, watch_behaviour;

/* That of the largest of their states. */
size_t kinds_state_bytes(void);

/* For scheduler_start: a worker's runner with what the rows need. */
void kinds_prepare_worker(void *context, struct runner *runner, unsigned worker);

#endif
