/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_ROOM_MESSAGES_H
#define USHER_ACTORS_ROOM_MESSAGES_H

/* What users, rooms and instances tell each other of rooms.
 *
 * A user's turn is the only one that tells a room anything of that user; what a service wants of a
 * member goes through him. A message of a room to its members is one run of bytes for all of them.
 * docs/decisions/0125 says why. */

#include "actors/messages.h"
#include "proto/client_frame.h"
#include "rules/room_classes.h"

/* The name of a room's actor is the room's behind this; so no user has it. */
enum { ROOM_SIGN = '#', ROOM_ACTOR_NAME_BYTES_MAX = USERNAME_BYTES_MAX + 1 };

/* --- to a room, by its name: EFFECT_ROOM finds it, or makes it -------------------------------- */

/* What the sender's turn has found out by the class of the room. */
enum room_leave_to { ROOM_MAY_NOT, ROOM_MAY_IF_OWNER, ROOM_MAY };

/* What clients call a room: its slot, and something of its generation, so that what a client says
 * of a room that is just being closed does not hit the next one of that slot. */
static inline uint32_t room_number(actor_handle room)
{
    return actor_slot(room) << 4 | (actor_generation(room) & 15);
}

/* The beginning of each of them. */
struct room_call {
    struct message header;
    actor_handle room;    /* 0: by its name; comes filled in where it was found */
    uint8_t may_create;   /* enum room_leave_to: it is made when it is not there */
    bool from_service;    /* the asker is an instance */
    uint8_t name_size;    /* of the room's, which stands first in `bytes` of each */
    actor_handle asker;   /* who gets the result: a user, or an instance */
    uint64_t request;     /* his id, or the instance's token; 0: nobody waits */
    uint64_t asker_epoch; /* of a user */
};

/* Whether a message is one. */
static inline bool room_call_is(const struct message *message)
{
    return message->kind == MESSAGE_ROOM_JOIN || message->kind == MESSAGE_ROOM_PUBLISH ||
           message->kind == MESSAGE_ROOM_COMMAND;
}

#define JOIN_TOO_MANY "you are in as many rooms as one user may be (rooms.per_user)"

/* MESSAGE_ROOM_JOIN: answered to the user by a room_state_message and, where an instance asked, to
 * that by a MESSAGE_RESULT. */
struct room_join_message {
    struct room_call call; /* asker 0: the user himself asks, and his id is `request` */
    actor_handle user;
    uint64_t epoch;
    uint64_t user_request; /* id of his Join; 0: none */
    uint8_t may_join;      /* enum room_leave_to */
    bool carry;
    bool recover;    /* what is behind this position is to follow, by pulls */
    bool again_only; /* he is in as many as he may: who is not in it already is ROOM_FULL */
    uint64_t incarnation, offset;
    uint8_t user_size;
    uint8_t bytes[]; /* room, user */
};

/* MESSAGE_ROOM_PUBLISH: answered by a MESSAGE_RESULT with the offset to a user, by a
 * room_answer_message to an instance. */
struct room_publish_message {
    struct room_call call;
    bool member_only; /* who is not a member is refused NOT_MEMBER */
    uint8_t from_size;
    uint32_t payload_size;
    uint64_t time_ms;
    uint8_t bytes[]; /* room, user or service, payload */
};

/* MESSAGE_ROOM_COMMAND of an instance, or an operator: answered by a room_answer_message. */
enum room_command { ROOM_OPEN, ROOM_CLOSE, ROOM_MEMBERS };

struct room_command_message {
    struct room_call call;
    uint8_t command;      /* enum room_command */
    uint32_t members_max; /* OPEN; 0: as the class says */
    uint32_t limit;       /* MEMBERS: how many; 0: as many as fit */
    uint32_t bytes_max;   /* MEMBERS: of the Result */
    uint64_t incarnation; /* CLOSE: RESULT_STALE_EPOCH in another one; 0: any */
    uint8_t text_size;
    uint8_t bytes[]; /* room; OPEN: pattern of the class, CLOSE: detail, MEMBERS: after */
};

/* NULL without memory; everything but what is passed is 0. */
struct room_join_message *room_join_create(struct bytes room, struct bytes user);
struct room_publish_message *room_publish_create(struct bytes room, struct bytes from,
                                                 struct bytes payload);
struct room_command_message *room_command_create(enum room_command command, struct bytes room,
                                                 struct bytes text);

struct bytes room_call_name(const struct room_call *call);

/* --- to a room, by the turns of a member: never refused --------------------------------------- */

/* MESSAGE_ROOM_PULL: what is behind the position. */
struct room_pull_message {
    struct message header;
    actor_handle room; /* that it is sent to: who finds it gone says so */
    actor_handle user;
    uint64_t epoch;
    uint64_t new_epoch; /* not 0: his membership is of this login from now on */
    uint64_t request;   /* an id that the RoomState bears */
    uint64_t incarnation, offset;
    uint32_t bytes_max;
    uint32_t pull; /* comes back: answers to earlier ones count no more */
    bool back;     /* he was away */
    bool fresh;    /* he knows of nothing: RoomState(NONE), and what comes from now on */
    bool resumed;  /* he named the position: RoomState(COMPLETE) or (PARTIAL) in any case */
    bool partial;  /* it is (PARTIAL): something before the position is gone */
    bool roster;   /* he has missed what the roster said */
};

/* MESSAGE_ROOM_AWAY */
struct room_away_message {
    struct message header;
    actor_handle user;
    uint64_t epoch;
};

/* MESSAGE_ROOM_LEAVE: of that login, or of nobody. */
struct room_leave_message {
    struct message header;
    actor_handle user;
    uint64_t epoch;
    uint8_t cause; /* RoomNews.Cause */
    actor_handle asker;
    uint64_t token; /* of an instance, which gets a MESSAGE_RESULT; 0: nobody waits */
};

/* --- to a user, by his name: EFFECT_FORWARD --------------------------------------------------- */

/* MESSAGE_ROOM_INVITE and MESSAGE_ROOM_EXPEL of an instance, which gets a MESSAGE_RESULT: 0,
 * NO_ROOM, ROOM_FULL, NOT_MEMBER, RESULT_STALE_EPOCH, RESULT_ROOMS_FULL or NOT_ONLINE. */
struct room_member_message {
    struct message header;
    actor_handle room; /* filled in on the way; 0: there is none */
    actor_handle asker;
    uint64_t token;
    uint64_t epoch; /* 0: any */
    bool carry;
    uint8_t name_size, detail_size;
    uint8_t bytes[]; /* room, detail */
};

struct room_member_message *room_member_create(enum message_kind kind, struct bytes room,
                                               struct bytes detail);
struct bytes room_member_name(const struct room_member_message *message);
struct bytes room_member_detail(const struct room_member_message *message);

/* MESSAGE_ROOMS_LOOK of an operator, who gets a room_answer_message; its bytes are of these. */
struct rooms_look_message {
    struct message header;
    actor_handle asker;
    uint64_t token;
};

struct room_of_user {
    actor_handle room;
    uint64_t incarnation;
    uint64_t offset; /* of the last message that he was given */
    bool behind;     /* something is missing, and asked for */
    bool away;
};

/* --- to a user, from a room ------------------------------------------------------------------- */

/* MESSAGE_ROOM_STATE: the answer to a join or a pull. */
struct room_state_message {
    struct message header;
    actor_handle room, user;
    uint64_t incarnation;
    uint64_t epoch;   /* of the login that it is about */
    uint64_t request; /* of the Join that it answers; 0: none */
    uint16_t code;    /* an Error.Code: the Join is refused, and the rest but `bytes` is nothing */
    uint16_t joined : 1;   /* he is a member from now on, or still */
    uint16_t again : 1;    /* he was one before, and but for `recovers` his position stays */
    uint16_t recovers : 1; /* he named a position, and begins at `offset` */
    uint16_t partial : 1;  /* something before that is gone */
    uint16_t carry : 1;
    uint16_t too_many : 1; /* ROOM_FULL: it is the user who is in as many as he may */
    uint16_t live : 1;     /* nothing is missing behind `offset` */
    uint16_t gone : 1;     /* the room is not there any more */
    uint16_t owed : 1;     /* only a hint: messages up to `offset` were for him and did not come */
    uint32_t pull;         /* that it answers; 0: none */
    uint32_t retry_after_ms;
    uint64_t offset; /* up to which he has everything, with what `bytes` hold */
    uint32_t size;
    uint8_t bytes[]; /* whole frames for his connection; with a code: what the Error says */
};

struct room_state_message *room_state_create(struct bytes bytes);

/* The Join is refused, with the code and what people are told of it. Never NULL: it waits for
 * memory. */
struct room_state_message *room_join_refusal(const struct room_join_message *join, uint16_t code,
                                             struct bytes why);

/* MESSAGE_ROOM_BUNDLE: one for each member; what it says is shared. */
enum room_bundle_kind { ROOM_MESSAGES, ROOM_EVENT, ROOM_CLOSED };
enum { ROOM_BUNDLE_MAX = 16, ROOM_BUNDLE_BYTES_MAX = 16 * 1024 };

/* Not written to once it is made. */
struct room_bundle {
    struct shared shared;
    uint8_t kind; /* enum room_bundle_kind */
    actor_handle room;
    uint64_t incarnation;
    uint64_t first; /* offset of the first message; CLOSED: of the last one that there was */
    uint32_t count;
    uint64_t time_ms; /* monotonic, when it was made */
    /* The frame is bytes[0, size). MESSAGES: its items are behind each other in it, and the one
     * i ends at ends[i]. CLOSED: a second frame stands behind it, for who has missed something. */
    uint32_t size, items_at, second_size;
    uint32_t ends[ROOM_BUNDLE_MAX];
    uint8_t bytes[];
};

struct room_bundle_message {
    struct message header;
};

static inline const struct room_bundle *room_bundle_of(const struct room_bundle_message *message)
{
    return (const struct room_bundle *)message_shared(&message->header);
}

/* --- to an instance --------------------------------------------------------------------------- */

/* MESSAGE_ROOM_ANSWER */
struct room_answer_message {
    struct message header;
    uint64_t token;
    uint16_t code; /* as in a result_message; 0: `bytes` are a Result */
    uint32_t size;
    uint8_t bytes[];
};

struct room_answer_message *room_answer_create(uint64_t token, uint16_t code, struct bytes result);

/* --- what a room shows to others -------------------------------------------------------------- */

/* In the memory of its actor, written at the end of each of its turns; a struct registry_row has
 * them as numbers, in this order. */
enum room_number {
    ROOM_NUMBER_INCARNATION, /* 0: it is not open */
    ROOM_NUMBER_OFFSET,
    ROOM_NUMBER_MEMBERS, /* members, and behind 32 bits those of them that are away */
    ROOM_NUMBER_HISTORY_MESSAGES,
    ROOM_NUMBER_HISTORY_BYTES,
    ROOM_NUMBER_DELIVERIES,
    ROOM_NUMBER_OPENED_MS,
    ROOM_NUMBER_CLASS, /* its place in rooms.classes */
    ROOM_NUMBERS
};

struct room_shown {
    _Atomic uint64_t numbers[ROOM_NUMBERS];
};

struct room;

/* The state of a room's actor. */
struct room_place {
    struct room *room; /* first; NULL: a new one */
    struct room_shown shown;
};

#endif
