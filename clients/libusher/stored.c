/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/stored.h"

#include <stdlib.h>
#include <string.h>

/* The broker gives a stored message again, under a new seq, until it knows that it was processed:
 * by an Ack, or by the last_mid of the next Login or Resume. What comes again is not for the
 * program, but it has its seq, and unless that is acknowledged the broker takes it for unread and
 * in the end sends nothing more. Its older copy may still be in the program's hands, though, or
 * wait in the event queue; so it counts as processed when that one is, and not before.
 *
 * Those that come again follow each other, because the broker gives stored ones in their order and
 * the oldest are the ones that were here. Where something else stands between them the part before
 * that is forgotten: an Ack of a later seq holds for it too. */

void stored_init(struct stored *stored, uint64_t last_mid)
{
    *stored = (struct stored){.received = last_mid, .processed = last_mid};
}

void stored_fini(struct stored *stored)
{
    free(stored->marks);
    stored->marks = NULL;
    stored->mark_count = 0;
}

void stored_begin_epoch(struct stored *stored, bool again)
{
    stored->again_after = stored->again_last = stored->again_mid = 0;
    stored->mark_count = 0;
    if (again)
        stored->received = stored->processed;
}

bool stored_take(struct stored *stored, uint64_t after_seq, uint64_t seq, uint64_t mid)
{
    if (mid > stored->received) {
        stored->received = mid;
        return true;
    }
    if (stored->again_last == 0 || after_seq != stored->again_last)
        stored->again_after = after_seq;
    stored->again_last = seq;
    stored->again_mid = mid;
    return false;
}

void stored_mark(struct stored *stored, uint64_t seq, uint64_t mid)
{
    if (stored->marks == NULL)
        stored->marks = calloc(STORED_MARKS_MAX, sizeof(*stored->marks));
    if (stored->marks == NULL)
        return;
    if (stored->mark_count == STORED_MARKS_MAX) {
        stored->mark_count--;
        memmove(stored->marks, stored->marks + 1, stored->mark_count * sizeof(*stored->marks));
    }
    stored->marks[stored->mark_count++] = (struct stored_mark){seq, mid};
}

void stored_leave(struct stored *stored, uint64_t mid)
{
    if (mid > stored->processed)
        stored->processed = mid;
}

void stored_leave_marked(struct stored *stored, uint64_t seq)
{
    size_t count = 0;
    while (count < stored->mark_count && stored->marks[count].seq <= seq)
        stored_leave(stored, stored->marks[count++].mid);
    if (count == 0)
        return;
    stored->mark_count -= count;
    memmove(stored->marks, stored->marks + count, stored->mark_count * sizeof(*stored->marks));
}

uint64_t stored_settle(const struct stored *stored, uint64_t processed_seq)
{
    bool follows = stored->again_last > processed_seq && stored->again_after <= processed_seq;
    return follows && stored->again_mid <= stored->processed ? stored->again_last : processed_seq;
}
