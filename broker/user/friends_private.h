/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USER_FRIENDS_PRIVATE_H
#define USHER_USER_FRIENDS_PRIVATE_H

/* Private to user/friends*.c: whom a user watches, and what he says of himself. There from his
 * first Watch, WatchList or SetStatus to the end of his session, so a serial is never given twice.
 */

#include "actors/watch.h"
#include "proto/client_frame.h"
#include "user/friends.h"
#include "user/names.h"
#include "user/user.h"

/* Whom he watches: 16 bytes. Its position and serial are what the target's shard knows it by. */
struct pair {
    union {
        struct watch_record *record; /* how the target looks.
                                      * NULL: a free place, whose serial is the next one */
        uint8_t *name;               /* while it is pending: see names.h */
    };
    uint32_t serial;
    uint32_t hash : 24;   /* of the name; what chose the shard is in it */
    uint32_t pending : 1; /* the shard has not said how he looks */
    uint32_t shown : 1;   /* the present connection was given a first state */
    uint32_t dirty : 1;   /* stands in what is gathered */
    uint32_t service : 1; /* a service said so */
    uint32_t unsaid : 1;  /* the shard does not know of it yet; it is pending, too */
};

/* A pair that has changed since the client was told. */
struct gathered {
    struct watch_record *told; /* how he looked to the client before; held */
    uint32_t position, serial;
};

/* A WatchList that is not answered yet. */
struct list_wait {
    struct list_wait *next;
    actor_handle by;
    uint64_t request;
    uint32_t accepted;
    uint32_t count, capacity; /* of the rows */
    uint32_t failure_count, failure_capacity;
    struct watch_failure *failures;
    struct list_row {
        uint32_t position, serial;
        uint16_t index;
    } * rows; /* targets whose shard has not answered */
};

struct friends {
    struct pair *pairs;
    uint32_t size, top; /* places, and those that were ever used */
    uint32_t free;      /* position + 1 of the first free one; 0: none */
    uint32_t count, pending, unsaid;
    uint64_t say_due_ms, say_last_ms; /* when what is unsaid will be said, and at the latest */
    uint32_t serial;                  /* of the last one */
    /* what the client is to be told */
    struct gathered *gathered;
    uint32_t gathered_count, gathered_capacity;
    uint32_t snapshot_at;   /* while `snapping`: positions before it have been told */
    uint32_t gathered_seen; /* when it was due the last time and many were coming */
    uint64_t batch_due_ms;  /* 0: nothing is gathered */
    uint64_t batch_last_ms; /* not later, however many come */
    uint64_t wanted_ms;     /* since when a snapshot is wanted */
    uint64_t snapshot_ms;   /* when the last one began */
    bool wanted, snapping;
    bool first;  /* no frame of the snapshot has gone out */
    bool blocks; /* what is due waits for room in the connection */
    /* what he says of himself */
    bool said;
    uint64_t say_next_ms;                /* not before */
    struct watch_status_message *to_say; /* then; NULL: nothing */
    struct list_wait *lists;
};

struct friends *friends_of(struct session *session);
struct friends *friends_if_any(const struct session *session);

/* --- friends_pairs.c -------------------------------------------------------------------------- */

static inline struct bytes pair_name(const struct pair *pair)
{
    return pair->pending ? names_get(pair->name) : watch_record_name(pair->record);
}

static inline uint32_t pair_hash(uint64_t hash)
{
    return hash & 0xffffff;
}

/* Room for so many places, more than there is. */
void pairs_grow(struct friends *friends, uint32_t size);

/* So many more are counted, of the whole node, and how many there were before. */
uint64_t pairs_take(struct turn *turn, uint32_t count);

/* What a Watch or a WatchList comes to. */
struct wish {
    struct bytes name;
    uint64_t hash;
    uint16_t index; /* in the list that it is from */
    bool fresh;     /* he is not watched yet */
};

struct plan {
    struct wish *wishes; /* to be watched, each once */
    uint32_t count, capacity;
    uint32_t fresh;
    bool *goes; /* by position: it is taken away */
    uint32_t gone;
};

void plan_begin(struct plan *plan, const struct friends *friends, uint32_t most);
void plan_remove_all(struct plan *plan, const struct friends *friends);
void plan_remove(struct plan *plan, const struct friends *friends, const struct turn *turn,
                 struct bytes name);
void plan_add(struct plan *plan, const struct friends *friends, const struct turn *turn,
              struct bytes name, uint16_t index);
void plan_end(struct plan *plan);

enum plan_fault { PLAN_FITS, PLAN_TARGETS, PLAN_PAIRS };

/* What a limit says of it, counted; PLAN_FITS: its pairs are counted from now on. */
enum plan_fault plan_reserve(const struct plan *plan, const struct friends *friends,
                             struct turn *turn);

/* Carries out what was reserved. With `list` its shards are asked, and their answers wait there. */
void plan_carry_out(const struct plan *plan, struct friends *friends, bool service,
                    struct list_wait *list, struct turn *turn);

/* Takes away those that are to go, here and in their shards. They stay counted. */
struct pair_choice {
    bool (*goes)(const struct friends *friends, uint32_t position, const void *own);
    const void *own;
};
void pairs_remove(struct friends *friends, struct pair_choice choice, struct turn *turn);

/* Says what is unsaid, if it is due. */
void pairs_say(struct friends *friends, struct turn *turn);

/* The target looks like that now: the pair has a hold of the record, and the caller of the one
 * before. NULL: he is pending no more. */
struct watch_record *pair_replace(struct friends *friends, uint32_t position,
                                  struct watch_record *record);

/* Frees the place. */
void pair_free(struct friends *friends, uint32_t position);

/* The pair is there no more: one less is counted. */
void pairs_give_back(struct turn *turn, uint32_t count);

/* All memory of the pairs. */
void pairs_fini(struct friends *friends);

/* --- friends_tell.c --------------------------------------------------------------------------- */

/* One more that stands in what is gathered. Takes the hold of what was told. */
void tell_gather(struct friends *friends, struct gathered gathered);

/* The target looks like that now. Takes a hold of the record. */
void tell_changed(struct session *session, struct friends *friends, uint32_t position,
                  struct watch_record *record, struct turn *turn);

/* A snapshot is wanted. */
void tell_all(struct friends *friends, const struct turn *turn);

/* Sends what is due, as far as the connection takes it. */
void tell_due(struct session *session, struct friends *friends, struct turn *turn);

/* When something will be; UINT64_MAX: nothing. */
uint64_t tell_due_ms(const struct session *session, const struct friends *friends,
                     const struct turn *turn);

/* What was on its way to a connection is not any more, and the next one has been told nothing. */
void tell_nothing(struct friends *friends);

/* --- friends_ask.c ---------------------------------------------------------------------------- */

uint32_t friends_count_names(struct client_list list); /* friends.c */

/* Asks the service for those that a Watch adds. False: it was refused, and that is answered. */
bool friends_ask(struct session *session, const struct client_frame *frame, struct turn *turn);

/* Those are the service's answer, to request `id`: they are watched, and it is answered. */
void friends_granted(struct session *session, uint64_t id, struct bytes *names, size_t count,
                     struct turn *turn);

/* --- friends_list.c --------------------------------------------------------------------------- */

/* The shard has answered about that pair, with a Result.Code. */
void list_answered(struct friends *friends, uint32_t position, uint32_t serial, uint16_t code,
                   struct turn *turn);
void list_wait_for(struct list_wait *list, uint32_t position, uint32_t serial, uint16_t index);

/* All that wait are answered, with that Result.Code. turn NULL: nobody is. */
void lists_end(struct friends *friends, uint16_t code, struct turn *turn);

#endif
