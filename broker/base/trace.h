/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BASE_TRACE_H
#define USHER_BASE_TRACE_H

/* Traces: what happened to one user's messages, with times, for a while. A few users at once, each
 * with a ring of records; a trace ends by itself. Who is traced has a mark (a slot) of his own, so
 * that nobody else pays more than a look at a zero. Any thread; blocks for some memory moves. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct traces;

enum {
    TRACES_MAX = 8,
    TRACE_RECORDS_MAX = 4096,
    TRACE_NAME_BYTES_MAX = 64,
    TRACE_SECONDS_DEFAULT = 60,
    TRACE_SECONDS_MAX = 3600,
    TRACE_ID_DIGITS = 32,
    TRACE_LINE_BYTES_MAX = 448
};

enum trace_stage {
    TRACE_ARRIVED,
    TRACE_QUEUED,
    TRACE_TURN,
    TRACE_SENT,
    TRACE_ACKED,
    TRACE_REFUSED,
    TRACE_DROPPED,
    TRACE_PULLED, /* from the history of a room, because something was missing */
};

/* One thing that happened. `in`: to what the user sent; otherwise to what goes to him. */
struct trace_point {
    enum trace_stage stage;
    bool in;
    const char *kind; /* a constant word */
    uint64_t id;      /* in: the request's; out: the message's seq, or offset in its room */
    const char *peer; /* a name, or # and the number of a room; `peer_size` bytes */
    size_t peer_size;
    uint32_t bytes;       /* of the payload */
    uint64_t wait_us;     /* since the stage before, as far as that is known */
    uint64_t offset;      /* that a room gave; 0: it is not told */
    const void *trace_id; /* TRACE_ID_DIGITS, hexadecimal, not ended; NULL: it has none, or for an
                           * answer to what the user sent: that of the request, if it is found */
};

struct traces *traces_create(void); /* NULL without memory */
void traces_destroy(struct traces *traces);

/* Whether anybody is traced; a hint that costs one load. */
bool traces_any(const struct traces *traces);

/* Begins, or begins anew for who is traced already; 0 for seconds or one_in: the default, 1.
 * `now_us`, here and below, is monotonic; `wall_us` is the same moment as Unix time, which records
 * are told in. 0 with *slot, which is not 0 and is to be set as the user's mark; -EBUSY: too many;
 * -EINVAL; -ENOMEM. */
int trace_start(struct traces *traces, const char *user, uint32_t seconds, uint32_t one_in,
                uint64_t now_us, uint64_t wall_us, uint8_t *slot);

/* 0 or -ENOENT. */
int trace_stop(struct traces *traces, const char *user);

/* False: that slot is not this user's any more, or the time is over; the mark is to be cleared.
 * Only one of one_in ids is recorded, the same ones at every stage. */
bool trace_record(struct traces *traces, uint8_t slot, const char *user, uint64_t now_us,
                  const struct trace_point *point);

struct trace_state {
    bool active;
    uint64_t left_ms;
    uint64_t dropped; /* records that were overwritten before anybody could read them */
    uint64_t last;    /* seq of the last record given */
};

/* Gives the records after seq `after`, a JSON object each, without a newline, until `each` says
 * false; it runs without a lock and may take its time: what is overwritten meanwhile counts as
 * dropped. 0, or -ENOENT: nobody of that name is or was traced. */
int trace_read(struct traces *traces, const char *user, uint64_t after, uint64_t now_us,
               bool (*each)(void *context, const char *line, size_t size), void *context,
               struct trace_state *state);

#endif
