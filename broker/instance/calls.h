/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_INSTANCE_CALLS_H
#define USHER_INSTANCE_CALLS_H

/* The calls that one instance has been given and has not answered, by call number: where the
 * answer must go. Owned by the instance's turn. */

#include <stdbool.h>
#include <stdint.h>

#include "runtime/actor.h"

struct call {
    uint64_t call; /* not 0 */
    actor_handle caller;
    uint64_t epoch;
    uint64_t request;
    uint64_t deadline_ms;
    uint64_t mail_seq; /* of the mail that it came with; see instance/mail.c */
    uint64_t share;    /* whose calls it counts to; see shares.h. 0: nobody's */
    uint32_t stamp_us; /* when it was accepted; 0: not timed */
    bool inner;        /* the answer goes to none of the clients: their frames do not bound it */
};

struct calls;

struct calls *calls_create(void); /* NULL without memory */
void calls_destroy(struct calls *calls);

/* 0, -EEXIST or -ENOMEM. */
int calls_add(struct calls *calls, const struct call *call);

/* Takes it out. False: not there. */
bool calls_take(struct calls *calls, uint64_t number, struct call *call);
bool calls_has(const struct calls *calls, uint64_t number);
uint32_t calls_count(const struct calls *calls);

/* The next one of a look at all that changes nothing; *place is 0 at first. NULL: no more. */
const struct call *calls_next(const struct calls *calls, uint32_t *place);

/* Whose time is over, or who came with mail up to mail_seq, is of no use any more. */
struct calls_wanted {
    uint64_t due_ms;
    uint64_t mail_seq;
};

/* A walk over all calls, in steps of any size; others may be added and taken between them. Begins
 * anew. */
void calls_walk(struct calls *calls);

/* Goes on: takes out the next one that is not wanted any more. Looks at *places places at most and
 * lowers it by those. False: there is none in so many, or the walk is over. A call that others have
 * moved meanwhile may be missed by this walk, and not by the next. */
bool calls_walk_on(struct calls *calls, const struct calls_wanted *wanted, uint32_t *places,
                   struct call *call);
bool calls_walk_is_over(const struct calls *calls);

#endif
