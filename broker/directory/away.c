/* SPDX-License-Identifier: Apache-2.0 */
#include "directory/away.h"

#include <errno.h>

#include "actors/kinds.h"
#include "actors/refuse.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/username.h"

/* An actor for who is away has no session, and retires when what was posted to it is stored: it
 * takes a place of limits.users for that long, which is one commit. A service may store for
 * thousands at once, so the last places are for those who come themselves. */

enum { LAST_PART = 16 };

/* 0: he gets none, and *code says why. */
static actor_handle claim(const struct away *away, struct turn *turn, struct bytes name,
                          const struct deliver_message *message, uint16_t *code)
{
    *code =
        username_valid(name) ? refusal_for_away(turn, message) : USHER__V1__ERROR__CODE__NOT_ONLINE;
    if (*code != 0)
        return 0;
    *code = USHER__V1__ERROR__CODE__BUSY;
    uint64_t users = limits_users(away->limits);
    if (registry_count_of(away->registry, KIND_USER) >= users - users / LAST_PART)
        return 0;
    return registry_claim(away->registry, name.data, name.size, away->user);
}

/* An actor may retire between the look and the post, but not every time. */
enum { TRIES = 4 };

void away_forward(const struct away *away, struct runner *runner, struct turn *turn,
                  const struct effect *effect)
{
    struct deliver_message *message = (struct deliver_message *)effect->message;
    struct bytes name = {turn->out.data + effect->offset, effect->size};
    uint16_t code = USHER__V1__ERROR__CODE__BUSY;
    int error = memory_level() == MEMORY_FULL ? -ENOBUFS : -ESRCH;
    for (int i = 0; error == -ESRCH && i < TRIES; i++) {
        actor_handle user = registry_find(away->registry, name.data, name.size);
        if (user == 0)
            user = claim(away, turn, name, message, &code);
        if (user == 0)
            break;
        error = scheduler_post_from(away->scheduler, runner, message->from_service ? 0 : turn->self,
                                    user, &message->header, limits_mailbox_messages(away->limits));
    }
    if (error == 0)
        return;
    if (code == USHER__V1__ERROR__CODE__NOT_ONLINE)
        metrics_add(away->metrics, runner->index, METRIC_sends_not_online, 1);
    refuse_message(turn, message, code);
}
