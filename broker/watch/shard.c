/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/bounce.h"
#include "backend.pb-c.h"
#include "base/check.h"
#include "base/memory.h"
#include "watch/private.h"

/* What a shard hears, and what of it its watchers are told.
 *
 * The truth of a target is the presence stream. Each event says all of the state that it leads to,
 * so of several only the last counts, and a target stands at the seq that he is true for: an event
 * of no higher one is passed over.
 *
 * Beginning without a gap. When somebody is watched for the first time the store is asked for him,
 * and the answer is stamped with the seq that it is true for. Events that come meanwhile are taken
 * in and told to nobody. If the last of them is behind the stamp it is what counts, otherwise the
 * answer is; from then on he is *known*, and every change is told. What is in the mailbox by then
 * and not behind the stamp is passed over by its seq. So his watchers hear one first state, and
 * what follows it in the stream.
 *
 * Overload. An event that finds no room in the mailbox is dropped by the committer, which marks the
 * shard as stale: then the store is asked for every target anew, by the same rule. Late, never
 * wrong, and the committer waits for nobody.
 *
 * Turns are bounded. Changes are only noted while messages are received; when these are done their
 * watchers are told, so many posts in one turn, and a post to oneself goes on. A target that
 * changes meanwhile is told anew from the beginning, with what he looks like then. */

enum { TELL_MAX = 4096, RETRY_MS = 1000 };

void watch_name(unsigned number, char name[WATCH_NAME_BYTES])
{
    CHECK(number < WATCH_SHARDS);
    snprintf(name, WATCH_NAME_BYTES, "!w%u", number);
}

/* --- how a target looks ----------------------------------------------------------------------- */

static uint8_t shown_state(const struct target *target, const struct turn *turn)
{
    if (target->status != NULL && target->status->invisible)
        return WATCH_OFFLINE;
    return target->state == WATCH_AWAY && !turn->settings->friends_show_away ? WATCH_ONLINE
                                                                             : target->state;
}

/* His record is another one, if he looks different from before; and his watchers are to be told. */
static void show(struct watch_shard *shard, struct target *target, uint64_t since_ms, bool first,
                 struct turn *turn)
{
    struct bytes status = {0};
    uint8_t state = shown_state(target, turn);
    if (target->status != NULL && state != WATCH_OFFLINE)
        status = (struct bytes){target->status->bytes + target->status->name_size,
                                target->status->status_size};
    if (!first && state == target->record->state &&
        bytes_equal(status, watch_record_status(target->record)))
        return;
    struct watch_record *record =
        watch_record_create(watch_record_name(target->record), state, since_ms, status);
    shared_release(&target->record->header);
    target->record = record;
    target_queue_telling(shard, target);
    turn_count(turn, METRIC_friends_changes, 1);
}

/* What an earlier login said of him is gone with it. */
static void drop_old_status(struct target *target)
{
    const struct watch_status_message *status = target->status;
    if (status != NULL && (status->epoch < target->epoch ||
                           (status->epoch == target->epoch && target->state == WATCH_OFFLINE)))
        target_set_status(target, NULL);
}

/* --- who watches whom ------------------------------------------------------------------------- */

/* What is said at once to one who begins to watch. */
struct answers {
    uint32_t count;
    struct watched pairs[WATCH_PAIRS_MAX];
    struct shared *held[WATCH_PAIRS_MAX];
};

static void answer(struct answers *answers, const struct watch_pair *pair, enum watched_what what,
                   struct watch_record *record)
{
    answers->held[answers->count] = record != NULL ? &record->header : NULL;
    answers->pairs[answers->count++] = (struct watched){pair->position, pair->serial, what, 0};
}

static void answers_send(const struct answers *answers, actor_handle to, struct turn *turn)
{
    struct watched_many_message *message;
    size_t pairs_bytes = answers->count * sizeof(message->pairs[0]);
    if (answers->count == 0)
        return;
    MEMORY_MUST(
        (message = message_create_holding_many(MESSAGE_WATCHED_MANY, sizeof(*message) + pairs_bytes,
                                               answers->held, answers->count)) != NULL,
        "friends");
    message->count = answers->count;
    memcpy(message->pairs, answers->pairs, pairs_bytes);
    turn_post(turn, to, &message->header);
}

static void watch_one(struct watch_shard *shard, const struct watch_message *message,
                      uint32_t index, struct answers *answers, struct turn *turn)
{
    const struct watch_pair *pair = &message->pairs[index];
    struct target *target =
        target_claim(shard, turn->settings, pair->hash, watch_message_name(message, index));
    if (target->count >= friends_watchers(turn->limits)) {
        turn_count(turn, METRIC_friends_watchers_full, 1);
        answer(answers, pair, WATCHED_FULL, NULL);
        target_drop_unused(shard, target, pair->hash);
        return;
    }
    target_add_watcher(target, (struct watcher){message->watcher, pair->position, pair->serial});
    if (target->known) {
        answer(answers, pair, WATCHED_STATE, target->record);
        return;
    }
    if (message->asks)
        answer(answers, pair, WATCHED_TAKEN, NULL);
    if (target->looks != LOOKS_ASKED || target->count == 1)
        target_queue_look(shard, target); /* events may have been missed while nobody watched */
}

/* What is said of a target later must not pass by what is said now, and is told after it. */
static void watch(struct watch_shard *shard, const struct watch_message *message, struct turn *turn)
{
    struct answers answers = {.count = 0};
    targets_fetch(shard, message->pairs, message->count);
    for (uint32_t i = 0; i < message->count; i++)
        watch_one(shard, message, i, &answers, turn);
    answers_send(&answers, message->watcher, turn);
}

static void unwatch_one(struct watch_shard *shard, const struct watch_message *message,
                        uint32_t index)
{
    const struct watch_pair *pair = &message->pairs[index];
    struct target *target = target_find(shard, pair->hash, watch_message_name(message, index));
    if (target == NULL ||
        !target_remove_watcher(target,
                               (struct watcher){message->watcher, pair->position, pair->serial}))
        return; /* he was full */
    if (target->count == 0) {
        target->known = false;
        target->since_ms = 0;
    }
    target_drop_unused(shard, target, pair->hash);
}

static void unwatch(struct watch_shard *shard, const struct watch_message *message)
{
    for (uint32_t i = 0; i < message->count; i++)
        unwatch_one(shard, message, i);
}

/* --- what has happened to a target ------------------------------------------------------------ */

static void take_status(struct watch_shard *shard, struct watch_status_message *message,
                        struct turn *turn)
{
    struct bytes name = {message->bytes, message->name_size};
    uint64_t hash = watch_hash(turn->settings, name);
    struct target *target = message->gone ? target_find(shard, hash, name)
                                          : target_claim(shard, turn->settings, hash, name);
    if (target == NULL || (target->known && message->epoch < target->epoch)) {
        message_destroy(&message->header);
        return;
    }
    bool gone = message->gone;
    target_set_status(target, gone ? NULL : message);
    if (target->known)
        show(shard, target, turn->wall_ms, false, turn);
    if (gone)
        message_destroy(&message->header);
    target_drop_unused(shard, target, hash);
}

static void apply(struct target *target, const struct watch_event_message *event, bool show_away)
{
    target->seq = event->seq;
    target->epoch = event->epoch;
    switch (event->kind) {
    case USHER__V1__PRESENCE_EVENT__KIND__ONLINE:
        target->state = WATCH_ONLINE;
        target->since_ms = event->time_ms;
        break;
    case USHER__V1__PRESENCE_EVENT__KIND__OFFLINE:
        target->state = WATCH_OFFLINE;
        target->since_ms = event->time_ms;
        break;
    default:
        target->state =
            event->kind == USHER__V1__PRESENCE_EVENT__KIND__DETACHED ? WATCH_AWAY : WATCH_ONLINE;
        if (show_away)
            target->since_ms = event->time_ms;
        break;
    }
    drop_old_status(target);
}

static void take_event(struct watch_shard *shard, const struct watch_event_message *event,
                       struct turn *turn)
{
    struct bytes name = {event->name, event->name_size};
    uint64_t hash = watch_hash(turn->settings, name);
    struct target *target = target_find(shard, hash, name);
    if (target == NULL || event->seq <= target->seq)
        return;
    turn_count(turn, METRIC_friends_events, 1);
    apply(target, event, turn->settings->friends_show_away);
    if (target->known)
        show(shard, target, target->since_ms, false, turn);
    else
        target_drop_unused(shard, target, hash);
}

/* --- what the store says ---------------------------------------------------------------------- */

static void take_row(struct watch_shard *shard, const struct watch_look *row, uint64_t presence_seq,
                     struct turn *turn)
{
    struct target *target = target_at(shard, row->target);
    if (target->seq <= presence_seq) {
        target->seq = presence_seq;
        target->state = row->state;
        target->epoch = row->epoch;
        target->since_ms = row->since_ms;
        drop_old_status(target);
    } else if (!target->known && target->since_ms == 0 && target->epoch == row->epoch) {
        target->since_ms = row->since_ms;
    }
    bool first = !target->known;
    target->known = target->count > 0;
    if (target->known)
        show(shard, target, target->since_ms, first, turn);
}

static void take_looked(struct watch_shard *shard, const struct watch_look_message *looked,
                        struct turn *turn)
{
    CHECK(shard->looking);
    shard->looking = false;
    shard->look_again_ms = looked->failed ? turn->now_ms + RETRY_MS : 0;
    for (uint32_t i = 0; i < looked->count; i++) {
        const struct watch_look *row = &looked->rows[i];
        struct target *target = target_at(shard, row->target);
        bool again = looked->failed || target->looks == LOOKS_AGAIN;
        CHECK(target->looks == LOOKS_ASKED || target->looks == LOOKS_AGAIN);
        target->looks = LOOKS_NOT;
        if (again && target->count > 0)
            target_queue_look(shard, target);
        else if (!again)
            take_row(shard, row, looked->presence_seq, turn);
        target_drop_unused(shard, target, watch_hash(turn->settings, bytes_of_text(row->user)));
    }
}

/* Events are missing, of anybody. What stands here stays until the store has answered. */
static void take_stale(struct watch_shard *shard, const struct watch_stale_message *message,
                       struct turn *turn)
{
    atomic_fetch_and_explicit(&turn->counters->watch_stale, ~(UINT64_C(1) << message->number),
                              memory_order_seq_cst);
    turn_count(turn, METRIC_friends_stale, 1);
    LOG(turn->log, FRIENDS_STALE, LOG_U("shard", message->number), LOG_U("targets", shard->count));
    for (uint32_t i = 0; i < shard->top; i++)
        if (shard->targets[i].record != NULL && shard->targets[i].count > 0)
            target_queue_look(shard, &shard->targets[i]);
}

/* The next ones that wait. Who has lost his last watcher meanwhile is asked for all the same. */
static void look(struct watch_shard *shard, struct turn *turn)
{
    struct target *targets[WATCH_LOOK_MAX];
    uint32_t count = 0;
    while (count < WATCH_LOOK_MAX && (targets[count] = target_take_look(shard)) != NULL)
        count++;
    struct watch_look_message *message = watch_look_create(count);
    message->shard = turn->self;
    for (uint32_t i = 0; i < count; i++) {
        struct bytes name = watch_record_name(targets[i]->record);
        CHECK(name.size < sizeof(message->rows[i].user));
        message->rows[i].target = target_number(shard, targets[i]);
        bytes_put((uint8_t *)message->rows[i].user, name);
    }
    shard->looking = true;
    turn_effect(turn, EFFECT_LOOK_UP, 0)->message = &message->header;
}

/* --- the turn --------------------------------------------------------------------------------- */

/* To at most so many who have not been told yet. */
static uint32_t tell_some(struct target *target, uint32_t most, struct turn *turn)
{
    uint32_t left = target->count - target->told;
    uint32_t count = left < most ? left : most;
    for (uint32_t done = 0; done < count;) {
        struct message_block *block;
        struct watched_message *message;
        uint32_t some = count - done < MESSAGE_BLOCK_MAX ? count - done : MESSAGE_BLOCK_MAX;
        MEMORY_MUST(
            (block = message_block_create(some, sizeof(*message), &target->record->header)) != NULL,
            "friends");
        while ((message = message_block_next(block, MESSAGE_WATCHED)) != NULL) {
            struct watcher watcher = target->watchers[target->told++];
            message->pair = (struct watched){watcher.position, watcher.serial, WATCHED_STATE, 0};
            turn_post(turn, watcher.user, &message->header);
            done++;
        }
        message_block_close(block);
    }
    return count;
}

static void tell(struct watch_shard *shard, struct turn *turn)
{
    struct target *target;
    for (uint32_t left = TELL_MAX; (target = target_first_telling(shard)) != NULL;) {
        if (left == 0) {
            turn_post(turn, turn->self, message_create(MESSAGE_WATCH_MORE, sizeof(struct message)));
            return;
        }
        if (target->known) /* or those who watch him now wait for his first state */
            left -= tell_some(target, left, turn);
        if (target->known && target->told < target->count)
            continue;
        target_end_telling(shard);
        target_drop_unused(shard, target,
                           watch_hash(turn->settings, watch_record_name(target->record)));
    }
}

/* After a failure not at once again, but then. */
static void arm(struct watch_shard *shard, struct turn *turn)
{
    if (shard->timer_ms != 0 && shard->timer_ms <= shard->look_again_ms)
        return;
    shard->timer_ms = shard->look_again_ms;
    turn_effect(turn, EFFECT_TIMER, shard->timer_ms);
}

void watch_finish(struct watch_place *place, struct turn *turn)
{
    struct watch_shard *shard = place->shard;
    if (shard == NULL)
        return;
    tell(shard, turn);
    if (shard->looking || shard->look.first == 0)
        return;
    if (shard->look_again_ms > turn->now_ms)
        arm(shard, turn);
    else
        look(shard, turn);
}

static struct watch_shard *create(void)
{
    struct watch_shard *shard;
    MEMORY_MUST((shard = calloc(1, sizeof(*shard))) != NULL, "friends");
    return shard;
}

int watch_claim(struct registry *registry, const struct behaviour *behaviour,
                const actor_handle **shards)
{
    actor_handle *all = calloc(WATCH_SHARDS, sizeof(*all));
    *shards = all;
    if (all == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < WATCH_SHARDS; i++) {
        char name[WATCH_NAME_BYTES];
        watch_name(i, name);
        all[i] = registry_claim(registry, name, strlen(name), behaviour);
        if (all[i] == 0)
            return -ENOMEM;
    }
    return 0;
}

void watch_receive(struct watch_place *place, struct message *message, struct turn *turn)
{
    if (place->shard == NULL)
        place->shard = create();
    struct watch_shard *shard = place->shard;
    switch ((enum message_kind)message->kind) {
    case MESSAGE_WATCH:
        watch(shard, (const struct watch_message *)message, turn);
        break;
    case MESSAGE_UNWATCH:
        unwatch(shard, (const struct watch_message *)message);
        break;
    case MESSAGE_WATCH_STATUS:
        take_status(shard, (struct watch_status_message *)message, turn);
        return;
    case MESSAGE_WATCH_EVENT:
        take_event(shard, (const struct watch_event_message *)message, turn);
        break;
    case MESSAGE_WATCH_LOOKED:
        take_looked(shard, (const struct watch_look_message *)message, turn);
        break;
    case MESSAGE_WATCH_STALE:
        take_stale(shard, (const struct watch_stale_message *)message, turn);
        break;
    case MESSAGE_TICK:
        shard->timer_ms = 0;
        break;
    case MESSAGE_MOVED:
        watch_moved(shard, message, turn);
        break;
    case MESSAGE_WATCH_MORE:
    case MESSAGE_STOP:
        break;
    default: /* a command or a link that names this actor: there is no such user, and no instance */
        bounce(message, turn);
        return;
    }
    message_destroy(message);
}

void watch_clear(struct watch_place *place)
{
    if (place->shard == NULL)
        return;
    targets_fini(place->shard);
    free(place->shard);
    place->shard = NULL;
}
