/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_USER_CALL_H
#define USHER_ACTORS_USER_CALL_H

/* Mail for a service that no user has sent as a Call: what a room asks its owner and tells it, and
 * whom a client may watch. Each is a user_call_message (messages.h), leaves by EFFECT_CALL, and is
 * routed, kept until it is acknowledged, and handed on to another instance as calls are.
 *
 * An ask is a call: its caller, an actor, gets a call_result_message with `call` and `request`,
 * whose code is an Error.Code (NO_SERVICE, SERVICE_LOST, BUSY), or 0: then the status and payload
 * of the ReplyTo hold. Nobody tells him when the deadline is over; he sees to that himself, and
 * what comes later finds nothing.
 *
 * All mail of one room goes to one instance, in order: it is pinned by the room's name with a #
 * before it, which no user can have, from the first ask or news on for as long as the actor lives
 * that sent the last news.
 *
 * What is passed in is borrowed. Any thread; never block; NULL without memory. */

#include "actors/messages.h"
#include "proto/link_answer.h"

#define ROOM_KEY "#"

struct room_ask {
    struct bytes room, owner, user; /* names; the owner is a service */
    uint64_t epoch;                 /* of the user */
    uint8_t kind;                   /* a RoomAsk.Kind */
    actor_handle caller;    /* of whom the answer is wanted: the user's actor, or the room's */
    uint64_t request, call; /* both come back; call is a number of counters.call_last */
    uint64_t deadline_ms;   /* monotonic */
};

/* It counts to the calls of its user at an instance (limits.calls_per_user). */
struct user_call_message *room_ask_create(const struct room_ask *ask);

/* One way: what finds no instance, or no room in its mail, is gone, and counted
 * (room_news_lost). A room has a share of the mail of its own (rooms.news_waiting). What one link
 * frame does not carry must not be in it: payload + 512 bytes. */
struct room_news {
    struct bytes room, owner;
    uint64_t incarnation, news_seq;
    uint8_t kind;         /* a RoomNews.Kind */
    uint8_t cause;        /* a RoomNews.Cause */
    struct bytes user;    /* or empty */
    uint64_t epoch;       /* of the user */
    uint64_t offset;      /* of the newest message, or its own */
    struct bytes payload; /* of a MESSAGE */
    struct bytes service; /* of a MESSAGE that a service published; or empty */
    uint64_t time_ms;     /* wall */
    actor_handle actor;   /* the room's */
    uint64_t pin_ms;      /* monotonic: the pin is kept at least until then, whatever becomes of the
                           * room, so that a later one of that name does not overtake it */
};

struct user_call_message *room_news_create(const struct room_news *news);

struct watch_ask {
    struct bytes user, service;
    uint64_t epoch;
    const struct bytes *targets; /* names */
    size_t target_count;
    actor_handle caller;
    uint64_t request, call;
    uint64_t deadline_ms;
};

struct user_call_message *watch_ask_create(const struct watch_ask *ask);

/* One way as well: something was stored for a user who is away. Each stands alone: it pins nothing.
 */
struct stored_notice {
    struct bytes user, service;
    struct bytes sender; /* of the message: a user, or a service */
    bool from_service;
    uint64_t mid, time_ms;
    uint32_t payload_bytes, count;
};

struct user_call_message *stored_notice_create(const struct stored_notice *notice);

/* --- reading, for the mail -------------------------------------------------------------------- */

/* All but timeout_ms and redelivered. Borrowed from the message. */
struct room_ask_fields user_call_room_ask(const struct user_call_message *message);
struct room_news_fields user_call_room_news(const struct user_call_message *message);
struct watch_ask_fields user_call_watch_ask(const struct user_call_message *message);
struct stored_notice_fields user_call_stored(const struct user_call_message *message);

/* The name of the user whose share it counts to, or the key of the room. */
struct bytes user_call_sharer(const struct user_call_message *message);

#endif
