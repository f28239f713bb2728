/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "persist/stored_private.h"

/* What is to be noted of users: how far they have processed what is stored for them, what an
 * operator drops, what was lost to them. Nobody waits for it, so it is gathered until a transaction
 * comes along, or for a second; of each user one note, since a later one says what the earlier did.
 *
 * It is bounded by the number of users; one more is not taken. What he has processed then comes
 * again when he logs in next, as after a crash, and his client knows it by its mid; his next note
 * says it too. What is to be dropped, or was lost, nobody would say again: it is taken always, and
 * there are no more such than users who have something stored. A note goes back when its
 * transaction fails.
 *
 * A note that could not be written because the log is too full is done in memory all the same: what
 * it speaks of is dead then, the cleaning takes it away, and it makes the room that was missing. */

static bool make_note(struct stored *stored, const char *user, const struct note *note)
{
    struct bank *notes = &stored->notes;
    uint64_t key = stored_key(stored, bytes_of_text(user));
    lock_take(&stored->notes_lock);
    struct note *present = bank_find(notes, key);
    bool must = note->drop_mid != 0 || note->lost_mid != 0;
    if (present == NULL && (must || notes->count < DONES_MAX)) {
        if (notes->count == 0)
            stored->notes_since_ms = env_monotonic_ms(stored->options.env);
        present = bank_take(notes, key);
        MEMORY_MUST((present->user = strdup(user)) != NULL, "a name");
        memory_account(MEMORY_OF_STORED, (int64_t)strlen(user) + 1);
    }
    if (present == NULL)
        stored_count(stored, METRIC_stored_done_missed, 1);
    if (present != NULL && note->done_mid > present->done_mid)
        present->done_mid = note->done_mid;
    if (present != NULL && note->drop_mid > present->drop_mid)
        present->drop_mid = note->drop_mid;
    if (present != NULL && note->lost_mid > present->lost_mid)
        present->lost_mid = note->lost_mid;
    bool soon = notes->count >= DONES_SOON;
    lock_give(&stored->notes_lock);
    return soon;
}

/* A client may say any number; what is not there yet is not done. */
static uint64_t given(const struct stored *stored, uint64_t mid)
{
    uint64_t last = atomic_load_explicit(stored->options.mid_last, memory_order_relaxed);
    return mid < last ? mid : last;
}

bool stored_done(struct stored *stored, const char *user, uint64_t mid)
{
    const struct note note = {.done_mid = given(stored, mid)};
    return make_note(stored, user, &note);
}

void stored_lost(struct stored *stored, const char *user, uint64_t mid)
{
    const struct note note = {.lost_mid = mid};
    make_note(stored, user, &note);
}

uint32_t stored_drop(struct stored *stored, const char *user, uint64_t up_to_mid, uint64_t *bytes)
{
    const struct note note = {.drop_mid = given(stored, up_to_mid)};
    uint32_t count = 0;
    uint64_t sum = 0;
    lock_take(&stored->lock);
    const struct box *box = index_box(stored, stored_key(stored, bytes_of_text(user)));
    for (; box != NULL && count < box->count; count++) {
        const struct place *place = &box->places[box->first + count];
        if (place->mid > note.drop_mid)
            break;
        sum += place->size;
    }
    lock_give(&stored->lock);
    if (count > 0)
        make_note(stored, user, &note);
    if (bytes != NULL)
        *bytes = sum;
    return count;
}

bool stored_is_due(struct stored *stored)
{
    enum { GATHER_MS = 1000 };
    lock_take(&stored->notes_lock);
    bool due = stored->notes.count >= DONES_SOON ||
               (stored->notes.count > 0 &&
                env_monotonic_ms(stored->options.env) - stored->notes_since_ms >= GATHER_MS);
    lock_give(&stored->notes_lock);
    return due || clean_is_due(stored);
}

/* --- the plan's ------------------------------------------------------------------------------- */

/* What it says is the case already: nothing is to be written. What is to be dropped is done with as
 * well, and becomes something lost. */
static bool says_something(struct stored *stored, struct note *note)
{
    const struct box *box = index_box(stored, note->key);
    const struct lost *loss = bank_find(&stored->index.losses, note->key);
    uint64_t first = box != NULL ? box->places[box->first].mid : UINT64_MAX;
    for (uint32_t i = 0; box != NULL && i < box->count; i++) {
        uint64_t mid = box->places[box->first + i].mid;
        if (mid > note->drop_mid)
            break;
        if (mid > note->done_mid && mid > note->lost_mid)
            note->lost_mid = mid;
    }
    if (first > note->drop_mid)
        note->drop_mid = 0;
    if (loss != NULL && note->drop_mid != 0 && loss->mid <= note->drop_mid &&
        loss->mid > note->lost_mid)
        note->lost_mid =
            loss->mid; /* it is written that all up to there is done, and this is not */
    if (first > note->done_mid && (loss == NULL || loss->mid > note->done_mid))
        note->done_mid = 0;
    if (note->lost_mid <= note->done_mid)
        note->lost_mid = 0;
    return note->done_mid != 0 || note->drop_mid != 0 || note->lost_mid != 0;
}

static void free_user(struct note *note)
{
    memory_account(MEMORY_OF_STORED, -(int64_t)strlen(note->user) - 1);
    free(note->user);
}

static void forget_notes(struct plan *plan)
{
    for (uint32_t i = 0; i < plan->notes.count; i++)
        free_user(&plan->notes.items[i]);
    plan->notes.count = 0;
}

void notes_take(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    struct bank_place place = {0};
    uint32_t looks = UINT32_MAX;
    CHECK(plan->notes.count == 0);
    lock_take(&stored->notes_lock);
    for (uint64_t left = stored->notes.count; left > 0; left--)
        *LIST_ADD(&plan->notes) = *(const struct note *)bank_walk(&stored->notes, &place, &looks);
    bank_empty(&stored->notes);
    lock_give(&stored->notes_lock);
    lock_take(&stored->lock);
    uint32_t left = 0;
    for (uint32_t i = 0; i < plan->notes.count; i++) {
        struct note *note = &plan->notes.items[i];
        if (says_something(stored, note))
            plan->notes.items[left++] = *note;
        else
            free_user(note);
    }
    plan->notes.count = left;
    lock_give(&stored->lock);
}

void notes_give_back(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    for (uint32_t i = 0; i < plan->notes.count; i++)
        make_note(stored, plan->notes.items[i].user, &plan->notes.items[i]);
    forget_notes(plan);
}

/* In the order in which they were written. */
void notes_apply(struct stored *stored)
{
    struct plan *plan = &stored->plan;
    CHECK(lock_held(&stored->lock));
    for (uint32_t i = 0; i < plan->notes.count; i++) {
        const struct note *note = &plan->notes.items[i];
        stored_count(stored, METRIC_stored_done, index_done(stored, note->key, note->done_mid));
        stored_count(stored, METRIC_stored_dropped, index_done(stored, note->key, note->drop_mid));
        index_told(stored, note->key, note->done_mid);
        if (note->lost_mid != 0)
            index_lose(stored, note->key, note->lost_mid);
        if (note->lost_number != 0)
            index_place_loss(stored, note->key, note->lost_mid, note->lost_number,
                             note->lost_bytes);
    }
    forget_notes(plan);
}
