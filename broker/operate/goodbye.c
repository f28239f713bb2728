/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/goodbye.h"

/* The clients come back over a time, and not all at once. */

enum { STOP_SPREAD_MS_MAX = 5000 };

static void post_stop(struct broker *broker, actor_handle actor, uint32_t retry_after_ms,
                      bool later)
{
    struct stop_message *stop = message_create(MESSAGE_STOP, sizeof(*stop));
    stop->retry_after_ms = retry_after_ms;
    stop->later = later;
    scheduler_tell(broker->scheduler, NULL, actor, &stop->header);
}

void goodbye_tell(struct broker *broker, actor_handle actor, uint32_t after_ms)
{
    uint32_t spread = session_resume_ms(&broker->limits) / 4;
    spread = spread > STOP_SPREAD_MS_MAX ? STOP_SPREAD_MS_MAX : spread;
    uint32_t chance;
    env_random(broker->env, &chance, sizeof(chance));
    post_stop(broker, actor, after_ms + (spread != 0 ? chance % spread : 0), false);
}

void goodbye_warn(struct broker *broker, actor_handle actor)
{
    post_stop(broker, actor, 0, true);
}

void goodbye_all(struct broker *broker)
{
    uint32_t cursor = 0;
    actor_handle actor;
    while ((actor = registry_next(broker->registry, &cursor, REGISTRY_ALL_KINDS)) != 0)
        goodbye_tell(broker, actor, 0);
}
