/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "persist/stored_private.h"

/* Tags that have been seen: a message with the tag of one before it, of the same sender and for the
 * same receiver, within ten minutes is that one, and not stored again. A tag lies in the entry of
 * its message, and when that goes in an entry of its own, so a start finds it again. How old it is
 * goes by a clock that nobody sets; only at a start the wall clock has to say how long ago it was
 * that an entry was written, and one that is said to come from the future is new.
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

void tag_drop(struct stored *stored, struct tag *tag)
{
    CHECK(stored->index.other_bytes >= tag->bytes);
    stored->index.other_bytes -= tag->bytes;
    bank_remove(&stored->index.tags, tag);
}

struct tag *tag_find(struct stored *stored, uint64_t key)
{
    CHECK(lock_held(&stored->lock));
    struct tag *tag = bank_find(&stored->index.tags, key);
    if (tag == NULL || tag->until_s > stored->plan.now_ms / 1000)
        return tag;
    tag_drop(stored, tag);
    return NULL;
}

bool tags_are_full(struct stored *stored, const struct deliver_message *message)
{
    uint64_t all = inbox_stored_total(stored->options.limits);
    return stored->index.tags.count >= stored_part_for(message, all);
}

void tag_place(struct stored *stored, struct tag *tag, uint16_t bytes)
{
    stored->index.other_bytes += bytes;
    stored->index.other_bytes -= tag->bytes;
    tag->bytes = bytes & 0x3FF;
}

uint32_t tag_until_s(uint64_t now_ms, uint64_t age_ms)
{
    enum { UP_MS = 999 };
    return age_ms < TAG_MS + UP_MS ? (uint32_t)((now_ms + TAG_MS + UP_MS - age_ms) / 1000) : 0;
}

struct tag *tag_set(struct stored *stored, uint64_t key, uint64_t mid, uint32_t until_s)
{
    CHECK(lock_held(&stored->lock));
    struct tag *tag = bank_take(&stored->index.tags, key);
    tag_place(stored, tag, 0);
    tag->mid = mid;
    tag->until_s = until_s;
    return tag;
}

void tags_sweep(struct stored *stored)
{
    uint64_t now_s = stored->plan.now_ms / 1000;
    struct index *index = &stored->index;
    uint32_t looks = SWEEP_ROWS;
    for (struct tag *tag; (tag = bank_walk(&index->tags, &index->tags_swept, &looks)) != NULL;)
        if (tag->until_s <= now_s && !tag->unproven)
            tag_drop(stored, tag);
}
