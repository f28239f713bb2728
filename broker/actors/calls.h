/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_CALLS_H
#define USHER_ACTORS_CALLS_H

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
    uint32_t stamp_us; /* when it was accepted; 0: not timed */
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

/* Takes out any one whose deadline has passed; every one when now_ms is UINT64_MAX. */
bool calls_take_due(struct calls *calls, uint64_t now_ms, struct call *call);

#endif
