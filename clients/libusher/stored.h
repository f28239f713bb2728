/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_STORED_H
#define USHER_LIBUSHER_STORED_H

/* Which stored messages have come, and which of them the program has processed, over all sessions
 * of a client. A mid rises for each user over all of them, so one number says it. Never blocks; the
 * client's thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORED_MARKS_MAX = 1024 };

/* That message, and all stored ones before it. */
struct stored_mark {
    uint64_t seq, mid;
};

/* Zeroed memory knows of none. */
struct stored {
    uint64_t received;  /* the highest mid that came */
    uint64_t processed; /* the highest that the program is done with */

    /* Messages of this epoch that follow each other and had come before, in an earlier one. */
    uint64_t again_after; /* the seq that came before them */
    uint64_t again_last;  /* seq of the last one; 0: none */
    uint64_t again_mid;   /* of the last one */

    /* With manual_acks: those of this epoch that are not acknowledged, oldest first. */
    struct stored_mark *marks;
    size_t mark_count;
};

void stored_init(struct stored *stored, uint64_t last_mid);
void stored_fini(struct stored *stored);

/* The numbering of seqs begins anew. `again`: what the program has not acknowledged is to come once
 * more, also what it has in hand. */
void stored_begin_epoch(struct stored *stored, bool again);

/* A message with a mid has come, behind that seq. True: for the program; false: it had it before.
 */
bool stored_take(struct stored *stored, uint64_t after_seq, uint64_t seq, uint64_t mid);

/* It is to be known again by its seq. Of too many the oldest are forgotten, and so they are when
 * there is no memory: they may come twice then. */
void stored_mark(struct stored *stored, uint64_t seq, uint64_t mid);

/* The program is done with that one and all before it: by its mid, or all that is marked up to that
 * seq. */
void stored_leave(struct stored *stored, uint64_t mid);
void stored_leave_marked(struct stored *stored, uint64_t seq);

/* All up to processed_seq is processed: up to where it is, if what follows had come before. */
uint64_t stored_settle(const struct stored *stored, uint64_t processed_seq);

#endif
