/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/arena.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

/* protobuf-c allocates without a limit: 64 KiB of two-byte unknown fields become 3 MiB in 32,000
 * allocations. With this arena the ceiling is the defence, each allocation is an addition, and the
 * end of a message is one store.
 *
 * The allocator is filled in whenever it is asked for, since it points back at the arena, which
 * its owner may have copied since arena_init. */

enum { ALIGN = alignof(max_align_t) };

int arena_init(struct arena *arena, size_t capacity_bytes)
{
    *arena = (struct arena){0};
    arena->data = malloc(capacity_bytes > 0 ? capacity_bytes : 1);
    if (arena->data == NULL)
        return -ENOMEM;
    arena->capacity = capacity_bytes;
    return 0;
}

void arena_reset(struct arena *arena)
{
    arena->used = 0;
}

void arena_fini(struct arena *arena)
{
    free(arena->data);
    *arena = (struct arena){0};
}

static void *allocate(void *context, size_t size)
{
    struct arena *arena = context;
    if (size > arena->capacity - arena->used)
        return NULL;
    void *memory = arena->data + arena->used;
    size_t left = arena->capacity - arena->used - size;
    size_t padding = (ALIGN - size % ALIGN) % ALIGN;
    arena->used += size + (padding < left ? padding : left);
    return memory;
}

static void release(void *context, void *memory)
{
    (void)context;
    (void)memory;
}

ProtobufCAllocator *arena_allocator(struct arena *arena)
{
    arena->allocator = (ProtobufCAllocator){allocate, release, arena};
    return &arena->allocator;
}
