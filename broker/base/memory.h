/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_MEMORY_H
#define USHER_BASE_MEMORY_H

/* The memory that the process holds for its clients: how much it is, how near to the budget, and
 * what to do when there is none. Any thread; only MEMORY_MUST may block.
 *
 * There is one such book per process, as there is one heap (docs/decisions/0060). Without
 * memory_open nothing is limited. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limits;
struct log;
struct metrics;

enum memory_level {
    MEMORY_AMPLE,
    MEMORY_TIGHT, /* from 3/4 of the budget on: nobody new comes in */
    MEMORY_FULL,  /* from 7/8 on: nothing new is taken from those who are in */
};

/* The budget is limits.memory_bytes (0: no limit). It and where to tell of it are borrowed until
 * memory_close. Keeps a reserve for bad times. Called while there are no other threads. */
void memory_open(const struct limits *limits, struct log *log, struct metrics *metrics);
void memory_close(void);

/* The budget may have changed: the level follows at once. */
void memory_review(void);

/* What it is held for; each has a gauge (memory_NAME_bytes). */
enum memory_part {
    MEMORY_OF_MESSAGES, /* in mailboxes, and large ones that an inbox keeps as they came */
    MEMORY_OF_FRAMES,   /* of clients, until a turn has handled them */
    MEMORY_OF_PAYLOADS, /* that several messages share: pushes, and what rooms publish */
    MEMORY_OF_INBOXES,
    MEMORY_OF_STORED,   /* where messages on disk are, and what is to be noted of them */
    MEMORY_OF_REQUESTS, /* without their final answer */
    MEMORY_OF_ANSWERS,  /* that wait for a resume, or for a repetition */
    MEMORY_OF_CALLS,    /* on their way to services */
    MEMORY_OF_LOGINS,   /* that are judged, or on their way to their user */
    MEMORY_OF_ROOMS,
    MEMORY_OF_ROOM_HISTORIES, /* but for the payloads */
    MEMORY_OF_FRIENDS,
    MEMORY_OF_OUTPUT, /* that clients have not read */
    MEMORY_OF_INPUT,  /* frames that are not whole yet */
    MEMORY_OF_WEBSOCKET,
    MEMORY_OF_BACKENDS, /* what they submitted and is not done */
    MEMORY_OF_HTTP,     /* of operators, backends, webhooks and logins asked by HTTP */
    MEMORY_OF_SESSIONS, /* rooms of tokens, and losses that are not stored yet */
    MEMORY_OF_OWN,      /* the broker's rooms of fixed size: refusals, the charts */
    MEMORY_PARTS
};

/* So much more is held for that, or less. Counted by each thread and summed in steps of 64 KiB, so
 * the sum is that much wrong for each thread at most, and each part as much by itself: the parts
 * together differ from the sum by less than MEMORY_PARTS times 64 KiB for each thread. */
void memory_account(enum memory_part part, int64_t bytes);

enum memory_level memory_level(void);

/* Half of the budget is held, so what can wait with its sender should. */
bool memory_half_held(void);

/* How much has to go until the level is below that one; 0: it is. */
uint64_t memory_excess(enum memory_level level);

/* An allocation failed, and whoever asked was refused: counted and told. */
void memory_refused(void);

/* `attempt` is an expression that allocates and is true when it got what it wanted: the call
 * itself, not what it gave. It is tried again until it is, for what cannot be refused: a turn
 * cannot be half done. The first failure gives the reserve back to the heap; between tries others
 * have a millisecond to free something. After three seconds the process ends. */
#define MEMORY_MUST(attempt, what)                              \
    for (unsigned memory_tries = 0; !(attempt); memory_tries++) \
    memory_missing(memory_tries, __FILE__, __LINE__, "no memory for " what)

void memory_missing(unsigned tries, const char *file, int line, const char *what);

#endif
