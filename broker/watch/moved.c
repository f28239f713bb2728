/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "base/check.h"
#include "base/memory.h"
#include "proto/handover.h"
#include "watch/private.h"

/* A shard that goes over to another process, between two of its turns: its targets, how each of
 * them looks, at which number of the stream he stands, and his watchers in their order. All of them
 * have been told by then, and nothing was on its way, so what stands here is what they hold.
 *
 * There may be a million pairs, so a shard is several records, and one with many watchers may stand
 * in several of them: then all but the first have his name alone, and more watchers. Over there
 * each is a message, and the turn that takes it asks the store for those that wait for it, as any
 * turn does. Numbers of targets are new ones: nobody outside knows them while nothing is asked. */

enum {
    PAIRS_MAX = 32768, /* in one record */
    TARGETS_MAX = 4096,
};

/* --- out -------------------------------------------------------------------------------------- */

/* Everything that one target may need of the arena but his watchers. */
struct parts {
    Usher__V1__HandoverTarget target;
    Usher__V1__HandoverLook shown;
    Usher__V1__HandoverStatus status;
};

static void describe_status(const struct watch_status_message *status, struct parts *parts)
{
    usher__v1__handover_status__init(&parts->status);
    parts->status.epoch = status->epoch;
    parts->status.invisible = status->invisible;
    parts->status.text =
        handover_binary((struct bytes){status->bytes + status->name_size, status->status_size});
    parts->target.status = &parts->status;
}

static void describe_target(const struct target *target, struct parts *parts)
{
    parts->shown.state = target->record->state;
    parts->shown.since_ms = target->record->since_ms;
    parts->shown.status = handover_binary(watch_record_status(target->record));
    if (target->status != NULL)
        describe_status(target->status, parts);
    parts->target.seq = target->seq;
    parts->target.epoch = target->epoch;
    parts->target.since_ms = target->since_ms;
    parts->target.state = target->state;
    parts->target.known = target->known;
    parts->target.looks = target->looks == LOOKS_QUEUED;
}

static bool describe_watchers(const struct target *target, uint32_t from, uint32_t count,
                              struct arena *arena, Usher__V1__HandoverTarget *to)
{
    if (count == 0)
        return true;
    to->watchers = handover_part(arena, count * sizeof(*to->watchers));
    to->positions = handover_part(arena, count * sizeof(*to->positions));
    to->serials = handover_part(arena, count * sizeof(*to->serials));
    if (to->watchers == NULL || to->positions == NULL || to->serials == NULL)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct watcher *watcher = &target->watchers[from + i];
        to->watchers[i] = watcher->user;
        to->positions[i] = watcher->position;
        to->serials[i] = watcher->serial;
    }
    to->n_watchers = to->n_positions = to->n_serials = count;
    return true;
}

/* Of the next place of the walk at most so many watchers; how many they were, or -1. */
static int64_t describe_next(const struct watch_shard *shard, struct watch_walk *walk,
                             uint32_t most, struct arena *arena, Usher__V1__HandoverShard *to)
{
    const struct target *target = &shard->targets[walk->target];
    struct parts *parts = handover_part(arena, sizeof(*parts));
    if (parts == NULL)
        return -1;
    usher__v1__handover_target__init(&parts->target);
    usher__v1__handover_look__init(&parts->shown);
    parts->shown.name = handover_binary(watch_record_name(target->record));
    parts->target.shown = &parts->shown;
    if (walk->watcher == 0)
        describe_target(target, parts);
    uint32_t left = target->count - walk->watcher;
    uint32_t count = left < most ? left : most;
    if (!describe_watchers(target, walk->watcher, count, arena, &parts->target))
        return -1;
    to->targets[to->n_targets++] = &parts->target;
    walk->watcher += count;
    if (walk->watcher == target->count) {
        walk->watcher = 0;
        walk->target++;
    }
    return count;
}

bool watch_move_out(const struct watch_place *place, struct watch_walk *walk, struct arena *arena,
                    Usher__V1__HandoverShard *to)
{
    const struct watch_shard *shard = place->shard;
    walk->over = shard == NULL;
    if (walk->over)
        return true;
    if (shard->looking || shard->telling.first != 0)
        return false;
    to->look_again_ms = shard->look_again_ms;
    to->targets = handover_part(arena, TARGETS_MAX * sizeof(struct Usher__V1__HandoverTarget *));
    if (to->targets == NULL)
        return false;
    for (uint32_t left = PAIRS_MAX; walk->target < shard->top;) {
        if (shard->targets[walk->target].record == NULL) {
            walk->target++;
            continue;
        }
        if (left == 0 || to->n_targets == TARGETS_MAX)
            return true;
        int64_t count = describe_next(shard, walk, left, arena, to);
        if (count < 0)
            return false;
        left -= (uint32_t)count;
    }
    walk->over = true;
    return true;
}

/* --- in --------------------------------------------------------------------------------------- */

struct moved_message {
    struct message header;
    const Usher__V1__HandoverShard *shard;
};

struct message *watch_move_in(const Usher__V1__HandoverShard *shard)
{
    struct moved_message *message = message_create(MESSAGE_MOVED, sizeof(*message));
    if (message != NULL)
        message->shard = shard;
    return message != NULL ? &message->header : NULL;
}

static void fill_status(struct target *target, struct bytes name,
                        const Usher__V1__HandoverStatus *from)
{
    CHECK(from->text.len <= WATCH_STATUS_BYTES_MAX);
    struct watch_status_message *status = watch_status_create(name, handover_bytes(from->text));
    status->epoch = from->epoch;
    status->invisible = from->invisible;
    target_set_status(target, status);
}

static void fill_target(struct target *target, struct bytes name,
                        const Usher__V1__HandoverTarget *from)
{
    const Usher__V1__HandoverLook *shown = from->shown;
    CHECK(shown->status.len <= WATCH_STATUS_BYTES_MAX && shown->state <= WATCH_AWAY &&
          from->state <= WATCH_AWAY);
    shared_release(&target->record->header);
    target->record = watch_record_create(name, (uint8_t)shown->state, shown->since_ms,
                                         handover_bytes(shown->status));
    if (from->status != NULL)
        fill_status(target, name, from->status);
    target->seq = from->seq;
    target->epoch = from->epoch;
    target->since_ms = from->since_ms;
    target->state = (uint8_t)from->state;
    target->known = from->known;
}

static void take_target(struct watch_shard *shard, const Usher__V1__HandoverTarget *from,
                        struct turn *turn)
{
    CHECK(from->shown != NULL && from->n_watchers == from->n_positions &&
          from->n_watchers == from->n_serials);
    struct bytes name = handover_bytes(from->shown->name);
    CHECK(name.size > 0 && name.size <= STORE_NAME_BYTES_MAX);
    uint64_t hash = watch_hash(turn->settings, name);
    struct target *target = target_find(shard, hash, name);
    if (target == NULL) {
        target = target_claim(shard, turn->settings, hash, name);
        fill_target(target, name, from);
        if (from->looks)
            target_queue_look(shard, target);
    }
    target_expect_watchers(target, (uint32_t)from->n_watchers);
    for (size_t i = 0; i < from->n_watchers; i++)
        target_add_watcher(
            target, (struct watcher){from->watchers[i], from->positions[i], from->serials[i]});
}

void watch_moved(struct watch_shard *shard, const struct message *message, struct turn *turn)
{
    const Usher__V1__HandoverShard *from = ((const struct moved_message *)message)->shard;
    shard->look_again_ms = from->look_again_ms;
    for (size_t i = 0; i < from->n_targets; i++)
        take_target(shard, from->targets[i], turn);
}

void watch_fetch(const struct watch_place *place, uint64_t hash, unsigned step)
{
    if (place->shard != NULL)
        target_fetch(place->shard, hash, step);
}

struct watch_record *watch_record_of(const struct watch_place *place, uint64_t hash,
                                     struct bytes name)
{
    const struct target *target =
        place->shard != NULL ? target_find(place->shard, hash, name) : NULL;
    return target != NULL ? target->record : NULL;
}
