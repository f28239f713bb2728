/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/ring.h"
#include "stress/stress.h"

/* Producers and consumers at one ring: every value comes out once, and one consumer never sees
 * the values of one producer out of order. Small rings are the hard ones: full and empty all the
 * time, and every cell in use by two threads at once.
 *
 * The marks are relaxed on purpose: the test must not order what the ring ought to order. */

enum { THREADS_MAX = 4, ITEMS = 20000 };

struct shape {
    unsigned producers;
    unsigned consumers;
    uint32_t capacity;
};

struct round {
    struct shape shape;
    struct ring ring;
    _Atomic uint32_t consumed;
    _Atomic uint8_t seen[THREADS_MAX * ITEMS];
};

struct producer {
    struct round *round;
    uint32_t number;
};

static void *produce(void *argument)
{
    struct producer *producer = argument;
    for (uint32_t i = 0; i < ITEMS; i++)
        while (!ring_push(&producer->round->ring, producer->number * ITEMS + i))
            sched_yield();
    return NULL;
}

static void *consume(void *argument)
{
    struct round *round = argument;
    uint32_t next[THREADS_MAX] = {0}; /* the lowest that this thread may still see */
    uint32_t total = round->shape.producers * ITEMS;
    while (atomic_load_explicit(&round->consumed, memory_order_relaxed) < total) {
        uint32_t value;
        if (!ring_pop(&round->ring, &value)) {
            sched_yield();
            continue;
        }
        CHECK(value < total);
        CHECK(value % ITEMS >= next[value / ITEMS]);
        next[value / ITEMS] = value % ITEMS + 1;
        CHECK(atomic_exchange_explicit(&round->seen[value], 1, memory_order_relaxed) == 0);
        atomic_fetch_add_explicit(&round->consumed, 1, memory_order_relaxed);
    }
    return NULL;
}

static void run_round(struct round *round)
{
    pthread_t producers[THREADS_MAX];
    pthread_t consumers[THREADS_MAX];
    struct producer arguments[THREADS_MAX];
    CHECK(ring_init(&round->ring, round->shape.capacity) == 0);
    for (unsigned i = 0; i < round->shape.consumers; i++)
        stress_start(&consumers[i], consume, round);
    for (unsigned i = 0; i < round->shape.producers; i++) {
        arguments[i] = (struct producer){round, i};
        stress_start(&producers[i], produce, &arguments[i]);
    }
    for (unsigned i = 0; i < round->shape.producers; i++)
        pthread_join(producers[i], NULL);
    for (unsigned i = 0; i < round->shape.consumers; i++)
        pthread_join(consumers[i], NULL);
    for (uint32_t i = 0; i < round->shape.producers * ITEMS; i++)
        CHECK(atomic_load_explicit(&round->seen[i], memory_order_relaxed) == 1);
    CHECK(ring_length(&round->ring) == 0);
    ring_fini(&round->ring);
}

int main(void)
{
    static const struct shape shapes[] = {{1, 1, 2}, {2, 2, 2},  {2, 1, 4},   {1, 3, 4},
                                          {4, 4, 8}, {3, 2, 64}, {2, 4, 1024}};
    enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };
    uint64_t slice_ms = stress_duration_ms() / SHAPES;
    for (size_t i = 0; i < SHAPES; i++) {
        uint64_t rounds = 0;
        uint64_t end_ms = stress_now_ms() + slice_ms;
        do {
            struct round *round = calloc(1, sizeof(*round));
            CHECK(round != NULL);
            round->shape = shapes[i];
            run_round(round);
            free(round);
            rounds++;
        } while (stress_now_ms() < end_ms);
        printf("%u producers, %u consumers, ring of %u: %lu rounds of %d each\n",
               shapes[i].producers, shapes[i].consumers, shapes[i].capacity, (unsigned long)rounds,
               ITEMS);
    }
    return 0;
}
