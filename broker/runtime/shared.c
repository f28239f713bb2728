/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/shared.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/memory.h"

/* The count is lowered with release and acquire, so that whoever frees has seen what the others
 * did. */

void *shared_create(size_t size)
{
    CHECK(size >= sizeof(struct shared) && size <= UINT32_MAX);
    struct shared *shared = malloc(size);
    if (shared == NULL)
        return NULL;
    atomic_init(&shared->holders, 1);
    shared->size = (uint32_t)size;
    memory_account(MEMORY_OF_PAYLOADS, (int64_t)size);
    return shared;
}

void shared_hold(struct shared *shared)
{
    uint32_t holders = atomic_fetch_add_explicit(&shared->holders, 1, memory_order_relaxed);
    CHECK(holders > 0); /* the caller is one of them */
}

void shared_release(struct shared *shared)
{
    if (shared == NULL)
        return;
    uint32_t holders = atomic_fetch_sub_explicit(&shared->holders, 1, memory_order_acq_rel);
    CHECK(holders > 0);
    if (holders != 1)
        return;
    memory_account(MEMORY_OF_PAYLOADS, -(int64_t)shared->size);
    free(shared);
}
