/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/client_frame.h"
#include "usher-bench/company.h"

/* Friends: users log in from nothing, each watches others, and all of them come to know that all
 * are there. Then every connection breaks and everybody resumes: each is told of his friends anew,
 * once, and nothing beyond, for within the resume window nobody was gone.
 *
 * Whom a user watches is spread evenly over all: those who log in at the same time as he would be
 * told to him in one frame, and that is not how friends log in. */

enum {
    BORDER_EMPTY = 0,
    BORDER_KNOWN = 1,
    BORDER_HERD = 2,
    BORDER_BACK = 3,
    WATCH_ID = 2,
    WATCH_ADD = 1, /* the field */
    STATE_ONLINE = 1,
};

struct friends {
    uint32_t words;   /* of a user in `known` */
    uint32_t *told;   /* by user: states since his last Welcome */
    uint64_t known[]; /* a bit for each that he watches: he was told that the other is there */
};

static uint64_t stride_of(const struct bench_options *options)
{
    return options->users / (options->watch + 1);
}

static int friends_open(struct run *run, struct crowd *crowd)
{
    size_t words = run->options->watch / 64 + 1;
    size_t known_bytes = crowd->count * words * sizeof(uint64_t);
    struct friends *friends =
        calloc(1, sizeof(*friends) + known_bytes + crowd->count * sizeof(*friends->told));
    if (friends == NULL)
        return -ENOMEM;
    friends->words = (uint32_t)words;
    friends->told = (uint32_t *)(void *)(friends->known + crowd->count * words);
    crowd->own = friends;
    return 0;
}

/* The number of the one whom the user watches under that index. */
static uint64_t friend_of(const struct crowd *crowd, const struct user *user, uint64_t index)
{
    return (user->number + (index + 1) * stride_of(crowd->options)) % crowd->options->users;
}

static int add_friends(struct crowd *crowd, struct user *user, struct buffer *run)
{
    const struct bench_options *options = crowd->options;
    int error = 0;
    for (uint64_t i = 0; i < options->watch && error == 0; i++) {
        char name[USER_NAME_BYTES_MAX];
        snprintf(name, sizeof(name), "%s%llu", options->prefix,
                 (unsigned long long)friend_of(crowd, user, i));
        error = client_list_add_text(run, WATCH_ADD, bytes_of_text(name));
    }
    return error;
}

/* The list is made once: a resumed session has it still. */
static void watch(struct crowd *crowd, struct user *user)
{
    struct buffer run = {0};
    struct client_frame frame = {.id = WATCH_ID, .body = CLIENT_WATCH};
    if (crowd->options->watch == 0)
        return;
    int error = add_friends(crowd, user, &run);
    frame.watch.add.run = (struct bytes){run.data, run.size};
    frame.watch.add.number = WATCH_ADD;
    if (error != 0 || client_frame_write(&user->out, &frame, CROWD_READ_BYTES) != 0)
        crowd_fail(crowd, "no memory");
    buffer_fini(&run);
    crowd_touch(crowd, user);
}

static void on_welcome(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    struct friends *friends = crowd->own;
    uint64_t from_ns = crowd->phase == PHASE_HERD ? crowd->phase_ns : user->due_ns;
    friends->told[user - crowd->users] = 0;
    if (crowd->phase == PHASE_HERD)
        return;
    histogram_add(&crowd->latency, crowd->now_ns > from_ns ? crowd->now_ns - from_ns : 0);
    crowd->company.last_online_ns = crowd->now_ns;
    watch(crowd, user);
}

static void on_answer(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    char words[CROWD_REASON_BYTES_MAX] = "";
    if (frame->body != BROKER_ERROR)
        return;
    crowd_note(words, usher_error_name((int64_t)frame->number[ERROR_CODE]), frame);
    crowd_fail(crowd, "%s may not watch: %.120s (see friends.mode)", user->name, words);
}

static void on_message(struct crowd *crowd, struct user *user, const struct broker_frame *frame)
{
    crowd->check.strange++;
}

/* --- states ----------------------------------------------------------------------------------- */

/* Under which index the user watches the one of that name; false: under none. */
static bool index_of(const struct crowd *crowd, const struct user *user, struct bytes name,
                     uint64_t *index)
{
    const struct bench_options *options = crowd->options;
    size_t prefix = strlen(options->prefix);
    uint64_t number = 0;
    if (name.size <= prefix || name.size > prefix + 9 ||
        memcmp(name.data, options->prefix, prefix) != 0)
        return false;
    for (size_t i = prefix; i < name.size; i++)
        number = number * 10 + (uint64_t)(name.data[i] - '0');
    uint64_t ahead = (number + options->users - user->number) % options->users;
    *index = ahead / stride_of(options) - 1;
    return number < options->users && ahead % stride_of(options) == 0 && ahead != 0 &&
           *index < options->watch;
}

static void take_state(struct crowd *crowd, struct user *user, struct bytes item)
{
    struct friends *friends = crowd->own;
    struct company_fields fields = {0};
    struct bytes none;
    uint64_t index;
    if (company_next(&item, 0, &fields, &none) != 0 ||
        !index_of(crowd, user, fields.run[FRIEND_USER], &index)) {
        crowd->check.strange++;
        return;
    }
    uint64_t *word = &friends->known[(size_t)(user - crowd->users) * friends->words + index / 64];
    uint64_t bit = UINT64_C(1) << index % 64;
    bool is_there = fields.number[FRIEND_STATE] == STATE_ONLINE;
    crowd->check.received++;
    if (!is_there && ((*word & bit) != 0 || crowd->phase == PHASE_HERD))
        crowd->company.flaps++;
    if (is_there == ((*word & bit) != 0))
        return;
    crowd->reached += is_there ? 1 : UINT64_MAX;
    *word ^= bit;
}

static bool on_company(struct crowd *crowd, struct user *user, struct bytes bytes)
{
    struct friends *friends = crowd->own;
    struct company_frame frame;
    struct company_fields fields = {0};
    struct bytes item;
    int found;
    if (company_frame_read(bytes, &frame) <= 0)
        return false;
    if (frame.body != COMPANY_FRIENDS || crowd->leaving)
        return true;
    uint32_t *told = &friends->told[user - crowd->users];
    if (crowd->phase == PHASE_HERD && *told >= crowd->options->watch)
        crowd->company.beyond++;
    crowd->company.frames++;
    crowd->company.herd_frames += crowd->phase == PHASE_HERD;
    crowd->company.bytes += bytes.size;
    while ((found = company_next(&frame.bytes, FRIENDS_ITEM, &fields, &item)) > 0) {
        take_state(crowd, user, item);
        ++*told;
    }
    if (found < 0)
        crowd->check.strange++;
    return true;
}

/* --- the run ---------------------------------------------------------------------------------- */

/* All connections break, and all that was known is to be told again. */
static void enter_friends(struct run *run, struct crowd *crowd, enum phase phase)
{
    struct friends *friends = crowd->own;
    if (phase != PHASE_HERD)
        return;
    for (uint32_t i = 0; i < crowd->count; i++)
        crowd_drop(crowd, &crowd->users[i]);
    memset(friends->known, 0, crowd->count * friends->words * sizeof(uint64_t));
    crowd->reached = 0;
}

static bool all_known(struct run *run)
{
    return run_all_online(run) &&
           run_totals(run).reached == run->options->users * run->options->watch;
}

static int conduct_friends(struct run *run)
{
    run_border(run, BORDER_EMPTY);
    int error = run_login(run);
    if (error == 0)
        error = run_until(run, all_known);
    run_border(run, BORDER_KNOWN);
    run->label = "known";
    if (error == 0)
        error = run_for(run, run->options->settle_s);
    run_border(run, BORDER_HERD);
    if (error == 0)
        error = run_enter(run, PHASE_HERD, "returning");
    if (error == 0)
        error = run_until(run, all_known);
    if (error == 0)
        error = run_for(run, run->options->settle_s);
    run_border(run, BORDER_BACK);
    return error;
}

static double seconds_since(const struct run *run, uint64_t at_ns)
{
    uint64_t from_ns = run->borders[BORDER_EMPTY].now_ns;
    return at_ns > from_ns ? (double)(at_ns - from_ns) / 1e9 : 0;
}

static double broker_cpu_s(const struct run *run, unsigned from, unsigned to)
{
    return run->borders[to].broker.cpu_s - run->borders[from].broker.cpu_s;
}

static void tell_friends(struct run *run, struct report *report)
{
    const struct border *borders = run->borders;
    report_add(report, "watch", (double)run->options->watch, 0);
    run_tell_costs(run, report, BORDER_EMPTY, BORDER_KNOWN, "logins_per_s",
                   (double)run->options->users);
    report_latency(report, &run->latency);
    report_add(report, "last_login_s", seconds_since(run, run->company.last_online_ns), 3);
    report_add(report, "all_known_s",
               (double)(borders[BORDER_KNOWN].now_ns - borders[BORDER_EMPTY].now_ns) / 1e9, 3);
    report_add(report, "states", (double)borders[BORDER_HERD].totals.received, 0);
    report_add(report, "frames", (double)(run->company.frames - run->company.herd_frames), 0);
    report_add(report, "frame_bytes", (double)run->company.bytes, 0);
    if (run->options->pid != 0) {
        report_add(report, "broker_cpu_s", broker_cpu_s(run, BORDER_EMPTY, BORDER_KNOWN), 3);
        report_add(report, "herd_cpu_s", broker_cpu_s(run, BORDER_HERD, BORDER_BACK), 3);
        report_add(report, "broker_grown_bytes",
                   (double)borders[BORDER_HERD].broker.resident_bytes -
                       (double)borders[BORDER_EMPTY].broker.resident_bytes,
                   0);
    }
    report_add(
        report, "herd_states",
        (double)(borders[BORDER_BACK].totals.received - borders[BORDER_HERD].totals.received), 0);
    report_add(report, "herd_frames", (double)run->company.herd_frames, 0);
    report_add(report, "herd_beyond", (double)run->company.beyond, 0);
    report_add(report, "flaps", (double)run->company.flaps, 0);
    report_add(report, "rejected", (double)run->rejected, 0);
    report_add(report, "strange", (double)run->check.strange, 0);
}

const struct scenario scenario_friends = {
    .events =
        {
            .on_welcome = on_welcome,
            .on_message = on_message,
            .on_answer = on_answer,
            .on_company = on_company,
        },
    .open = friends_open,
    .enter = enter_friends,
    .conduct = conduct_friends,
    .tell = tell_friends,
};
