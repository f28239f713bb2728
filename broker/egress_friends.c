/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/watch.h"
#include "broker/egress.h"

/* From the committer to the shards of friends, event by event in the order of the stream, so that
 * whoever watches somebody sees his states in that order and none that is not on the disk.
 *
 * While nobody watches anybody nothing is posted. Who begins to counts his pairs first
 * (plan_reserve) and is looked up afterwards: if his count is not seen here, this event was stored
 * before he looks, and is in what he finds.
 *
 * The committer waits for nobody. A shard whose mailbox is full misses the event and is told that
 * it has, once, by a post that no limit refuses; it takes its mark away before it asks the store
 * anew, so whatever is missed later is told again. */

/* So many in one commit are a crowd, for so long. */
enum { CROWD_MIN = 16, CROWD_LASTS_MS = 100 };

static void miss(struct egress *egress, struct runner *runner, uint64_t hash)
{
    uint32_t number = hash % WATCH_SHARDS;
    uint64_t bit = UINT64_C(1) << number;
    uint64_t before =
        atomic_fetch_or_explicit(&egress->counters->watch_stale, bit, memory_order_seq_cst);
    if ((before & bit) != 0)
        return; /* it will ask after this */
    struct watch_stale_message *stale = message_create(MESSAGE_WATCH_STALE, sizeof(*stale));
    stale->number = number;
    scheduler_tell(egress->scheduler, runner, watch_shard(egress->settings, hash), &stale->header);
}

void egress_see_crowd(struct egress *egress, const struct runner *runner, uint64_t count)
{
    if (count >= CROWD_MIN)
        atomic_store_explicit(&egress->counters->crowd_until_ms, runner->now_ms + CROWD_LASTS_MS,
                              memory_order_relaxed);
}

void egress_tell_friends(struct egress *egress, struct runner *runner,
                         const struct presence_event *event)
{
    if (atomic_load_explicit(&egress->counters->watch_pairs, memory_order_seq_cst) == 0)
        return;
    uint64_t hash = watch_hash(egress->settings, bytes_of_text(event->user));
    struct watch_event_message *message = watch_event_create(event);
    if (scheduler_post_from(egress->scheduler, runner, 0, watch_shard(egress->settings, hash),
                            &message->header, limits_mailbox_messages(egress->limits)) == 0)
        return;
    message_destroy(&message->header);
    miss(egress, runner, hash);
}
