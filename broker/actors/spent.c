/* SPDX-License-Identifier: Apache-2.0 */
#include "actors/spent.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/lock.h"

/* An allowance is one number, the time at which it will be whole again, and until then it has to be
 * remembered: for a second, or a minute, after its owner has left. So the table forgets by itself,
 * if it has room for those who leave meanwhile. A name has a set of places; when all of them are
 * taken, the one that is whole first goes, which is one that is whole already wherever there is
 * any.
 *
 * The hash has a random key and is as good as the name: two of 2^64 are not met by chance, and
 * nobody can aim at one set. To push somebody out there, one has to leave as many sessions with
 * more spent as the table has places, in the time for which it matters; each of them was a login
 * with the store. */

enum { SETS = 2048, PLACES = 8 };

struct place {
    uint64_t key;
    struct allowance allowance;
};

struct spent {
    uint64_t hash_key[2];
    struct lock lock;
    struct place places[SETS][PLACES]; /* under lock */
};

struct spent *spent_create(const struct env *env)
{
    struct spent *spent = calloc(1, sizeof(*spent));
    if (spent == NULL)
        return NULL;
    env_random(env, spent->hash_key, sizeof(spent->hash_key));
    lock_init(&spent->lock);
    return spent;
}

void spent_destroy(struct spent *spent)
{
    if (spent == NULL)
        return;
    lock_destroy(&spent->lock);
    free(spent);
}

/* Its place, or else the one that is whole first. */
static struct place *find(struct spent *spent, uint64_t key)
{
    CHECK(lock_held(&spent->lock));
    struct place *set = spent->places[key % SETS];
    struct place *first = &set[0];
    for (unsigned i = 0; i < PLACES; i++) {
        if (set[i].key == key)
            return &set[i];
        if (set[i].allowance.due_ns < first->allowance.due_ns)
            first = &set[i];
    }
    return first;
}

static void put(struct spent *spent, uint64_t key, struct allowance allowance)
{
    lock_take(&spent->lock);
    struct place *place = find(spent, key);
    if (place->key == key || place->allowance.due_ns <= allowance.due_ns)
        *place = (struct place){key, allowance};
    lock_give(&spent->lock);
}

void spent_put(struct spent *spent, struct bytes name, struct allowance allowance)
{
    if (spent != NULL && allowance.due_ns != 0)
        put(spent, hash_keyed(spent->hash_key, name.data, name.size), allowance);
}

struct allowance spent_take(struct spent *spent, struct bytes name)
{
    struct allowance allowance = {0};
    if (spent == NULL)
        return allowance;
    uint64_t key = hash_keyed(spent->hash_key, name.data, name.size);
    lock_take(&spent->lock);
    struct place *place = find(spent, key);
    if (place->key == key) {
        allowance = place->allowance;
        *place = (struct place){0};
    }
    lock_give(&spent->lock);
    return allowance;
}

void spent_move_out(struct spent *spent, uint64_t now_ns, uint64_t key[2], allowance_each *each,
                    void *context)
{
    memcpy(key, spent->hash_key, sizeof(spent->hash_key));
    lock_take(&spent->lock);
    for (unsigned i = 0; i < SETS * PLACES; i++) {
        const struct place *place = &spent->places[i / PLACES][i % PLACES];
        if (place->allowance.due_ns > now_ns)
            each(context, place->key, place->allowance);
    }
    lock_give(&spent->lock);
}

void spent_move_key(struct spent *spent, const uint64_t key[2])
{
    memcpy(spent->hash_key, key, sizeof(spent->hash_key));
}

void spent_move_in(struct spent *spent, uint64_t number, struct allowance allowance)
{
    put(spent, number, allowance);
}
