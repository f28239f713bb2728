/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_STORED_PRIVATE_H
#define USHER_PERSIST_STORED_PRIVATE_H

/* Between the files of stored.h. All functions of the index are called under the lock; what is
 * called `plan` is the committer's thread's alone. */

#include "actors/spent.h"
#include "base/lock.h"
#include "persist/stored.h"
#include "persist/stored_bank.h"

enum {
    TAG_MS = 600000,
    LOSS_MS_PER_DAY = 86400000,
    LOSS_DAYS = 30,
    ENTRY_RECEIVERS_MAX = 256, /* of one payload: so that an entry stays a small piece of work */
    CLEAN_BYTES = 256 * 1024,  /* of old values in one transaction, at least twice what comes */
    CLEAN_FLOOR_BYTES = 64 * 1024, /* a log that is smaller is as clean as it need be */
    DONES_MAX = 65536,             /* users */
    DONES_SOON = 4096,
    ENTRY_BYTES = 40,  /* that an entry takes beside payload and names, about */
    OFFSET_MAX = 2047, /* in a value: what begins behind STORE_LOG_VALUE_BYTES has one of its own */
    HEAD_UNIT = 8,
    HEAD_MAX = 31,
};

/* --- the index -------------------------------------------------------------------------------- */

/* Where a message of a receiver is. */
struct place {
    uint64_t mid;
    uint64_t number : 46, service : 1, shared : 1, offset : 11; /* of the value, and in it */
    uint64_t head : 5; /* what it takes beside its payload, by HEAD_UNIT; of one that is shared,
                        * beside the share */
    uint32_t expires_s;
    uint32_t size; /* of the payload */
};

_Static_assert(sizeof(struct place) == 24, "a message costs so much memory");
_Static_assert(HEAD_MAX *HEAD_UNIT >= LOG_ENTRY_HEAD_BYTES_MAX + 1 + (int)STORE_NAME_BYTES_MAX &&
                   OFFSET_MAX >= (int)STORE_LOG_VALUE_BYTES,
               "what a place says of an entry");

/* Of a user who has some, by the hash of his name. */
struct box {
    uint64_t key;
    struct place *places; /* those from `first` on, in order of mid */
    uint32_t first, count, capacity;
    uint32_t bytes; /* payloads of players' */
    uint32_t service_count, service_bytes;
};

/* Of an entry with several receivers, by where it is. */
struct share {
    uint64_t key;
    uint32_t live, bytes; /* without the receivers */
};

/* Something of a user up to `mid` went before he had it, and he has not been told. */
struct lost {
    uint64_t key;
    uint64_t mid;
    uint64_t number;  /* of the value in which that stands; 0: the entries that went still say it */
    uint32_t since_s; /* 0: since now */
    uint16_t bytes;   /* of what stands there */
    bool planned;
};

/* Of a sender, a receiver and a tag. */
struct tag {
    uint64_t key;
    uint64_t mid;
    uint32_t until_s;    /* monotonic */
    uint32_t bytes : 10; /* of its own entry; 0: that of the message says it */
    uint32_t
        unproven : 22; /* of the plan, its entry there and 1: it goes if the transaction does */
};

struct index {
    struct bank boxes, shares, losses, tags;
    uint64_t messages;
    uint64_t live_bytes;  /* of the entries of messages */
    uint64_t other_bytes; /* of the others that are not dead */
    struct bank_place boxes_swept, losses_swept, tags_swept;
};

/* --- what waits to be noted ------------------------------------------------------------------- */

struct note {
    uint64_t key;
    uint64_t done_mid, drop_mid, lost_mid; /* 0: nothing */
    uint64_t lost_number;                  /* where the latter was written; 0: it was not */
    uint16_t lost_bytes;
    char *user;
};

/* --- the plan of a transaction ---------------------------------------------------------------- */

/* An entry for messages that come, for some receivers. */
struct coming {
    struct deliver_message *message; /* the first one's */
    uint64_t mid;
    uint32_t first, last; /* of its receivers, in plan.keeps */
    uint32_t receiver_count;
    uint32_t names_size;
    uint64_t number; /* where it was written; 0: it was not */
    uint32_t offset;
    uint32_t bytes; /* without the receivers */
};

struct keep {
    struct deliver_message *message;
    const char *user;
    uint64_t key, tag_key;
    uint32_t entry;
    uint32_t next; /* of the entry; UINT32_MAX: none */
    bool repeated; /* its tag is that of the entry's message */
};

/* An entry that is written again, or because another one is not. */
struct moving {
    struct log_entry entry; /* runs lie in plan.old and plan.names */
    size_t names_at;
    uint64_t old_number;
    uint32_t old_offset;
    uint64_t number;
    uint32_t offset;
};

struct old_value {
    uint64_t number;
    size_t at, size; /* in plan.old */
    bool damaged;
};

#define LIST_OF(type)             \
    struct {                      \
        type *items;              \
        uint32_t count, capacity; \
    }

/* One more at the end of a list, zeroed; its address. */
#define LIST_ADD(list)                                                                         \
    ((list)->items =                                                                           \
         stored_grow((list)->items, (list)->count, &(list)->capacity, sizeof(*(list)->items)), \
     &(list)->items[(list)->count++])
#define LIST_FREE(list)                                                                       \
    ((list)->items = stored_shrink((list)->items, &(list)->capacity, sizeof(*(list)->items)), \
     (list)->count = 0)
void *stored_grow(void *items, uint32_t count, uint32_t *capacity, size_t item_bytes);
void *stored_shrink(void *items, uint32_t *capacity, size_t item_bytes); /* to nothing */

struct plan {
    bool open;
    uint64_t now_ms, wall_ms;
    uint32_t now_s;
    struct change *stores;
    LIST_OF(struct coming) coming;
    LIST_OF(struct keep) keeps;
    LIST_OF(struct note) notes;
    LIST_OF(struct moving) moving;
    LIST_OF(struct old_value) values;
    struct buffer old;        /* values that are cleaned away */
    struct buffer names;      /* receivers of what is moved */
    struct buffer living;     /* those of one entry of it */
    struct buffer receivers;  /* those of one that comes */
    size_t held_bytes;        /* of these in the book */
    uint64_t messages, bytes; /* that come */
    /* as it was written */
    uint64_t appended_bytes, appended_room, appended_values, last_number;
    uint64_t moved_bytes;
    uint32_t dropped; /* so many of the old values */
};

struct stored {
    struct stored_options options;
    uint64_t hash_key[2];
    struct spent *rates, *away_rates; /* the committer's, but they have locks of their own */
    uint64_t clean_bytes; /* of old values in one transaction; a constant, but for tests */
    struct plan plan;
    bool doubtful;      /* a commit failed: what the store has is to be looked at */
    unsigned told_full; /* how far the log has told that it is full */
    uint64_t told_ms;   /* and when it last did */
    /* as of the last commit; the committer's */
    uint64_t log_first, log_last, log_values;
    _Atomic uint64_t log_bytes, log_room; /* read by others */
    struct lock lock;
    pthread_cond_t settled;
    struct index index;   /* under lock, as the next three */
    bool settling;        /* a transaction is planned or under way */
    const char *refusing; /* the option for which the last message found no room; NULL: it did */
    uint64_t refused_ms;
    struct lock notes_lock;
    struct bank notes; /* under notes_lock, as the next */
    uint64_t notes_since_ms;
};

/* stored.c */
uint64_t stored_key(const struct stored *stored, struct bytes user);
uint64_t stored_tag_key(const struct stored *stored, bool from_service, struct bytes sender,
                        struct bytes receiver, uint64_t tag);
void stored_count(const struct stored *stored, enum metric_id metric, uint64_t n);
uint64_t stored_room_of(uint64_t value_bytes); /* what a value takes in the map, about */
uint64_t stored_room_max(const struct stored *stored);
void stored_damaged(const struct stored *stored, uint64_t number);
void plan_count_buffers(struct plan *plan); /* in the book; large ones are given back */

/* stored_write.c: of a message of the plan */
uint64_t expires_ms(const struct stored *stored, const struct deliver_message *message);

/* stored_settle.c: there is no plan any more */
void plan_over(struct stored *stored);

/* stored_index.c */
struct box *index_box(struct stored *stored, uint64_t key); /* NULL: he has none */
uint32_t index_seek(const struct box *box, uint64_t mid);   /* the first that is not below */
uint32_t index_count_behind(struct stored *stored, uint64_t key, uint64_t mid);
struct place *index_place(struct stored *stored, uint64_t key, uint64_t mid);
unsigned place_head(bool shared, uint64_t bytes, uint64_t payload, uint64_t name);
void index_add(struct stored *stored, uint64_t key, const struct place *place, uint32_t bytes);
uint32_t index_done(struct stored *stored, uint64_t key, uint64_t mid); /* gives how many */
void index_forget(struct stored *stored, struct box *box, uint32_t at);
void index_lose(struct stored *stored, uint64_t key, uint64_t mid);
void index_place_loss(struct stored *stored, uint64_t key, uint64_t mid, uint64_t number,
                      uint16_t bytes); /* where it is written that this is lost */
void index_told(struct stored *stored, uint64_t key, uint64_t mid);
void index_drop_loss(struct stored *stored, struct lost *loss);
void index_expire(struct stored *stored, uint64_t key, uint32_t now_s);
void index_move(struct stored *stored, uint64_t key, struct bytes name,
                const struct moving *moving);
void index_sweep(struct stored *stored, uint32_t now_s);
void index_init(struct index *index); /* zeroed memory */
void index_empty(struct stored *stored);
uint64_t share_key(uint64_t number, uint32_t offset);

/* stored_tags.c */
struct tag *tag_find(struct stored *stored, uint64_t key); /* NULL: not seen */
bool tags_are_full(struct stored *stored, const struct deliver_message *message);
struct tag *tag_set(struct stored *stored, uint64_t key, uint64_t mid, uint32_t until_s);
uint32_t tag_until_s(uint64_t now_ms, uint64_t age_ms); /* of one that old; monotonic */
void tag_place(struct stored *stored, struct tag *tag, uint16_t bytes); /* of its own entry */
void tag_drop(struct stored *stored, struct tag *tag);
void tags_sweep(struct stored *stored);

/* stored_scan.c */
int stored_scan(struct stored *stored);

/* stored_admit.c: an Error.Code, 0: it may be stored */
struct admitting {
    uint32_t count,
        bytes; /* of this receiver, of players, that come before it; the next of services */
    uint32_t service_count, service_bytes;
    uint64_t entry_bytes; /* what an entry of its own would take; 0: it shares one */
    uint64_t name_bytes;  /* and its receiver in it */
};
uint16_t stored_admit(struct stored *stored, uint64_t key, bool away,
                      const struct deliver_message *message, struct admitting *so_far);
uint64_t stored_part_for(const struct deliver_message *message, uint64_t all);
void stored_no_room(struct stored *stored); /* for a message, in the store */
void stored_tell_full(struct stored *stored);

/* stored_notes.c */
void notes_take(struct stored *stored);      /* into the plan */
void notes_give_back(struct stored *stored); /* those of the plan */
void notes_apply(struct stored *stored);     /* they are committed */
void stored_lost(struct stored *stored, const char *user, uint64_t mid);

/* stored_clean.c */
bool clean_is_due(struct stored *stored);
void clean_plan(struct stored *stored);
void clean_apply(struct stored *stored);
void clean_undo(struct stored *stored);

#endif
