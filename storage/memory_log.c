/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/memory_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* An array of the values by number: what is appended stands at its end, and the rest is a search by
 * halves. Dropping moves what is behind, which is nothing to speak of for a test. Room is made when
 * a change is pended, so applying cannot fail. */

enum { CAPACITY_START = 64 };

struct memory_log_value {
    uint64_t number;
    bool is_damaged;
    size_t size;
    uint8_t data[];
};

struct memory_log_change {
    struct memory_log_change *next;
    struct memory_log_value *value; /* that comes; NULL: one goes */
    uint64_t number;
};

void memory_log_init(struct memory_log *log)
{
    *log = (struct memory_log){.bytes_max = UINT64_MAX};
    log->pending_end = &log->pending;
}

void memory_log_fini(struct memory_log *log)
{
    CHECK(log->pending == NULL);
    for (size_t i = 0; i < log->count; i++)
        free(log->values[i]);
    free(log->values);
}

/* --- writing ------------------------------------------------------------------------------ */

static int reserve(struct memory_log *log, struct lock *lock)
{
    size_t capacity = log->capacity == 0 ? CAPACITY_START : log->capacity;
    while (capacity < log->count + log->pending_count + 1)
        capacity *= 2;
    if (capacity == log->capacity)
        return 0;
    lock_take(lock);
    struct memory_log_value **values =
        realloc(log->values, capacity * sizeof(struct memory_log_value *));
    if (values != NULL) {
        log->values = values;
        log->capacity = capacity;
    }
    lock_give(lock);
    return values != NULL ? 0 : -ENOMEM;
}

static struct memory_log_change *pend(struct memory_log *log, uint64_t number)
{
    struct memory_log_change *change = calloc(1, sizeof(*change));
    if (change == NULL)
        return NULL;
    change->number = number;
    *log->pending_end = change;
    log->pending_end = &change->next;
    return change;
}

static bool has_room(const struct memory_log *log, struct lock *lock, size_t size, bool spares)
{
    enum { SPARED = 8 };
    lock_take(lock);
    uint64_t used = log->bytes + log->pending_bytes;
    uint64_t max = log->bytes_max - (spares ? log->bytes_max / SPARED : 0);
    bool fits = used <= max && size <= max - used;
    lock_give(lock);
    return fits;
}

int memory_log_append(struct memory_log *log, struct lock *lock, struct bytes value, bool spares,
                      uint64_t *number)
{
    if (!has_room(log, lock, value.size, spares))
        return 0;
    if (reserve(log, lock) < 0)
        return -ENOMEM;
    uint64_t next = log->last + log->pending_count + 1;
    struct memory_log_value *copy = malloc(sizeof(*copy) + value.size);
    struct memory_log_change *change = copy != NULL ? pend(log, next) : NULL;
    if (change == NULL) {
        free(copy);
        return -ENOMEM;
    }
    *copy = (struct memory_log_value){.number = next, .size = value.size};
    bytes_put(copy->data, value);
    change->value = copy;
    log->pending_count++;
    log->pending_bytes += value.size;
    *number = next;
    return 1;
}

int memory_log_drop(struct memory_log *log, uint64_t number)
{
    return pend(log, number) != NULL ? 0 : -ENOMEM;
}

/* Where the first value is that does not come before `number`. */
static size_t seek(const struct memory_log *log, uint64_t number)
{
    size_t low = 0;
    size_t high = log->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->values[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct memory_log_value *find(const struct memory_log *log, uint64_t number)
{
    size_t at = seek(log, number);
    bool is_there = at < log->count && log->values[at]->number == number;
    return is_there ? log->values[at] : NULL;
}

static void apply(struct memory_log *log, const struct memory_log_change *change)
{
    if (change->value != NULL) {
        CHECK(log->count < log->capacity && change->number == log->last + 1);
        log->values[log->count++] = change->value;
        log->last = change->number;
        log->bytes += change->value->size;
        return;
    }
    struct memory_log_value *value = find(log, change->number);
    if (value == NULL)
        return;
    size_t at = seek(log, change->number);
    log->count--;
    memmove(&log->values[at], &log->values[at + 1],
            (log->count - at) * sizeof(struct memory_log_value *));
    log->bytes -= value->size;
    free(value);
}

static void pending_clear(struct memory_log *log)
{
    while (log->pending != NULL) {
        struct memory_log_change *next = log->pending->next;
        free(log->pending);
        log->pending = next;
    }
    log->pending_end = &log->pending;
    log->pending_count = 0;
    log->pending_bytes = 0;
}

void memory_log_apply(struct memory_log *log)
{
    for (const struct memory_log_change *change = log->pending; change != NULL;
         change = change->next)
        apply(log, change);
    pending_clear(log);
}

void memory_log_abort(struct memory_log *log)
{
    for (struct memory_log_change *change = log->pending; change != NULL; change = change->next)
        free(change->value);
    pending_clear(log);
}

/* --- reading ------------------------------------------------------------------------------ */

void memory_log_position(const struct memory_log *log, struct store_position *position)
{
    position->log_first = log->count > 0 ? log->values[0]->number : log->last + 1;
    position->log_last = log->last;
    position->log_values = log->count;
    position->log_bytes = log->bytes;
}

static bool give(const struct memory_log_value *value, store_log_each *each, void *context)
{
    const uint8_t *data = value->is_damaged ? NULL : value->data;
    return each(context, value->number, (struct bytes){data, value->size});
}

void memory_log_read(const struct memory_log *log, uint64_t from, store_log_each *each,
                     void *context)
{
    for (size_t i = seek(log, from); i < log->count; i++)
        if (!give(log->values[i], each, context))
            return;
}

void memory_log_get(const struct memory_log *log, const uint64_t *numbers, size_t count,
                    store_log_each *each, void *context)
{
    for (size_t i = 0; i < count; i++) {
        const struct memory_log_value *value = find(log, numbers[i]);
        if (value != NULL && !give(value, each, context))
            return;
    }
}

void memory_log_damage(struct memory_log *log, uint64_t number)
{
    struct memory_log_value *value = find(log, number);
    if (value != NULL)
        value->is_damaged = true;
}
