/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/run.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/clock.h"
#include "libusher/dial.h"
#include "proto/client_frame.h"
#include "usher-bench/stop.h"

/* A crowd and all that belongs to it is its thread's. The conductor steers by one number, the
 * phase, and watches by numbers that the crowds show after each turn; both may be a turn old, which
 * is why a border is read by the conductor alone: clock, counts and CPU time belong together to a
 * few microseconds. After the threads have ended everything is his. */

enum {
    TURN_NS_MAX = 20000000,
    LOOK_MS = 2,
    DRAW_MS = 500,
    SPARE_FILES = 64,
    CONNECT_TIMEOUT_MS = 5000,
    LOGOUT_BURST = 32, /* per turn, a millisecond apart */
};

/* --- a crowd's thread ------------------------------------------------------------------------- */

static uint64_t next_due_ns(const struct crowd *crowd, double rate_per_s, uint64_t count)
{
    return crowd->phase_ns + (uint64_t)((double)count * 1e9 / rate_per_s);
}

static bool joins_at_a_rate(const struct run *run)
{
    return run->options->rate_per_s > 0 &&
           (run->options->scenario == BENCH_LOGIN || run->options->scenario == BENCH_PRESENCE);
}

/* Begins logins: as many as may be in progress, or as are due. */
static uint64_t pump_logins(struct run *run, struct crowd *crowd)
{
    uint64_t joining_max = run->options->joining_max / run->crowd_count + 1;
    bool at_a_rate = joins_at_a_rate(run);
    double rate_per_s = run->options->rate_per_s / run->crowd_count;
    uint64_t now_ns = clock_ns();
    while (crowd->join_next < crowd->count && crowd->error[0] == '\0') {
        uint64_t due_ns = at_a_rate ? next_due_ns(crowd, rate_per_s, crowd->join_next) : now_ns;
        if (due_ns > now_ns)
            return due_ns - now_ns;
        if (!at_a_rate && crowd->joining + crowd->waiting >= joining_max)
            break;
        struct user *user = &crowd->users[crowd->join_next++];
        if (user->state == USER_AWAY)
            crowd_join(crowd, user, due_ns);
    }
    return TURN_NS_MAX;
}

/* Sessions that stayed would cost the broker memory for a resume window. */
static uint64_t pump_logouts(struct run *run, struct crowd *crowd)
{
    crowd->now_ns = clock_ns();
    for (unsigned i = 0; i < LOGOUT_BURST && crowd->join_next < crowd->count; i++) {
        struct user *user = &crowd->users[crowd->join_next++];
        if (run->scenario->has_presence)
            service_user_begins(run->service, user->number, crowd->now_ns);
        const struct client_frame logout = {.body = CLIENT_LOGOUT};
        if (client_frame_write(&user->out, &logout, CROWD_READ_BYTES) != 0)
            crowd_fail(crowd, "no memory");
        crowd_touch(crowd, user);
    }
    return crowd->join_next < crowd->count ? 1000000 : TURN_NS_MAX;
}

static void enter(struct run *run, struct crowd *crowd, enum phase phase)
{
    crowd->phase = phase;
    crowd->now_ns = crowd->phase_ns = clock_ns();
    crowd->leaving = phase == PHASE_LOGOUT;
    crowd->recording = phase == PHASE_MEASURE;
    crowd->join_next = 0;
    if (run->scenario->enter != NULL)
        run->scenario->enter(run, crowd, phase);
    crowd_show(crowd);
    atomic_store_explicit(&crowd->shown.phase, phase, memory_order_release);
}

/* One turn after the other: begins what is due, then looks at the network until the next is. */
static void *crowd_thread(void *argument)
{
    struct crowd *crowd = argument;
    struct run *run = crowd->context;
    int phase;
    prctl(PR_SET_TIMERSLACK, 1000);
    while ((phase = atomic_load_explicit(&run->phase, memory_order_acquire)) != PHASE_END) {
        uint64_t wait_ns = TURN_NS_MAX;
        if (phase != crowd->phase)
            enter(run, crowd, (enum phase)phase);
        if (phase == PHASE_LOGIN || phase == PHASE_HERD)
            wait_ns = pump_logins(run, crowd);
        if (phase == PHASE_LOGOUT)
            wait_ns = pump_logouts(run, crowd);
        if (run->scenario->pump != NULL) {
            uint64_t other_ns = run->scenario->pump(run, crowd);
            wait_ns = other_ns < wait_ns ? other_ns : wait_ns;
        }
        if (crowd->waiting > 0 && wait_ns > 1000000)
            wait_ns = 1000000;
        crowd_turn(crowd, wait_ns);
    }
    return NULL;
}

/* --- the conductor ---------------------------------------------------------------------------- */

struct totals run_totals(struct run *run)
{
    struct totals totals = {0};
    for (unsigned i = 0; i < run->crowd_count; i++) {
        struct crowd_shown *shown = &run->crowds[i].shown;
        totals.sent += atomic_load_explicit(&shown->sent, memory_order_relaxed);
        totals.received += atomic_load_explicit(&shown->received, memory_order_relaxed);
        totals.refused += atomic_load_explicit(&shown->refused, memory_order_relaxed);
        totals.repeated += atomic_load_explicit(&shown->repeated, memory_order_relaxed);
        totals.missed += atomic_load_explicit(&shown->missed, memory_order_relaxed);
        totals.reached += atomic_load_explicit(&shown->reached, memory_order_relaxed);
        totals.online += atomic_load_explicit(&shown->online, memory_order_relaxed);
        totals.left += atomic_load_explicit(&shown->left, memory_order_relaxed);
        totals.retries += atomic_load_explicit(&shown->retries, memory_order_relaxed);
    }
    if (run->service != NULL)
        totals.refused += service_refused(run->service);
    return totals;
}

static uint64_t movement(struct run *run, const struct totals *totals)
{
    uint64_t sum = totals->sent + totals->received + totals->refused + totals->repeated +
                   totals->missed + totals->reached + totals->online +
                   totals->left; /* to be put off again is no movement */
    if (run->service != NULL)
        sum += service_online_events(run->service) + service_offline_events(run->service);
    return sum;
}

/* Twice a second, on a terminal only. */
static void draw(struct run *run, const struct totals *totals)
{
    uint64_t now_ns = clock_ns();
    if (run->options->quiet || !isatty(STDERR_FILENO) ||
        now_ns - run->drawn_ns < (uint64_t)DRAW_MS * 1000000)
        return;
    double per_s =
        (double)(totals->received - run->drawn_count) * 1e9 / (double)(now_ns - run->drawn_ns);
    fprintf(stderr, "\r%-9s %8llu online %12llu received %10.0f/s %8llu refused \r", run->label,
            (unsigned long long)totals->online, (unsigned long long)totals->received,
            run->drawn_ns != 0 ? per_s : 0.0, (unsigned long long)totals->refused);
    run->drawn_ns = now_ns;
    run->drawn_count = totals->received;
}

/* One look: 0, or -EIO when a crowd has failed. */
static int look(struct run *run, struct totals *totals)
{
    clock_pause_ms(LOOK_MS);
    run->stopped = run->stopped || stop_wanted(run->stop);
    *totals = run_totals(run);
    draw(run, totals);
    for (unsigned i = 0; i < run->crowd_count; i++) {
        if (atomic_load_explicit(&run->crowds[i].shown.failed, memory_order_acquire)) {
            snprintf(run->error, sizeof(run->error), "%s", run->crowds[i].error);
            return -EIO;
        }
    }
    return 0;
}

/* What drains or leaves is waited for: that is what the signal asks for. */
static bool may_be_stopped(struct run *run)
{
    int phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    return phase == PHASE_LOGIN || phase == PHASE_HERD;
}

int run_until(struct run *run, bool (*done)(struct run *run))
{
    uint64_t moved_ns = clock_ns();
    uint64_t moved = 0;
    struct totals totals;
    for (;;) {
        bool is_done = done(run);
        int error = look(run, &totals);
        uint64_t now_ns = clock_ns();
        if (error != 0 || is_done)
            return error;
        if (run->stopped && may_be_stopped(run)) {
            snprintf(run->error, sizeof(run->error), "interrupted (%s)", run->label);
            return -EINTR;
        }
        if (movement(run, &totals) != moved)
            moved_ns = now_ns;
        moved = movement(run, &totals);
        if ((double)(now_ns - moved_ns) > run->options->patience_s * 1e9) {
            snprintf(run->error, sizeof(run->error), "nothing moves any more (%s)", run->label);
            return -ETIMEDOUT;
        }
    }
}

int run_for(struct run *run, double seconds)
{
    uint64_t end_ns = clock_ns() + (uint64_t)(seconds * 1e9);
    struct totals totals;
    int error = 0;
    do
        error = look(run, &totals);
    while (error == 0 && !run->stopped && clock_ns() < end_ns);
    return error;
}

static bool all_in_phase(struct run *run)
{
    int phase = atomic_load_explicit(&run->phase, memory_order_relaxed);
    for (unsigned i = 0; i < run->crowd_count; i++)
        if (atomic_load_explicit(&run->crowds[i].shown.phase, memory_order_acquire) != phase)
            return false;
    return true;
}

int run_enter(struct run *run, enum phase phase, const char *label)
{
    run->label = label;
    atomic_store_explicit(&run->phase, phase, memory_order_release);
    return run_until(run, all_in_phase);
}

void run_border(struct run *run, unsigned number)
{
    struct border *border = &run->borders[number];
    border->now_ns = clock_ns();
    border->totals = run_totals(run);
    process_sample(0, &border->self);
    if (run->options->pid != 0 && !process_sample(run->options->pid, &border->broker))
        snprintf(run->error, sizeof(run->error), "process %llu cannot be looked at",
                 (unsigned long long)run->options->pid);
}

bool run_all_online(struct run *run)
{
    return run_totals(run).online == run->options->users;
}

int run_login(struct run *run)
{
    int error = run_enter(run, PHASE_LOGIN, "logins");
    return error != 0 ? error : run_until(run, run_all_online);
}

static bool all_left(struct run *run)
{
    return run_totals(run).left == run->options->users;
}

int run_logout(struct run *run)
{
    int error = run_enter(run, PHASE_LOGOUT, "logouts");
    return error != 0 ? error : run_until(run, all_left);
}

/* --- figures ---------------------------------------------------------------------------------- */

void run_tell_costs(struct run *run, struct report *report, unsigned from, unsigned to,
                    const char *what, double count)
{
    const struct border *a = &run->borders[from];
    const struct border *b = &run->borders[to];
    double seconds = (double)(b->now_ns - a->now_ns) / 1e9;
    double self_s = b->self.cpu_s - a->self.cpu_s;
    double broker_s = b->broker.cpu_s - a->broker.cpu_s;
    double user_s = b->broker.user_s - a->broker.user_s;
    double system_s = b->broker.system_s - a->broker.system_s;
    report_add(report, what, count / seconds, 0);
    report_add(report, "measured_s", seconds, 3);
    report_add(report, "bench_cpu_percent", self_s * 100 / seconds, 1);
    if (run->options->pid == 0)
        return;
    report_add(report, "broker_cpu_percent", broker_s * 100 / seconds, 1);
    if (count > 0) {
        report_add(report, "broker_cpu_us_each", broker_s * 1e6 / count, 3);
        report_add(report, "broker_user_us_each", user_s * 1e6 / count, 3);
        report_add(report, "broker_system_us_each", system_s * 1e6 / count, 3);
    }
}

void run_tell_check(struct run *run, struct report *report)
{
    const struct check *check = &run->check;
    report_add(report, "sent", (double)check->sent, 0);
    report_add(report, "received", (double)check->received, 0);
    report_add(report, "refused", (double)check->refused, 0);
    report_add(report, "repeated", (double)check->repeated, 0);
    report_add(report, "lost", (double)check_lost(check), 0);
    report_add(report, "disordered", (double)check->disordered, 0);
    report_add(report, "doubled", (double)check->doubled, 0);
    report_add(report, "strange", (double)check->strange, 0);
}

static void tell_setting(const struct bench_options *options, struct report *report)
{
    report->scenario = bench_scenario_name(options->scenario);
    report_add(report, "users", (double)options->users, 0);
    report_add(report, "threads", (double)options->threads, 0);
    report_add(report, "window", (double)options->window, 0);
    report_add(report, "size_bytes", (double)options->size_bytes, 0);
    report_add(report, "rate_per_s", options->rate_per_s, 0);
    report_add(report, "acks", options->acks ? 1 : 0, 0);
}

/* --- beginning and end ------------------------------------------------------------------------ */

static int check_files(struct run *run)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (run->options->users + SPARE_FILES <= limit.rlim_cur)
        return 0;
    snprintf(run->error, sizeof(run->error), "%llu users need as many files; ulimit -n is %llu",
             (unsigned long long)run->options->users, (unsigned long long)limit.rlim_cur);
    return -EMFILE;
}

static const char *text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}

/* Waits until one of them stands. */
static int wait_for(struct dial *dial, int *fd)
{
    for (;;) {
        uint64_t now_ms = clock_ms();
        int result = dial_step(dial, now_ms, fd);
        if (result != 0)
            return result;
        uint64_t due_ms = dial_due_ms(dial);
        struct pollfd watched = {.fd = dial->epoll, .events = POLLIN};
        (void)poll(&watched, 1, due_ms > now_ms ? (int)(due_ms - now_ms) : 0);
    }
}

/* All users go to the address that a first connection finds somebody at. */
static int find_broker(struct run *run)
{
    struct addresses found;
    struct address_memory memory = {.count = 0};
    struct dial dial;
    int fd = -1;
    dial_init(&dial);
    int error = addresses_of_host(run->options->host, (uint16_t)run->options->port, &found);
    if (error == 0) {
        uint64_t now_ms = clock_ms();
        addresses_order(&found, &memory);
        dial_begin(&dial, &found, &memory, now_ms, now_ms + CONNECT_TIMEOUT_MS);
        error = wait_for(&dial, &fd);
        error = error < 0 ? error : 0;
    }
    if (error == 0)
        run->address = dial.attempts[dial.chosen].address;
    else
        snprintf(run->error, sizeof(run->error), "cannot connect to %.80s:%u: %s",
                 run->options->host, (unsigned)run->options->port, strerror(-error));
    dial_close(&dial);
    if (fd >= 0)
        close(fd);
    return error;
}

static int start_crowd(struct run *run, unsigned index)
{
    uint64_t users = run->options->users;
    uint32_t first = (uint32_t)(users * index / run->crowd_count);
    uint32_t next = (uint32_t)(users * (index + 1) / run->crowd_count);
    struct crowd *crowd = &run->crowds[index];
    crowd->options = run->options;
    crowd->address = &run->address;
    crowd->security = run->security;
    crowd->tokens = run->tokens;
    crowd->events = &run->scenario->events;
    crowd->context = run;
    crowd->index = index;
    int error = crowd_open(crowd, first, next - first);
    if (error == 0 && run->scenario->open != NULL)
        error = run->scenario->open(run, crowd);
    if (error == 0)
        error = -pthread_create(&run->threads[index], NULL, crowd_thread, crowd);
    if (error == 0)
        run->started++;
    else
        crowd_close(crowd);
    return error;
}

static int open_security(struct run *run)
{
    const struct bench_options *options = run->options;
    struct usher_options usher;
    char why[TLS_CLIENT_ERROR_BYTES] = "no memory";
    if (!options->tls)
        return 0;
    usher_options_init(&usher);
    usher.host = options->host;
    usher.tls_ca_file = text_or_empty(options->tls_ca);
    usher.tls_server_name = text_or_empty(options->tls_server_name);
    usher.tls_certificate_file = text_or_empty(options->tls_certificate);
    usher.tls_key_file = text_or_empty(options->tls_key);
    int error = tls_client_create(&run->security, &usher, why);
    if (error != 0)
        snprintf(run->error, sizeof(run->error), "%.150s", why);
    return error;
}

static int open_tokens(struct run *run)
{
    char why[TOKENS_ERROR_BYTES] = "";
    int error = tokens_open(&run->tokens, run->options, why);
    if (error != 0)
        snprintf(run->error, sizeof(run->error), "%s", why);
    return error;
}

/* Here, and not behind a run whose figures of the broker are zeros. */
static int look_at_process(struct run *run)
{
    struct process_sample sample;
    if (run->options->pid == 0 || process_sample(run->options->pid, &sample))
        return 0;
    snprintf(run->error, sizeof(run->error), "--pid %llu: there is no such process to look at",
             (unsigned long long)run->options->pid);
    return -ESRCH;
}

static int run_open(struct run *run)
{
    int error = check_files(run);
    if (error == 0)
        error = look_at_process(run);
    if (error == 0)
        error = open_security(run);
    if (error == 0)
        error = open_tokens(run);
    if (error == 0)
        error = find_broker(run);
    if (error == 0 && (run->scenario->has_link || run->scenario->has_presence))
        error = service_start(&run->service, run->options, run->scenario->has_presence, run->error);
    if (error != 0)
        return error;
    run->crowd_count = (unsigned)run->options->threads;
    run->crowds = calloc(run->crowd_count, sizeof(*run->crowds));
    run->threads = calloc(run->crowd_count, sizeof(*run->threads));
    if (run->crowds == NULL || run->threads == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < run->crowd_count && error == 0; i++)
        error = start_crowd(run, i);
    return error;
}

static void company_merge(struct company_counts *to, const struct company_counts *from)
{
    to->published += from->published;
    to->frames += from->frames;
    to->herd_frames += from->herd_frames;
    to->bytes += from->bytes;
    to->gaps += from->gaps;
    to->uneven += from->uneven;
    to->recovered += from->recovered;
    to->unrecovered += from->unrecovered;
    to->beyond += from->beyond;
    to->flaps += from->flaps;
    if (from->last_online_ns > to->last_online_ns)
        to->last_online_ns = from->last_online_ns;
}

/* Ends the threads; their sums are the run's afterwards. */
static void run_close(struct run *run)
{
    atomic_store_explicit(&run->phase, PHASE_END, memory_order_release);
    for (unsigned i = 0; i < run->started; i++) {
        struct crowd *crowd = &run->crowds[i];
        pthread_join(run->threads[i], NULL);
        check_merge(&run->check, &crowd->check);
        histogram_merge(&run->latency, &crowd->latency);
        company_merge(&run->company, &crowd->company);
        run->was_online |= crowd->was_online;
        run->partial += crowd->partial;
        run->rejected += crowd->rejected;
        run->put_off += crowd->retries;
        if (run->refused_by[0] == '\0')
            memcpy(run->refused_by, crowd->refused_by, sizeof(run->refused_by));
        if (run->put_off_by[0] == '\0')
            memcpy(run->put_off_by, crowd->put_off_by, sizeof(run->put_off_by));
        crowd_close(crowd);
    }
    if (run->service != NULL)
        run->check.refused += service_refused(run->service);
    service_stop(run->service, &run->seen);
    free(run->crowds);
    free(run->threads);
    tls_client_destroy(run->security);
    tokens_close(run->tokens);
    if (!run->options->quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "%78s\r", "");
}

/* The first of what is wrong, or NULL. */
static const char *verdict(struct run *run)
{
    const struct check *check = &run->check;
    if (run->error[0] != '\0')
        return run->error;
    if (check_lost(check) > 0 && run->options->post)
        return "messages were lost, or refused by a limit of the broker; without --post you see "
               "which";
    if (check_lost(check) > 0)
        return "messages were lost";
    if (run->company.gaps > 0)
        return "messages of a room were left out, and nobody said so";
    if (run->company.uneven > 0)
        return "members of a room have seen different messages";
    if (run->company.beyond > 0 || run->company.flaps > 0)
        return "friends who came back in time were shown as gone";
    if (check->disordered > 0 || run->seen.events_disordered > 0 || run->seen.calls.disordered > 0)
        return "messages or events came out of order";
    if (check->doubled > 0 || run->seen.calls.doubled > 0)
        return "something came twice";
    if (check->strange > 0 || run->seen.calls.strange > 0)
        return "something came that nobody sent";
    if (run->rejected > 0)
        return "sessions could not be resumed";
    return NULL;
}

/* Whether the logins are what is measured. */
static bool measures_logins(enum bench_scenario scenario)
{
    return scenario == BENCH_LOGIN || scenario == BENCH_PRESENCE || scenario == BENCH_HERD;
}

/* Whoever reads the figures must know that they are a limit's and not the broker's. */
static void take_note(const struct run *run, struct report *report)
{
    bool messages = run->check.refused > 0;
    const char *by = messages ? run->refused_by : run->put_off_by;
    uint64_t count = messages ? run->check.refused : run->put_off;
    if (count == 0 || by[0] == '\0' || (!messages && !measures_logins(run->options->scenario)))
        return;
    snprintf(report->note, sizeof(report->note),
             "%" PRIu64 " %s (%s): the figures show this limit, not the broker; "
             "docs/benchmarking.md says how to set it aside",
             count, messages ? "messages were refused" : "logins were put off", by);
}

/* Why nobody ever came in, as the broker said it; or "". */
static const char *why_put_off(const struct run *run)
{
    return !run->was_online ? run->put_off_by : "";
}

int run_scenario(const struct bench_options *options, const struct scenario *scenario,
                 struct report *report)
{
    struct run *run = calloc(1, sizeof(*run));
    report->scenario = bench_scenario_name(options->scenario);
    snprintf(report->error, sizeof(report->error), "no memory");
    if (run == NULL)
        return BENCH_FAILED;
    run->options = options;
    run->scenario = scenario;
    run->label = "";
    run->stop = stop_open();
    int error = run_open(run);
    bool began = error == 0;
    if (error == 0)
        error = scenario->conduct(run);
    if (error == 0 && !all_left(run))
        error = run_logout(run);
    if (error != 0 && run->error[0] == '\0')
        snprintf(run->error, sizeof(run->error), "%s", strerror(-error));
    run_close(run);
    bool was_online = run->was_online;
    if (began && was_online) {
        tell_setting(options, report);
        scenario->tell(run, report);
    }
    take_note(run, report);
    const char *reason = verdict(run);
    const char *halt = why_put_off(run);
    snprintf(report->error, sizeof(report->error), "%s%s%s", reason != NULL ? reason : "",
             reason != NULL && halt[0] != '\0' ? "; the broker said: " : "", halt);
    stop_close(run->stop);
    free(run);
    if (report->error[0] == '\0')
        return BENCH_OK;
    return was_online ? BENCH_FAILED : BENCH_NO_BROKER;
}
