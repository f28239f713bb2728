/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/held.h"

#include "base/memory.h"

/* The book is told of capacities: they are what the heap gave, and a buffer that has grown does not
 * shrink before its end. */

static void account(const struct buffer *held, size_t before)
{
    memory_account(MEMORY_OF_ANSWERS, (int64_t)held->capacity - (int64_t)before);
}

uint8_t *held_reserve(struct buffer *held, size_t extra)
{
    size_t before = held->capacity;
    uint8_t *to = buffer_reserve(held, extra);
    account(held, before);
    return to;
}

int held_append(struct buffer *held, const void *data, size_t size)
{
    size_t before = held->capacity;
    int error = buffer_append(held, data, size);
    account(held, before);
    return error;
}

void held_take(struct buffer *held, struct buffer *from)
{
    held_fini(held);
    *held = *from;
    *from = (struct buffer){0};
    account(held, 0);
}

void held_fini(struct buffer *held)
{
    size_t before = held->capacity;
    buffer_fini(held);
    account(held, before);
}
