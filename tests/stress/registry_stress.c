/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "runtime/registry.h"
#include "stress/stress.h"

/* Threads who claim and release few slots, as two kinds of actors in turns, and others who walk
 * all actors of one kind, as a PushAll does. Nobody is ever taken for one of the other kind: which
 * kind a slot was in each of its lives is written into a book, and compared at the end.
 *
 * The book is of relaxed atomics, so it orders nothing that the registry ought to: a plain access
 * to a slot that changes hands is a report of the thread sanitizer. */

enum {
    CLAIMERS = 3,
    WALKERS = 2,
    SLOTS = 8,
    LIVES = 1 << 20,    /* of one slot; then there are no more */
    SEEN_MAX = 1 << 20, /* by one walker; later ones are not remembered */
};

static const struct behaviour kinds[2] = {{.name = "user", .kind = 0},
                                          {.name = "instance", .kind = 1}};

struct crowd {
    struct registry *registry;
    uint64_t end_ms;
    _Atomic uint8_t *book[SLOTS]; /* of each life: kind + 1 */
};

struct claimer {
    struct crowd *crowd;
    uint32_t number;
    uint64_t lives;
};

struct walker {
    struct crowd *crowd;
    unsigned kind;
    size_t count;
    actor_handle *seen;
};

static void *claim(void *argument)
{
    struct claimer *claimer = argument;
    struct crowd *crowd = claimer->crowd;
    uint64_t row = claimer->number;
    while (stress_now_ms() < crowd->end_ms) {
        char name[32];
        unsigned kind = stress_random(&row, 2);
        snprintf(name, sizeof(name), "%u.%lu", claimer->number, (unsigned long)claimer->lives);
        actor_handle actor = registry_claim(crowd->registry, name, strlen(name), &kinds[kind]);
        uint32_t life = actor_generation(actor) / 2;
        if (actor == 0 || life >= LIVES)
            return NULL;
        atomic_store_explicit(&crowd->book[actor_slot(actor)][life], (uint8_t)(kind + 1),
                              memory_order_relaxed);
        claimer->lives++;
        struct actor *self = registry_actor(crowd->registry, actor_slot(actor));
        atomic_store_explicit(&self->running, true, memory_order_relaxed); /* as in its turn */
        registry_release(crowd->registry, actor_slot(actor));
    }
    return NULL;
}

static void *walk(void *argument)
{
    struct walker *walker = argument;
    struct crowd *crowd = walker->crowd;
    while (stress_now_ms() < crowd->end_ms) {
        uint32_t cursor = 0;
        actor_handle actor;
        while ((actor = registry_next(crowd->registry, &cursor, walker->kind)) != 0)
            if (walker->count < SEEN_MAX)
                walker->seen[walker->count++] = actor;
    }
    return NULL;
}

static void compare(const struct crowd *crowd, const struct walker *walker)
{
    for (size_t i = 0; i < walker->count; i++) {
        uint32_t life = actor_generation(walker->seen[i]) / 2;
        CHECK(actor_generation(walker->seen[i]) % 2 == 1);
        if (life < LIVES)
            CHECK(crowd->book[actor_slot(walker->seen[i])][life] == walker->kind + 1);
    }
}

int main(void)
{
    struct crowd crowd = {.end_ms = stress_now_ms() + stress_duration_ms()};
    struct claimer claimers[CLAIMERS];
    struct walker walkers[WALKERS];
    pthread_t claiming[CLAIMERS], walking[WALKERS];
    CHECK(registry_create(&crowd.registry, SLOTS, sizeof(uint64_t), env_system()) == 0);
    for (uint32_t i = 0; i < SLOTS; i++)
        CHECK((crowd.book[i] = calloc(LIVES, sizeof(*crowd.book[i]))) != NULL);
    for (uint32_t i = 0; i < WALKERS; i++) {
        walkers[i] = (struct walker){.crowd = &crowd, .kind = i % 2};
        CHECK((walkers[i].seen = calloc(SEEN_MAX, sizeof(actor_handle))) != NULL);
        stress_start(&walking[i], walk, &walkers[i]);
    }
    for (uint32_t i = 0; i < CLAIMERS; i++) {
        claimers[i] = (struct claimer){.crowd = &crowd, .number = i};
        stress_start(&claiming[i], claim, &claimers[i]);
    }
    uint64_t lives = 0;
    size_t seen = 0;
    for (uint32_t i = 0; i < CLAIMERS; i++) {
        pthread_join(claiming[i], NULL);
        lives += claimers[i].lives;
    }
    for (uint32_t i = 0; i < WALKERS; i++) {
        pthread_join(walking[i], NULL);
        compare(&crowd, &walkers[i]);
        seen += walkers[i].count;
        free(walkers[i].seen);
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        free(crowd.book[i]);
    registry_destroy(crowd.registry);
    printf("%lu lives, %zu met\n", (unsigned long)lives, seen);
    return 0;
}
