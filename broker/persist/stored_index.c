/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "persist/stored_private.h"

/* Who has what, and where: for each user the places of his messages in order of mid, and what is
 * known to be lost to him. Names are not in it: a name is known by a hash with a random key, and
 * two of 2^64 are not met by chance, nor by somebody who tries.
 *
 * An entry for several receivers lives as long as one of them has not had it; a row for each such
 * entry counts them. So what lives is known, to some bytes for each message, with names and all:
 * who believed less to live than does would clean without end, since no cleaning makes less of it.
 *
 * Expiry takes messages out of the index and writes nothing: the entry itself says when it ends, so
 * a start comes to the same result. Only when the entry is cleaned away it has to be written that
 * something was lost (stored_clean.c). What expires is looked for where it matters, and besides in
 * a walk that goes round by some rows in each transaction. */

enum { SWEEP_ROWS = 1024, SWEEP_PLACES = 4096, SWEEP_LOSSES = 256 };

uint64_t share_key(uint64_t number, uint32_t offset)
{
    return number << 16 | offset;
}

unsigned place_head(bool shared, uint64_t bytes, uint64_t payload, uint64_t name)
{
    uint64_t own = 1 + name + (shared ? 0 : bytes - payload);
    uint64_t units = (own + HEAD_UNIT - 1) / HEAD_UNIT;
    return units < HEAD_MAX ? (unsigned)units : HEAD_MAX;
}

/* Of the place alone, without a share. */
static uint64_t own_bytes(const struct place *place)
{
    return HEAD_UNIT * (uint64_t)place->head + (place->shared ? 0 : place->size);
}

/* The message counts where it is now; `bytes` are the entry's without its receivers. */
static void enter(struct index *index, const struct place *place, uint32_t bytes)
{
    index->live_bytes += own_bytes(place);
    if (!place->shared)
        return;
    struct share *share = bank_take(&index->shares, share_key(place->number, place->offset));
    if (share->live++ > 0)
        return;
    share->bytes = bytes;
    index->live_bytes += bytes;
}

static void leave(struct index *index, const struct place *place)
{
    uint64_t bytes = own_bytes(place);
    if (place->shared) {
        struct share *share = bank_find(&index->shares, share_key(place->number, place->offset));
        CHECK(share != NULL && share->live > 0);
        bytes += share->live == 1 ? share->bytes : 0;
        if (--share->live == 0)
            bank_remove(&index->shares, share);
    }
    CHECK(index->live_bytes >= bytes);
    index->live_bytes -= bytes;
}

struct box *index_box(struct stored *stored, uint64_t key)
{
    CHECK(lock_held(&stored->lock));
    return bank_find(&stored->index.boxes, key);
}

static struct place *first_of(const struct box *box)
{
    return box->places + box->first;
}

uint32_t index_seek(const struct box *box, uint64_t mid)
{
    uint32_t low = 0, high = box->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (first_of(box)[middle].mid < mid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct place *index_place(struct stored *stored, uint64_t key, uint64_t mid)
{
    struct box *box = index_box(stored, key);
    uint32_t at = box != NULL ? index_seek(box, mid) : 0;
    return box != NULL && at < box->count && first_of(box)[at].mid == mid ? first_of(box) + at
                                                                          : NULL;
}

uint32_t index_count_behind(struct stored *stored, uint64_t key, uint64_t mid)
{
    const struct box *box = index_box(stored, key);
    return box != NULL && mid < UINT64_MAX ? box->count - index_seek(box, mid + 1) : 0;
}

static void resize(struct box *box, uint32_t capacity)
{
    struct place *places = NULL;
    CHECK(capacity >= box->count);
    if (capacity > 0)
        MEMORY_MUST((places = malloc(capacity * sizeof(*places))) != NULL, "places");
    if (box->count > 0)
        memcpy(places, first_of(box), box->count * sizeof(*places));
    memory_account(MEMORY_OF_STORED,
                   ((int64_t)capacity - box->capacity) * (int64_t)sizeof(*places));
    free(box->places);
    box->places = places;
    box->first = 0;
    box->capacity = capacity;
}

static void make_room(struct box *box)
{
    if (box->first + box->count < box->capacity)
        return;
    if (box->first > box->count) {
        memmove(box->places, first_of(box), box->count * sizeof(*box->places));
        box->first = 0;
    } else {
        resize(box, box->count + box->count / 2 + 1);
    }
}

static void count_in_box(struct box *box, const struct place *place, bool comes)
{
    uint32_t size = comes ? place->size : 0 - place->size;
    uint32_t one = comes ? 1 : UINT32_MAX;
    box->service_count += place->service ? one : 0;
    box->service_bytes += place->service ? size : 0;
    box->bytes += place->service ? 0 : size;
}

void index_add(struct stored *stored, uint64_t key, const struct place *place, uint32_t bytes)
{
    CHECK(lock_held(&stored->lock));
    struct box *box = bank_take(&stored->index.boxes, key);
    uint32_t at = index_seek(box, place->mid);
    if (at < box->count && first_of(box)[at].mid == place->mid)
        return; /* a log of ours has no mid of a receiver twice */
    make_room(box);
    memmove(first_of(box) + at + 1, first_of(box) + at, (box->count - at) * sizeof(*place));
    first_of(box)[at] = *place;
    box->count++;
    count_in_box(box, place, true);
    stored->index.messages++;
    enter(&stored->index, place, bytes);
}

static void took(struct stored *stored, struct box *box, const struct place *place)
{
    leave(&stored->index, place);
    count_in_box(box, place, false);
    CHECK(stored->index.messages > 0);
    stored->index.messages--;
}

/* There are fewer in it now; it may be gone afterwards. */
static void settle_box(struct stored *stored, struct box *box)
{
    if (box->count == 0) {
        resize(box, 0);
        bank_remove(&stored->index.boxes, box);
    } else if (box->capacity > 8 && box->count < box->capacity / 4) {
        resize(box, box->capacity / 2);
    }
}

void index_forget(struct stored *stored, struct box *box, uint32_t at)
{
    CHECK(lock_held(&stored->lock) && at < box->count);
    took(stored, box, first_of(box) + at);
    memmove(first_of(box) + at, first_of(box) + at + 1,
            (box->count - at - 1) * sizeof(struct place));
    box->count--;
    settle_box(stored, box);
}

uint32_t index_done(struct stored *stored, uint64_t key, uint64_t mid)
{
    struct box *box = index_box(stored, key);
    uint32_t count = 0;
    if (box == NULL)
        return 0;
    while (box->count > 0 && first_of(box)->mid <= mid) {
        took(stored, box, first_of(box));
        box->first++;
        box->count--;
        count++;
    }
    settle_box(stored, box);
    return count;
}

void index_move(struct stored *stored, uint64_t key, struct bytes name, const struct moving *moving)
{
    const struct log_entry *entry = &moving->entry;
    uint64_t bytes = log_entry_size(entry) - entry->receivers.size;
    struct place *place = index_place(stored, key, entry->mid);
    if (place == NULL || place->number != moving->old_number || place->offset != moving->old_offset)
        return; /* done with, or expired, meanwhile */
    leave(&stored->index, place);
    place->number = moving->number;
    place->offset = moving->offset & OFFSET_MAX;
    place->shared = entry->receiver_count > 1;
    place->head = place_head(place->shared, bytes, entry->payload.size, name.size) & HEAD_MAX;
    enter(&stored->index, place, (uint32_t)bytes);
}

/* --- what is lost ----------------------------------------------------------------------------- */

void index_drop_loss(struct stored *stored, struct lost *loss)
{
    stored->index.other_bytes -= loss->bytes;
    bank_remove(&stored->index.losses, loss);
}

void index_lose(struct stored *stored, uint64_t key, uint64_t mid)
{
    struct bank *losses = &stored->index.losses;
    CHECK(lock_held(&stored->lock));
    struct lost *loss = bank_find(losses, key);
    if (loss == NULL && losses->count >= inbox_stored_total(stored->options.limits)) {
        stored_count(stored, METRIC_stored_losses_forgotten, 1);
        return;
    }
    if (loss == NULL)
        loss = bank_take(losses, key);
    if (loss->mid >= mid)
        return;
    stored->index.other_bytes -= loss->bytes;
    loss->mid = mid;
    loss->number = 0;
    loss->bytes = 0;
    loss->since_s = (uint32_t)(env_wall_ms(stored->options.env) / 1000);
}

void index_place_loss(struct stored *stored, uint64_t key, uint64_t mid, uint64_t number,
                      uint16_t bytes)
{
    CHECK(lock_held(&stored->lock));
    struct lost *loss = bank_find(&stored->index.losses, key);
    if (loss == NULL || loss->mid != mid)
        return; /* he was told, or has lost more */
    stored->index.other_bytes += bytes;
    stored->index.other_bytes -= loss->bytes;
    loss->number = number;
    loss->bytes = bytes;
}

void index_told(struct stored *stored, uint64_t key, uint64_t mid)
{
    CHECK(lock_held(&stored->lock));
    struct lost *loss = bank_find(&stored->index.losses, key);
    if (loss != NULL && loss->mid <= mid)
        index_drop_loss(stored, loss);
}

/* --- what expires ----------------------------------------------------------------------------- */

static bool has_expired(const struct box *box, uint32_t now_s)
{
    for (uint32_t i = 0; i < box->count; i++)
        if (first_of(box)[i].expires_s <= now_s)
            return true;
    return false;
}

void index_expire(struct stored *stored, uint64_t key, uint32_t now_s)
{
    struct box *box = index_box(stored, key);
    uint64_t lost = 0;
    uint32_t left = 0;
    if (box == NULL || !has_expired(box, now_s))
        return;
    for (uint32_t i = 0; i < box->count; i++) {
        const struct place *place = first_of(box) + i;
        if (place->expires_s > now_s) {
            first_of(box)[left++] = *place;
            continue;
        }
        lost = place->mid;
        took(stored, box, place);
    }
    stored_count(stored, METRIC_stored_expired, box->count - left);
    box->count = left;
    settle_box(stored, box);
    index_lose(stored, key, lost);
}

static void sweep_losses(struct stored *stored, uint32_t now_s)
{
    struct index *index = &stored->index;
    uint32_t looks = SWEEP_LOSSES;
    for (struct lost *loss;
         (loss = bank_walk(&index->losses, &index->losses_swept, &looks)) != NULL;) {
        if (now_s < loss->since_s || (now_s - loss->since_s) / 86400 < LOSS_DAYS)
            continue;
        stored_count(stored, METRIC_stored_losses_forgotten, 1);
        index_drop_loss(stored, loss);
    }
}

void index_sweep(struct stored *stored, uint32_t now_s)
{
    struct index *index = &stored->index;
    uint32_t looks = SWEEP_ROWS, places = 0;
    CHECK(lock_held(&stored->lock));
    while (places < SWEEP_PLACES) {
        const struct box *box = bank_walk(&index->boxes, &index->boxes_swept, &looks);
        if (box == NULL)
            break;
        places += box->count;
        index_expire(stored, box->key, now_s);
    }
    sweep_losses(stored, now_s);
}

void index_init(struct index *index)
{
    index->boxes.row_bytes = sizeof(struct box);
    index->shares.row_bytes = sizeof(struct share);
    index->losses.row_bytes = sizeof(struct lost);
    index->tags.row_bytes = sizeof(struct tag);
}

void index_empty(struct stored *stored)
{
    struct index *index = &stored->index;
    struct bank_place place = {0};
    uint32_t looks = UINT32_MAX;
    CHECK(lock_held(&stored->lock));
    for (uint64_t left = index->boxes.count; left > 0; left--) {
        struct box *box = bank_walk(&index->boxes, &place, &looks);
        CHECK(box != NULL);
        box->count = 0;
        resize(box, 0);
    }
    bank_empty(&index->boxes);
    bank_empty(&index->shares);
    bank_empty(&index->losses);
    bank_empty(&index->tags);
    index->messages = index->live_bytes = index->other_bytes = 0;
}
