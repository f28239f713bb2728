/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_INSTANCE_INSTANCE_H
#define USHER_INSTANCE_INSTANCE_H

/* The behaviour of one backend instance: its link, the calls on their way to it, its cursors in
 * the presence stream, and the commands it submits. Pure like a user's (actors/turn.h); what it
 * asks of the directory of services and of the store are effects of kind EFFECT_LINK, answered by
 * a post.
 *
 * One actor without a link, the *visitors*, answers the queries that are submitted with link 0. */

#include "actors/presence.h"
#include "actors/push.h"
#include "actors/turn.h"
#include "backend.pb-c.h"
#include "handover.pb-c.h"
#include "proto/arena.h"

enum {
    INSTANCE_KEY_BYTES = 2 * USERNAME_BYTES_MAX + 3,
    INSTANCE_ARENA_BYTES = 256 * 1024,
};

#define INSTANCE_VISITORS "!"

/* One actor asks for all backends that come by HTTP. It has no link either, and may do what an
 * instance may, but be called and follow the stream. Who waits at once is counted where they come
 * in. This is the service that pushes are from, and the word for it in the log. */
#define INSTANCE_HTTP "!http"
#define HTTP_SERVICE "http"

/* The answer to one of its Submits, encoded, has at most so many bytes. */
enum { HTTP_ANSWER_BYTES = 256 * 1024 };

struct instance;

/* The name of the actor for a Hello: "!service/instance", which no user can have. False: one of
 * the two is not a name (the service may be empty). */
bool instance_key(const Usher__V1__Hello *hello, char key[INSTANCE_KEY_BYTES]);

/* What the instance shows of itself to other threads, at the end of each turn. */
struct instance_shown {
    _Atomic uint32_t mail_waiting, calls_open;
    _Atomic uint64_t last_fetch_ms; /* wall */
    _Atomic bool lost;              /* its connection is; link.grace_ms runs */
};

/* The state of an instance's actor, in the memory that a user's session takes. */
struct instance_place {
    struct instance *instance; /* first: the functions below get its address */
    struct instance_shown shown;
};

void instance_show(struct instance_place *place);

/* --- moved.c: it goes over to another process; between two turns of its own. */

/* Fills all but the handle and the actor's name; what is made on the way is in the arena. False: it
 * cannot go now, or there is no memory. */
bool instance_move_out(const struct instance_place *place, struct arena *arena,
                       Usher__V1__HandoverInstance *to);

/* Over there: the message that makes it what it was, to be posted to an actor of that handle and
 * name. Borrows `instance` until a turn has received that. NULL without memory. */
struct message *instance_move_in(const Usher__V1__HandoverInstance *instance);

/* `*state` is NULL in a new actor. Takes the message. */
void instance_receive(struct instance **state, struct message *message, struct turn *turn);

/* The messages of the turn are done: answers a waiting Fetch if there is something; one that leaves
 * hands some of its mail on. */
void instance_finish(struct instance **state, struct turn *turn);

/* It has retired, so it has neither mail nor calls. */
void instance_fini(struct instance **state, struct turn *turn);

/* The same as the process ends: nobody is told of what it still has. */
void instance_end(struct instance **state, struct turn *turn);

/* Why this Submit cannot be run, or NULL. Then its results fit as codes. `may_change`: also without
 * a link. */
const char *instance_submit_fault(const Usher__V1__Submit *submit, bool may_change,
                                  const struct limits *limits);

enum link_effect {
    LINK_JOIN,  /* join_message: comes back with `error` */
    LINK_DRAIN, /* value 1: no new users; 0: new users again */
    LINK_LEAVE, /* `value` says which enum leave_step; comes back as a leave_message, or the actor
                 * retires */
    LINK_QUERY, /* query_message: answered by a query_result_message */
    LINK_PUSH_ALL, /* push_all_message: comes back with how many */
};

struct join_message {
    struct message header; /* MESSAGE_JOINED */
    int error;
    bool presence;
    char service[USERNAME_BYTES_MAX + 1];
};

/* Leaving goes in steps of bounded length. The mail of a step is a list, oldest first, that the
 * sender is done with. */
enum leave_step {
    LEAVE_BEGIN, /* no mail yet: may it hand its mail on? */
    LEAVE_SOME,  /* some of its mail, which moves on; more will come */
    LEAVE_ALL,   /* the rest: if no call is on its way to it, the actor retires */
};

struct leave_message {
    struct message header; /* MESSAGE_LEAVE: go on */
    bool begun;            /* it may */
};

enum query_kind { QUERY_COMMAND, QUERY_PRESENCE };

struct query_message {
    struct message header;
    actor_handle asker;
    enum query_kind kind;
    bool linked;     /* asked on a link */
    uint32_t source; /* queries of one source wait for each other, and not for those of others */
    uint64_t token;  /* comes back. QUERY_COMMAND: whose result it is */
    uint64_t after;  /* QUERY_PRESENCE, as is `until`: behind it nothing is told, since a cursor */
    uint64_t until;  /* there would be taken for one of another life of the store */
    uint32_t bytes_max; /* of the result */
    uint32_t size;
    uint8_t bytes[]; /* QUERY_COMMAND: the Command, encoded */
};

struct query_result_message {
    struct message header; /* MESSAGE_QUERY_RESULT */
    enum query_kind kind;
    uint64_t token;
    uint64_t first, last; /* QUERY_PRESENCE: the seqs in bytes; 0: none */
    uint64_t stream_last;
    bool reset;  /* QUERY_PRESENCE: some after `after` are gone, or cannot be read */
    bool failed; /* QUERY_PRESENCE: the store could not be asked; it may be later */
    uint32_t size;
    uint8_t bytes[]; /* an encoded Result, or the events as fields of a Batch */
};

struct push_all_message {
    struct message header; /* MESSAGE_PUSHED_ALL */
    uint64_t token;
    uint32_t accepted, missed;
    bool transient;
    uint8_t name_size, trace_size;
    uint32_t payload_size;
    uint8_t bytes[]; /* service, payload, traceparent */
};

struct push instance_push_text(const struct push_all_message *push);

#endif
