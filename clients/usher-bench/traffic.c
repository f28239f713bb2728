/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/run.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "proto/client_frame.h"

/* Messages, steadily: forward, call, push and push-all.
 *
 * They differ in who begins a message and who gets it, and share the rest: a warm-up, a stretch
 * that counts, and a drain in which everything under way must arrive. In a closed loop each arrival
 * begins the next message, so a window's worth is always in flight. In an open loop messages are
 * due on a grid of times; one that leaves late, because the broker or this program was busy, keeps
 * its due time in its stamp, so the wait counts as latency.
 *
 * What a limit of the broker refuses is refused and not lost, and in a closed loop its user waits
 * as long as he is told, as a client does: to hammer at a limit would measure how the broker
 * refuses.
 *
 * Users form a ring within their crowd: each sends to the next, so one lane per receiver suffices
 * and crowds share nothing. */

enum {
    WAIT_MS_MAX = 60000,
    RATE_HOLD_MS = 1000, /* after which a user has his whole allowance back */
    HELD_LOOK_NS = 5000000,
    BORDER_FROM = 0,
    BORDER_TO = 1,
    TURN_NS_MAX = 20000000,
    OUT_BYTES_MAX = 1024 * 1024, /* of one user: more is not begun, only later */
    BURST_MAX = 4096,            /* messages begun between two looks at the network */
    CALLS_MAX = 64,              /* in flight per user: the bits of user->unanswered */
};

/* Begins one message of the user: false when it cannot be begun now. */
typedef bool traffic_begin(struct run *run, struct crowd *crowd, struct user *user,
                           uint64_t due_ns);

static struct bytes pattern_of(const struct crowd *crowd)
{
    return (struct bytes){crowd->pattern, crowd->options->size_bytes};
}

static struct user *before(struct crowd *crowd, const struct user *user)
{
    uint32_t place = (uint32_t)(user - crowd->users);
    return &crowd->users[(place + crowd->count - 1) % crowd->count];
}

static struct user *behind(struct crowd *crowd, const struct user *user)
{
    uint32_t place = (uint32_t)(user - crowd->users);
    return &crowd->users[(place + 1) % crowd->count];
}

/* What every message carries: whose it is and when it was due, in front of a pattern. */
static void fill(const struct crowd *crowd, uint8_t *payload, const struct stamp *stamp)
{
    memcpy(payload, crowd->pattern, crowd->options->size_bytes);
    stamp_write(payload, stamp);
}

/* --- the four kinds --------------------------------------------------------------------------- */

/* A user who lags is left alone until his output is down: what waits here is not the broker's. */
static bool begin_forward(struct run *run, struct crowd *crowd, struct user *user, uint64_t due_ns)
{
    uint8_t payload[STAMPED_BYTES_MAX];
    struct stamp stamp = {due_ns, user->number, user->sent};
    const struct client_frame frame = {
        .id = crowd->options->post ? 0 : (uint64_t)user->sent + 1,
        .body = CLIENT_SEND,
        .send = {.to = bytes_of_text(behind(crowd, user)->name),
                 .payload = {payload, crowd->options->size_bytes}},
    };
    if (user->state != USER_ONLINE || user->out.size - user->out_offset > OUT_BYTES_MAX)
        return false;
    fill(crowd, payload, &stamp);
    if (client_frame_write(&user->out, &frame, CROWD_READ_BYTES) != 0) {
        crowd_fail(crowd, "no memory");
        return false;
    }
    user->sent++;
    crowd->check.sent++;
    crowd_touch(crowd, user);
    return true;
}

/* The seq is the id, less one; a bit says that the call is not answered yet. */
static bool begin_call(struct run *run, struct crowd *crowd, struct user *user, uint64_t due_ns)
{
    uint8_t payload[STAMPED_BYTES_MAX];
    struct stamp stamp = {due_ns, user->number, user->sent};
    uint64_t bit = UINT64_C(1) << user->sent % CALLS_MAX;
    if (user->state != USER_ONLINE || (user->unanswered & bit) != 0)
        return false;
    fill(crowd, payload, &stamp);
    const struct client_frame call = {
        .id = (uint64_t)user->sent + 1,
        .body = CLIENT_CALL,
        .call = {.service = bytes_of_text(run->options->service),
                 .method = bytes_of_text("echo"),
                 .payload = {payload, crowd->options->size_bytes}},
    };
    int error = client_frame_write(&user->out, &call, CROWD_READ_BYTES);
    if (error != 0) {
        crowd_fail(crowd, "a call does not fit: %s", strerror(-error));
        return false;
    }
    user->unanswered |= bit;
    user->sent++;
    crowd->check.sent++;
    crowd_touch(crowd, user);
    return true;
}

/* What became of a push to so many users, which the service queued, or not. */
static bool pushed(struct crowd *crowd, struct user *user, int error, uint64_t messages)
{
    if (error == -EAGAIN)
        return false;
    if (error != 0) {
        crowd_fail(crowd, "a push does not fit: %s", strerror(-error));
        return false;
    }
    user->sent++;
    crowd->check.sent += messages;
    return true;
}

static bool begin_push(struct run *run, struct crowd *crowd, struct user *user, uint64_t due_ns)
{
    uint8_t payload[STAMPED_BYTES_MAX];
    struct stamp stamp = {due_ns, user->number, user->sent};
    fill(crowd, payload, &stamp);
    int error =
        service_push(run->service, user->name, (struct bytes){payload, crowd->options->size_bytes});
    return pushed(crowd, user, error, 1);
}

/* The first user of the first crowd counts for all. */
static bool begin_push_all(struct run *run, struct crowd *crowd, struct user *user, uint64_t due_ns)
{
    uint8_t payload[STAMPED_BYTES_MAX];
    struct stamp stamp = {due_ns, 0, user->sent};
    fill(crowd, payload, &stamp);
    int error = service_push_all(run->service, (struct bytes){payload, crowd->options->size_bytes});
    return pushed(crowd, user, error, run->options->users);
}

static traffic_begin *begin_of(const struct run *run)
{
    switch (run->options->scenario) {
    case BENCH_CALL:
        return begin_call;
    case BENCH_PUSH:
        return begin_push;
    case BENCH_PUSH_ALL:
        return begin_push_all;
    default:
        return begin_forward;
    }
}

/* --- the loops -------------------------------------------------------------------------------- */

/* Begins what is due. Each message keeps its place in the grid of times, however late it leaves. */
static uint64_t pump_rate(struct run *run, struct crowd *crowd)
{
    bool all = run->options->scenario == BENCH_PUSH_ALL;
    double rate_per_s = run->options->rate_per_s / (all ? 1 : run->crowd_count);
    traffic_begin *begin = begin_of(run);
    if (all && crowd->index != 0)
        return TURN_NS_MAX;
    for (unsigned burst = 0; burst < BURST_MAX; burst++) {
        uint64_t due_ns =
            crowd->due_from_ns + (uint64_t)((double)crowd->due_count * 1e9 / rate_per_s);
        struct user *user = &crowd->users[all ? 0 : crowd->due_count % crowd->count];
        if (due_ns > crowd->now_ns)
            return due_ns - crowd->now_ns;
        if (!begin(run, crowd, user, due_ns))
            return 1000000;
        crowd->due_count++;
    }
    return 0;
}

/* What is in flight is known only as a sum. */
static uint64_t pump_all(struct run *run, struct crowd *crowd)
{
    struct totals totals = run_totals(run);
    uint64_t done = totals.received + totals.refused;
    uint64_t flying_max = run->options->window * run->options->users;
    if (run->options->burst && crowd->check.sent > done)
        return 100000;
    while (crowd->check.sent + run->options->users <= done + flying_max &&
           begin_push_all(run, crowd, &crowd->users[0], clock_ns()))
        ;
    return 100000;
}

/* In a closed loop the first window of everybody; arrivals begin all that follows. */
static void enter_traffic(struct run *run, struct crowd *crowd, enum phase phase)
{
    traffic_begin *begin = begin_of(run);
    crowd->running = phase == PHASE_TRAFFIC || phase == PHASE_MEASURE;
    if (phase != PHASE_TRAFFIC)
        return;
    crowd->due_from_ns = crowd->phase_ns;
    if (run->options->rate_per_s > 0 || run->options->scenario == BENCH_PUSH_ALL)
        return;
    for (uint64_t i = 0; i < run->options->window; i++)
        for (uint32_t k = 0; k < crowd->count; k++)
            begin(run, crowd, &crowd->users[k], crowd->now_ns);
}

/* The message that `user` had in flight is done: the next one, in a closed loop. */
static void follow(struct crowd *crowd, struct user *user)
{
    struct run *run = crowd->context;
    if (!crowd->running || run->options->rate_per_s > 0 || run->options->scenario == BENCH_PUSH_ALL)
        return;
    if (crowd->now_ns < user->hold_ns) {
        user->held++;
        crowd->held++;
    } else {
        begin_of(run)(run, crowd, user, crowd->now_ns);
    }
}

/* The broker has refused a message of the user. */
static void refuse(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    bool rate = frame->number[ERROR_CODE] == USHER_ERROR_RATE_LIMITED;
    uint64_t wait_ms = frame->number[REFUSAL_RETRY_AFTER_MS];
    if (rate && wait_ms < RATE_HOLD_MS)
        wait_ms = RATE_HOLD_MS;
    if (wait_ms > WAIT_MS_MAX)
        wait_ms = WAIT_MS_MAX;
    crowd->check.refused++;
    crowd_note(crowd->refused_by, usher_error_name((int64_t)frame->number[ERROR_CODE]), frame);
    if (wait_ms > 0)
        user->hold_ns = crowd->now_ns + wait_ms * UINT64_C(1000000);
    follow(crowd, user);
}

/* What was put off and is due now. */
static uint64_t pump_held(struct crowd *crowd)
{
    if (crowd->held == 0)
        return TURN_NS_MAX;
    if (crowd->now_ns - crowd->held_ns < HELD_LOOK_NS)
        return HELD_LOOK_NS;
    crowd->held_ns = crowd->now_ns;
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct user *user = &crowd->users[i];
        if (user->held == 0 || crowd->now_ns < user->hold_ns)
            continue;
        uint32_t held = user->held;
        user->held = 0;
        crowd->held -= held;
        while (held-- > 0)
            follow(crowd, user);
    }
    return HELD_LOOK_NS;
}

static uint64_t pump_traffic(struct run *run, struct crowd *crowd)
{
    bool all = run->options->scenario == BENCH_PUSH_ALL;
    crowd->now_ns = clock_ns();
    if (crowd->running && run->options->rate_per_s > 0)
        return pump_rate(run, crowd);
    if (crowd->running && all && crowd->index == 0)
        return pump_all(run, crowd);
    return pump_held(crowd);
}

static void record(struct crowd *crowd, const struct stamp *stamp)
{
    if (crowd->recording)
        histogram_add(&crowd->latency,
                      crowd->now_ns > stamp->due_ns ? crowd->now_ns - stamp->due_ns : 0);
}

/* --- arrivals --------------------------------------------------------------------------------- */

/* What was due before this crowd was born is of a run before it, in an inbox: passed over. */
static void on_message(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    enum bench_scenario scenario = crowd->options->scenario;
    struct user *sender = scenario == BENCH_FORWARD ? before(crowd, user) : user;
    uint32_t number = scenario == BENCH_PUSH_ALL ? 0 : sender->number;
    bool again = frame->number[MESSAGE_REDELIVERED] != 0;
    struct stamp stamp;
    if (!stamp_read(frame->run[MESSAGE_PAYLOAD], pattern_of(crowd), &stamp) ||
        stamp.sender != number) {
        crowd->check.strange++;
        return;
    }
    if (stamp.due_ns < crowd->born_ns)
        return;
    check_receive(&crowd->check, &user->lane, stamp.seq, again);
    record(crowd, &stamp);
    follow(crowd, sender);
}

/* A refusal answers a call, too. */
static void on_reply(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    uint32_t seq = (uint32_t)(frame->id - 1);
    uint64_t bit = UINT64_C(1) << seq % CALLS_MAX;
    struct stamp stamp;
    if ((user->unanswered & bit) == 0) {
        crowd->check.doubled++; /* or never asked */
        return;
    }
    user->unanswered &= ~bit;
    if (frame->body == BROKER_ERROR) {
        refuse(crowd, user, frame);
        return;
    }
    if (!stamp_read(frame->run[REPLY_PAYLOAD], pattern_of(crowd), &stamp) ||
        stamp.sender != user->number || stamp.seq != seq) {
        crowd->check.strange++;
    } else {
        crowd->check.received++;
        record(crowd, &stamp);
    }
    follow(crowd, user);
}

static void on_answer(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    if (crowd->options->scenario == BENCH_CALL)
        on_reply(crowd, user, frame);
    else if (frame->body == BROKER_ERROR)
        refuse(crowd, user, frame);
}

static void on_welcome(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
}

/* --- the run ---------------------------------------------------------------------------------- */

static bool all_arrived(struct run *run)
{
    struct totals totals = run_totals(run);
    return totals.received + totals.refused >= totals.sent;
}

/* Nobody stops the drain: what was begun is waited for, or told as lost. */
static int conduct_traffic(struct run *run)
{
    int error = run_login(run);
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
        error = run_enter(run, PHASE_DRAIN, "draining");
    if (error == 0)
        error = run_until(run, all_arrived);
    /* What never comes is told as lost. */
    if (error == -ETIMEDOUT)
        run->error[0] = '\0';
    return error == -ETIMEDOUT ? 0 : error;
}

static void tell_traffic(struct run *run, struct report *report)
{
    uint64_t count =
        run->borders[BORDER_TO].totals.received - run->borders[BORDER_FROM].totals.received;
    run_tell_costs(run, report, BORDER_FROM, BORDER_TO, "messages_per_s", (double)count);
    report_latency(report, &run->latency);
    run_tell_check(run, report);
    if (run->options->scenario == BENCH_CALL)
        report_add(report, "calls_disordered", (double)run->seen.calls.disordered, 0);
}

#define TRAFFIC(link)                                                                           \
    {                                                                                           \
        .events = {.on_welcome = on_welcome, .on_message = on_message, .on_answer = on_answer}, \
        .has_link = (link), .enter = enter_traffic, .pump = pump_traffic,                       \
        .conduct = conduct_traffic, .tell = tell_traffic,                                       \
    }

const struct scenario scenario_forward = TRAFFIC(false);
const struct scenario scenario_call = TRAFFIC(true);
const struct scenario scenario_push = TRAFFIC(true);
const struct scenario scenario_push_all = TRAFFIC(true);
