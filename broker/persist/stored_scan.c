/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "persist/stored_private.h"

/* The log, read from its beginning, says what the index is: each entry acts on what stands before
 * it, so the order in which they were written is the order in which they are read. A message that
 * is written again by a cleaning stands behind what was done before it and was not about it; what
 * is done in the same transaction stands behind that again (stored_write.c).
 *
 * A value that is damaged costs what is in it: counted, told, and the rest is read. */

struct scan {
    struct stored *stored;
    uint64_t now_ms, wall_ms;
    uint32_t now_s; /* of the wall clock */
    uint64_t room;  /* that the values take */
};

static void add_kept(struct scan *scan, const struct log_entry *entry, struct bytes receiver,
                     uint64_t number, uint32_t offset)
{
    struct stored *stored = scan->stored;
    uint64_t key = stored_key(stored, receiver);
    bool shared = entry->receiver_count > 1;
    uint64_t bytes = log_entry_size(entry) - entry->receivers.size;
    const struct place place = {
        .mid = entry->mid,
        .number = number,
        .offset = offset & OFFSET_MAX,
        .head = place_head(shared, bytes, entry->payload.size, receiver.size) & HEAD_MAX,
        .service = entry->from_service,
        .shared = shared,
        .expires_s = (uint32_t)(entry->expires_ms / 1000),
        .size = (uint32_t)entry->payload.size};
    if (place.expires_s > scan->now_s)
        index_add(stored, key, &place, (uint32_t)bytes);
    else
        index_lose(stored, key, entry->mid);
}

static void add_tag(struct scan *scan, const struct log_entry *entry, struct bytes receiver)
{
    struct stored *stored = scan->stored;
    uint64_t age_ms = scan->wall_ms > entry->time_ms ? scan->wall_ms - entry->time_ms : 0;
    uint32_t until_s = tag_until_s(scan->now_ms, age_ms);
    if (until_s <= scan->now_ms / 1000)
        return;
    uint64_t key = stored_tag_key(stored, entry->from_service, entry->sender, receiver, entry->tag);
    struct tag *tag = tag_set(stored, key, entry->mid, until_s);
    if (entry->kind == LOG_ENTRY_TAG)
        tag_place(stored, tag, (uint16_t)log_entry_size(entry));
}

static void add_loss(struct scan *scan, const struct log_entry *entry, struct bytes receiver,
                     uint64_t number)
{
    struct stored *stored = scan->stored;
    uint64_t key = stored_key(stored, receiver);
    index_lose(stored, key, entry->mid);
    index_place_loss(stored, key, entry->mid, number, (uint16_t)log_entry_size(entry));
    struct lost *loss = bank_find(&stored->index.losses, key);
    if (loss != NULL && loss->number == number)
        loss->since_s = (uint32_t)(entry->time_ms / 1000);
}

static void take_entry(struct scan *scan, const struct log_entry *entry, uint64_t number,
                       uint32_t offset)
{
    struct stored *stored = scan->stored;
    struct bytes receivers = entry->receivers, receiver;
    while (log_receiver_next(&receivers, &receiver)) {
        switch (entry->kind) {
        case LOG_ENTRY_KEPT:
            add_kept(scan, entry, receiver, number, offset);
            break;
        case LOG_ENTRY_DONE:
            index_done(stored, stored_key(stored, receiver), entry->mid);
            index_told(stored, stored_key(stored, receiver), entry->mid);
            break;
        case LOG_ENTRY_LOST:
            add_loss(scan, entry, receiver, number);
            break;
        case LOG_ENTRY_TAG:
            break;
        }
        if (entry->tag != 0)
            add_tag(scan, entry, receiver);
    }
}

static bool take_value(void *context, uint64_t number, struct bytes value)
{
    struct scan *scan = context;
    struct bytes rest = value;
    struct log_entry entry;
    scan->room += stored_room_of(value.size);
    while (value.data != NULL && rest.size > 0) {
        uint32_t offset = (uint32_t)(value.size - rest.size);
        if (!log_entry_read(&rest, &entry) || offset > OFFSET_MAX)
            break;
        take_entry(scan, &entry, number, offset);
    }
    if (value.data == NULL || rest.size > 0)
        stored_damaged(scan->stored, number);
    return true;
}

/* Into an index of its own, so that nobody who looks waits for the disk meanwhile. */
static int scan_into(struct stored *fresh, struct scan *scan)
{
    lock_init(&fresh->lock);
    lock_take(&fresh->lock);
    index_init(&fresh->index);
    int error = store_read_log(fresh->options.store, 0, take_value, scan);
    if (error != 0)
        index_empty(fresh);
    lock_give(&fresh->lock);
    lock_destroy(&fresh->lock);
    return error;
}

int stored_scan(struct stored *stored)
{
    struct stored *fresh;
    struct store_position position;
    int error = store_position(stored->options.store, &position);
    if (error != 0)
        return error;
    MEMORY_MUST((fresh = calloc(1, sizeof(*fresh))) != NULL, "an index");
    fresh->options = stored->options;
    memcpy(fresh->hash_key, stored->hash_key, sizeof(fresh->hash_key));
    struct scan scan = {.stored = fresh,
                        .now_ms = env_monotonic_ms(stored->options.env),
                        .wall_ms = env_wall_ms(stored->options.env)};
    scan.now_s = (uint32_t)(scan.wall_ms / 1000);
    error = scan_into(fresh, &scan);
    if (error == 0) {
        lock_take(&stored->lock);
        index_empty(stored);
        stored->index = fresh->index;
        lock_give(&stored->lock);
        stored->log_first = position.log_first;
        stored->log_last = position.log_last;
        stored->log_values = position.log_values;
        atomic_store(&stored->log_bytes, position.log_bytes);
        atomic_store(&stored->log_room, scan.room);
        stored->doubtful = false;
    }
    free(fresh);
    return error;
}
