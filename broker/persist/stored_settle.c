/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "client.pb-c.h"
#include "persist/stored_private.h"

/* How a transaction ended, for the index and for who waits: what was written is in it from now on,
 * or nothing is, and each message is UNAVAILABLE. A commit that failed leaves a doubt: the store
 * says before the next plan what it has. */

static void close_plan(struct plan *plan)
{
    const struct plan empty = {.coming = plan->coming,
                               .keeps = plan->keeps,
                               .notes = plan->notes,
                               .moving = plan->moving,
                               .values = plan->values,
                               .old = plan->old,
                               .names = plan->names,
                               .living = plan->living,
                               .receivers = plan->receivers,
                               .held_bytes = plan->held_bytes};
    *plan = empty;
    plan->coming.count = plan->keeps.count = plan->moving.count = plan->values.count = 0;
    plan->old.size = plan->names.size = plan->living.size = plan->receivers.size = 0;
    plan_count_buffers(plan);
}

/* What was damaged has no size for us, and has one for the store. */
static void look_at_log(struct stored *stored)
{
    struct store_position position;
    if (store_position(stored->options.store, &position) == 0)
        atomic_store(&stored->log_bytes, position.log_bytes);
}

void plan_over(struct stored *stored)
{
    lock_take(&stored->lock);
    stored->settling = false;
    lock_give(&stored->lock);
    pthread_cond_broadcast(&stored->settled);
    close_plan(&stored->plan);
}

static void enter_keep(struct stored *stored, struct keep *keep)
{
    struct plan *plan = &stored->plan;
    const struct coming *coming = &plan->coming.items[keep->entry];
    struct deliver_message *message = keep->message;
    if (coming->number == 0) {
        message->refusal = USHER__V1__ERROR__CODE__INBOX_FULL;
        stored_no_room(stored);
        return;
    }
    stored->refusing = NULL;
    bool shared = coming->receiver_count > 1;
    const struct place place = {
        .mid = coming->mid,
        .number = coming->number,
        .offset = coming->offset & OFFSET_MAX,
        .head =
            place_head(shared, coming->bytes, message->payload_size, strlen(keep->user)) & HEAD_MAX,
        .service = message->from_service,
        .shared = shared,
        .expires_s = (uint32_t)(expires_ms(stored, message) / 1000),
        .size = message->payload_size};
    index_add(stored, keep->key, &place, coming->bytes);
    stored_count(stored, METRIC_stored_accepted, 1);
}

/* Its tag holds from now on, or does not. */
static void prove_tag(struct stored *stored, const struct keep *keep, bool holds)
{
    struct tag *tag = keep->tag_key != 0 ? bank_find(&stored->index.tags, keep->tag_key) : NULL;
    if (tag == NULL)
        return;
    tag->unproven = 0;
    if (!holds)
        tag_drop(stored, tag);
}

static void repeat_keep(struct stored *stored, struct keep *keep)
{
    const struct plan *plan = &stored->plan;
    if (keep->entry != 0 && plan->coming.items[keep->entry - 1].number == 0) {
        keep->message->refusal = USHER__V1__ERROR__CODE__INBOX_FULL;
        stored_no_room(stored);
    } else {
        stored_count(stored, METRIC_stored_repeated, 1);
    }
}

static void settle_keeps(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    for (uint32_t i = 0; i < plan->keeps.count; i++) {
        struct keep *keep = &plan->keeps.items[i];
        if (keep->repeated) {
            repeat_keep(stored, keep);
            continue;
        }
        enter_keep(stored, keep);
        prove_tag(stored, keep, plan->coming.items[keep->entry].number != 0);
    }
}

/* For the notice of who is away. */
static void tell_counts(struct stored *stored)
{
    for (struct change *change = stored->plan.stores; change != NULL; change = change->next) {
        uint64_t key = stored_key(stored, bytes_of_text(change->event.user));
        change->stored_count = index_count_behind(stored, key, 0);
    }
}

static void refuse_keeps(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    for (uint32_t i = 0; i < plan->keeps.count; i++) {
        struct keep *keep = &plan->keeps.items[i];
        keep->message->refusal = USHER__V1__ERROR__CODE__UNAVAILABLE;
        keep->message->repeated = false;
        if (!keep->repeated)
            prove_tag(stored, keep, false);
    }
    stored_count(stored, METRIC_stored_refused_store, plan->keeps.count);
}

static void count_log(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    uint64_t dropped_bytes = 0, dropped_room = 0;
    for (uint32_t i = 0; i < plan->dropped; i++) {
        const struct old_value *value = &plan->values.items[i];
        dropped_bytes += value->size;
        dropped_room += stored_room_of(value->size);
        stored->log_first = value->number + 1;
        stored->log_values -= stored->log_values > 0;
    }
    if (plan->appended_values > 0)
        stored->log_last = plan->last_number;
    stored->log_values += plan->appended_values;
    stored->log_bytes += plan->appended_bytes;
    stored->log_room += plan->appended_room;
    stored->log_bytes -= dropped_bytes < stored->log_bytes ? dropped_bytes : stored->log_bytes;
    stored->log_room -= dropped_room < stored->log_room ? dropped_room : stored->log_room;
}

void stored_settle(struct stored *stored, int error)
{
    struct plan *plan = &stored->plan;
    CHECK(plan->open);
    lock_take(&stored->lock);
    if (error == 0) {
        clean_apply(stored);
        notes_apply(stored);
        settle_keeps(stored);
        tell_counts(stored);
        count_log(stored);
    } else {
        clean_undo(stored);
        refuse_keeps(stored);
        stored->doubtful = true;
    }
    lock_give(&stored->lock);
    if (error != 0)
        notes_give_back(stored);
    else if (plan->dropped > 0)
        look_at_log(stored);
    plan_over(stored);
    stored_tell_full(stored);
}

void stored_welcome(struct stored *stored, struct change *sessions)
{
    uint32_t now_s = (uint32_t)(env_wall_ms(stored->options.env) / 1000);
    lock_take(&stored->lock);
    for (; sessions != NULL; sessions = sessions->next) {
        if (sessions->kind != CHANGE_ATTACH && sessions->kind != CHANGE_RESUME)
            continue;
        uint64_t key = stored_key(stored, bytes_of_text(sessions->event.user));
        index_expire(stored, key, now_s);
        sessions->stored_count = index_count_behind(stored, key, sessions->last_mid);
        const struct lost *loss = bank_find(&stored->index.losses, key);
        sessions->stored_lost = loss != NULL && loss->mid > sessions->last_mid;
    }
    lock_give(&stored->lock);
}
