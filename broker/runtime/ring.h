/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_RING_H
#define USHER_RUNTIME_RING_H

/* A bounded queue of 32-bit values for many producers and many consumers (D. Vyukov's design).
 *
 * Any thread may push and pop; neither blocks nor allocates. "Empty" is a hint: a producer that
 * stalls between claiming a cell and publishing it hides what was pushed behind it, so whoever
 * sleeps on "empty" must be woken by a producer that has published (scheduler.c). */

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_cell {
    _Atomic uint32_t turn; /* says whose turn the cell is; see ring.c */
    uint32_t value;
};

struct ring {
    /* set once */
    struct ring_cell *cells;
    uint32_t mask;
    /* producers */
    alignas(64) _Atomic uint64_t head;
    /* consumers */
    alignas(64) _Atomic uint64_t tail;
};

/* Room for at least `capacity` values. 0 or -ENOMEM. */
int ring_init(struct ring *ring, uint32_t capacity);
void ring_fini(struct ring *ring);

/* False: full. */
bool ring_push(struct ring *ring, uint32_t value);

/* False: empty, as far as could be seen. */
bool ring_pop(struct ring *ring, uint32_t *value);

/* How many are in it, roughly. */
size_t ring_length(const struct ring *ring);

#endif
