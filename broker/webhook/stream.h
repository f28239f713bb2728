/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEBHOOK_STREAM_H
#define USHER_WEBHOOK_STREAM_H

/* How far a receiver of the presence stream has come, what it is sent next, and what its answers
 * mean. Pure: no clock, no store, no socket; one thread at a time. */

#include <stdbool.h>
#include <stdint.h>

/* Why the receiver has to begin anew. */
enum hook_reset {
    HOOK_RESET_NONE,
    HOOK_RESET_FIRST,   /* nobody has been told anything, or how far is not known any more */
    HOOK_RESET_TRIMMED, /* events that it has not got are not kept any more */
    HOOK_RESET_AHEAD,   /* it has a seq that this stream has not given yet: another store */
    HOOK_RESET_BOOT,    /* the stream begins, and what an earlier one was about is no more */
};

struct hook_stream {
    uint64_t cursor; /* everything up to it has been taken; known unless reset is FIRST */
    enum hook_reset reset;
    unsigned attempts; /* in a row that have not moved it forward */
    uint64_t due_ms;   /* no other one before */
    uint32_t
        batch; /* events at once, while the receiver finds them too many; 0: as many as may be */
};

/* What is kept of the stream now. */
struct hook_kept {
    uint64_t first, last; /* first is last + 1 when nothing is */
};

struct hook_pace {
    uint64_t min_ms, max_ms; /* of the wait after a failure, which doubles from one to the other */
};

enum hook_kind { HOOK_NOTHING, HOOK_EVENTS, HOOK_RESET };

/* One request. */
struct hook_post {
    enum hook_kind kind;
    uint64_t first, last; /* EVENTS: these; RESET: what is lost, first > last when nobody knows */
    enum hook_reset reset;
    uint64_t seq; /* from which on it goes on: the last of the events, what a RESET bears */
};

/* What came of it. `good`: a 2xx, whole, and understood. */
struct hook_answer {
    bool good;
    bool too_large; /* 413: fewer events may do */
    bool has_seq;   /* it says how far it is */
    uint64_t seq;
    uint64_t retry_after_ms;
};

enum hook_result {
    HOOK_FAILED,  /* the same again, later */
    HOOK_TAKEN,   /* the cursor has moved forward */
    HOOK_REWOUND, /* backward: the receiver has less than it once had */
    HOOK_AHEAD,   /* a RESET is next */
};

/* `known`: the cursor was kept. */
void hook_stream_begin(struct hook_stream *stream, bool known, uint64_t cursor);

/* A stream that begins at 1 with this start of the broker: the receiver is told so first. */
void hook_stream_begin_boot(struct hook_stream *stream);

/* What is to be sent, of at most `batch` events, if it is due; the events are those behind the
 * cursor as of the state `kept`. */
struct hook_post hook_stream_next(struct hook_stream *stream, const struct hook_kept *kept,
                                  uint32_t batch);

/* The answer to that one. `random` spreads the wait. */
enum hook_result hook_stream_answered(struct hook_stream *stream, const struct hook_post *post,
                                      const struct hook_answer *answer, uint64_t stream_last,
                                      const struct hook_pace *pace, uint32_t random,
                                      uint64_t now_ms);

/* It could not even be sent: as an answer that is not good. */
void hook_stream_failed(struct hook_stream *stream, uint64_t retry_after_ms,
                        const struct hook_pace *pace, uint32_t random, uint64_t now_ms);

/* Another receiver, or another secret: it is tried at once. */
void hook_stream_hurry(struct hook_stream *stream);

/* "first", "trimmed", "ahead", "boot". */
const char *hook_reset_name(enum hook_reset reset);

#endif
