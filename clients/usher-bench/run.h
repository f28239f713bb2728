/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_RUN_H
#define USHER_USHER_BENCH_RUN_H

/* One run: crowds in threads of their own, a service if the scenario has one, and a conductor (the
 * main thread) who takes everybody from phase to phase and reads the clocks at the borders. */

#include <pthread.h>

#include "usher-bench/crowd.h"
#include "usher-bench/options.h"
#include "usher-bench/process.h"
#include "usher-bench/report.h"
#include "usher-bench/service.h"

enum phase {
    PHASE_NONE,
    PHASE_LOGIN,   /* everybody who is away comes */
    PHASE_TRAFFIC, /* messages begin */
    PHASE_MEASURE, /* they count */
    PHASE_DRAIN,   /* no new ones */
    PHASE_ROUND,   /* each user begins a fixed number of messages */
    PHASE_HERD,    /* all connections break, all users come back */
    PHASE_LOGOUT,
    PHASE_END,
};

struct run;

struct scenario {
    struct crowd_events events;
    /* Makes crowd->own before the thread begins, with malloc and without pointers to more: 0 or a
     * negative errno. May be NULL. */
    int (*open)(struct run *run, struct crowd *crowd);
    bool has_link;
    bool has_presence;
    /* On the crowd's thread, when the phase begins; may be NULL. */
    void (*enter)(struct run *run, struct crowd *crowd, enum phase phase);
    /* Before each turn; gives the ns until it has something to do. May be NULL. */
    uint64_t (*pump)(struct run *run, struct crowd *crowd);
    /* On the main thread, after everybody is there to be told: 0 or a negative errno. */
    int (*conduct)(struct run *run);
    /* After the threads have ended. */
    void (*tell)(struct run *run, struct report *report);
};

struct totals {
    uint64_t sent, received, refused, repeated, missed, reached, online, left, retries;
};

/* What is read at the borders of what is measured. */
struct border {
    uint64_t now_ns;
    struct totals totals;
    struct process_sample broker, self;
};

enum { BORDERS = 6 };

struct run {
    /* set once */
    const struct bench_options *options;
    const struct scenario *scenario;
    struct address address; /* the broker's */
    struct tls_client *security;
    struct bench_tokens *tokens;
    struct crowd *crowds;
    pthread_t *threads;
    unsigned crowd_count;
    struct service *service;
    /* release by the conductor, acquire by the crowds */
    _Atomic int phase;
    /* the conductor's */
    unsigned started;
    struct border borders[BORDERS]; /* numbered by each scenario */
    uint64_t expected;              /* messages of all rounds so far */
    _Atomic unsigned rounds;        /* herd: which round it is */
    int stop;                       /* stop.h */
    bool stopped;                   /* by a signal: no more than what is begun */
    const char *label;              /* of the progress line */
    uint64_t drawn_ns;
    uint64_t drawn_count;
    char error[CROWD_ERROR_BYTES_MAX];
    /* after the threads have ended */
    struct check check;
    struct histogram latency;
    struct service_counts seen;
    uint64_t partial, rejected;
    struct company_counts company;
    bool was_online; /* somebody was, once */
    char refused_by[CROWD_REASON_BYTES_MAX];
    char put_off_by[CROWD_REASON_BYTES_MAX];
    uint64_t put_off; /* logins, so often; of a herd those on the way back */
};

/* Runs from logins to the report: an enum bench_exit. */
int run_scenario(const struct bench_options *options, const struct scenario *scenario,
                 struct report *report);

/* --- for scenarios, on the main thread -------------------------------------------------------- */

/* Begins the phase; returns when every crowd is in it. */
int run_enter(struct run *run, enum phase phase, const char *label);

/* Waits for `done`, as long as something still moves. 0; -ETIMEDOUT when nothing has moved for a
 * long time; -EIO when a crowd has failed; -EINTR when a signal came while users log in or
 * resume. All leave their reason in run->error. */
int run_until(struct run *run, bool (*done)(struct run *run));

/* Lets everything go on for so long, or until a signal comes. */
int run_for(struct run *run, double seconds);

void run_border(struct run *run, unsigned number);
struct totals run_totals(struct run *run);
int run_login(struct run *run);
int run_logout(struct run *run);
bool run_all_online(struct run *run);

/* Adds CPU and rate figures of what lies between two borders; `count` operations, called `what`
 * per second. */
void run_tell_costs(struct run *run, struct report *report, unsigned from, unsigned to,
                    const char *what, double count);
void run_tell_check(struct run *run, struct report *report);

extern const struct scenario scenario_forward, scenario_call, scenario_push, scenario_push_all;
extern const struct scenario scenario_presence, scenario_login, scenario_idle, scenario_herd;
extern const struct scenario scenario_room, scenario_friends;

#endif
