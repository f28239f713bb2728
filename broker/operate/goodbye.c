/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/goodbye.h"

/* The clients come back over a time, and not all at once. */

enum { STOP_SPREAD_MS_MAX = 5000 };

static void post_stop(const struct goodbye *goodbye, actor_handle actor, uint32_t retry_after_ms,
                      bool later, const char *why)
{
    struct stop_message *stop = message_create(MESSAGE_STOP, sizeof(*stop));
    stop->retry_after_ms = retry_after_ms;
    stop->later = later;
    stop->why = why;
    scheduler_tell(goodbye->scheduler, NULL, actor, &stop->header);
}

void goodbye_tell(const struct goodbye *goodbye, actor_handle actor, uint32_t after_ms,
                  const char *why)
{
    uint64_t spread = session_resume_ms(goodbye->limits) / 4;
    spread = spread > STOP_SPREAD_MS_MAX ? STOP_SPREAD_MS_MAX : spread;
    uint32_t chance;
    env_random(goodbye->env, &chance, sizeof(chance));
    post_stop(goodbye, actor, after_ms + (spread != 0 ? (uint32_t)(chance % spread) : 0), false,
              why);
}

void goodbye_warn(const struct goodbye *goodbye, actor_handle actor)
{
    post_stop(goodbye, actor, 0, true, "");
}

void goodbye_all(const struct goodbye *goodbye, const char *why)
{
    uint32_t cursor = 0;
    actor_handle actor;
    while ((actor = registry_next(goodbye->registry, &cursor, REGISTRY_ALL_KINDS)) != 0)
        goodbye_tell(goodbye, actor, 0, why);
}
