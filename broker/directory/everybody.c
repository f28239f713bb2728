/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/everybody.h"

#include "actors/kinds.h"
#include "actors/push.h"
#include "base/check.h"
#include "base/memory.h"
#include "instance/instance.h"

/* A push to everybody: one payload, and as many pushes as follow each other at once are one message
 * for each user (docs/decisions/0062). */

/* Reports how many users take it and how many miss it, whose mailboxes are full. */
static void push_to_all(const struct everybody *everybody, struct runner *runner,
                        struct push_run *run, struct push_all_message *report)
{
    uint32_t cursor = 0;
    actor_handle user;
    while ((user = registry_next(everybody->registry, &cursor, KIND_USER)) != 0) {
        struct bundle_message *message = push_next_bundle(run);
        bool posted = message != NULL && memory_level() != MEMORY_FULL &&
                      scheduler_post_from(everybody->scheduler, runner, 0, user, &message->header,
                                          limits_mailbox_messages(everybody->limits)) == 0;
        report->accepted += posted;
        report->missed += !posted;
        if (!posted && message != NULL)
            message_destroy(&message->header);
    }
}

/* The PushAll that this effect is, or NULL. */
static struct push_all_message *push_all_of(const struct effect *effect)
{
    return effect->kind == EFFECT_LINK && effect->detail == LINK_PUSH_ALL
               ? (struct push_all_message *)effect->message
               : NULL;
}

size_t everybody_push(const struct everybody *everybody, struct runner *runner, struct turn *turn,
                      size_t first)
{
    struct push pushes[PUSH_BUNDLE_MAX];
    struct push_all_message *messages[PUSH_BUNDLE_MAX];
    uint32_t count = 0;
    size_t bytes = 0;
    struct push_run run;
    for (size_t i = first; i < turn->count && count < PUSH_BUNDLE_MAX; i++) {
        messages[count] = push_all_of(&turn->effects[i]);
        if (messages[count] == NULL)
            break;
        pushes[count] = instance_push_text(messages[count]);
        if (pushes[count].transient != pushes[0].transient)
            break;
        bytes += pushes[count].payload.size + pushes[count].traceparent.size;
        if (count > 0 && bytes > PUSH_BUNDLE_BYTES_MAX)
            break;
        count++;
    }
    CHECK(count > 0);
    MEMORY_MUST(push_begin_bundle(&run, pushes, count, turn->wall_ms, turn->now_ms,
                                  registry_count(everybody->registry)) == 0,
                "a push");
    push_to_all(everybody, runner, &run, messages[0]);
    push_end(&run);
    for (uint32_t i = count; i-- > 1;) {
        messages[i]->accepted = messages[0]->accepted;
        messages[i]->missed = messages[0]->missed;
    }
    for (uint32_t i = 0; i < count; i++)
        scheduler_tell(everybody->scheduler, runner, turn->self, &messages[i]->header);
    return count;
}
