/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_HISTORY_H
#define USHER_PERSIST_HISTORY_H

/* What the committer writes beside what it is asked to: the history, in transactions that are made
 * anyway. For its thread. */

#include "actors/refusals.h"
#include "actors/turn.h"

/* Zeroed but for the first six. */
struct history {
    bool keeps; /* false: none is kept */
    struct refusals *refusals;
    const struct env *env;
    struct metrics *metrics;
    struct log *log;
    unsigned block;
    uint64_t quiet_until_ms; /* monotonic: there was no room */
    uint64_t taken_ms;       /* refusals were taken last */
    /* of the transaction in progress */
    bool failed; /* by what was appended */
    uint64_t stored, left_out;
    size_t taken; /* refusals */
    /* of each ring: so many were left out since one was stored; and as the transaction will have it
     */
    uint64_t missing[HISTORY_RINGS], missing_now[HISTORY_RINGS];
    struct history_record list[REFUSALS_WAITING_MAX];
};

/* Appends the changes to the open transaction, and refusals when some are due. 0, or the
 * transaction's error. */
int history_write(struct history *history, struct store *store, const struct change *list);

/* How that transaction ended. */
void history_settle(struct history *history, int error);

/* That error may be the history's: it keeps quiet for a while. True: the same transaction is to be
 * tried without. Instead of history_settle. */
bool history_gives_way(struct history *history, int error);

/* Refusals have waited long enough for a transaction. */
bool history_is_due(const struct history *history);

/* One of a session that was online when the process before this one ended. */
void history_of_restart(struct history_record *record, const struct presence_event *event,
                        const char *transport);

#endif
