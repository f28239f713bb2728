/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "persist/stored_private.h"

/* Making room in the log: its oldest values are read, what lives of them is written again at the
 * end and they are dropped, in one transaction. It is due while the log is larger than
 * inbox.log_spare times what lives, or something in it is dead and it has three quarters of its
 * part of the map, or the last message found no room: the store counts by pages, and may be full
 * sooner.
 *
 * A transaction cleans CLEAN_BYTES of old values, or four times what it takes in where that is
 * more: two thirds of them are dead when the spare is three, so it frees more than comes, whatever
 * comes, and the log cannot outgrow it; in a map that is nearly full of what lives, less is dead,
 * and what comes is refused before the room for cleaning is taken (stored_admit.c, and the store,
 * which knows its pages). If what lives of all that was read finds no room nevertheless, the oldest
 * values are dropped of which it did, and there is more room for the next transaction.
 *
 * Since the oldest go first, what is said by an entry about those before it (DONE) is said of
 * nothing when it becomes the oldest, and is dropped. What has to outlive its message is its tag,
 * for ten minutes, and that something was lost, until its receiver has been told: they get entries
 * of their own when the entry of the message goes. */

enum {
    TIMES_WHAT_COMES = 4,
    PART_AT_ONCE = 16, /* of a small log: what is written again must find room */
};

static uint64_t living(const struct stored *stored)
{
    return stored->index.live_bytes + stored->index.other_bytes;
}

bool clean_is_due(struct stored *stored)
{
    lock_take(&stored->lock);
    uint64_t live = living(stored);
    lock_give(&stored->lock);
    uint64_t bytes = stored->log_bytes, room = stored_room_max(stored);
    bool is_large = bytes > live * inbox_log_spare(stored->options.limits);
    bool is_crowded = stored->log_room > room - room / 4 || stored->refusing != NULL;
    bool is_full = is_crowded && bytes > live + live / 8;
    return bytes > CLEAN_FLOOR_BYTES && (is_large || is_full);
}

/* --- reading ---------------------------------------------------------------------------------- */

struct reading {
    struct plan *plan;
    uint64_t budget;
};

static bool take_old(void *context, uint64_t number, struct bytes value)
{
    struct reading *reading = context;
    struct plan *plan = reading->plan;
    if (plan->values.count > 0 && plan->old.size + value.size > reading->budget)
        return false;
    struct old_value *old = LIST_ADD(&plan->values);
    *old = (struct old_value){number, plan->old.size, value.size, value.data == NULL};
    if (value.data != NULL)
        MEMORY_MUST(buffer_append(&plan->old, value.data, value.size) == 0, "old values");
    /* What is damaged counts as large, so that a long row of such is not taken at once. */
    reading->budget -=
        old->damaged && reading->budget > STORE_LOG_VALUE_BYTES ? STORE_LOG_VALUE_BYTES : 0;
    return plan->old.size < reading->budget;
}

/* --- what lives of an entry ------------------------------------------------------------------- */

struct source {
    struct stored *stored;
    const struct log_entry *entry;
    uint64_t number;
    uint32_t offset;
};

static struct moving *add_moving(const struct source *source, enum log_entry_kind kind)
{
    struct plan *plan = &source->stored->plan;
    struct moving *moving = LIST_ADD(&plan->moving);
    moving->entry = *source->entry;
    moving->entry.kind = kind;
    moving->entry.receiver_count = 0;
    moving->entry.receivers = (struct bytes){0};
    moving->old_number = source->number;
    moving->old_offset = source->offset;
    moving->names_at = plan->names.size;
    if (kind != LOG_ENTRY_KEPT)
        moving->entry.payload = moving->entry.traceparent = (struct bytes){0};
    return moving;
}

static void add_receiver(struct plan *plan, uint32_t moving, struct bytes receiver)
{
    struct log_entry *entry = &plan->moving.items[moving].entry;
    uint8_t *to;
    MEMORY_MUST((to = buffer_reserve(&plan->names, 1 + receiver.size)) != NULL, "names");
    *to = (uint8_t)receiver.size;
    bytes_put(to + 1, receiver);
    plan->names.size += 1 + receiver.size;
    entry->receivers.size += 1 + receiver.size;
    entry->receiver_count++;
}

static void add_alone(const struct source *source, enum log_entry_kind kind, uint64_t mid,
                      struct bytes receiver)
{
    struct plan *plan = &source->stored->plan;
    struct moving *moving = add_moving(source, kind);
    moving->entry.mid = mid;
    if (kind == LOG_ENTRY_LOST) {
        moving->entry.tag = 0;
        moving->entry.sender = (struct bytes){0};
        moving->entry.from_service = false;
        moving->entry.time_ms = plan->wall_ms;
    }
    add_receiver(plan, plan->moving.count - 1, receiver);
}

static bool tag_lives(const struct source *source, struct bytes receiver)
{
    struct stored *stored = source->stored;
    const struct log_entry *entry = source->entry;
    if (entry->tag == 0)
        return false;
    const struct tag *tag = tag_find(
        stored, stored_tag_key(stored, entry->from_service, entry->sender, receiver, entry->tag));
    return tag != NULL && !tag->unproven && tag->mid == entry->mid;
}

static bool message_lives(const struct source *source, uint64_t key)
{
    const struct place *place = index_place(source->stored, key, source->entry->mid);
    if (place == NULL || place->number != source->number || place->offset != source->offset)
        return false;
    if (place->expires_s > source->stored->plan.now_s)
        return true;
    index_expire(source->stored, key, source->stored->plan.now_s);
    return false;
}

/* A message that goes: what has to be said of it from now on. */
static void bury(const struct source *source, uint64_t key, struct bytes receiver)
{
    struct lost *loss = bank_find(&source->stored->index.losses, key);
    if (tag_lives(source, receiver))
        add_alone(source, LOG_ENTRY_TAG, source->entry->mid, receiver);
    if (loss == NULL || loss->planned || loss->number != 0 || loss->mid < source->entry->mid)
        return;
    loss->planned = true;
    add_alone(source, LOG_ENTRY_LOST, loss->mid, receiver);
}

static void look_at_message(const struct source *source)
{
    struct plan *plan = &source->stored->plan;
    struct bytes receivers = source->entry->receivers, receiver;
    struct buffer *living = &plan->living;
    uint32_t count = 0;
    living->size = 0;
    while (log_receiver_next(&receivers, &receiver)) {
        uint64_t key = stored_key(source->stored, receiver);
        if (!message_lives(source, key)) {
            bury(source, key, receiver);
            continue;
        }
        uint8_t size = (uint8_t)receiver.size;
        MEMORY_MUST(buffer_append(living, &size, 1) == 0, "names");
        MEMORY_MUST(buffer_append(living, receiver.data, receiver.size) == 0, "names");
        count++;
    }
    if (count == 0)
        return;
    struct moving *moving = add_moving(source, LOG_ENTRY_KEPT);
    moving->entry.receiver_count = count;
    moving->entry.receivers.size = living->size;
    MEMORY_MUST(buffer_append(&plan->names, living->data, living->size) == 0, "names");
}

static void look_at_entry(const struct source *source)
{
    const struct log_entry *entry = source->entry;
    struct bytes receivers = entry->receivers, receiver;
    if (entry->kind == LOG_ENTRY_KEPT) {
        look_at_message(source);
        return;
    }
    while (entry->kind != LOG_ENTRY_DONE && log_receiver_next(&receivers, &receiver)) {
        uint64_t key = stored_key(source->stored, receiver);
        const struct lost *loss = bank_find(&source->stored->index.losses, key);
        if (entry->kind == LOG_ENTRY_TAG
                ? tag_lives(source, receiver)
                : loss != NULL && loss->number == source->number && loss->mid == entry->mid)
            add_alone(source, entry->kind, entry->mid, receiver);
    }
}

static void look_at_value(struct stored *stored, const struct old_value *value)
{
    struct bytes rest = {stored->plan.old.data + value->at, value->damaged ? 0 : value->size};
    struct log_entry entry;
    while (rest.size > 0) {
        uint32_t offset = (uint32_t)(value->size - rest.size);
        if (!log_entry_read(&rest, &entry))
            break; /* told when it was read at the start, or by who reads it */
        const struct source source = {stored, &entry, value->number, offset};
        look_at_entry(&source);
    }
}

void clean_plan(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    uint64_t part = stored_room_max(stored) / PART_AT_ONCE;
    struct reading reading = {plan, stored->clean_bytes < part ? stored->clean_bytes : part};
    if (!clean_is_due(stored))
        return;
    if (plan->bytes * TIMES_WHAT_COMES > reading.budget)
        reading.budget = plan->bytes * TIMES_WHAT_COMES;
    if (store_read_log(stored->options.store, stored->log_first, take_old, &reading) != 0)
        plan->values.count = 0;
    lock_take(&stored->lock);
    for (uint32_t i = 0; i < plan->values.count; i++)
        look_at_value(stored, &plan->values.items[i]);
    lock_give(&stored->lock);
}

/* --- how it ended ----------------------------------------------------------------------------- */

static void move_tag(struct stored *stored, const struct log_entry *entry, struct bytes receiver,
                     uint16_t bytes)
{
    uint64_t key = stored_tag_key(stored, entry->from_service, entry->sender, receiver, entry->tag);
    struct tag *tag = bank_find(&stored->index.tags, key);
    if (tag != NULL && tag->mid == entry->mid)
        tag_place(stored, tag, bytes);
}

static void apply_moving(struct stored *stored, const struct moving *moving)
{
    const struct log_entry *entry = &moving->entry;
    uint16_t bytes = (uint16_t)log_entry_size(entry);
    struct bytes receivers = entry->receivers, receiver;
    while (log_receiver_next(&receivers, &receiver)) {
        uint64_t key = stored_key(stored, receiver);
        if (entry->kind == LOG_ENTRY_KEPT)
            index_move(stored, key, receiver, moving);
        else if (entry->kind == LOG_ENTRY_LOST)
            index_place_loss(stored, key, entry->mid, moving->number, bytes);
        else
            move_tag(stored, entry, receiver, bytes);
    }
}

void clean_undo(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    CHECK(lock_held(&stored->lock));
    for (uint32_t i = 0; i < plan->moving.count; i++) {
        struct bytes receivers = plan->moving.items[i].entry.receivers, receiver;
        receivers.data = plan->names.data + plan->moving.items[i].names_at;
        while (log_receiver_next(&receivers, &receiver)) {
            struct lost *loss = bank_find(&stored->index.losses, stored_key(stored, receiver));
            if (loss != NULL)
                loss->planned = false;
        }
    }
}

void clean_apply(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    clean_undo(stored);
    for (uint32_t i = 0; i < plan->moving.count; i++)
        if (plan->moving.items[i].number != 0)
            apply_moving(stored, &plan->moving.items[i]);
    for (uint32_t i = 0; i < plan->dropped; i++)
        if (plan->values.items[i].damaged)
            stored_damaged(stored, plan->values.items[i].number);
    stored_count(stored, METRIC_log_cleaned_bytes, plan->moved_bytes);
}
