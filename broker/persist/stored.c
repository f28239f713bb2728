/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/stored.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "base/wait.h"
#include "persist/stored_private.h"

/* The parts of stored.h together: an index (stored_index.c, stored_tags.c) that a start reads from
 * the log (stored_scan.c); who may store (stored_admit.c); what a transaction is to take, writes
 * and has left (stored_plan.c, stored_write.c, stored_settle.c); what is noted of users
 * (stored_notes.c); cleaning (stored_clean.c) and reading (stored_read.c).
 *
 * What must hold: the index is what a start would read from the log as it was committed last, but
 * for what has expired and what is being noted; and whoever was told that a message is stored finds
 * it in the log until its receiver has processed it, it has expired, or an operator has dropped it.
 */

enum { PAGE_BYTES = 4096, VALUE_HEAD_BYTES = 48, BUFFERS_KEPT_BYTES = 1 << 20, LIST_START = 16 };

uint64_t stored_key(const struct stored *stored, struct bytes user)
{
    uint64_t key = hash_keyed(stored->hash_key, user.data, user.size);
    return key != 0 ? key : 1;
}

void stored_count(const struct stored *stored, enum metric_id metric, uint64_t n)
{
    if (n > 0)
        metrics_add(stored->options.metrics, stored->options.block, metric, n);
}

/* Two of the largest that share share a page, and what is left of a page is nobody's. */
uint64_t stored_room_of(uint64_t value_bytes)
{
    uint64_t bytes = value_bytes + VALUE_HEAD_BYTES;
    return value_bytes <= STORE_LOG_VALUE_BYTES
               ? PAGE_BYTES / (PAGE_BYTES / bytes)
               : (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

uint64_t stored_room_max(const struct stored *stored)
{
    return store_map_bytes(stored->options.limits) / 2;
}

void stored_damaged(const struct stored *stored, uint64_t number)
{
    stored_count(stored, METRIC_log_damaged, 1);
    LOG(stored->options.log, LOG_DAMAGED, LOG_U("value", number));
}

void *stored_grow(void *items, uint32_t count, uint32_t *capacity, size_t item_bytes)
{
    void *more;
    if (count == *capacity) {
        uint32_t room = count > 0 ? 2 * count : LIST_START;
        MEMORY_MUST((more = realloc(items, room * item_bytes)) != NULL, "a list");
        memory_account(MEMORY_OF_STORED, (int64_t)((room - *capacity) * item_bytes));
        items = more;
        *capacity = room;
    }
    memset((uint8_t *)items + count * item_bytes, 0, item_bytes);
    return items;
}

void *stored_shrink(void *items, uint32_t *capacity, size_t item_bytes)
{
    memory_account(MEMORY_OF_STORED, -(int64_t)(*capacity * item_bytes));
    *capacity = 0;
    free(items);
    return NULL;
}

void plan_count_buffers(struct plan *plan)
{
    struct buffer *buffers[] = {&plan->old, &plan->names, &plan->living, &plan->receivers};
    size_t held = 0;
    for (unsigned i = 0; i < sizeof(buffers) / sizeof(*buffers); i++) {
        if (buffers[i]->capacity > BUFFERS_KEPT_BYTES)
            buffer_fini(buffers[i]);
        held += buffers[i]->capacity;
    }
    memory_account(MEMORY_OF_STORED, (int64_t)held - (int64_t)plan->held_bytes);
    plan->held_bytes = held;
}

static void free_plan(struct plan *plan)
{
    buffer_fini(&plan->old);
    buffer_fini(&plan->names);
    buffer_fini(&plan->living);
    buffer_fini(&plan->receivers);
    plan_count_buffers(plan);
    LIST_FREE(&plan->coming);
    LIST_FREE(&plan->keeps);
    LIST_FREE(&plan->notes);
    LIST_FREE(&plan->moving);
    LIST_FREE(&plan->values);
}

static void free_notes(struct stored *stored)
{
    struct bank_place place = {0};
    uint32_t looks = UINT32_MAX;
    for (uint64_t left = stored->notes.count; left > 0; left--) {
        struct note *note = bank_walk(&stored->notes, &place, &looks);
        memory_account(MEMORY_OF_STORED, -(int64_t)strlen(note->user) - 1);
        free(note->user);
    }
    bank_empty(&stored->notes);
}

int stored_open(struct stored **out, const struct stored_options *options)
{
    struct stored *stored = calloc(1, sizeof(*stored));
    if (stored == NULL)
        return -ENOMEM;
    memory_account(MEMORY_OF_STORED, sizeof(*stored));
    stored->options = *options;
    stored->clean_bytes = CLEAN_BYTES;
    index_init(&stored->index);
    stored->notes.row_bytes = sizeof(struct note);
    lock_init(&stored->lock);
    lock_init(&stored->notes_lock);
    wait_condition_init(&stored->settled);
    env_random(options->env, stored->hash_key, sizeof(stored->hash_key));
    stored->rates = spent_create(options->env);
    stored->away_rates = spent_create(options->env);
    int error = -ENOMEM;
    if (stored->rates != NULL && stored->away_rates != NULL)
        error = stored_scan(stored);
    if (error != 0) {
        stored_close(stored);
        return error;
    }
    stored_tell_full(stored);
    *out = stored;
    return 0;
}

int stored_read_anew(struct stored *stored)
{
    int error = stored_scan(stored);
    if (error == 0)
        stored_tell_full(stored);
    return error;
}

void stored_close(struct stored *stored)
{
    if (stored == NULL)
        return;
    lock_take(&stored->lock);
    index_empty(stored);
    lock_give(&stored->lock);
    free_notes(stored);
    free_plan(&stored->plan);
    spent_destroy(stored->rates);
    spent_destroy(stored->away_rates);
    lock_destroy(&stored->lock);
    lock_destroy(&stored->notes_lock);
    pthread_cond_destroy(&stored->settled);
    memory_account(MEMORY_OF_STORED, -(int64_t)sizeof(*stored));
    free(stored);
}
