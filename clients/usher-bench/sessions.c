/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/run.h"

#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "proto/client_frame.h"

/* Sessions, by the thousand: login, presence, idle and herd.
 *
 * Here the logins are what is measured. A user's latency counts from the time at which he begins to
 * connect (in an open loop: ought to begin), so the wait in the listener's queue is part of it. In
 * herd it counts for everybody from the moment at which all connections broke.
 *
 * herd proves that sessions came back whole. With acks each user gets one message before the loss
 * and does not acknowledge it, so it must come again. In any case a message goes round afterwards.
 */

enum {
    TURN_NS_MAX = 20000000,
    ROUND_BURST = 256, /* first messages of a round that are begun per turn */
    BORDER_EMPTY = 0,
    BORDER_ONLINE = 1,
    BORDER_SETTLED = 2,
    BORDER_IDLE = 3,
    BORDER_AFTER = 4,
    REPLAY_PARTIAL = 2,
};

static void record_since(struct crowd *crowd, uint64_t from_ns)
{
    histogram_add(&crowd->latency, crowd->now_ns > from_ns ? crowd->now_ns - from_ns : 0);
}

/* --- one message to the next user, as often as credit allows ---------------------------------- */

static void send_next(struct crowd *crowd, struct user *user)
{
    uint32_t place = (uint32_t)(user - crowd->users);
    struct user *to = &crowd->users[(place + 1) % crowd->count];
    uint8_t payload[STAMPED_BYTES_MAX];
    struct stamp stamp = {crowd->now_ns, user->number, user->sent};
    const struct client_frame frame = {
        .body = CLIENT_SEND,
        .send = {.to = bytes_of_text(to->name), .payload = {payload, crowd->options->size_bytes}},
    };
    if (user->credit == 0)
        return;
    user->credit--;
    memcpy(payload, crowd->pattern, crowd->options->size_bytes);
    stamp_write(payload, &stamp);
    if (client_frame_write(&user->out, &frame, CROWD_READ_BYTES) != 0) {
        crowd_fail(crowd, "no memory");
        return;
    }
    user->sent++;
    crowd->check.sent++;
    crowd_touch(crowd, user);
}

static void on_message(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    uint32_t place = (uint32_t)(user - crowd->users);
    struct user *sender = &crowd->users[(place + crowd->count - 1) % crowd->count];
    struct bytes pattern = {crowd->pattern, crowd->options->size_bytes};
    struct stamp stamp;
    if (!stamp_read(frame->run[MESSAGE_PAYLOAD], pattern, &stamp) ||
        stamp.sender != sender->number) {
        crowd->check.strange++;
        return;
    }
    if (stamp.due_ns < crowd->born_ns)
        return;
    check_receive(&crowd->check, &user->lane, stamp.seq, frame->number[MESSAGE_REDELIVERED] != 0);
    send_next(crowd, sender);
}

static void on_answer(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    if (frame->body != BROKER_ERROR)
        return;
    crowd->check.refused++;
    crowd_note(crowd->refused_by, usher_error_name((int64_t)frame->number[ERROR_CODE]), frame);
}

/* A few at a time: all first messages at once would be a flood that nobody wants measured. */
static uint64_t pump_round(struct run *run, struct crowd *crowd)
{
    unsigned burst = 0;
    if (crowd->phase != PHASE_ROUND)
        return TURN_NS_MAX;
    while (crowd->due_count < crowd->count && burst++ < ROUND_BURST)
        send_next(crowd, &crowd->users[crowd->due_count++]);
    return crowd->due_count < crowd->count ? 0 : TURN_NS_MAX;
}

static void enter_round(struct crowd *crowd, uint32_t credit)
{
    crowd->due_count = 0;
    for (uint32_t i = 0; i < crowd->count; i++)
        crowd->users[i].credit = credit;
}

/* Every message of all rounds so far is there. */
static bool round_done(struct run *run)
{
    struct totals totals = run_totals(run);
    return totals.sent == run->expected && totals.received >= totals.sent;
}

/* Each user sends so many messages, and all must arrive. */
static int go_round(struct run *run, const char *label, uint64_t messages)
{
    run->expected += messages * run->options->users;
    int error = run_enter(run, PHASE_ROUND, label);
    return error != 0 ? error : run_until(run, round_done);
}

/* --- login ------------------------------------------------------------------------------------ */

static void welcome_timed(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    record_since(crowd, user->due_ns);
}

static int conduct_login(struct run *run)
{
    run_border(run, BORDER_EMPTY);
    int error = run_login(run);
    run_border(run, BORDER_ONLINE);
    return error;
}

static void tell_logins(struct run *run, struct report *report)
{
    run_tell_costs(run, report, BORDER_EMPTY, BORDER_ONLINE, "logins_per_s",
                   (double)run->borders[BORDER_ONLINE].totals.online);
    report_latency(report, &run->latency);
    report_add(report, "retries", (double)run->borders[BORDER_ONLINE].totals.retries, 0);
}

static void tell_login(struct run *run, struct report *report)
{
    tell_logins(run, report);
    run_tell_check(run, report);
}

/* --- presence --------------------------------------------------------------------------------- */

/* A follower's latency counts from here, at the very moment, or in an open loop when it was due. */
static void login_begins(struct crowd *crowd, struct user *user)
{
    struct run *run = crowd->context;
    crowd->now_ns = clock_ns();
    service_user_begins(run->service, user->number,
                        run->options->rate_per_s > 0 ? user->due_ns : crowd->now_ns);
}

static bool all_seen_online(struct run *run)
{
    return service_online_events(run->service) >= run->options->users;
}

static bool all_seen_offline(struct run *run)
{
    return service_offline_events(run->service) >= run->options->users;
}

static int conduct_presence(struct run *run)
{
    run_border(run, BORDER_EMPTY);
    int error = run_login(run);
    if (error == 0)
        error = run_until(run, all_seen_online);
    run_border(run, BORDER_ONLINE);
    if (error == 0)
        error = run_logout(run);
    return error == 0 ? run_until(run, all_seen_offline) : error;
}

static void tell_presence(struct run *run, struct report *report)
{
    run_tell_costs(run, report, BORDER_EMPTY, BORDER_ONLINE, "logins_per_s",
                   (double)run->options->users);
    report_latency(report, &run->seen.online);
    report_add(report, "offline_p50_us", (double)histogram_quantile(&run->seen.offline, 0.5) / 1e3,
               1);
    report_add(report, "offline_p99_us", (double)histogram_quantile(&run->seen.offline, 0.99) / 1e3,
               1);
    report_add(report, "events_online", (double)run->seen.online.total, 0);
    report_add(report, "events_offline", (double)run->seen.offline.total, 0);
    report_add(report, "events_disordered", (double)run->seen.events_disordered, 0);
}

/* --- idle ------------------------------------------------------------------------------------- */

static void enter_idle(struct run *run, struct crowd *crowd, enum phase phase)
{
    if (phase == PHASE_ROUND)
        enter_round(crowd, (uint32_t)run->options->after);
}

/* Memory is read before the traffic and after it: what a message leaves behind is told apart. */
static int conduct_idle(struct run *run)
{
    int error = conduct_login(run);
    run->label = "idle";
    if (error == 0)
        error = run_for(run, run->options->settle_s);
    run_border(run, BORDER_SETTLED);
    if (error == 0)
        error = run_for(run, run->options->seconds);
    run_border(run, BORDER_IDLE);
    if (error == 0 && run->options->after > 0)
        error = go_round(run, "traffic", run->options->after);
    if (error == 0 && run->options->after > 0)
        error = run_for(run, run->options->settle_s);
    run_border(run, BORDER_AFTER);
    return error;
}

/* What a user adds to the empty broker. */
static double resident_each(const struct run *run, unsigned border)
{
    const struct process_sample *now = &run->borders[border].broker;
    const struct process_sample *empty = &run->borders[BORDER_EMPTY].broker;
    return ((double)now->resident_bytes - (double)empty->resident_bytes) /
           (double)run->options->users;
}

static void tell_idle(struct run *run, struct report *report)
{
    const struct border *settled = &run->borders[BORDER_SETTLED];
    const struct border *idle = &run->borders[BORDER_IDLE];
    double cpu_s = idle->broker.cpu_s - settled->broker.cpu_s;
    tell_logins(run, report);
    if (run->options->pid != 0) {
        report_add(report, "broker_empty_bytes",
                   (double)run->borders[BORDER_EMPTY].broker.resident_bytes, 0);
        report_add(report, "broker_idle_bytes_each", resident_each(run, BORDER_SETTLED), 0);
        if (run->options->after > 0)
            report_add(report, "broker_after_bytes_each", resident_each(run, BORDER_AFTER), 0);
        report_add(report, "broker_idle_cpu_percent",
                   cpu_s * 1e11 / (double)(idle->now_ns - settled->now_ns), 2);
    }
    run_tell_check(run, report);
}

/* --- herd ------------------------------------------------------------------------------------- */

/* The first welcome is not the herd's. */
static void welcome_back(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    if (crowd->phase != PHASE_HERD)
        return;
    record_since(crowd, crowd->phase_ns);
    if (frame->number[WELCOME_REPLAY] == REPLAY_PARTIAL)
        crowd->partial++;
}

/* With acks nobody acknowledges the message of the first round, so that all of them come again. */
static void enter_herd(struct run *run, struct crowd *crowd, enum phase phase)
{
    crowd->hold_acks = phase == PHASE_ROUND && run->rounds == 1;
    if (phase == PHASE_ROUND)
        enter_round(crowd, 1);
    if (phase != PHASE_HERD)
        return;
    for (uint32_t i = 0; i < crowd->count; i++) {
        struct user *user = &crowd->users[i];
        crowd_drop(crowd, user);
        user->seq = crowd->options->acks ? 0 : user->seq;
    }
}

/* All are online and, with acks, each has got the message that he had not acknowledged. */
static bool herd_is_back(struct run *run)
{
    uint64_t users = run->options->users;
    return run_all_online(run) && run_totals(run).repeated >= (run->options->acks ? users : 0);
}

static int conduct_herd(struct run *run)
{
    int error = conduct_login(run);
    if (error == 0 && run->options->acks) {
        run->rounds = 1;
        error = go_round(run, "before", 1);
    }
    run->rounds = 2;
    run_border(run, BORDER_SETTLED);
    if (error == 0)
        error = run_enter(run, PHASE_HERD, "returning");
    if (error == 0)
        error = run_until(run, herd_is_back);
    run_border(run, BORDER_IDLE);
    return error == 0 ? go_round(run, "after", 1) : error;
}

static void tell_herd(struct run *run, struct report *report)
{
    double back = (double)run->latency.total;
    run_tell_costs(run, report, BORDER_SETTLED, BORDER_IDLE, "resumes_per_s", back);
    report_latency(report, &run->latency);
    /* How often on the way back: the first logins are not what is measured. */
    run->put_off =
        run->borders[BORDER_IDLE].totals.retries - run->borders[BORDER_SETTLED].totals.retries;
    report_add(report, "retries", (double)run->put_off, 0);
    report_add(report, "partial", (double)run->partial, 0);
    report_add(report, "rejected", (double)run->rejected, 0);
    run_tell_check(run, report);
}

const struct scenario scenario_login = {
    .events = {.on_welcome = welcome_timed, .on_message = on_message, .on_answer = on_answer},
    .conduct = conduct_login,
    .tell = tell_login,
};

const struct scenario scenario_presence = {
    .events = {.on_welcome = welcome_timed,
               .on_message = on_message,
               .on_answer = on_answer,
               .on_login = login_begins},
    .has_presence = true,
    .conduct = conduct_presence,
    .tell = tell_presence,
};

const struct scenario scenario_idle = {
    .events = {.on_welcome = welcome_timed, .on_message = on_message, .on_answer = on_answer},
    .enter = enter_idle,
    .pump = pump_round,
    .conduct = conduct_idle,
    .tell = tell_idle,
};

const struct scenario scenario_herd = {
    .events = {.on_welcome = welcome_back, .on_message = on_message, .on_answer = on_answer},
    .enter = enter_herd,
    .pump = pump_round,
    .conduct = conduct_herd,
    .tell = tell_herd,
};
