/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/message.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/memory.h"

/* One allocation for each message, and message_destroy frees it. `flags` says when it is otherwise:
 *
 *   0            the message is the allocation
 *   HOLDING      so it is, and its last bytes are a pointer to what it holds
 *   HOLDING_MANY so it is, and behind it stand pointers to all that it holds
 *   1 and more   message number flags - 1 of a block, whose beginning is found from there
 *
 * A block is one allocation instead of hundreds that all threads would fight malloc for: they are
 * made together and gone soon after each other. Whoever keeps such a message for long must copy it
 * (message_create_holding), or the whole block stays. The counts are lowered with release and
 * acquire, so that whoever frees has seen what the others did. */

enum { HOLDING = UINT16_MAX, HOLDING_MANY = UINT16_MAX - 1 };

struct held {
    uint64_t count;
    struct shared *shared[];
};

struct message_block {
    _Atomic uint32_t left; /* messages that live or may still be made */
    uint32_t count, made;
    size_t message_bytes;
    struct shared *shared;
    alignas(struct message) uint8_t messages[];
};

void *message_create(uint16_t kind, size_t size)
{
    CHECK(size >= sizeof(struct message) && size <= UINT32_MAX);
    struct message *message = malloc(size);
    if (message == NULL && size > MESSAGE_SMALL_BYTES) {
        memory_refused();
        return NULL;
    }
    if (message == NULL)
        MEMORY_MUST((message = malloc(size)) != NULL, "an event");
    memory_account(MEMORY_OF_MESSAGES, (int64_t)size);
    *message = (struct message){.kind = kind, .size = (uint32_t)size};
    return message;
}

void message_count_as(struct message *message, enum memory_part part)
{
    CHECK(message_is_plain(message));
    memory_account(message->part, -(int64_t)message->size);
    memory_account(part, (int64_t)message->size);
    message->part = (uint8_t)part;
}

bool message_is_of_block(const struct message *message)
{
    return !message_is_plain(message) && message->flags < HOLDING_MANY;
}

static struct message_block *block_of(const struct message *message)
{
    const uint8_t *first = (const uint8_t *)message - (message->flags - 1u) * (size_t)message->size;
    struct message_block *block =
        (struct message_block *)(first - offsetof(struct message_block, messages));
    CHECK(message->flags <= block->count && message->size == block->message_bytes);
    return block;
}

struct shared *message_shared(const struct message *message)
{
    struct shared *shared;
    if (message_is_plain(message) || message->flags == HOLDING_MANY)
        return NULL;
    if (message->flags != HOLDING)
        return block_of(message)->shared;
    memcpy(&shared, (const uint8_t *)message + message->size, sizeof(shared));
    return shared;
}

static size_t block_bytes(uint32_t count, size_t message_bytes)
{
    return sizeof(struct message_block) + count * message_bytes;
}

static void block_leave(struct message_block *block, uint32_t count)
{
    uint32_t left = atomic_fetch_sub_explicit(&block->left, count, memory_order_acq_rel);
    CHECK(left >= count);
    if (left != count)
        return;
    shared_release(block->shared);
    memory_account(MEMORY_OF_MESSAGES, -(int64_t)block_bytes(block->count, block->message_bytes));
    free(block);
}

static struct held *held_of(const struct message *message)
{
    return (struct held *)((uint8_t *)(uintptr_t)message + message->size);
}

static void destroy_many(struct message *message)
{
    struct held *held = held_of(message);
    memory_account(MEMORY_OF_MESSAGES,
                   -(int64_t)(message->size + sizeof(*held) + held->count * sizeof(void *)));
    for (uint64_t i = 0; i < held->count; i++)
        shared_release(held->shared[i]);
    free(message);
}

void message_destroy(struct message *message)
{
    if (message == NULL)
        return;
    CHECK(message->size >= sizeof(*message));
    if (message_is_of_block(message)) {
        block_leave(block_of(message), 1);
        return;
    }
    if (message->flags == HOLDING_MANY) {
        destroy_many(message);
        return;
    }
    struct shared *shared = message_shared(message);
    memory_account(message->part,
                   -(int64_t)(message->size + (shared != NULL ? sizeof(shared) : 0)));
    shared_release(shared);
    free(message);
}

void *message_create_holding(uint16_t kind, size_t size, struct shared *shared)
{
    struct message *message = message_create(kind, size + sizeof(shared));
    if (message == NULL)
        return NULL;
    message->size = (uint32_t)size;
    message->flags = HOLDING;
    memcpy((uint8_t *)message + size, &shared, sizeof(shared));
    shared_hold(shared);
    return message;
}

void *message_create_holding_many(uint16_t kind, size_t size, struct shared *const *held,
                                  uint32_t count)
{
    CHECK(size % alignof(struct held) == 0);
    struct message *message =
        message_create(kind, size + sizeof(struct held) + count * sizeof(struct shared *));
    if (message == NULL)
        return NULL;
    message->size = (uint32_t)size;
    message->flags = HOLDING_MANY;
    held_of(message)->count = count;
    for (uint32_t i = 0; i < count; i++) {
        held_of(message)->shared[i] = held[i];
        if (held[i] != NULL)
            shared_hold(held[i]);
    }
    return message;
}

struct shared *message_held(const struct message *message, uint32_t index)
{
    CHECK(message->flags == HOLDING_MANY && index < held_of(message)->count);
    return held_of(message)->shared[index];
}

struct message_block *message_block_create(uint32_t count, size_t size, struct shared *shared)
{
    CHECK(count <= MESSAGE_BLOCK_MAX && size >= sizeof(struct message) &&
          size % alignof(struct message) == 0);
    struct message_block *block = malloc(block_bytes(count, size));
    if (block == NULL)
        return NULL;
    memory_account(MEMORY_OF_MESSAGES, (int64_t)block_bytes(count, size));
    *block = (struct message_block){.count = count, .message_bytes = size, .shared = shared};
    atomic_init(&block->left, count + 1); /* one for whoever makes them */
    shared_hold(shared);
    return block;
}

void *message_block_next(struct message_block *block, uint16_t kind)
{
    if (block->made == block->count)
        return NULL;
    struct message *message =
        (struct message *)(block->messages + block->made * block->message_bytes);
    *message = (struct message){.kind = kind, .size = (uint32_t)block->message_bytes};
    message->flags = (uint16_t)++block->made;
    return message;
}

void message_block_close(struct message_block *block)
{
    if (block != NULL)
        block_leave(block, block->count - block->made + 1);
}
