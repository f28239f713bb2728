/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/check.h"
#include "base/memory.h"
#include "client.pb-c.h"
#include "proto/broker_frame.h"
#include "user/friends_private.h"
#include "user/tracing.h"

/* What a client is told of those he watches, and when.
 *
 * A *snapshot* says of each how he looks, in as many frames as it takes, the first of them marked.
 * It begins when the shards have answered about everybody new, and not sooner than friends.batch_ms
 * (of a second at most) after the one before, so however many Watches come within that time cost
 * one snapshot. An answer that is long in coming (a store that fails) does not hold up the others
 * for more than a second: then they are told without it, and once more when it is there.
 *
 * Between snapshots changes are *gathered*: from the first one on for friends.batch_ms, with what
 * the client knew before; but for those of whom he has no first state yet. Who looks the same again
 * by then is left out. While a crowd is coming, so after a start, it goes on for a few times as
 * long: otherwise each of a hundred friends is a frame for each of a hundred friends. What is due
 * is a point in time that stays until it has been done, so a tick that comes early does nothing and
 * another one is asked for.
 *
 * A user without a connection keeps his pairs up to date, which costs no memory, and gathers
 * nothing; his snapshot after a resume is made of them.
 *
 * Nothing of this goes past what the connection takes: as with messages, what is due waits then,
 * and only grows newer. */

enum {
    FRAME_BYTES_MAX = 8192,
    STATE_BYTES_MAX = 256,
    WAIT_MAX_MS = 1000,
    MANY = 8,        /* so many more within friends.batch_ms, and more are waited for */
    BATCHES_MAX = 8, /* of friends.batch_ms, and what has come is told */
};

static void forget_gathered(struct friends *friends)
{
    for (uint32_t i = 0; i < friends->gathered_count; i++) {
        const struct gathered *gathered = &friends->gathered[i];
        struct pair *pair = &friends->pairs[gathered->position];
        if (pair->record != NULL && pair->serial == gathered->serial)
            pair->dirty = 0;
        shared_release(&gathered->told->header);
    }
    memory_account(MEMORY_OF_FRIENDS,
                   -(int64_t)(friends->gathered_capacity * sizeof(*friends->gathered)));
    free(friends->gathered);
    friends->gathered = NULL;
    friends->gathered_count = friends->gathered_capacity = 0;
    friends->batch_due_ms = 0;
}

void tell_nothing(struct friends *friends)
{
    forget_gathered(friends);
    friends->snapping = friends->blocks = false;
    friends->snapshot_ms = 0;
    for (uint32_t i = 0; i < friends->top; i++)
        friends->pairs[i].shown = 0;
}

void tell_all(struct friends *friends, const struct turn *turn)
{
    if (!friends->wanted)
        friends->wanted_ms = turn->now_ms;
    friends->wanted = true;
}

void tell_gather(struct friends *friends, struct gathered gathered)
{
    if (friends->gathered_count == friends->gathered_capacity) {
        uint32_t capacity = friends->gathered_capacity > 0 ? friends->gathered_capacity * 2 : 4;
        struct gathered *more;
        MEMORY_MUST((more = realloc(friends->gathered, capacity * sizeof(*more))) != NULL,
                    "friends");
        memory_account(MEMORY_OF_FRIENDS,
                       (int64_t)((capacity - friends->gathered_capacity) * sizeof(*more)));
        friends->gathered = more;
        friends->gathered_capacity = capacity;
    }
    friends->gathered[friends->gathered_count++] = gathered;
}

static void gather(struct friends *friends, uint32_t position, struct watch_record *told,
                   struct turn *turn)
{
    struct pair *pair = &friends->pairs[position];
    tell_gather(friends, (struct gathered){told, position, pair->serial});
    pair->dirty = 1;
    if (friends->batch_due_ms != 0)
        return;
    uint64_t batch_ms = friends_batch_ms(turn->limits);
    friends->batch_due_ms = turn->now_ms + batch_ms;
    friends->batch_last_ms = turn->now_ms + BATCHES_MAX * batch_ms;
    friends->gathered_seen = 0;
}

/* A crowd is coming, and most of those who are about to come can still be told with it. */
static bool more_are_coming(struct friends *friends, const struct turn *turn)
{
    uint64_t next_ms = friends->batch_due_ms + friends_batch_ms(turn->limits);
    if (friends->gathered_count - friends->gathered_seen < MANY || next_ms <= turn->now_ms ||
        next_ms > friends->batch_last_ms)
        return false;
    friends->gathered_seen = friends->gathered_count;
    friends->batch_due_ms = next_ms;
    return true;
}

void tell_changed(struct session *session, struct friends *friends, uint32_t position,
                  struct watch_record *record, struct turn *turn)
{
    const struct pair *pair = &friends->pairs[position];
    struct watch_record *before = pair_replace(friends, position, record);
    if (before == NULL) {
        tell_all(friends, turn);
        return;
    }
    if (session->conn != 0 && pair->shown && !pair->dirty &&
        !(friends->snapping && position >= friends->snapshot_at)) {
        gather(friends, position, before, turn); /* holds what was known before */
        return;
    }
    shared_release(&before->header);
}

/* --- frames ----------------------------------------------------------------------------------- */

struct states {
    struct buffer items;
    uint32_t count;
};

static void add_state(struct states *states, const struct watch_record *record)
{
    MEMORY_MUST(broker_frame_friend(&states->items, watch_record_name(record), record->state,
                                    record->since_ms, watch_record_status(record)) == 0,
                "friends");
    states->count++;
}

static bool is_full(const struct states *states, const struct turn *turn)
{
    size_t most = limits_frame_bytes(turn->limits);
    most = most < FRAME_BYTES_MAX ? most : FRAME_BYTES_MAX;
    return states->items.size + 2 * STATE_BYTES_MAX > most;
}

static void send_states(struct session *session, struct turn *turn, struct states *states,
                        bool snapshot)
{
    size_t offset = turn->out.size;
    struct bytes items = {states->items.data, states->items.size};
    MEMORY_MUST(broker_frame_friends(&turn->out, snapshot, items) == 0, "friends");
    turn_count(turn, METRIC_friends_frames, 1);
    turn_count(turn, METRIC_friends_states, states->count);
    if (is_traced(session))
        tracing_point(session, turn,
                      &(struct trace_point){.stage = TRACE_SENT,
                                            .kind = "friends",
                                            .bytes = (uint32_t)(turn->out.size - offset)});
    output_send(session, turn, offset);
    states->count = 0;
    states->items.size = 0;
}

/* False: what is due waits for room. */
static bool has_room(struct session *session, struct friends *friends, const struct turn *turn)
{
    bool takes = session->conn != 0 && output_takes(session, turn, FRAME_BYTES_MAX);
    friends->blocks = !takes;
    return takes;
}

static void send_snapshot(struct session *session, struct friends *friends, struct turn *turn)
{
    struct states states = {0};
    while (friends->snapping && has_room(session, friends, turn)) {
        while (friends->snapshot_at < friends->top && !is_full(&states, turn)) {
            struct pair *pair = &friends->pairs[friends->snapshot_at++];
            if (pair->record == NULL || pair->pending)
                continue;
            pair->shown = 1;
            add_state(&states, pair->record);
        }
        friends->snapping = friends->snapshot_at < friends->top;
        if (states.count > 0 || friends->first)
            send_states(session, turn, &states, friends->first);
        friends->first = false;
    }
    buffer_fini(&states.items);
}

/* Those that do look different from what the client knows. */
static void send_gathered(struct session *session, struct friends *friends, struct turn *turn)
{
    struct states states = {0};
    uint32_t done = 0;
    while (done < friends->gathered_count && has_room(session, friends, turn)) {
        while (done < friends->gathered_count && !is_full(&states, turn)) {
            struct gathered *gathered = &friends->gathered[done++];
            struct pair *pair = &friends->pairs[gathered->position];
            if (pair->record == NULL || pair->serial != gathered->serial)
                continue; /* he is not watched any more */
            if (!watch_record_equal(pair->record, gathered->told))
                add_state(&states, pair->record);
            /* Told, and not to be again if the rest has to wait. */
            shared_hold(&pair->record->header);
            shared_release(&gathered->told->header);
            gathered->told = pair->record;
        }
        if (states.count > 0)
            send_states(session, turn, &states, false);
    }
    buffer_fini(&states.items);
    if (done == friends->gathered_count)
        forget_gathered(friends);
}

/* --- when ------------------------------------------------------------------------------------- */

static uint64_t snapshot_due_ms(const struct friends *friends, const struct turn *turn)
{
    if (!friends->wanted || friends->snapping || friends->unsaid > 0)
        return UINT64_MAX;
    uint64_t pause_ms = friends_batch_ms(turn->limits);
    pause_ms = pause_ms < WAIT_MAX_MS ? pause_ms : WAIT_MAX_MS;
    uint64_t due_ms = friends->snapshot_ms != 0 ? friends->snapshot_ms + pause_ms : 0;
    uint64_t late_ms = friends->pending > 0 ? friends->wanted_ms + WAIT_MAX_MS : 0;
    due_ms = due_ms > late_ms ? due_ms : late_ms;
    return due_ms > turn->now_ms ? due_ms : turn->now_ms;
}

static void begin_snapshot(struct friends *friends, const struct turn *turn)
{
    forget_gathered(friends); /* it says all of that */
    friends->wanted = false;
    friends->snapping = friends->first = true;
    friends->snapshot_at = 0;
    friends->snapshot_ms = turn->now_ms;
    if (friends->pending > 0)
        tell_all(friends, turn);
}

void tell_due(struct session *session, struct friends *friends, struct turn *turn)
{
    if (session->conn == 0)
        return;
    friends->blocks = false; /* also when what was due is waited for longer: more are coming */
    if (snapshot_due_ms(friends, turn) <= turn->now_ms)
        begin_snapshot(friends, turn);
    if (friends->snapping)
        send_snapshot(session, friends, turn);
    if (!friends->snapping && friends->batch_due_ms != 0 && friends->batch_due_ms <= turn->now_ms &&
        !more_are_coming(friends, turn))
        send_gathered(session, friends, turn);
}

uint64_t tell_due_ms(const struct session *session, const struct friends *friends,
                     const struct turn *turn)
{
    if (session->conn == 0)
        return UINT64_MAX;
    uint64_t due_ms = snapshot_due_ms(friends, turn);
    if (friends->batch_due_ms != 0 && !friends->blocks && friends->batch_due_ms < due_ms)
        due_ms = friends->batch_due_ms;
    return due_ms;
}
