/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/lock.h"
#include "base/table.h"

/* Slots come in chunks that are allocated when first needed and never freed, so a slot's memory
 * stays an actor for the life of the process: a late message or a stale handle finds a mailbox
 * and a generation, never foreign memory. The table of chunks is fixed at creation; a chunk is
 * published with a release store, after its actors are initialised.
 *
 * A slot goes free -> claimed -> free. Claiming sets name and behaviour and only then makes the
 * generation odd (release); a turn reads them only for a message of that generation, which was
 * posted after a load of it. Releasing makes it even under the shard's lock. The state is cleared
 * by the turn that retires, before that, so a claim never touches state: a slot may still be
 * finishing the turn of its last owner while the next one's first message waits in the mailbox.
 *
 * Who walks the slots has no message, and looks at the behaviour between two looks at the
 * generation. The behaviour of a later owner was stored, with release, after the generation had
 * left the one that was seen first; so who reads it finds another generation in his second look.
 *
 * Tables are those of base/table.h, keyed by SipHash with a random key, because names come from
 * strangers. What is looked for is a name and no key, so the looking is here. No lock is taken
 * while another is held. */

static_assert(sizeof(struct actor) <= 64, "each user has one; docs/performance.md has the sum");

enum { SHARDS = 64, CHUNK_ACTORS = 256, TABLE_SIZE_MIN = 16 };

struct entry {
    uint64_t key; /* slot + 1 above the hash of the name; 0: empty */
};

TABLE_ROW(struct entry, key);

struct shard {
    struct lock lock;
    struct entry *entries;
    uint32_t size; /* power of two, or 0 */
    uint32_t count;
};

struct registry {
    /* set once */
    uint64_t key[2];
    size_t actor_bytes;
    size_t state_bytes;
    uint32_t capacity;
    uint32_t generation_before; /* of all slots: where they begin, even */
    /* shared: written under free_lock, read by anyone */
    _Atomic(uint8_t *) *chunks;
    _Atomic uint32_t slots_made;
    _Atomic uint32_t in_use[ACTOR_KINDS];
    /* under free_lock */
    struct lock free_lock;
    uint32_t first_free; /* slot + 1 */
    struct shard shards[SHARDS];
};

int registry_create(struct registry **out, uint32_t actors_max, size_t state_bytes,
                    const struct env *env)
{
    struct registry *registry = calloc(1, sizeof(*registry));
    if (registry == NULL)
        return -ENOMEM;
    CHECK(actors_max > 0);
    uint32_t chunk_count = (actors_max + CHUNK_ACTORS - 1) / CHUNK_ACTORS;
    registry->chunks = calloc(chunk_count, sizeof(*registry->chunks));
    if (registry->chunks == NULL) {
        free(registry);
        return -ENOMEM;
    }
    env_random(env, registry->key, sizeof(registry->key));
    size_t align = sizeof(uint64_t);
    registry->state_bytes = state_bytes;
    registry->actor_bytes = (sizeof(struct actor) + state_bytes + align - 1) / align * align;
    registry->capacity = actors_max;
    lock_init(&registry->free_lock);
    for (unsigned i = 0; i < SHARDS; i++)
        lock_init(&registry->shards[i].lock);
    *out = registry;
    return 0;
}

static void drop_messages(struct actor *actor)
{
    struct message *lists[] = {actor->backlog, mailbox_take(&actor->mailbox)};
    for (unsigned i = 0; i < 2; i++) {
        struct message *message = lists[i];
        while ((uintptr_t)message > 1) {
            struct message *next = message->next;
            message_destroy(message);
            message = next;
        }
    }
}

void registry_destroy(struct registry *registry)
{
    uint32_t made = atomic_load(&registry->slots_made);
    for (uint32_t slot = 0; slot < made; slot++) {
        struct actor *actor = registry_actor(registry, slot);
        /* An idle mailbox has nothing to take; marking a busy one is not needed any more. */
        if (mailbox_length(&actor->mailbox) > 0 || actor->backlog != NULL)
            drop_messages(actor);
        free(actor->name);
    }
    for (uint32_t i = 0; i < (registry->capacity + CHUNK_ACTORS - 1) / CHUNK_ACTORS; i++)
        free(atomic_load(&registry->chunks[i]));
    for (unsigned i = 0; i < SHARDS; i++) {
        lock_destroy(&registry->shards[i].lock);
        free(registry->shards[i].entries);
    }
    lock_destroy(&registry->free_lock);
    free(registry->chunks);
    free(registry);
}

struct actor *registry_actor(struct registry *registry, uint32_t slot)
{
    CHECK(slot < registry->capacity);
    uint8_t *chunk =
        atomic_load_explicit(&registry->chunks[slot / CHUNK_ACTORS], memory_order_acquire);
    return (struct actor *)(chunk + (slot % CHUNK_ACTORS) * registry->actor_bytes);
}

uint64_t registry_hash(const struct registry *registry, const void *data, size_t size)
{
    return hash_keyed(registry->key, data, size);
}

static uint32_t hash_name(const struct registry *registry, const void *name, size_t size)
{
    return (uint32_t)registry_hash(registry, name, size);
}

static struct shard *shard_of(struct registry *registry, uint32_t hash)
{
    return &registry->shards[hash % SHARDS];
}

static uint64_t key_of(uint32_t hash, uint32_t slot)
{
    return (uint64_t)(slot + 1) << 32 | hash;
}

/* Of an entry that is not empty. */
static uint32_t slot_of(const struct entry *entry)
{
    return (uint32_t)(entry->key >> 32) - 1;
}

/* The low bits of the hash chose the shard. */
static uint32_t hash_in_shard(uint64_t key, const uint64_t *seed)
{
    return (uint32_t)key / SHARDS;
}

static struct table table_of(const struct shard *shard)
{
    return (struct table){shard->entries, shard->size, sizeof(*shard->entries), hash_in_shard,
                          NULL};
}

static bool has_name(struct registry *registry, uint32_t slot, const void *name, size_t size)
{
    const char *have = registry_actor(registry, slot)->name;
    return strlen(have) == size && memcmp(have, name, size) == 0;
}

/* The entry with that name, or the empty one where it would go. The table has room. */
static struct entry *probe(struct registry *registry, struct shard *shard, uint32_t hash,
                           const void *name, size_t size)
{
    CHECK(lock_held(&shard->lock) && shard->count < shard->size);
    const struct table table = table_of(shard);
    uint32_t at = table_home(&table, hash);
    for (;; at = (at + 1) & (shard->size - 1)) {
        struct entry *entry = &shard->entries[at];
        if (entry->key == 0)
            return entry;
        if ((uint32_t)entry->key == hash && has_name(registry, slot_of(entry), name, size))
            return entry;
    }
}

/* As many entries as are counted. */
static bool is_whole(const struct shard *shard)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < shard->size; i++)
        count += shard->entries[i].key != 0;
    return count == shard->count;
}

static bool grow(struct shard *shard)
{
    CHECK(lock_held(&shard->lock));
    if (!table_is_full(shard->count, shard->size))
        return true;
    struct shard bigger = {.size = shard->size ? shard->size * 2 : TABLE_SIZE_MIN};
    bigger.entries = calloc(bigger.size, sizeof(*bigger.entries));
    if (bigger.entries == NULL)
        return false;
    const struct table from = table_of(shard);
    const struct table to = table_of(&bigger);
    table_move(&to, &from);
    free(shard->entries);
    shard->entries = bigger.entries;
    shard->size = bigger.size;
    CHECK_SLOW(is_whole(shard));
    return true;
}

static actor_handle handle_of(struct registry *registry, uint32_t slot)
{
    uint32_t generation =
        atomic_load_explicit(&registry_actor(registry, slot)->generation, memory_order_acquire);
    return generation % 2 ? (uint64_t)generation << 32 | slot : 0;
}

actor_handle registry_find(struct registry *registry, const void *name, size_t size)
{
    uint32_t hash = hash_name(registry, name, size);
    struct shard *shard = shard_of(registry, hash);
    actor_handle handle = 0;
    lock_take(&shard->lock);
    if (shard->size > 0) {
        struct entry *entry = probe(registry, shard, hash, name, size);
        if (entry->key != 0)
            handle = handle_of(registry, slot_of(entry));
    }
    lock_give(&shard->lock);
    return handle;
}

uint64_t registry_proof(struct registry *registry, actor_handle handle)
{
    struct actor *actor = registry_actor(registry, actor_slot(handle));
    return atomic_load_explicit(&actor->proof, memory_order_acquire);
}

void registry_set_proof(struct registry *registry, actor_handle handle, uint64_t proof)
{
    struct actor *actor = registry_actor(registry, actor_slot(handle));
    atomic_store_explicit(&actor->proof, proof, memory_order_release);
}

/* Under free_lock. False without memory. */
static bool add_chunk(struct registry *registry, uint32_t chunk)
{
    CHECK(lock_held(&registry->free_lock));
    CHECK(atomic_load_explicit(&registry->chunks[chunk], memory_order_relaxed) == NULL);
    uint8_t *memory = calloc(CHUNK_ACTORS, registry->actor_bytes);
    if (memory == NULL)
        return false;
    for (uint32_t i = 0; i < CHUNK_ACTORS; i++) {
        struct actor *actor = (struct actor *)(memory + i * registry->actor_bytes);
        mailbox_init(&actor->mailbox);
        atomic_init(&actor->generation, registry->generation_before);
        atomic_init(&actor->running, false);
    }
    atomic_store_explicit(&registry->chunks[chunk], memory, memory_order_release);
    return true;
}

static bool is_free(struct registry *registry, uint32_t slot)
{
    return handle_of(registry, slot) == 0;
}

/* A free slot + 1, or 0. */
static uint32_t take_slot(struct registry *registry)
{
    uint32_t taken = 0;
    lock_take(&registry->free_lock);
    uint32_t made = atomic_load_explicit(&registry->slots_made, memory_order_relaxed);
    if (registry->first_free != 0) {
        taken = registry->first_free;
        registry->first_free = registry_actor(registry, taken - 1)->next_free;
    } else if (made < registry->capacity &&
               (made % CHUNK_ACTORS != 0 || add_chunk(registry, made / CHUNK_ACTORS))) {
        atomic_store_explicit(&registry->slots_made, made + 1, memory_order_release);
        taken = made + 1;
    }
    lock_give(&registry->free_lock);
    CHECK(taken == 0 || is_free(registry, taken - 1));
    return taken;
}

static void give_slot(struct registry *registry, uint32_t slot)
{
    CHECK(is_free(registry, slot));
    lock_take(&registry->free_lock);
    CHECK(registry->first_free != slot + 1);
    registry_actor(registry, slot)->next_free = registry->first_free;
    registry->first_free = slot + 1;
    lock_give(&registry->free_lock);
}

/* Under the shard's lock: the slot becomes an actor, unless the name has one by now. */
static actor_handle settle(struct registry *registry, struct shard *shard, uint32_t hash,
                           const char *name, uint32_t slot, const struct behaviour *behaviour)
{
    if (!grow(shard))
        return 0;
    struct entry *entry = probe(registry, shard, hash, name, strlen(name));
    if (entry->key != 0)
        return handle_of(registry, slot_of(entry));
    struct actor *actor = registry_actor(registry, slot);
    CHECK(is_free(registry, slot) && actor->name == NULL);
    actor->name = (char *)name;
    actor->name_hash = hash;
    /* Before anybody finds it, for whoever does may have it retired at once. */
    atomic_fetch_add_explicit(&registry->in_use[behaviour->kind], 1, memory_order_relaxed);
    /* Pairs with the acquire of handle_with. */
    atomic_store_explicit(&actor->behaviour, behaviour, memory_order_release);
    uint32_t generation = atomic_load_explicit(&actor->generation, memory_order_relaxed) + 1;
    /* Pairs with the acquire of whoever posts: name and behaviour are set. */
    atomic_store_explicit(&actor->generation, generation, memory_order_release);
    *entry = (struct entry){key_of(hash, slot)};
    shard->count++;
    return (uint64_t)generation << 32 | slot;
}

/* The same in a slot that was taken, which is given back when another one has the name. */
static actor_handle settle_in(struct registry *registry, uint32_t slot, const void *name,
                              size_t size, const struct behaviour *behaviour)
{
    actor_handle handle = 0;
    char *copy = malloc(size + 1);
    if (copy != NULL) {
        memcpy(copy, name, size);
        copy[size] = '\0';
        uint32_t hash = hash_name(registry, name, size);
        struct shard *shard = shard_of(registry, hash);
        lock_take(&shard->lock);
        handle = settle(registry, shard, hash, copy, slot, behaviour);
        lock_give(&shard->lock);
    }
    if (handle == 0 || actor_slot(handle) != slot) {
        free(copy);
        give_slot(registry, slot);
    }
    return handle;
}

actor_handle registry_claim(struct registry *registry, const void *name, size_t size,
                            const struct behaviour *behaviour)
{
    CHECK(size > 0 && size <= REGISTRY_NAME_BYTES_MAX);
    CHECK(behaviour->kind < ACTOR_KINDS && behaviour->state_bytes <= registry->state_bytes);
    actor_handle handle = registry_find(registry, name, size);
    if (handle != 0)
        return handle;
    uint32_t taken = take_slot(registry);
    if (taken == 0) /* the last slot may have gone to the same name meanwhile */
        return registry_find(registry, name, size);
    return settle_in(registry, taken - 1, name, size, behaviour);
}

/* --- from another process --------------------------------------------------------------------- */

uint32_t registry_generation(struct registry *registry)
{
    uint32_t most = registry->generation_before;
    uint32_t made = atomic_load_explicit(&registry->slots_made, memory_order_acquire);
    for (uint32_t slot = 0; slot < made; slot++) {
        uint32_t generation =
            atomic_load_explicit(&registry_actor(registry, slot)->generation, memory_order_relaxed);
        most = generation > most ? generation : most;
    }
    return most;
}

void registry_begin_above(struct registry *registry, uint32_t generation)
{
    CHECK(atomic_load(&registry->slots_made) == 0);
    registry->generation_before = generation + generation % 2;
}

/* That slot, when all below it are made; those that are made on the way are free. False: it cannot
 * be had. */
static bool take_that_slot(struct registry *registry, uint32_t slot)
{
    while (atomic_load_explicit(&registry->slots_made, memory_order_relaxed) <= slot) {
        uint32_t made = atomic_load_explicit(&registry->slots_made, memory_order_relaxed);
        lock_take(&registry->free_lock);
        bool there = made % CHUNK_ACTORS != 0 || add_chunk(registry, made / CHUNK_ACTORS);
        lock_give(&registry->free_lock);
        if (!there)
            return false;
        atomic_store_explicit(&registry->slots_made, made + 1, memory_order_release);
        if (made < slot)
            give_slot(registry, made);
    }
    return true;
}

int registry_place(struct registry *registry, actor_handle handle, const void *name, size_t size,
                   const struct behaviour *behaviour)
{
    uint32_t slot = actor_slot(handle);
    bool can_be = actor_generation(handle) % 2 == 1 && slot < registry->capacity &&
                  slot >= atomic_load(&registry->slots_made) && size > 0 &&
                  size <= REGISTRY_NAME_BYTES_MAX && registry_find(registry, name, size) == 0;
    if (!can_be)
        return -EINVAL;
    if (!take_that_slot(registry, slot))
        return -ENOMEM;
    atomic_store_explicit(&registry_actor(registry, slot)->generation, actor_generation(handle) - 1,
                          memory_order_relaxed);
    return settle_in(registry, slot, name, size, behaviour) == handle ? 0 : -ENOMEM;
}

/* Under the shard's lock. */
static void remove_entry(struct shard *shard, uint32_t at)
{
    CHECK(lock_held(&shard->lock) && shard->count > 0);
    const struct table table = table_of(shard);
    table_free(&table, at);
    shard->count--;
    CHECK_SLOW(is_whole(shard));
}

/* Word by word: registry_scan looks at some of it under the lock, and whoever sums up what actors
 * show does so without. */
static void clear_state(const struct registry *registry, struct actor *actor)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)actor->state;
    for (size_t i = 0; i < (registry->state_bytes + sizeof(*words) - 1) / sizeof(*words); i++)
        atomic_store_explicit(&words[i], 0, memory_order_relaxed);
}

void registry_release(struct registry *registry, uint32_t slot)
{
    struct actor *actor = registry_actor(registry, slot);
    CHECK(actor_in_turn(actor) && !is_free(registry, slot));
    unsigned kind = atomic_load_explicit(&actor->behaviour, memory_order_relaxed)->kind;
    atomic_store_explicit(&actor->proof, 0, memory_order_relaxed);
    struct shard *shard = shard_of(registry, actor->name_hash);
    lock_take(&shard->lock);
    clear_state(registry, actor);
    struct entry *entry =
        probe(registry, shard, actor->name_hash, actor->name, strlen(actor->name));
    CHECK(entry->key == key_of(actor->name_hash, slot));
    remove_entry(shard, (uint32_t)(entry - shard->entries));
    atomic_fetch_add_explicit(&actor->generation, 1, memory_order_release);
    char *name = actor->name;
    actor->name = NULL;
    lock_give(&shard->lock);
    free(name);
    CHECK(atomic_fetch_sub_explicit(&registry->in_use[kind], 1, memory_order_relaxed) > 0);
    give_slot(registry, slot);
}

/* The slot's handle if whoever has it is of that kind; 0: somebody else has it, or nobody. */
static actor_handle handle_with(struct registry *registry, uint32_t slot, unsigned kind)
{
    actor_handle handle = handle_of(registry, slot);
    for (;;) {
        if (handle == 0 || kind == REGISTRY_ALL_KINDS)
            return handle;
        /* Pairs with the release in settle; see the head of this file. */
        bool same =
            atomic_load_explicit(&registry_actor(registry, slot)->behaviour, memory_order_acquire)
                ->kind == kind;
        actor_handle now = handle_of(registry, slot);
        if (now == handle)
            return same ? handle : 0;
        handle = now; /* it has changed hands meanwhile */
    }
}

uint32_t registry_gauge(struct registry *registry, const void *name, size_t size)
{
    actor_handle handle = registry_find(registry, name, size);
    if (handle == 0)
        return 0;
    return atomic_load_explicit(&registry_actor(registry, actor_slot(handle))->gauge,
                                memory_order_relaxed);
}

actor_handle registry_next(struct registry *registry, uint32_t *cursor, unsigned kind)
{
    uint32_t made = atomic_load_explicit(&registry->slots_made, memory_order_acquire);
    while (*cursor < made) {
        actor_handle handle = handle_with(registry, (*cursor)++, kind);
        if (handle != 0)
            return handle;
    }
    return 0;
}

/* Under the shard's lock. */
static void copy_row(struct registry *registry, uint32_t slot, struct registry_row *row)
{
    const struct actor *actor = registry_actor(registry, slot);
    row->handle = handle_of(registry, slot);
    row->behaviour = actor->behaviour;
    row->gauge = atomic_load_explicit(&actor->gauge, memory_order_relaxed);
    memset(row->numbers, 0, sizeof(row->numbers));
    if (row->behaviour->show != NULL)
        row->behaviour->show(actor->state, row->numbers);
    memcpy(row->name, actor->name, strlen(actor->name) + 1);
}

/* Under the shard's lock: the entries from *at on, until the rows are full. */
static size_t copy_rows(struct registry *registry, const struct shard *shard, uint32_t *at,
                        struct registry_row *rows)
{
    CHECK(lock_held(&shard->lock));
    size_t count = 0;
    for (; *at < shard->size && count < REGISTRY_SCAN_ROWS; (*at)++) {
        const struct entry *entry = &shard->entries[*at];
        if (entry->key == 0)
            continue;
        copy_row(registry, slot_of(entry), &rows[count++]);
    }
    return count;
}

bool registry_look(struct registry *registry, const void *name, size_t size,
                   struct registry_row *row)
{
    uint32_t hash = hash_name(registry, name, size);
    struct shard *shard = shard_of(registry, hash);
    bool found = false;
    lock_take(&shard->lock);
    if (shard->size > 0) {
        const struct entry *entry = probe(registry, shard, hash, name, size);
        found = entry->key != 0;
        if (found)
            copy_row(registry, slot_of(entry), row);
    }
    lock_give(&shard->lock);
    return found;
}

size_t registry_scan(struct registry *registry, uint64_t *cursor,
                     struct registry_row rows[REGISTRY_SCAN_ROWS])
{
    uint32_t which = (uint32_t)(*cursor >> 32);
    uint32_t at = (uint32_t)*cursor;
    size_t count = 0;
    while (which < SHARDS && count == 0) {
        struct shard *shard = &registry->shards[which];
        lock_take(&shard->lock);
        count = copy_rows(registry, shard, &at, rows);
        bool over = at >= shard->size;
        lock_give(&shard->lock);
        if (over) {
            which++;
            at = 0;
        }
    }
    *cursor = (uint64_t)which << 32 | at;
    return count;
}

actor_handle registry_at(struct registry *registry, uint32_t slot)
{
    uint32_t made = atomic_load_explicit(&registry->slots_made, memory_order_acquire);
    return slot < made ? handle_of(registry, slot) : 0;
}

uint32_t registry_capacity(const struct registry *registry)
{
    return registry->capacity;
}

uint32_t registry_count_of(struct registry *registry, unsigned kind)
{
    CHECK(kind < ACTOR_KINDS);
    return atomic_load_explicit(&registry->in_use[kind], memory_order_relaxed);
}

uint32_t registry_count(struct registry *registry)
{
    uint32_t count = 0;
    for (unsigned kind = 0; kind < ACTOR_KINDS; kind++)
        count += registry_count_of(registry, kind);
    return count;
}
