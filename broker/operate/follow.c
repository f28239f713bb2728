/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/follow.h"
#include "base/passage.h"

#include <errno.h>
#include <string.h>

#include "proto/username.h"
#include "user/tracing.h"

/* The user's own turns write what befalls him, so he is told by a message like everything else that
 * concerns him. If he has gone meanwhile nothing would ever be written, and the place among the few
 * traces is given back at once. */

static uint64_t now_us(const struct follow *follow)
{
    return env_monotonic_ns(follow->env) / 1000;
}

int follow_begin(const struct follow *follow, const char *user, uint32_t seconds, uint32_t one_in)
{
    uint8_t slot;
    if (!username_valid(bytes_of_text(user)))
        return -EINVAL; /* and not the name of an instance, which is no user */
    actor_handle actor = registry_find(follow->registry, user, strlen(user));
    if (actor == 0)
        return -ENOENT;
    int error = trace_start(follow->traces, user, seconds, one_in, now_us(follow),
                            env_wall_ms(follow->env) * 1000, &slot);
    if (error != 0)
        return error;
    struct trace_message *message = message_create(MESSAGE_TRACE, sizeof(*message));
    message->slot = slot;
    passage_enter(follow->passage);
    error = scheduler_post(follow->scheduler, NULL, actor, &message->header);
    passage_leave(follow->passage);
    if (error == 0) {
        /* To whom somebody speaks is his own: who looks leaves a trace, too. */
        LOG(follow->log, FOLLOWED, LOG_S("user", user),
            LOG_U("seconds", seconds != 0 ? seconds : TRACE_SECONDS_DEFAULT),
            LOG_U("one_in", one_in != 0 ? one_in : 1));
        return 0;
    }
    message_destroy(&message->header);
    (void)trace_stop(follow->traces, user);
    return -ENOENT;
}

int follow_end(const struct follow *follow, const char *user)
{
    return trace_stop(follow->traces, user);
}

int follow_read(const struct follow *follow, const char *user, uint64_t after, recorder_each *each,
                void *context, struct trace_state *state)
{
    return trace_read(follow->traces, user, after, now_us(follow), each, context, state);
}
