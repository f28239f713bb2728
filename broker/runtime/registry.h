/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_RUNTIME_REGISTRY_H
#define USHER_RUNTIME_REGISTRY_H

/* The actors by name, and the slots they live in.
 *
 * Any thread may call anything here. Names are looked up in sharded tables, a mutex per shard,
 * held for some tens of nanoseconds; every lock is a leaf. A handle that comes out may be stale
 * the moment after: posting to it says so. */

#include "base/env.h"
#include "runtime/actor.h"

enum { REGISTRY_NAME_BYTES_MAX = 255 };

struct registry;

/* At most `actors_max` actors at a time, each with `state_bytes` of zeroed state. 0, -ENOMEM. */
int registry_create(struct registry **registry, uint32_t actors_max, size_t state_bytes,
                    const struct env *env);

/* Frees everything. No thread may run an actor any more; messages left are destroyed. */
void registry_destroy(struct registry *registry);

/* 0: nobody has that name. */
actor_handle registry_find(struct registry *registry, const void *name, size_t size);

/* Finds, or makes an actor with that behaviour. 0: the limit is reached or memory is. */
actor_handle registry_claim(struct registry *registry, const void *name, size_t size,
                            const struct behaviour *behaviour);

/* No slot has had a higher generation. And of a registry in which no actor has been yet: no slot
 * begins at one that is not above that, so that handles of an earlier process are nobody's. One
 * thread. */
uint32_t registry_generation(struct registry *registry);
void registry_begin_above(struct registry *registry, uint32_t generation);

/* Makes the actor that had this very handle in another process; those before have lower slots. 0;
 * -EINVAL: it cannot be; -ENOMEM. One thread. */
int registry_place(struct registry *registry, actor_handle handle, const void *name, size_t size,
                   const struct behaviour *behaviour);

/* Walks the actors of that kind, or all of them (REGISTRY_ALL_KINDS): *cursor starts at 0; gives 0
 * at the end. Actors that come or go meanwhile may be missed or seen, but never taken for others:
 * whoever has the handle is of that kind. */
enum { REGISTRY_ALL_KINDS = ACTOR_KINDS };
actor_handle registry_next(struct registry *registry, uint32_t *cursor, unsigned kind);

/* The same with names and what the actors show, some at a time: copied under one shard's lock, so
 * a name is whole. *cursor starts at 0; gives 0 at the end. */
enum { REGISTRY_SCAN_ROWS = 32 };
struct registry_row {
    actor_handle handle;
    const struct behaviour *behaviour;
    uint32_t gauge;
    uint64_t numbers[ACTOR_NUMBERS]; /* by the behaviour's `show`, or 0 */
    char name[REGISTRY_NAME_BYTES_MAX + 1];
};
size_t registry_scan(struct registry *registry, uint64_t *cursor,
                     struct registry_row rows[REGISTRY_SCAN_ROWS]);

/* The row of the one of that name; false: nobody has it. */
bool registry_look(struct registry *registry, const void *name, size_t size,
                   struct registry_row *row);

/* The number that the actor of that name shows to others (struct actor); 0: nobody has it. */
uint32_t registry_gauge(struct registry *registry, const void *name, size_t size);

/* What whoever claims to belong to the actor has to show; 0: nobody does. Of a handle that has
 * become stale it is another actor's, or 0: a post to that handle finds nobody, so whoever goes on
 * by posting to it has shown nothing. */
uint64_t registry_proof(struct registry *registry, actor_handle handle);

/* The handle that the slot has now, or 0. */
actor_handle registry_at(struct registry *registry, uint32_t slot);

uint32_t registry_capacity(const struct registry *registry);
uint32_t registry_count(struct registry *registry);

/* Of those with a behaviour of that kind. */
uint32_t registry_count_of(struct registry *registry, unsigned kind);

/* --- for the running turn and the scheduler only ------------------------------------------ */

/* The actor in a slot that exists. */
struct actor *registry_actor(struct registry *registry, uint32_t slot);

void registry_set_proof(struct registry *registry, actor_handle handle, uint64_t proof);

/* Gives name and slot back; the caller runs the actor's turn. */
void registry_release(struct registry *registry, uint32_t slot);

/* The keyed hash of the names, for other tables whose keys strangers choose. */
uint64_t registry_hash(const struct registry *registry, const void *data, size_t size);

#endif
