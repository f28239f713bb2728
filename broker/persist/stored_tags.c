/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "persist/stored_private.h"

/* Tags that have been seen: a message with the tag of one before it, of the same sender and for the
 * same receiver, within ten minutes is that one, and not stored again. A tag lies in the entry of
 * its message, and when that goes in an entry of its own, so a start finds it again. How old it is
 * goes by the wall clock, as all that lies on disk.
 *
 * There are as many as messages may be stored, at most; with more a message is refused that has one
 * (BUSY), because it could not be known again. What has become old is looked for in a walk that
 * goes round, faster than it can fill. */

enum { SWEEP_ROWS = 2048 };

uint64_t stored_tag_key(const struct stored *stored, bool from_service, struct bytes sender,
                        struct bytes receiver, uint64_t tag)
{
    uint8_t text[sizeof(tag) + 2 + 2 * STORE_NAME_BYTES_MAX];
    uint8_t *end = text;
    CHECK(sender.size <= STORE_NAME_BYTES_MAX && receiver.size <= STORE_NAME_BYTES_MAX);
    end = bytes_put(end, (struct bytes){(const uint8_t *)&tag, sizeof(tag)});
    *end++ = from_service;
    *end++ = (uint8_t)sender.size;
    end = bytes_put(end, sender);
    end = bytes_put(end, receiver);
    uint64_t key = hash_keyed(stored->hash_key, text, (size_t)(end - text));
    return key != 0 ? key : 1;
}

uint32_t tag_until_s(uint64_t time_ms)
{
    return (uint32_t)((time_ms + TAG_MS + 999) / 1000);
}

void tag_drop(struct stored *stored, struct tag *tag)
{
    CHECK(stored->index.other_bytes >= tag->bytes);
    stored->index.other_bytes -= tag->bytes;
    bank_remove(&stored->index.tags, tag);
}

struct tag *tag_find(struct stored *stored, uint64_t key, uint32_t now_s)
{
    CHECK(lock_held(&stored->lock));
    struct tag *tag = bank_find(&stored->index.tags, key);
    if (tag == NULL || tag->until_s > now_s)
        return tag;
    tag_drop(stored, tag);
    return NULL;
}

bool tags_are_full(struct stored *stored)
{
    return stored->index.tags.count >= inbox_stored_total(stored->options.limits);
}

void tag_set(struct stored *stored, uint64_t key, uint64_t mid, uint64_t time_ms, uint16_t bytes)
{
    CHECK(lock_held(&stored->lock));
    struct tag *tag = bank_take(&stored->index.tags, key);
    stored->index.other_bytes += bytes;
    stored->index.other_bytes -= tag->bytes;
    tag->mid = mid;
    tag->bytes = bytes & 0x3FF;
    tag->until_s = tag_until_s(time_ms);
}

void tags_sweep(struct stored *stored, uint32_t now_s)
{
    struct index *index = &stored->index;
    uint32_t looks = SWEEP_ROWS;
    for (struct tag *tag; (tag = bank_walk(&index->tags, &index->tags_swept, &looks)) != NULL;)
        if (tag->until_s <= now_s && !tag->unproven)
            tag_drop(stored, tag);
}
