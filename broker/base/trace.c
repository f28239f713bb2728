/* SPDX-License-Identifier: Apache-2.0 */
#include "base/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/lock.h"

/* Why slots and not pointers: the mark that a session carries outlives the trace, and may be looked
 * at by a turn at the moment when the trace ends and another one begins. So it is a number, and who
 * records shows his name, which is compared. A mark that is found to be stale is cleared by its
 * owner.
 *
 * One lock for all: it is taken only for users who are traced, and by who reads. A reader copies
 * some records under it and prints them without it: whoever reads again and again, and however slow
 * he is, holds up a worker for the copying of so many at a time. Records are of a fixed size, so a
 * trace has its memory from the start to the end of the process (another one may take its slot,
 * once it is over). Sampling goes by the id, so that a message is followed through all of its
 * stages or not at all.
 *
 * Times are monotonic here, so that waits and the order of records are right whatever is done to
 * the wall clock. Whoever reads compares them with the log, so they are told as Unix time, by how
 * the two clocks stood when the trace began. */

struct record {
    uint64_t time_us, id, wait_us, offset;
    const char *kind;
    uint32_t bytes;
    uint8_t stage;
    bool in;
    char peer[TRACE_NAME_BYTES_MAX + 1];
    char trace_id[TRACE_ID_DIGITS]; /* all 0: none */
};

struct trace {
    char user[TRACE_NAME_BYTES_MAX + 1]; /* "": never used */
    bool active;
    uint64_t until_us;
    uint64_t shift_us; /* from monotonic to Unix time, modulo 2^64 */
    uint32_t one_in;
    uint64_t count; /* records so far; the seq of the last one */
    struct record *records;
};

struct traces {
    struct lock lock;
    atomic_uint active;
    struct trace items[TRACES_MAX]; /* under the lock */
};

static const char *const stage_names[] = {
    [TRACE_ARRIVED] = "arrived", [TRACE_QUEUED] = "queued", [TRACE_TURN] = "turn",
    [TRACE_SENT] = "sent",       [TRACE_ACKED] = "acked",   [TRACE_REFUSED] = "refused",
    [TRACE_DROPPED] = "dropped", [TRACE_PULLED] = "pulled",
};

struct traces *traces_create(void)
{
    struct traces *traces = calloc(1, sizeof(*traces));
    if (traces != NULL)
        lock_init(&traces->lock);
    return traces;
}

void traces_destroy(struct traces *traces)
{
    if (traces == NULL)
        return;
    for (size_t i = 0; i < TRACES_MAX; i++)
        free(traces->items[i].records);
    lock_destroy(&traces->lock);
    free(traces);
}

bool traces_any(const struct traces *traces)
{
    return traces != NULL && atomic_load_explicit(&traces->active, memory_order_relaxed) != 0;
}

static void set_active(struct traces *traces, struct trace *trace, bool active)
{
    CHECK(lock_held(&traces->lock));
    if (trace->active == active)
        return;
    trace->active = active;
    unsigned before =
        atomic_fetch_add_explicit(&traces->active, active ? 1u : -1u, memory_order_relaxed);
    CHECK(active ? before < TRACES_MAX : before > 0);
}

static struct trace *find(struct traces *traces, const char *user)
{
    CHECK(lock_held(&traces->lock));
    for (size_t i = 0; i < TRACES_MAX; i++)
        if (strcmp(traces->items[i].user, user) == 0)
            return &traces->items[i];
    return NULL;
}

/* The user's own, or one that was never used, or one that is over. */
static struct trace *find_room(struct traces *traces, const char *user, uint64_t now_us)
{
    struct trace *trace = find(traces, user);
    for (size_t i = 0; trace == NULL && i < TRACES_MAX; i++)
        if (traces->items[i].user[0] == '\0')
            trace = &traces->items[i];
    for (size_t i = 0; trace == NULL && i < TRACES_MAX; i++)
        if (!traces->items[i].active || traces->items[i].until_us <= now_us)
            trace = &traces->items[i];
    return trace;
}

int trace_start(struct traces *traces, const char *user, uint32_t seconds, uint32_t one_in,
                uint64_t now_us, uint64_t wall_us, uint8_t *slot)
{
    int error = 0;
    if (user[0] == '\0' || strlen(user) > TRACE_NAME_BYTES_MAX || seconds > TRACE_SECONDS_MAX)
        return -EINVAL;
    lock_take(&traces->lock);
    struct trace *trace = find_room(traces, user, now_us);
    if (trace == NULL)
        error = -EBUSY;
    else if (trace->records == NULL)
        trace->records = calloc(TRACE_RECORDS_MAX, sizeof(*trace->records));
    if (error == 0 && trace->records == NULL)
        error = -ENOMEM;
    if (error == 0) {
        snprintf(trace->user, sizeof(trace->user), "%s", user);
        trace->count = 0;
        trace->one_in = one_in != 0 ? one_in : 1;
        trace->until_us =
            now_us + (seconds != 0 ? seconds : TRACE_SECONDS_DEFAULT) * UINT64_C(1000000);
        set_active(traces, trace, true);
        trace->shift_us = wall_us - now_us;
        *slot = (uint8_t)(trace - traces->items + 1);
    }
    lock_give(&traces->lock);
    return error;
}

int trace_stop(struct traces *traces, const char *user)
{
    lock_take(&traces->lock);
    struct trace *trace = user[0] != '\0' ? find(traces, user) : NULL;
    bool found = trace != NULL && trace->active;
    if (found)
        set_active(traces, trace, false);
    lock_give(&traces->lock);
    return found ? 0 : -ENOENT;
}

enum { LOOK_BACK = 256 };

/* Of an answer whose session does not remember what the request came with: it is found where its
 * turn was recorded, if that is not too long ago. */
static const void *id_of_request(const struct trace *trace, uint64_t id)
{
    for (uint64_t back = 1; back <= LOOK_BACK && back <= trace->count; back++) {
        const struct record *record = &trace->records[(trace->count - back) % TRACE_RECORDS_MAX];
        if (record->in && record->id == id && record->stage == TRACE_TURN)
            return record->trace_id[0] != '\0' ? record->trace_id : NULL;
    }
    return NULL;
}

static bool is_answer(const struct trace_point *point)
{
    return point->in && point->id != 0 && point->stage != TRACE_ARRIVED &&
           point->stage != TRACE_TURN;
}

static void put(struct trace *trace, uint64_t now_us, const struct trace_point *point)
{
    char trace_id[TRACE_ID_DIGITS] = {0};
    const void *from = is_answer(point) ? id_of_request(trace, point->id) : point->trace_id;
    if (from != NULL)
        memcpy(trace_id, from, sizeof(trace_id)); /* before its record may be the one written to */
    struct record *record = &trace->records[trace->count++ % TRACE_RECORDS_MAX];
    size_t size = point->peer_size < TRACE_NAME_BYTES_MAX ? point->peer_size : TRACE_NAME_BYTES_MAX;
    *record = (struct record){
        .time_us = now_us,
        .id = point->id,
        .wait_us = point->wait_us,
        .offset = point->offset,
        .kind = point->kind,
        .bytes = point->bytes,
        .stage = (uint8_t)point->stage,
        .in = point->in,
    };
    if (size > 0)
        memcpy(record->peer, point->peer, size);
    memcpy(record->trace_id, trace_id, sizeof(trace_id));
}

bool trace_record(struct traces *traces, uint8_t slot, const char *user, uint64_t now_us,
                  const struct trace_point *point)
{
    lock_take(&traces->lock);
    CHECK(slot >= 1 && slot <= TRACES_MAX);
    struct trace *trace = &traces->items[slot - 1];
    bool ours = trace->active && strcmp(trace->user, user) == 0;
    if (ours && trace->until_us <= now_us) {
        set_active(traces, trace, false);
        ours = false;
    }
    if (ours && point->id % trace->one_in == 0)
        put(trace, now_us, point);
    lock_give(&traces->lock);
    return ours;
}

/* Names that reach this have been checked, but for `to` and `service` of a request that is refused
 * for that: then they are left out. */
static bool is_plain(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text <= ' ' || *text == '"' || *text == '\\' ||
            (unsigned char)*text >= 0x7f)
            return false;
    return true;
}

static size_t print(char line[TRACE_LINE_BYTES_MAX], const struct record *record, uint64_t seq,
                    uint64_t shift_us)
{
    char offset[40] = "";
    char trace_id[TRACE_ID_DIGITS + 20] = "";
    if (record->offset != 0)
        snprintf(offset, sizeof(offset), ",\"offset\":%" PRIu64, record->offset);
    if (record->trace_id[0] != '\0')
        snprintf(trace_id, sizeof(trace_id), ",\"trace_id\":\"%.*s\"", (int)TRACE_ID_DIGITS,
                 record->trace_id);
    int size = snprintf(line, TRACE_LINE_BYTES_MAX,
                        "{\"seq\":%" PRIu64 ",\"time_us\":%" PRIu64
                        ",\"stage\":\"%s\",\"direction\":\"%s\",\"kind\":\"%s\",\"id\":%" PRIu64
                        ",\"peer\":\"%s\",\"bytes\":%" PRIu32 ",\"wait_us\":%" PRIu64 "%s%s}",
                        seq, record->time_us + shift_us, stage_names[record->stage],
                        record->in ? "in" : "out", record->kind, record->id,
                        is_plain(record->peer) ? record->peer : "", record->bytes, record->wait_us,
                        offset, trace_id);
    return (size_t)size;
}

enum { PIECE_RECORDS = 16 };

/* Some records, as they stood at one moment. */
struct piece {
    uint64_t first; /* the seq of the first one */
    size_t count;
    uint64_t shift_us;
    struct record records[PIECE_RECORDS];
};

/* Those after the last one that was given that are still there, up to seq `end`; counts what is
 * not. The lock is held. */
static void copy_piece(const struct traces *traces, const struct trace *trace, uint64_t end,
                       struct piece *piece, struct trace_state *state)
{
    CHECK(lock_held(&traces->lock));
    uint64_t after = state->last;
    uint64_t oldest = trace->count > TRACE_RECORDS_MAX ? trace->count - TRACE_RECORDS_MAX : 0;
    if (oldest > after) {
        state->dropped += oldest - after;
        after = oldest;
    }
    uint64_t newest = trace->count < end ? trace->count : end;
    piece->first = after + 1;
    piece->shift_us = trace->shift_us;
    for (piece->count = 0; piece->count < PIECE_RECORDS && after < newest; after++)
        piece->records[piece->count++] = trace->records[after % TRACE_RECORDS_MAX];
}

/* *end is set to the newest seq when it is 0. False: nobody of that name is or was traced. */
static bool take_piece(struct traces *traces, const char *user, uint64_t now_us, uint64_t *end,
                       struct piece *piece, struct trace_state *state)
{
    piece->count = 0;
    lock_take(&traces->lock);
    struct trace *trace = user[0] != '\0' ? find(traces, user) : NULL;
    if (trace != NULL) {
        if (trace->until_us <= now_us)
            set_active(traces, trace, false);
        state->active = trace->active;
        state->left_ms = trace->active ? (trace->until_us - now_us) / 1000 : 0;
        *end = *end != 0 ? *end : trace->count;
        copy_piece(traces, trace, *end, piece, state);
    }
    lock_give(&traces->lock);
    return trace != NULL;
}

int trace_read(struct traces *traces, const char *user, uint64_t after, uint64_t now_us,
               bool (*each)(void *context, const char *line, size_t size), void *context,
               struct trace_state *state)
{
    struct piece piece;
    char line[TRACE_LINE_BYTES_MAX];
    uint64_t end = 0; /* what comes while we read is for the next time */
    *state = (struct trace_state){.last = after};
    bool found = take_piece(traces, user, now_us, &end, &piece, state);
    int result = found ? 0 : -ENOENT;
    while (found && piece.count > 0) {
        for (size_t i = 0; i < piece.count; i++) {
            uint64_t seq = piece.first + i;
            size_t size = print(line, &piece.records[i], seq, piece.shift_us);
            if (!each(context, line, size))
                return result;
            state->last = seq;
        }
        found = take_piece(traces, user, now_us, &end, &piece, state);
    }
    return result;
}
