/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_SHARED_H
#define USHER_RUNTIME_SHARED_H

/* Bytes that many messages hold, counted. Any thread. */

#include <stddef.h>
#include <stdint.h>

/* The beginning of the allocation; not written any more once a second one holds it. */
struct shared {
    _Atomic uint32_t holders;
    uint32_t size; /* of the whole; set once */
};

/* Held once, by the caller. Only the beginning is set. NULL without memory. */
void *shared_create(size_t size);

/* By one more; the caller holds it. */
void shared_hold(struct shared *shared);

/* NULL is nothing. The last one frees. */
void shared_release(struct shared *shared);

#endif
