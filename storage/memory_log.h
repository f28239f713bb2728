/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_MEMORY_LOG_H
#define USHER_STORAGE_MEMORY_LOG_H

/* The log of the store in memory, see store_memory.c; nobody else includes this.
 *
 * What is pending belongs to the writing thread. The rest changes under the lock of the store, by
 * the writer (memory_log_pend among them takes it by itself) or by who plants a fault; calls that
 * say "under the lock" are made by who holds it. */

#include "base/lock.h"
#include "storage/store.h"

struct memory_log_value;
struct memory_log_change;

struct memory_log {
    /* the writer's: the open transaction, in order */
    struct memory_log_change *pending;
    struct memory_log_change **pending_end;
    uint64_t pending_count, pending_bytes; /* of the values that come */

    /* shared */
    struct memory_log_value **values; /* by number */
    size_t count, capacity;
    uint64_t last, bytes;
    uint64_t bytes_max;
};

void memory_log_init(struct memory_log *log);
void memory_log_fini(struct memory_log *log); /* nothing is pending */

/* 1, 0 or -ENOMEM, as store_append_log; 0 or -ENOMEM. */
int memory_log_append(struct memory_log *log, struct lock *lock, struct bytes value, bool spares,
                      uint64_t *number);
int memory_log_drop(struct memory_log *log, uint64_t number);

/* The transaction ends: with all that is pending, under the lock, or without. */
void memory_log_apply(struct memory_log *log);
void memory_log_abort(struct memory_log *log);

/* Under the lock. */
void memory_log_position(const struct memory_log *log, struct store_position *position);
void memory_log_read(const struct memory_log *log, uint64_t from, store_log_each *each,
                     void *context);
void memory_log_get(const struct memory_log *log, const uint64_t *numbers, size_t count,
                    store_log_each *each, void *context);
void memory_log_damage(struct memory_log *log, uint64_t number);

#endif
