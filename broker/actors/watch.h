/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_WATCH_H
#define USHER_ACTORS_WATCH_H

/* What users, the shards of who watches whom (watch/), the committer and the queries tell each
 * other about friends. A *pair* is a watcher and one whom he watches, his *target*. It stands in
 * two places: at the watcher (user/friends.c) and in the shard of the target, which refers to the
 * watcher's place by its position and serial. Everything about a pair that the shard hears comes
 * from the watcher's own turns, so in their order; everything that the watcher hears of a target
 * comes from that one shard.
 *
 * What is passed in is borrowed. Any thread; never block. */

#include "actors/kinds.h"
#include "actors/turn.h"
#include "base/hash.h"
#include "runtime/shared.h"

enum { WATCH_STATUS_BYTES_MAX = 128, WATCH_LOOK_MAX = 128 };

/* As in FriendState.State. */
enum watch_state { WATCH_OFFLINE, WATCH_ONLINE, WATCH_AWAY };

/* How a target looks to whoever watches him: made once by his shard for each change and held by all
 * of them, so a name stands in memory once for all who watch it. */
struct watch_record {
    struct shared header;
    uint64_t since_ms; /* wall; 0: not known */
    uint8_t state;     /* enum watch_state */
    uint8_t name_size, status_size;
    uint8_t bytes[]; /* name, status */
};

/* Held once, by the caller. */
struct watch_record *watch_record_create(struct bytes name, uint8_t state, uint64_t since_ms,
                                         struct bytes status);

static inline struct bytes watch_record_name(const struct watch_record *record)
{
    return (struct bytes){record->bytes, record->name_size};
}

static inline struct bytes watch_record_status(const struct watch_record *record)
{
    return (struct bytes){record->bytes + record->name_size, record->status_size};
}

/* Both look the same, whenever that began. */
bool watch_record_equal(const struct watch_record *a, const struct watch_record *b);

/* Of a name, keyed; the same for all who ask. */
static inline uint64_t watch_hash(const struct settings *settings, struct bytes name)
{
    return hash_keyed(settings->friends_key, name.data, name.size);
}

/* The actor that has him. */
static inline actor_handle watch_shard(const struct settings *settings, uint64_t hash)
{
    return settings->watch_shards[hash % WATCH_SHARDS];
}

/* --- to a shard ------------------------------------------------------------------------------- */

/* Of what a watcher says at once of several targets of a shard so many stand in one message. */
enum { WATCH_PAIRS_MAX = 16 };

struct watch_pair {
    uint64_t hash;             /* of the target's name */
    uint32_t position, serial; /* of the pair, at the watcher */
    uint32_t name_at, name_size;
};

/* MESSAGE_WATCH and MESSAGE_UNWATCH, from the watcher. Nobody answers an UNWATCH. */
struct watch_message {
    struct message header;
    actor_handle watcher;
    bool asks; /* he wants to hear WATCHED_TAKEN */
    uint32_t count, capacity;
    uint32_t names_bytes;      /* so far */
    struct watch_pair pairs[]; /* and behind room for `capacity` of them the names */
};

/* Of no pair yet. `names_bytes`: of all names that will be added. */
struct watch_message *watch_message_create(uint16_t kind, actor_handle watcher, uint32_t capacity,
                                           size_t names_bytes);
/* One more of the `capacity`. */
void watch_message_add(struct watch_message *message, uint64_t hash, uint32_t position,
                       uint32_t serial, struct bytes name);
struct bytes watch_message_name(const struct watch_message *message, uint32_t index);

/* MESSAGE_WATCH_STATUS, from the user himself: in place of what he said before. */
struct watch_status_message {
    struct message header;
    uint64_t epoch;
    bool invisible;
    bool gone; /* he has none any more */
    uint8_t name_size, status_size;
    uint8_t bytes[]; /* name, status */
};

struct watch_status_message *watch_status_create(struct bytes name, struct bytes status);

/* MESSAGE_WATCH_EVENT, from the committer, in the order of the stream. */
struct watch_event_message {
    struct message header;
    uint64_t seq, epoch, time_ms;
    uint8_t kind; /* PresenceEvent.Kind */
    uint8_t name_size;
    uint8_t name[];
};

struct watch_event_message *watch_event_create(const struct presence_event *event);

/* MESSAGE_WATCH_STALE, from the committer: an event found no room in the shard's mailbox. */
struct watch_stale_message {
    struct message header;
    uint32_t number; /* of the shard; its bit in counters.watch_stale */
};

/* MESSAGE_WATCH_LOOKED: goes to the queries and comes back, filled. */
struct watch_look {
    uint32_t target; /* the shard's own number */
    uint8_t state;   /* enum watch_state: that of the session */
    uint64_t epoch, since_ms;
    char user[STORE_NAME_BYTES_MAX + 1];
};

struct watch_look_message {
    struct message header;
    actor_handle shard;
    bool failed;           /* the store could not be asked */
    uint64_t presence_seq; /* the answers are true for it */
    uint32_t count;
    struct watch_look rows[];
};

struct watch_look_message *watch_look_create(uint32_t count);

/* --- to a watcher ----------------------------------------------------------------------------- */

enum watched_what {
    WATCHED_STATE, /* the message holds a watch_record: the target as he looks now */
    WATCHED_TAKEN, /* he is watched; how he looks will follow */
    WATCHED_FULL,  /* he has friends.watchers already, and is not watched: the pair is gone */
};

struct watched {
    uint32_t position, serial;
    uint32_t what; /* enum watched_what */
    uint32_t unused;
};

/* MESSAGE_WATCHED, from the shard: what has changed. */
struct watched_message {
    struct message header;
    struct watched pair;
};

/* MESSAGE_WATCHED_MANY, from the shard: what it says to a MESSAGE_WATCH. It holds a watch_record,
 * or nothing, for each. */
struct watched_many_message {
    struct message header;
    uint64_t count;
    struct watched pairs[];
};

/* --- lists of services ------------------------------------------------------------------------ */

/* MESSAGE_WATCH_LIST, to a user by name; answered by a MESSAGE_WATCH_LISTED. The names stand one
 * after the other, each behind its length as one byte: whoever makes it has looked that they are no
 * longer. */
struct watch_list_message {
    struct message header;
    actor_handle by;
    uint64_t request;
    uint64_t epoch; /* 0: any */
    uint32_t mode;  /* WatchList.Mode */
    uint32_t count;
    uint32_t size;
    uint8_t names[];
};

struct watch_failure {
    uint16_t index; /* of the name in the list */
    uint16_t code;  /* Result.Code */
};

struct watch_listed_message {
    struct message header;
    uint64_t request;
    uint16_t code; /* Result.Code: of the whole */
    uint32_t accepted;
    uint32_t count;
    struct watch_failure failures[];
};

/* To whoever gave the list. */
void watch_listed(struct turn *turn, actor_handle to, uint64_t request, uint16_t code,
                  uint32_t accepted, const struct watch_failure *failures, uint32_t count);

#endif
