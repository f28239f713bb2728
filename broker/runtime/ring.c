/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/ring.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/* Each cell has a turn number. For position p (counted from 0 for ever) in cell p & mask:
 *
 *     turn == p            free for the producer of position p
 *     turn == p + 1        holds the value of position p, for its consumer
 *     turn == p + size     free again, for the producer one round later
 *
 * A producer claims position p by moving head from p to p + 1; only then does it write the value
 * and publish it through turn. The same with tail for consumers. Positions have 64 bits and are
 * never used twice, so the claim cannot succeed on a number from an earlier life. The cell keeps
 * only the low 32 bits: it is compared with a position whose claim still decides, so a wrapped
 * number can at worst make a loser try again. */

int ring_init(struct ring *ring, uint32_t capacity)
{
    CHECK(capacity > 0 && capacity <= UINT32_C(1) << 30);
    uint32_t size = 2;
    while (size < capacity)
        size *= 2;
    ring->cells = malloc(size * sizeof(*ring->cells));
    if (ring->cells == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < size; i++) {
        atomic_init(&ring->cells[i].turn, i);
        ring->cells[i].value = 0;
    }
    ring->mask = size - 1;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    return 0;
}

void ring_fini(struct ring *ring)
{
    CHECK(ring->tail <= ring->head && ring->head - ring->tail <= (uint64_t)ring->mask + 1);
    free(ring->cells);
    ring->cells = NULL;
}

bool ring_push(struct ring *ring, uint32_t value)
{
    uint64_t position = atomic_load_explicit(&ring->head, memory_order_relaxed);
    for (;;) {
        struct ring_cell *cell = &ring->cells[position & ring->mask];
        /* Pairs with the release in ring_pop: the consumer of the round before has read. */
        uint32_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        int32_t distance = (int32_t)(turn - (uint32_t)position);
        if (distance == 0) {
            /* relaxed: the claim carries no data, the turn does */
            if (atomic_compare_exchange_weak_explicit(&ring->head, &position, position + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
                cell->value = value;
                /* Pairs with the acquire in ring_pop: the value is visible. */
                atomic_store_explicit(&cell->turn, (uint32_t)position + 1, memory_order_release);
                return true;
            }
        } else if (distance < 0) {
            return false;
        } else {
            position = atomic_load_explicit(&ring->head, memory_order_relaxed);
        }
    }
}

bool ring_pop(struct ring *ring, uint32_t *value)
{
    uint64_t position = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    for (;;) {
        struct ring_cell *cell = &ring->cells[position & ring->mask];
        /* Pairs with the release in ring_push: the value is visible. */
        uint32_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        int32_t distance = (int32_t)(turn - ((uint32_t)position + 1));
        if (distance == 0) {
            if (atomic_compare_exchange_weak_explicit(&ring->tail, &position, position + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
                *value = cell->value;
                /* Pairs with the acquire in ring_push: the value has been read. */
                atomic_store_explicit(&cell->turn, (uint32_t)position + ring->mask + 1,
                                      memory_order_release);
                return true;
            }
        } else if (distance < 0) {
            return false;
        } else {
            position = atomic_load_explicit(&ring->tail, memory_order_relaxed);
        }
    }
}

size_t ring_length(const struct ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    return head > tail ? (size_t)(head - tail) : 0;
}
