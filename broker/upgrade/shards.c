/* SPDX-License-Identifier: Apache-2.0 */
#include "upgrade/shards.h"

#include <errno.h>
#include <string.h>

/* Who watches whom: a shard is as many records as it takes, one behind the other. A process makes
 * its shards before there is any user, so their slots are lower and their records come first:
 * whoever watches somebody finds there how he looks. */

int shards_pack(const struct actor *actor, actor_handle handle, struct arena *arena,
                struct buffer *records)
{
    struct watch_walk walk = {0};
    int error = 0;
    while (error == 0 && !walk.over) {
        Usher__V1__HandoverShard shard = USHER__V1__HANDOVER_SHARD__INIT;
        Usher__V1__HandoverRecord record = USHER__V1__HANDOVER_RECORD__INIT;
        arena_reset(arena);
        if (!watch_move_out((const struct watch_place *)(const void *)actor->state, &walk, arena,
                            &shard))
            return -EBUSY;
        shard.handle = handle;
        shard.name = (char *)(uintptr_t)actor->name;
        record.body_case = USHER__V1__HANDOVER_RECORD__BODY_SHARD;
        record.shard = &shard;
        error = handover_append(records, &record);
    }
    return error;
}

bool shards_know(struct shards *shards, const struct actor *actor)
{
    for (unsigned i = 0; i < WATCH_SHARDS; i++) {
        char name[WATCH_NAME_BYTES];
        watch_name(i, name);
        if (strcmp(actor->name, name) != 0)
            continue;
        shards->places[i] = (const struct watch_place *)(const void *)actor->state;
        return true;
    }
    return false;
}

enum { TOGETHER = 64 };

/* Names of one user are anywhere in the shards, and what they refer to anywhere in the memory: it
 * is sent for by the dozen. */
static void find_some(const struct shards *shards, const struct bytes *names, uint32_t count,
                      struct watch_record **records)
{
    static const struct watch_place nobody;
    const struct watch_place *places[TOGETHER];
    uint64_t hashes[TOGETHER];
    for (uint32_t i = 0; i < count; i++) {
        hashes[i] = watch_hash(shards->settings, names[i]);
        places[i] = shards->places[hashes[i] % WATCH_SHARDS];
        places[i] = places[i] != NULL ? places[i] : &nobody;
    }
    for (unsigned step = 0; step < WATCH_FETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++)
            watch_fetch(places[i], hashes[i], step);
    for (uint32_t i = 0; i < count; i++)
        records[i] = watch_record_of(places[i], hashes[i], names[i]);
}

void shards_find(void *shards, const struct bytes *names, uint32_t count,
                 struct watch_record **records)
{
    for (uint32_t done = 0, some = 0; done < count; done += some) {
        some = count - done < TOGETHER ? count - done : TOGETHER;
        find_some(shards, names + done, some, records + done);
    }
}
