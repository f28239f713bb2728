/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_HANDOVER_H
#define USHER_PROTO_HANDOVER_H

/* What the writers of handover.proto share. Any thread, one at a time for each buffer and arena. */

#include "handover.pb-c.h"
#include "proto/arena.h"
#include "proto/bytes.h"

/* Appends a record behind its length. 0 or -ENOMEM. */
int handover_append(struct buffer *out, const Usher__V1__HandoverRecord *record);

/* Borrowed. */
static inline ProtobufCBinaryData handover_binary(struct bytes bytes)
{
    return (ProtobufCBinaryData){bytes.size, (uint8_t *)(uintptr_t)bytes.data};
}

static inline struct bytes handover_bytes(ProtobufCBinaryData binary)
{
    return (struct bytes){binary.data, binary.len};
}

/* Of the arena; NULL when that is full. */
static inline void *handover_part(struct arena *arena, size_t size)
{
    ProtobufCAllocator *allocator = arena_allocator(arena);
    return allocator->alloc(allocator->allocator_data, size);
}

#endif
