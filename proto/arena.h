/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PROTO_ARENA_H
#define USHER_PROTO_ARENA_H

/* Memory for one unpacked message at a time, with a ceiling. One thread at a time; never blocks. */

#include <stddef.h>
#include <stdint.h>

#include <protobuf-c/protobuf-c.h>

struct arena {
    uint8_t *data;
    size_t used;
    size_t capacity;
    ProtobufCAllocator allocator;
};

/* Takes capacity_bytes at once: 0 or -ENOMEM. */
int arena_init(struct arena *arena, size_t capacity_bytes);

/* Gives up everything allocated so far: what was unpacked must not be touched any more. */
void arena_reset(struct arena *arena);

/* Frees the memory; harmless on zeroed memory. */
void arena_fini(struct arena *arena);

/* For protobuf-c's unpack functions; borrowed, valid until the arena is moved or ended. Gives NULL
 * when the arena is full, so that unpacking fails. Freeing does nothing: never call
 * free_unpacked, call arena_reset. */
ProtobufCAllocator *arena_allocator(struct arena *arena);

#endif
