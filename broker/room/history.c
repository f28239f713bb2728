/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "proto/broker_frame.h"
#include "room/private.h"

/* What the room still has of its messages: the very bundles that were posted, so a history costs
 * the bytes of its messages once, whoever else holds them. It goes by whole bundles, and may have
 * some messages more than it says: history_first says what counts.
 *
 * Anybody who may make rooms may fill histories, and they would fill the memory of all: from half
 * of the budget on no room keeps any, and who was away is told PARTIAL. */

enum { KEPT_MAX = ROOM_HISTORY_MESSAGES_MAX + ROOM_BUNDLE_MAX };

struct room_bundle *history_at(const struct room *room, uint32_t i)
{
    return room->kept[(room->kept_first + i) % KEPT_MAX];
}

static uint64_t last_of(const struct room_bundle *bundle)
{
    return bundle->first + bundle->count - 1;
}

static void drop_oldest(struct room *room)
{
    struct room_bundle *bundle = history_at(room, 0);
    room->kept_messages -= bundle->count;
    room->kept_bytes -= bundle->size;
    room->kept_first = (room->kept_first + 1) % KEPT_MAX;
    room->kept_count--;
    shared_release(&bundle->shared);
}

/* The oldest one can go, and the others are still as many as are wanted. */
static bool is_spare(const struct room *room)
{
    return room->kept_count > 0 &&
           (room->kept_messages - history_at(room, 0)->count >= room->class.history_messages ||
            room->kept_bytes > ROOM_HISTORY_BYTES_MAX);
}

static void drop_all(struct room *room)
{
    while (room->kept_count > 0)
        drop_oldest(room);
}

void history_put(struct room *room, struct room_bundle *bundle)
{
    if (room->kept == NULL) {
        size_t bytes = KEPT_MAX * sizeof(*room->kept);
        MEMORY_MUST((room->kept = malloc(bytes)) != NULL, "a history");
        memory_account(MEMORY_OF_ROOM_HISTORIES, (int64_t)bytes);
    }
    CHECK(room->kept_count < KEPT_MAX);
    room->kept[(room->kept_first + room->kept_count++) % KEPT_MAX] = bundle;
    room->kept_messages += bundle->count;
    room->kept_bytes += bundle->size;
}

void history_keep(struct room *room, struct room_bundle *bundle)
{
    CHECK(bundle->kind == ROOM_MESSAGES && last_of(bundle) == room->sealed);
    bool keeps = room->class.history_messages > 0 && !memory_half_held();
    if (!keeps)
        drop_all(room);
    if (keeps) {
        shared_hold(&bundle->shared);
        history_put(room, bundle);
    }
    while (is_spare(room))
        drop_oldest(room);
}

void history_age(struct room *room, uint64_t now_ms)
{
    while (room->kept_count > 0 && history_at(room, 0)->time_ms + room->class.history_ms <= now_ms)
        drop_oldest(room);
}

uint64_t history_due_ms(const struct room *room)
{
    return room->kept_count > 0 ? history_at(room, 0)->time_ms + room->class.history_ms
                                : UINT64_MAX;
}

uint64_t history_first(const struct room *room)
{
    if (room->kept_count == 0 || room->class.history_messages == 0)
        return room->sealed + 1;
    uint64_t first = history_at(room, 0)->first;
    uint64_t most = room->class.history_messages;
    return room->sealed - first + 1 > most ? room->sealed - most + 1 : first;
}

/* The messages of a bundle that are behind `offset`. */
static void replay_bundle(const struct room_bundle *bundle, uint64_t offset, struct buffer *out)
{
    if (bundle->first > offset) {
        MEMORY_MUST(buffer_append(out, bundle->bytes, bundle->size) == 0, "a history");
        return;
    }
    uint32_t skip = bundle->ends[offset - bundle->first];
    const struct bytes items = {bundle->bytes + skip, bundle->size - skip};
    MEMORY_MUST(broker_frame_room_messages(out, room_number(bundle->room), offset + 1, items) == 0,
                "a history");
}

uint64_t history_replay(const struct room *room, uint64_t offset, uint32_t bytes_max,
                        struct buffer *out)
{
    size_t before = out->size;
    CHECK(offset + 1 >= history_first(room));
    for (uint32_t i = 0; i < room->kept_count; i++) {
        const struct room_bundle *bundle = history_at(room, i);
        if (last_of(bundle) <= offset)
            continue;
        if (out->size > before && out->size - before + bundle->size > bytes_max)
            break;
        replay_bundle(bundle, offset, out);
        offset = last_of(bundle);
    }
    return offset;
}

void history_free(struct room *room)
{
    drop_all(room);
    if (room->kept != NULL)
        memory_account(MEMORY_OF_ROOM_HISTORIES, -(int64_t)(KEPT_MAX * sizeof(*room->kept)));
    free(room->kept);
}
