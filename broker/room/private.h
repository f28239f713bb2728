/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ROOM_PRIVATE_H
#define USHER_ROOM_PRIVATE_H

/* What the files of this folder share: the state of one room, owned by its turn. */

#include "base/check.h"
#include "room/room.h"

enum {
    ROOM_ASKS_MAX = 1024,  /* Joins that wait for the owner */
    ROOM_EVENT_MS = 250,   /* for which the roster's changes are gathered, without a tick */
    ROOM_HINT_MS = 250,    /* after which who missed something is told so */
    ROOM_WHOLE = 1024,     /* so many members are posted to in one turn... */
    ROOM_SLICE = 128,      /* ... and of more so many */
    ROOM_POSTS = 4096,     /* in one turn, when there are several bundles */
    ROOM_WAITING_MAX = 64, /* bundles that wait for members; beyond that it is BUSY */
};

struct member {
    actor_handle user; /* 0: a hole, whose member is gone */
    uint64_t epoch;
    uint64_t number; /* of his joining; they rise with the places */
    char *name;
    uint32_t change; /* his row among the changes, plus 1; 0: none */
    bool away, carry;
    bool owed;        /* something did not fit his mailbox */
    bool roster_owed; /* with it something of the roster, or there may have been */
    bool gone;        /* a post did not find him: he is out, unless his word comes first */
};

/* Place of a member by the slot of his actor, and by his name. */
struct place_row {
    uint64_t key; /* slot + 1, or the hash of a name; 0: free */
    uint64_t place;
};

/* A Join that waits for the owner. */
struct ask {
    struct ask *next;
    uint64_t call;
    uint64_t deadline_ms;
    bool creates;
    struct room_join_message *join;
};

struct change_row {
    char *name;
    uint8_t kind; /* RoomChange.Kind */
};

struct room {
    char name[USERNAME_BYTES_MAX + 1];
    char named_class[USERNAME_BYTES_MAX + 2]; /* by RoomOpen; "": by the name */
    const struct room_classes *classes;       /* that `class` is of */
    struct room_class class;
    uint32_t class_place;   /* in those */
    uint32_t members_asked; /* by RoomOpen; 0: as the class says */
    uint64_t incarnation;   /* 0: it is not open yet */
    uint64_t offset;        /* of the newest message */
    uint64_t sealed;        /* of the newest one in a bundle */
    uint64_t opened_ms;     /* wall */
    uint64_t news_seq;
    bool closing;   /* nothing new is taken; the members are yet to be told */
    bool closed;    /* they are being told */
    bool told_more; /* a MESSAGE_ROOM_MORE is on its way */
    bool moved;     /* in this turn: what is due is done by its tick */
    uint8_t close_cause;
    char close_detail[DETAIL_BYTES_MAX + 1];
    /* members.c */
    uint64_t key[2]; /* random: of the hash of names */
    struct member *members;
    uint32_t places, capacity;        /* holes included */
    uint32_t count, away, owed, gone; /* in all, and of them */
    uint64_t last_number;
    struct place_row *rows;
    uint32_t row_count, row_size;
    uint64_t empty_since_ms; /* 0: it is not */
    /* publish.c: items of the bundle that is being made */
    struct buffer items;
    uint32_t item_count;
    uint32_t ends[ROOM_BUNDLE_MAX];
    uint64_t flush_ms; /* when what waits is to leave; 0: nothing does */
    uint64_t spent_ns; /* as struct allowance: when all deliveries will have been given back */
    uint64_t deliveries;
    /* history.c: a ring of bundles, the oldest first */
    struct room_bundle **kept; /* NULL: none yet */
    uint32_t kept_first, kept_count;
    uint32_t kept_messages;
    uint64_t kept_bytes;
    /* out.c: bundles for the members, the oldest first */
    struct room_bundle **out;
    uint32_t out_count, out_capacity;
    uint32_t out_ready; /* of them may leave now */
    uint32_t out_batch; /* of them are leaving, to the members from out_place on; 0: none is */
    uint32_t out_place;
    /* roster.c */
    struct change_row *changes;
    uint32_t change_count, change_capacity;
    uint64_t event_ms; /* when they are to be told; 0: there is nothing to tell */
    /* join.c */
    struct ask *asks;
    uint32_t ask_count;
    uint64_t hint_ms;
    uint64_t timer_ms; /* a tick is on its way for then; 0: none is */
};

/* Some of the members have got the oldest bundles, others have not. */
static inline bool room_is_sending(const struct room *room)
{
    return room->out_batch != 0;
}

static inline bool room_is_open(const struct room *room)
{
    return room->incarnation != 0 && !room->closing;
}

/* --- members.c -------------------------------------------------------------------------------- */

/* NULL: nobody of that actor is in it; nobody of any actor of its slot. */
struct member *members_find(struct room *room, actor_handle user);
struct member *members_find_slot(struct room *room, actor_handle user);

/* The one of that name, of whatever login. */
struct member *members_find_name(struct room *room, struct bytes name);

/* He is not in it, and nobody of his slot. */
struct member *members_add(struct room *room, actor_handle user, uint64_t epoch, struct bytes name);
void members_remove(struct room *room, struct member *member);
void members_set_away(struct room *room, struct member *member, bool away);
void members_set_owed(struct room *room, struct member *member, bool owed);

/* Closes the holes, when they are many; no fan-out is under way. */
void members_compact(struct room *room);
void members_free(struct room *room);
uint32_t members_max(const struct room *room);

/* The first place whose member joined behind that number. */
uint32_t members_behind(const struct room *room, uint64_t number);

/* --- publish.c -------------------------------------------------------------------------------- */

void publish_take(struct room *room, struct room_publish_message *publish, struct turn *turn);

void publish_free(struct room *room);

/* What was taken is in a bundle, which is in the history and waits to leave. */
void publish_seal(struct room *room, struct turn *turn);

/* --- history.c -------------------------------------------------------------------------------- */

void history_keep(struct room *room, struct room_bundle *bundle);

/* One more, whatever is kept by the class; takes it. One of kept_count. */
void history_put(struct room *room, struct room_bundle *bundle);
struct room_bundle *history_at(const struct room *room, uint32_t i);
void history_age(struct room *room, uint64_t now_ms);
uint64_t history_due_ms(const struct room *room); /* UINT64_MAX: nothing grows old */
void history_free(struct room *room);

/* The oldest message that is there; sealed + 1: none is. */
uint64_t history_first(const struct room *room);

/* Appends frames with what is behind `offset`, which is not before history_first - 1, as far as
 * some bytes hold, and at least a bundle; gives up to where. */
uint64_t history_replay(const struct room *room, uint64_t offset, uint32_t bytes_max,
                        struct buffer *out);

/* --- out.c ------------------------------------------------------------------------------------ */

/* A bundle of that kind, held once; `more` bytes behind the struct. */
struct room_bundle *out_bundle(struct room *room, enum room_bundle_kind kind, struct turn *turn,
                               size_t more);

/* Takes the bundle. */
void out_add(struct room *room, struct room_bundle *bundle);
void out_free(struct room *room);

/* --- roster.c --------------------------------------------------------------------------------- */

/* Somebody has come, gone, is away or back; kind is a RoomChange.Kind. */
void roster_note(struct room *room, struct member *member, uint8_t kind, struct turn *turn);

/* One row more among the changes. */
void roster_put(struct room *room, const char *name, uint8_t kind);

/* What was noted becomes bundles. */
void roster_tell(struct room *room, struct turn *turn);

/* The RoomState for one member, and what of the roster does not fit it; appended to `out`. */
void roster_state(const struct room *room, const struct turn *turn, uint64_t id, uint8_t replay,
                  struct buffer *out);
void roster_free(struct room *room);

/* --- join.c ----------------------------------------------------------------------------------- */

void join_take(struct room *room, struct room_join_message *join, struct turn *turn);
void join_wait(struct room *room, const struct ask *ask); /* takes the Join */
void join_answered(struct room *room, struct call_result_message *result, struct turn *turn);
void join_expire(struct room *room, struct turn *turn);
uint64_t join_due_ms(const struct room *room);
void join_refuse_all(struct room *room, struct turn *turn, uint16_t code);
void join_free(struct room *room);

void member_pull(struct room *room, struct room_pull_message *pull, struct turn *turn);
void member_away(struct room *room, struct room_away_message *away, struct turn *turn);
void member_leave(struct room *room, struct room_leave_message *leave, struct turn *turn);

/* He is out; cause is a RoomNews.Cause. */
void member_drop(struct room *room, struct member *member, uint8_t cause, struct turn *turn);

/* Who was owed something is told what he has to ask for. */
void member_hints(struct room *room, struct turn *turn);

/* --- command.c -------------------------------------------------------------------------------- */

void command_take(struct room *room, struct room_command_message *command, struct turn *turn);

/* To an instance: the room as it is, with that offset. */
void command_answer_room(const struct room *room, uint64_t offset, actor_handle asker,
                         uint64_t token, struct turn *turn);

/* --- news.c ----------------------------------------------------------------------------------- */

struct news {
    uint8_t kind;  /* RoomNews.Kind */
    uint8_t cause; /* RoomNews.Cause */
    struct bytes user, service, payload;
    uint64_t epoch;
    uint64_t offset; /* 0: the newest */
};

/* To the owner and to the webhook, as the class says. */
void news_tell(struct room *room, const struct news *news, struct turn *turn);

/* Asks the owner; false: it has none. The answer is a call_result_message with that call. */
bool news_ask(struct room *room, const struct room_join_message *join, bool creates, uint64_t call,
              uint64_t deadline_ms, struct turn *turn);

/* --- moved.c ---------------------------------------------------------------------------------- */

/* It is what the message says; takes it. */
void room_moved(struct room *room, struct message *message, struct turn *turn);

/* --- room.c ----------------------------------------------------------------------------------- */

/* Begins an incarnation; cause is a RoomNews.Cause. */
void room_open(struct room *room, uint8_t cause, struct turn *turn);
void room_close(struct room *room, uint8_t cause, struct bytes detail, struct turn *turn);

#endif
