/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_OPERATE_GOODBYE_H
#define USHER_OPERATE_GOODBYE_H

/* The broker is going to stop: who is told, and when he may come back. Any thread. */

#include "actors/messages.h"
#include "base/limits.h"
#include "runtime/scheduler.h"

/* All that it points to outlives it. */
struct goodbye {
    struct registry *registry;
    struct scheduler *scheduler;
    const struct env *env;
    const struct limits *limits;
};

/* Tells every actor that the broker stops, spreading the return of the clients. `why` is for
 * people, and static. */
void goodbye_all(const struct goodbye *goodbye, const char *why);

/* The same for one, who is not to come back before `after_ms`. */
void goodbye_tell(const struct goodbye *goodbye, actor_handle actor, uint32_t after_ms,
                  const char *why);

/* A user is going to be told: nobody is let in any more, so his session does not expire. */
void goodbye_warn(const struct goodbye *goodbye, actor_handle actor);

#endif
