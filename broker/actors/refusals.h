/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_REFUSALS_H
#define USHER_ACTORS_REFUSALS_H

/* Who asked for a session and did not get it, on the way to the store's history. Any thread; never
 * blocks on the disk. A NULL is fine everywhere: nothing is remembered. */

#include "base/env.h"
#include "base/metrics.h"
#include "storage/store.h"

enum { REFUSALS_WAITING_MAX = 128 }; /* of them wait for a commit */

struct refusals;

/* NULL without memory. The metrics are borrowed. */
struct refusals *refusals_create(const struct env *env, struct metrics *metrics);
void refusals_destroy(struct refusals *refusals);

/* Text is cut where it is too long, and borrowed. A name that is none is not remembered: nobody can
 * ask for it. */
struct refusal {
    enum history_kind kind; /* HISTORY_LOGIN_REFUSED or HISTORY_RESUME_REFUSED */
    const char *user;
    const char *address;
    const char *client;    /* NULL: not known */
    const char *transport; /* the same */
    const char *detail;    /* why, for people */
    const char *limit;     /* the option whose limit it was; NULL: none was */
    uint64_t bound;        /* its value */
};
void refusals_note(struct refusals *refusals, const struct refusal *refusal);

/* Whether some wait; without a lock, so a moment late. */
bool refusals_wait(const struct refusals *refusals);

/* Takes all that wait, oldest first; gives how many. */
size_t refusals_take(struct refusals *refusals, struct history_record list[REFUSALS_WAITING_MAX]);

#endif
