/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_UPGRADE_SHARDS_H
#define USHER_UPGRADE_SHARDS_H

/* Private to upgrade/: the shards of who watches whom, for out.c and in.c. */

#include "proto/handover.h"
#include "upgrade/upgrade.h"
#include "user/user.h"
#include "watch/watch.h"

/* All of it as records. 0; -EBUSY: it cannot go now; -ENOMEM. */
int shards_pack(const struct actor *actor, actor_handle handle, struct arena *arena,
                struct buffer *records);

/* Those that have come over, by their numbers. */
struct shards {
    const struct settings *settings;
    const struct watch_place *places[WATCH_SHARDS];
};

/* The actor is that one of them. False: by its name it is none. */
bool shards_know(struct shards *shards, const struct actor *actor);

/* For user_move_in: the shards are a moved_records' context. */
void shards_find(void *shards, const struct bytes *names, uint32_t count,
                 struct watch_record **records);

#endif
