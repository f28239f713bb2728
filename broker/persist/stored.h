/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_STORED_H
#define USHER_PERSIST_STORED_H

/* What is stored for users: messages in the log of the store (storage/log_entry.h), and an index in
 * memory of where each of them is, which is read from the log at a start.
 *
 * The committer's thread alone writes: for each transaction it plans, writes and settles, in this
 * order, and the index is what the last commit left behind, whatever becomes of a transaction.
 * Other threads look; none holds the lock while it waits for the disk.
 *
 * What each of it takes is in the book of memory. */

#include "actors/turn.h"
#include "storage/log_entry.h"

struct stored;

/* All that it points to outlives it. */
struct stored_options {
    struct store *store;
    const struct limits *limits;
    const struct env *env;
    struct metrics *metrics;
    struct log *log;
    unsigned block;             /* of the metrics: the committer's */
    _Atomic uint64_t *mid_last; /* counters.epoch_last: mids are drawn from it, so each is above all
                                 * of before, also of those before a crash */
};

/* Reads the log. 0, -ENOMEM, or what the store says. What is damaged is counted and left out. */
int stored_open(struct stored **stored, const struct stored_options *options);
void stored_close(struct stored *stored); /* NULL is fine */

/* Reads the log anew: another process has written to it. While nobody else looks. 0 or as above. */
int stored_read_anew(struct stored *stored);

/* --- the committer's thread ------------------------------------------------------------------- */

/* What goes into the next transaction: messages of `stores`, a list of CHANGE_STORE; what the
 * clients of `sessions` say that they have processed (last_mid of ATTACH and RESUME), what
 * stored_done and stored_drop said; and cleaning. Says of each message that is not to be stored
 * why, and of the others their mid. Not in a transaction; may read the disk. False: there is
 * nothing to be written. Otherwise it is ended by stored_settle. */
bool stored_plan(struct stored *stored, const struct change *sessions, struct change *stores);

/* Into the transaction, behind all else; may be done again in another one. 0, or its error. */
int stored_write(struct stored *stored);

/* How that transaction ended. 0: the index has it. Otherwise nothing of it is there, and the
 * messages are UNAVAILABLE. */
void stored_settle(struct stored *stored, int error);

/* These changes are committed: stored_count and stored_lost of those that are ATTACH or RESUME. */
void stored_welcome(struct stored *stored, struct change *sessions);

/* Something waits that is worth a transaction of its own, when no other comes. */
bool stored_is_due(struct stored *stored);

/* --- any thread ------------------------------------------------------------------------------- */

/* The user has processed everything up to mid. Noted with a later transaction; before a crash it is
 * nothing. True: so much waits that one should come soon. */
bool stored_done(struct stored *stored, const char *user, uint64_t mid);

/* Drops what is stored for him up to mid, with a later transaction; his next Welcome says so. Gives
 * how many there are now and, if `bytes` is not NULL, their payloads. */
uint32_t stored_drop(struct stored *stored, const char *user, uint64_t up_to_mid, uint64_t *bytes);

/* Fills a CHANGE_WINDOW of the user that its event names. Reads the disk; change->error says how it
 * went. */
void stored_window(struct stored *stored, struct change *change);

struct stored_summary {
    uint32_t count; /* of his that are there now */
    uint64_t bytes; /* their payloads */
};

/* What is stored for him behind `after_mid`, oldest first, `limit` at most, until `each` returns
 * false. The entry is borrowed; its receivers are nobody's business. Reads the disk; 0 or -errno.
 */
typedef bool stored_each(void *context, const struct log_entry *entry);
int stored_list(struct stored *stored, const char *user, uint64_t after_mid, uint32_t limit,
                stored_each *each, void *context, struct stored_summary *summary);

struct stored_look {
    uint64_t messages, bytes; /* for all; bytes on disk of what lives */
    uint64_t log_bytes;
    uint32_t percent; /* of the limit that is nearest: how full it is */
};
struct stored_look stored_look(struct stored *stored);

#endif
