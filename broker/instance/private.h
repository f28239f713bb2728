/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_INSTANCE_PRIVATE_H
#define USHER_INSTANCE_PRIVATE_H

/* Private to actors/instance*.c: the state of one instance. */

#include "actors/room_messages.h"
#include "actors/shares.h"
#include "instance/calls.h"
#include "instance/instance.h"
#include "proto/arena.h"

enum { LANES_MAX = 16 };

/* The last Submit of a lane and what it was answered: a repetition gets the same. */
struct lane {
    uint32_t number;
    uint64_t seq; /* 0: unused */
    struct buffer answer;
};

struct command_result {
    uint16_t code; /* Usher__V1__Result__Code */
    bool push;     /* a PushReport is to be made of what follows */
    uint32_t accepted, dropped;
    uint64_t mid; /* the highest, of what it has stored */
    uint32_t waiting;
    struct buffer failures; /* uint16 index of the name, uint16 code, repeated */
    struct buffer encoded;  /* a whole Result, if not empty */
};

/* A Submit whose commands are not all done. */
struct submit {
    struct submit *next;
    uint64_t exchange;
    uint64_t seq;
    uint32_t number; /* in the tokens of its commands */
    uint32_t lane;
    uint32_t count;
    uint32_t waiting;
    size_t encoded_bytes; /* of what queries gave: not more than an answer can hold */
    struct link_request_message *request; /* for the names in it */
    struct command_result results[];
};

struct instance {
    /* who it is */
    char service[USERNAME_BYTES_MAX + 1];
    char name[USERNAME_BYTES_MAX + 1];
    uint64_t link;   /* 0: the visitors. A secret between us and its peer; see instance/access.c */
    uint64_t number; /* the same link for the log and for people */
    uint64_t incarnation;
    bool joined, draining, leaving;
    bool hands_on;    /* in this turn, when its messages are done, some of the mail moves on */
    bool goaway;      /* waits in the mail: counted in counters.goaways */
    bool drain_waits; /* in the mail */
    /* how it is heard of */
    uint64_t fetch_exchange; /* waits; 0: none */
    uint32_t fetch_bytes_max;
    uint64_t park_due_ms;    /* while a Fetch waits */
    uint64_t lost_due_ms;    /* while none waits */
    uint64_t fetched_ms;     /* wall; the last Fetch */
    uint64_t heard_exchange; /* of that one, since the last Hello; 0: none */
    bool gone;               /* the connection of that one is lost */
    uint64_t timer_ms;
    uint64_t sweep_ms;
    bool walking; /* a MESSAGE_WALK is on its way */
    /* mail, oldest first, linked through header.next; all of it unacknowledged */
    struct message_list mail;
    uint32_t mail_count;
    uint64_t mail_bytes;
    uint64_t mail_seq;    /* of the newest; rises for the life of the actor */
    uint64_t mail_base;   /* of the last before this incarnation */
    uint64_t seen_seq;    /* the highest that an earlier incarnation may have seen */
    uint64_t sent_seq;    /* the highest that a Batch of this one has carried */
    uint64_t mail_number; /* what that one was called there, where all is numbered from 1 */
    uint64_t mail_have;   /* by that number: what the peer of the waiting Fetch need not be sent */
    struct calls *calls;
    struct shares asked;  /* of those calls: each until it is answered, or its time is over */
    struct shares shares; /* of the one-way calls in the mail, which nobody else counts */
    /* presence */
    bool presence;
    uint64_t reset_from; /* events before it are missed: said until the cursor is there; 0: no */
    bool reset_said;     /* in a Batch, which may be lost */
    bool reading;
    uint64_t read_again_ms; /* not before; 0: at once */
    uint64_t presence_done;
    struct query_result_message *events; /* read ahead; NULL: none */
    uint32_t events_offset;              /* of the first that is not acknowledged */
    /* commands */
    struct lane lanes[LANES_MAX];
    struct submit *submits;
    uint32_t submit_count;
    uint32_t submit_number;
    uint32_t questions; /* that the store has not answered, also those of links that ended */
    struct arena arena;
};

void instance_fetch(struct instance *instance, uint64_t exchange, const Usher__V1__Fetch *fetch,
                    struct turn *turn);
void instance_take_call(struct instance *instance, struct user_call_message *call,
                        struct turn *turn);
void instance_put_control(struct instance *instance, uint8_t kind, struct turn *turn);
/* A Batch has carried the news that the node stops, or nobody is there to hear it. */
void instance_goaway_done(struct instance *instance, struct turn *turn);
void instance_answer_fetch(struct instance *instance, struct turn *turn, bool even_if_empty);
/* Events up to `last` are missed by this follower: it goes on behind them and is told. */
void instance_reset_presence(struct instance *instance, uint64_t last);
void instance_drop_events(struct instance *instance);
void instance_take_events(struct instance *instance, struct query_result_message *result,
                          struct turn *turn);
/* A new incarnation has seen nothing of the mail: it is sent again, marked. */
void instance_rewind_mail(struct instance *instance);
/* The oldest of the mail, which is the caller's from now on; NULL: there is none. Whoever drops it
 * and not only passes it on has answered it, or the backend has acknowledged it. */
struct user_call_message *instance_take_mail(struct instance *instance);

/* Behind the mail that is there, under the number that it has from another process. Takes it. */
void instance_put_moved(struct instance *instance, struct user_call_message *mail);

/* It is what it was in another process; takes the message. */
void instance_moved(struct instance *instance, struct message *message, struct turn *turn);

/* A call comes out of the table by one of these two, with its user's share (calls.h). */
bool instance_close_call(struct instance *instance, uint64_t number, struct call *call);
bool instance_close_next(struct instance *instance, const struct calls_wanted *wanted,
                         uint32_t *places, struct call *call);

/* Looks after calls that nobody will answer, or whose time is over: a part of them now, the rest in
 * turns to come. */
void instance_sweep(struct instance *instance, struct turn *turn);

/* Takes the request. */
void instance_submit(struct instance *instance, struct link_request_message *request,
                     const Usher__V1__Submit *submit, struct turn *turn);
void instance_command_done(struct instance *instance, uint64_t token, uint16_t code, uint64_t mid,
                           struct turn *turn);
void instance_query_done(struct instance *instance, uint64_t token, struct bytes encoded,
                         struct turn *turn);
void instance_room_done(struct instance *instance, const struct room_answer_message *answer,
                        struct turn *turn);
void instance_pushed_all(struct instance *instance, struct push_all_message *push,
                         struct turn *turn);
/* Of the command that the token names, which has what it waited for; NULL: that Submit has ended.
 * It is filled, and then said to be taken. */
struct command_result *instance_take_result(struct instance *instance, uint64_t token);
void instance_result_taken(struct instance *instance, uint64_t token, struct turn *turn);

/* submit_watch.c: a list has come to its user. */
struct watch_listed_message;
void instance_watch_listed(struct instance *instance, const struct watch_listed_message *listed,
                           struct turn *turn);

void instance_drop_submits(struct instance *instance, struct turn *turn);

/* An answer to an exchange: a LinkAnswer, which stands in turn->out from `offset` on. */
void instance_answer(struct turn *turn, uint64_t exchange, size_t offset);

/* A tick to self at due_ms, unless an earlier one is on its way. */
void instance_arm(struct instance *instance, struct turn *turn, uint64_t due_ms);

/* The caller is told that his call is lost. */
void instance_lose_call(struct turn *turn, const struct call *call, uint16_t code);

#endif
