/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "proto/client_frame.h"
#include "usher-bench/company.h"

/* Rooms: members publish, and everybody in the room gets it, the publisher too.
 *
 * What is counted are deliveries, a message times those who are there, because that is what a
 * broker pays. In a closed loop each room has a window of messages under way, whose end is known as
 * a sum: when as many deliveries have come as messages were published times members. In an open
 * loop messages are due on a grid of times, for one room after the other.
 *
 * Each member goes by the offsets: the next one, or a gap, which only a RoomState may announce. He
 * keeps a running hash of (sender, number), which at the end must be the same for all of a room who
 * have missed nothing: then all have seen the same messages in the same order. That a publisher's
 * own messages keep their order is looked at by the first member of each room alone, for the hash
 * says that the others saw what he saw.
 *
 * Rooms are a crowd's own, so members share nothing with other threads. */

enum {
    TURN_NS_MAX = 20000000,
    BURST_MAX = 4096, /* messages begun between two looks at the network */
    OUT_BYTES_MAX = 1024 * 1024,
    WAIT_MS_MAX = 60000,
    RATE_HOLD_MS = 1000,
    BORDER_FROM = 0,
    BORDER_TO = 1,
    JOIN_ID = UINT32_MAX, /* of a Join; the ids of messages count from 1 */
    STATE_JOINED = 0,
    REPLAY_PARTIAL = 2,
    ROOM_NAME_BYTES = 48,
    RESUME_ROOMS = 6, /* the field */
};

struct member {
    uint32_t room;   /* the index in the crowd */
    uint32_t number; /* the broker's, of the room */
    uint64_t incarnation, offset, hash;
    uint64_t until;   /* messages up to it are of the time in which he was away */
    bool in;          /* has his RoomState */
    bool may_skip;    /* it said PARTIAL: the next offset may be any */
    bool has_skipped; /* so his hash is his own */
};

struct room {
    uint32_t first, count; /* its members are users of the crowd in a row */
    uint32_t present;      /* of them, who get what is published now */
    uint32_t next;         /* who publishes next */
    uint64_t sent;         /* deliveries to come of what was published */
    uint64_t done;         /* that came, or were refused or told to be missing */
    uint64_t hold_ns;      /* a limit of the broker's is waited for */
};

struct rooms {
    uint32_t number; /* of the first room, over all crowds */
    uint32_t count;
    struct room *rooms; /* both lie behind this struct */
    struct member *members;
    uint8_t positions[64]; /* of the Resume that is being written */
};

static int rooms_open(struct run *run, struct crowd *crowd)
{
    uint64_t all = run->options->rooms;
    uint32_t number = (uint32_t)(all * crowd->index / run->crowd_count);
    uint32_t count = (uint32_t)(all * (crowd->index + 1) / run->crowd_count) - number;
    struct rooms *rooms = calloc(1, sizeof(*rooms) + count * sizeof(*rooms->rooms) +
                                        crowd->count * sizeof(*rooms->members));
    if (rooms == NULL)
        return -ENOMEM;
    rooms->number = number;
    rooms->count = count;
    rooms->rooms = (struct room *)(rooms + 1);
    rooms->members = (struct member *)(rooms->rooms + count);
    for (uint32_t place = 0; place < crowd->count; place++) {
        struct member *member = &rooms->members[place];
        member->room = (uint32_t)((uint64_t)place * count / crowd->count);
        struct room *room = &rooms->rooms[member->room];
        if (room->count++ == 0)
            room->first = place;
        room->present = room->count;
    }
    crowd->own = rooms;
    return 0;
}

static struct member *member_of(struct crowd *crowd, const struct user *user)
{
    struct rooms *rooms = crowd->own;
    return &rooms->members[user - crowd->users];
}

/* --- being a member --------------------------------------------------------------------------- */

/* At the login. After a resume the broker itself says how he stands to the room. */
static void on_welcome(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    struct rooms *rooms = crowd->own;
    struct member *member = member_of(crowd, user);
    char name[ROOM_NAME_BYTES];
    if (member->incarnation != 0)
        return;
    snprintf(name, sizeof(name), "%s%" PRIu32, crowd->options->room, rooms->number + member->room);
    const struct client_frame join = {
        .id = JOIN_ID,
        .body = CLIENT_JOIN,
        .join = {.room = bytes_of_text(name)},
    };
    if (client_frame_write(&user->out, &join, CROWD_READ_BYTES) != 0)
        crowd_fail(crowd, "no memory");
    crowd_touch(crowd, user);
}

/* Names the message that he has got last. */
static void on_resume(struct crowd *crowd, struct user *user, struct client_frame *resume)
{
    struct rooms *rooms = crowd->own;
    const struct member *member = member_of(crowd, user);
    const struct client_position position = {
        .room = member->number,
        .incarnation = member->incarnation,
        .offset = member->offset,
    };
    struct buffer run = {0};
    if (member->incarnation == 0)
        return;
    if (client_list_add_position(&run, RESUME_ROOMS, &position) == 0 &&
        run.size <= sizeof(rooms->positions)) {
        memcpy(rooms->positions, run.data, run.size);
        resume->resume.rooms.run = (struct bytes){rooms->positions, run.size};
        resume->resume.rooms.number = RESUME_ROOMS;
    }
    buffer_fini(&run);
}

static void on_state(struct crowd *crowd, struct user *user, struct bytes body)
{
    struct member *member = member_of(crowd, user);
    struct company_fields fields = {0};
    struct bytes none;
    if (company_next(&body, 0, &fields, &none) != 0) {
        crowd->check.strange++;
        return;
    }
    if (fields.number[ROOM_STATE_STATE] != STATE_JOINED) {
        if (!crowd->leaving)
            crowd_fail(crowd, "%s is in its room no more", user->name);
        return;
    }
    member->may_skip = fields.number[ROOM_STATE_REPLAY] == REPLAY_PARTIAL;
    if (member->in)
        return;
    member->until = member->incarnation != 0 ? fields.number[ROOM_STATE_OFFSET] : 0;
    if (member->incarnation == 0)
        member->offset = fields.number[ROOM_STATE_OFFSET];
    else if (member->incarnation != fields.number[ROOM_STATE_INCARNATION])
        crowd_fail(crowd, "the room of %s is another one now", user->name);
    member->number = (uint32_t)fields.number[ROOM_STATE_ROOM];
    member->incarnation = fields.number[ROOM_STATE_INCARNATION];
    member->in = true;
    crowd->reached++;
}

/* --- messages --------------------------------------------------------------------------------- */

/* Begins one: false when it cannot be begun now. */
static bool publish(struct run *run, struct crowd *crowd, struct room *room, uint64_t due_ns)
{
    struct rooms *rooms = crowd->own;
    uint64_t publishers = run->options->publishers;
    struct user *user = &crowd->users[room->first + room->next];
    uint8_t payload[STAMPED_BYTES_MAX];
    struct stamp stamp = {due_ns, user->number, user->sent};
    const struct client_frame frame = {
        .id = crowd->options->post ? 0 : (uint64_t)user->sent + 1,
        .body = CLIENT_PUBLISH,
        .publish = {.room = rooms->members[room->first + room->next].number,
                    .payload = {payload, crowd->options->size_bytes}},
    };
    if (publishers == 0)
        publishers = room->count - run->options->away;
    if (user->state != USER_ONLINE || user->out.size - user->out_offset > OUT_BYTES_MAX)
        return false;
    memcpy(payload, crowd->pattern, crowd->options->size_bytes);
    stamp_write(payload, &stamp);
    if (client_frame_write(&user->out, &frame, CROWD_READ_BYTES) != 0) {
        crowd_fail(crowd, "no memory");
        return false;
    }
    user->sent++;
    room->next = (room->next + 1) % (uint32_t)publishers;
    room->sent += room->present;
    crowd->check.sent += room->present;
    crowd->company.published++;
    crowd_touch(crowd, user);
    return true;
}

/* Gives how many are missing in front of this one; negative: it has come before. */
static int64_t step(struct crowd *crowd, struct member *member, uint64_t offset)
{
    int64_t missing = (int64_t)(offset - member->offset) - 1;
    if (missing < 0)
        return missing;
    member->offset = offset;
    if (missing > 0 && !member->may_skip)
        crowd->company.gaps++;
    if (missing > 0)
        member->has_skipped = true;
    member->may_skip = false;
    return missing;
}

/* What is missing, and was told to be: of the time away, or of the time in which he was there. */
static void note_missing(struct crowd *crowd, struct member *member, struct room *room,
                         uint64_t offset, uint64_t missing)
{
    uint64_t from = offset - missing;
    uint64_t away = from <= member->until ? member->until - from + 1 : 0;
    if (away > missing)
        away = missing;
    crowd->company.unrecovered += away;
    crowd->check.missed += missing - away;
    room->done += missing - away;
}

/* He was there when it was published, so it counts. */
static void count_delivery(struct crowd *crowd, struct user *user, struct room *room,
                           const struct stamp *stamp)
{
    room->done++;
    if (user == &crowd->users[room->first])
        check_receive(&crowd->check, &crowd->users[stamp->sender - crowd->users[0].number].lane,
                      stamp->seq, false);
    else
        crowd->check.received++;
    if (crowd->recording)
        histogram_add(&crowd->latency,
                      crowd->now_ns > stamp->due_ns ? crowd->now_ns - stamp->due_ns : 0);
}

/* One who publishes into this room. */
static bool is_publisher(struct crowd *crowd, const struct room *room, struct bytes from,
                         const struct stamp *stamp)
{
    uint32_t place = stamp->sender - crowd->users[0].number;
    return place - room->first < room->count &&
           bytes_equal(from, bytes_of_text(crowd->users[place].name));
}

static void take_message(struct crowd *crowd, struct user *user, struct member *member,
                         uint64_t offset, struct bytes message)
{
    struct rooms *rooms = crowd->own;
    struct room *room = &rooms->rooms[member->room];
    struct company_fields fields = {0};
    struct bytes none;
    struct stamp stamp;
    bool was_told = member->may_skip;
    int64_t missing = step(crowd, member, offset);
    if (missing < 0) {
        crowd->check.doubled++;
        return;
    }
    if (missing > 0 && was_told)
        note_missing(crowd, member, room, offset, (uint64_t)missing);
    if (company_next(&message, 0, &fields, &none) != 0 ||
        !stamp_read(fields.run[ROOM_MESSAGE_PAYLOAD],
                    (struct bytes){crowd->pattern, crowd->options->size_bytes}, &stamp) ||
        !is_publisher(crowd, room, fields.run[ROOM_MESSAGE_FROM], &stamp)) {
        crowd->check.strange++;
        return;
    }
    member->hash =
        (member->hash ^ ((uint64_t)stamp.sender << 32 | stamp.seq)) * UINT64_C(0x9e3779b97f4a7c15);
    member->hash ^= member->hash >> 29;
    if (offset <= member->until)
        crowd->company.recovered++;
    else
        count_delivery(crowd, user, room, &stamp);
}

static void on_messages(struct crowd *crowd, struct user *user, struct bytes body)
{
    struct member *member = member_of(crowd, user);
    struct company_fields fields = {0};
    struct bytes message;
    int found;
    crowd->company.frames++;
    while ((found = company_next(&body, ROOM_MESSAGES_ITEM, &fields, &message)) > 0)
        if (!member->in || fields.number[ROOM_MESSAGES_ROOM] != member->number)
            crowd->check.strange++;
        else
            take_message(crowd, user, member, fields.number[ROOM_MESSAGES_OFFSET]++, message);
    if (found < 0)
        crowd->check.strange++;
}

static bool on_company(struct crowd *crowd, struct user *user, struct bytes bytes)
{
    struct company_frame frame;
    if (company_frame_read(bytes, &frame) <= 0)
        return false;
    if (frame.body == COMPANY_ROOM_MESSAGES)
        on_messages(crowd, user, frame.bytes);
    else if (frame.body == COMPANY_ROOM_STATE)
        on_state(crowd, user, frame.bytes);
    return true;
}

/* A Join that is refused ends the run; a message that is waits as it is told, as in other loops. */
static void on_answer(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    struct rooms *rooms = crowd->own;
    struct room *room = &rooms->rooms[member_of(crowd, user)->room];
    uint64_t wait_ms = frame->number[REFUSAL_RETRY_AFTER_MS];
    const char *name = usher_error_name((int64_t)frame->number[ERROR_CODE]);
    if (frame->body != BROKER_ERROR)
        return;
    if (frame->id == JOIN_ID) {
        char words[CROWD_REASON_BYTES_MAX] = "";
        crowd_note(words, name, frame);
        crowd_fail(crowd, "%s may not join: %.120s (see rooms.classes)", user->name, words);
        return;
    }
    crowd->check.refused += room->present;
    room->done += room->present;
    crowd_note(crowd->refused_by, name, frame);
    if (frame->number[ERROR_CODE] == USHER_ERROR_RATE_LIMITED && wait_ms < RATE_HOLD_MS)
        wait_ms = RATE_HOLD_MS;
    if (wait_ms > 0)
        room->hold_ns = crowd->now_ns + (wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX) * 1000000;
}

/* Nobody sends to one user here. */
static void on_message(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    crowd->check.strange++;
}

/* --- the loops -------------------------------------------------------------------------------- */

static uint64_t pump_rate(struct run *run, struct crowd *crowd)
{
    struct rooms *rooms = crowd->own;
    double rate_per_s = run->options->rate_per_s * rooms->count / (double)run->options->rooms;
    for (unsigned burst = 0; burst < BURST_MAX; burst++) {
        uint64_t due_ns =
            crowd->due_from_ns + (uint64_t)((double)crowd->due_count * 1e9 / rate_per_s);
        if (due_ns > crowd->now_ns)
            return due_ns - crowd->now_ns;
        if (!publish(run, crowd, &rooms->rooms[crowd->due_count % rooms->count], due_ns))
            return 1000000;
        crowd->due_count++;
    }
    return 0;
}

static uint64_t pump_windows(struct run *run, struct crowd *crowd)
{
    struct rooms *rooms = crowd->own;
    uint64_t wait_ns = TURN_NS_MAX;
    for (uint32_t i = 0; i < rooms->count; i++) {
        struct room *room = &rooms->rooms[i];
        if (crowd->now_ns < room->hold_ns) {
            wait_ns = 1000000;
            continue;
        }
        if (run->options->burst && room->sent > room->done)
            continue;
        while (room->sent + room->present <= room->done + run->options->window * room->present &&
               publish(run, crowd, room, crowd->now_ns))
            ;
    }
    return wait_ns;
}

/* One message to each room. */
static void begin_round(struct run *run, struct crowd *crowd)
{
    struct rooms *rooms = crowd->own;
    for (uint32_t i = 0; i < rooms->count; i++)
        if (!publish(run, crowd, &rooms->rooms[i], crowd->now_ns))
            crowd_fail(crowd, "a member cannot publish");
}

/* The last members of each room break off, and hear nothing any more. */
static void send_away(struct crowd *crowd)
{
    struct rooms *rooms = crowd->own;
    uint32_t away = (uint32_t)crowd->options->away;
    for (uint32_t i = 0; i < rooms->count; i++) {
        struct room *room = &rooms->rooms[i];
        for (uint32_t k = room->count - away; k < room->count; k++) {
            crowd_drop(crowd, &crowd->users[room->first + k]);
            rooms->members[room->first + k].in = false;
        }
        room->present -= away;
        crowd->reached -= away;
    }
}

/* Who was there all the time has seen what the first of the room has seen. */
static void compare(struct crowd *crowd)
{
    struct rooms *rooms = crowd->own;
    for (uint32_t place = 0; place < crowd->count; place++) {
        const struct member *member = &rooms->members[place];
        const struct member *first = &rooms->members[rooms->rooms[member->room].first];
        if (!member->has_skipped && !first->has_skipped &&
            (member->hash != first->hash || member->offset != first->offset))
            crowd->company.uneven++;
    }
}

static void enter_rooms(struct run *run, struct crowd *crowd, enum phase phase)
{
    struct rooms *rooms = crowd->own;
    crowd->running = phase == PHASE_TRAFFIC || phase == PHASE_MEASURE;
    if (phase == PHASE_TRAFFIC) {
        crowd->due_from_ns = crowd->phase_ns;
        send_away(crowd);
    }
    for (uint32_t i = 0; phase == PHASE_HERD && i < rooms->count; i++)
        rooms->rooms[i].present = rooms->rooms[i].count;
    if (phase == PHASE_ROUND)
        begin_round(run, crowd);
    if (phase == PHASE_LOGOUT)
        compare(crowd);
}

static uint64_t pump_rooms(struct run *run, struct crowd *crowd)
{
    crowd->now_ns = clock_ns();
    if (!crowd->running)
        return TURN_NS_MAX;
    return run->options->rate_per_s > 0 ? pump_rate(run, crowd) : pump_windows(run, crowd);
}

/* --- the run ---------------------------------------------------------------------------------- */

static bool all_members(struct run *run)
{
    return run_totals(run).reached == run->options->users;
}

static bool all_arrived(struct run *run)
{
    struct totals totals = run_totals(run);
    return totals.received + totals.refused + totals.missed >= totals.sent;
}

/* What never comes is told as lost. */
static int drain(struct run *run, enum phase phase, const char *label)
{
    int error = run_enter(run, phase, label);
    if (error == 0)
        error = run_until(run, all_arrived);
    if (error == -ETIMEDOUT)
        run->error[0] = '\0';
    return error == -ETIMEDOUT ? 0 : error;
}

/* Those who were away come back, and a message more shows each what he has missed. */
static int bring_back(struct run *run)
{
    int error = run_enter(run, PHASE_HERD, "returning");
    if (error == 0)
        error = run_until(run, all_members);
    return error == 0 ? drain(run, PHASE_ROUND, "after") : error;
}

static int conduct_rooms(struct run *run)
{
    int error = run_login(run);
    if (error == 0)
        error = run_until(run, all_members);
    if (error == 0)
        error = run_enter(run, PHASE_TRAFFIC, "warm-up");
    if (error == 0)
        error = run_for(run, run->options->warmup_s);
    if (error == 0)
        error = run_enter(run, PHASE_MEASURE, "measuring");
    run_border(run, BORDER_FROM);
    if (error == 0)
        error = run_for(run, run->options->seconds);
    run_border(run, BORDER_TO);
    if (error == 0)
        error = drain(run, PHASE_DRAIN, "draining");
    return error == 0 && run->options->away > 0 ? bring_back(run) : error;
}

static void tell_rooms(struct run *run, struct report *report)
{
    const struct border *from = &run->borders[BORDER_FROM];
    const struct border *to = &run->borders[BORDER_TO];
    report_add(report, "rooms", (double)run->options->rooms, 0);
    run_tell_costs(run, report, BORDER_FROM, BORDER_TO, "messages_per_s",
                   (double)(to->totals.received - from->totals.received));
    report_latency(report, &run->latency);
    report_add(report, "published", (double)run->company.published, 0);
    report_add(report, "frames", (double)run->company.frames, 0);
    run_tell_check(run, report);
    report_add(report, "missed", (double)run->check.missed, 0);
    report_add(report, "gaps", (double)run->company.gaps, 0);
    report_add(report, "uneven", (double)run->company.uneven, 0);
    if (run->options->pid != 0)
        report_add(report, "broker_grown_bytes",
                   (double)to->broker.resident_bytes - (double)from->broker.resident_bytes, 0);
    if (run->options->away == 0)
        return;
    report_add(report, "recovered", (double)run->company.recovered, 0);
    report_add(report, "unrecovered", (double)run->company.unrecovered, 0);
}

const struct scenario scenario_room = {
    .events =
        {
            .on_welcome = on_welcome,
            .on_message = on_message,
            .on_answer = on_answer,
            .on_resume = on_resume,
            .on_company = on_company,
        },
    .open = rooms_open,
    .enter = enter_rooms,
    .pump = pump_rooms,
    .conduct = conduct_rooms,
    .tell = tell_rooms,
};
