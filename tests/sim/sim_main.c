/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

/* usher-sim [--seeds N | --seconds N] [--first S] [--steps N] [--covered] [--replay]
 * usher-sim [--seeds N] [--first S] (--bug NAME | --expect RULES)
 * usher-sim --seed S [--steps N] [--verbose]
 * usher-sim --list-bugs
 *
 * Runs seeds from S on and counts what happened; prints the first that breaks a rule and how to
 * see it again. --covered fails when something that is counted never happened. With --bug that bug
 * is planted, with --expect one was compiled in: the run succeeds when one of the rules that ought
 * to find it does, first of all. With --replay every seed is run twice and must give the same
 * history. */

struct bug_row {
    const char *name;
    enum sim_bug bug;
    const char *rules; /* one of these must be the first to be broken */
    const char *text;
};

static const struct bug_row bugs[] = {
    {"none", BUG_NONE, "", ""},
    {"lost-end", BUG_LOST_END, "B3 A4 P8", "that a connection ended is not always told"},
    {"late-end", BUG_LATE_END, "CLOSE", "a late end is told of the connection that came after"},
    {"lost-record", BUG_LOST_RECORD, "P10", "a crash loses a record that was synced"},
    {"twice", BUG_TWICE, "P5 C1", "some frames are handed up twice"},
    {"reorder", BUG_REORDER, "C1 R3", "two batches of frames change places"},
    {"zombie", BUG_ZOMBIE, "A2 P5 MAIL", "frames of a replaced connection count as the new one's"},
    {"keep-open", BUG_KEEP_OPEN, "A4 P8 CLOSE", "some released connections stay open"},
    {"lost-write", BUG_LOST_WRITE, "SEQ P5 CLOSE", "some output is dropped"},
    {"frozen-timers", BUG_FROZEN_TIMERS, "P8 P5 F1", "nobody is woken by time"},
    {"added-event", BUG_ADDED_EVENT, "B2 P10", "somebody else writes into the stream"},
    {"lost-answer", BUG_LOST_ANSWER, "LIVE FEED", "some answers to backends never arrive"},
};

struct arguments {
    uint64_t first, seeds, seconds;
    uint32_t steps;
    bool verbose, replay, covered, list_bugs;
    const char *expected; /* rules, separated by blanks; NULL: none is to be broken */
    const struct bug_row *bug;
};

/* For the signal handler only: what to say when the broker itself gives up, which is what a CHECK
 * is for. */
static volatile sig_atomic_t current_seed, first_seed, check_is_expected;

static void on_abort(int signal_number)
{
    char text[96];
    int size = snprintf(text, sizeof(text), "replay: usher-sim --seed %ld --verbose\n",
                        (long)current_seed);
    if (check_is_expected)
        size = snprintf(text, sizeof(text), "found by rule CHECK after %ld seeds\n",
                        (long)(current_seed - first_seed + 1));
    ssize_t written = write(check_is_expected ? STDOUT_FILENO : STDERR_FILENO, text, (size_t)size);
    (void)written;
    if (check_is_expected)
        _exit(0);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static const struct bug_row *bug_named(const char *name)
{
    for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++)
        if (strcmp(bugs[i].name, name) == 0)
            return &bugs[i];
    return NULL;
}

/* For the table in docs/testing.md. */
static void list_bugs(void)
{
    for (size_t i = 1; i < sizeof(bugs) / sizeof(bugs[0]); i++)
        printf("%s|%s\n", bugs[i].name, bugs[i].text);
}

static bool read_flag(struct arguments *to, const char *name)
{
    bool *flag = strcmp(name, "--verbose") == 0     ? &to->verbose
                 : strcmp(name, "--replay") == 0    ? &to->replay
                 : strcmp(name, "--covered") == 0   ? &to->covered
                 : strcmp(name, "--list-bugs") == 0 ? &to->list_bugs
                                                    : NULL;
    if (flag != NULL)
        *flag = true;
    return flag != NULL;
}

static bool read_value(struct arguments *to, const char *name, const char *value)
{
    if (strcmp(name, "--seeds") == 0)
        to->seeds = strtoull(value, NULL, 10);
    else if (strcmp(name, "--seconds") == 0)
        to->seconds = strtoull(value, NULL, 10);
    else if (strcmp(name, "--first") == 0 || strcmp(name, "--seed") == 0)
        to->first = strtoull(value, NULL, 10);
    else if (strcmp(name, "--steps") == 0)
        to->steps = (uint32_t)strtoul(value, NULL, 10);
    else if (strcmp(name, "--expect") == 0)
        to->expected = value;
    else if (strcmp(name, "--bug") == 0)
        to->bug = bug_named(value);
    else
        return false;
    return to->bug != NULL;
}

static bool read_arguments(struct arguments *to, int argc, char **argv)
{
    *to = (struct arguments){.seeds = 1, .steps = 5000, .bug = &bugs[0]};
    for (int i = 1; i < argc; i++) {
        if (read_flag(to, argv[i]))
            continue;
        if (i + 1 == argc || !read_value(to, argv[i], argv[i + 1]))
            return false;
        i++;
    }
    if (to->bug->bug != BUG_NONE)
        to->expected = to->bug->rules;
    return true;
}

/* The history's hash; `rule` gets what was broken, or NULL. */
static uint64_t run_seed(const struct arguments *arguments, uint64_t seed, const char **rule,
                         uint64_t counts[COUNTS])
{
    struct sim_options options = {.seed = seed,
                                  .steps = arguments->steps,
                                  .bug = arguments->bug->bug,
                                  .verbose = arguments->verbose};
    struct world *world = calloc(1, sizeof(*world));
    if (world == NULL)
        exit(70);
    current_seed = (sig_atomic_t)seed;
    world_run(world, &options);
    *rule = world->rule;
    for (unsigned i = 0; i < COUNTS; i++)
        counts[i] += world->counts[i];
    if (world->rule != NULL && arguments->expected == NULL)
        printf("seed %llu, step %llu: rule %s is broken: %s\n"
               "replay: usher-sim --seed %llu --steps %u --verbose\n",
               (unsigned long long)seed, (unsigned long long)world->step, world->rule, world->what,
               (unsigned long long)seed, arguments->steps);
    uint64_t history = world->history;
    world_free(world);
    free(world);
    return history;
}

static bool is_expected(const char *rules, const char *rule)
{
    const char *at = strstr(rules, rule);
    size_t size = strlen(rule);
    return at != NULL && (at == rules || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0');
}

static int hunt(const struct arguments *arguments)
{
    uint64_t counts[COUNTS] = {0};
    first_seed = (sig_atomic_t)arguments->first;
    check_is_expected = is_expected(arguments->expected, "CHECK");
    for (uint64_t i = 0; i < arguments->seeds; i++) {
        const char *rule;
        run_seed(arguments, arguments->first + i, &rule, counts);
        if (rule == NULL)
            continue;
        bool expected = is_expected(arguments->expected, rule);
        printf("found by rule %s after %llu seeds%s%s\n", rule, (unsigned long long)i + 1,
               expected ? "" : "; expected was ", expected ? "" : arguments->expected);
        return expected ? 0 : 1;
    }
    printf("not found in %llu seeds\n", (unsigned long long)arguments->seeds);
    return 1;
}

static uint64_t now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

static int run_all(const struct arguments *arguments)
{
    uint64_t counts[COUNTS] = {0};
    uint64_t ignored[COUNTS] = {0};
    uint64_t all = 0, seed = arguments->first, until_s = now_s() + arguments->seconds;
    bool more = true;
    for (; more; seed++) {
        const char *rule;
        uint64_t history = run_seed(arguments, seed, &rule, counts);
        if (rule != NULL)
            return 1;
        if (arguments->replay && run_seed(arguments, seed, &rule, ignored) != history) {
            printf("seed %llu: two runs, two histories\n", (unsigned long long)seed);
            return 1;
        }
        all = all * 31 + history;
        more = arguments->seconds > 0 ? now_s() < until_s
                                      : seed + 1 < arguments->first + arguments->seeds;
    }
    bool covered = counts_print(counts);
    printf("%llu seeds from %llu: every rule holds; history %016llx\n",
           (unsigned long long)(seed - arguments->first), (unsigned long long)arguments->first,
           (unsigned long long)all);
    if (arguments->covered && !covered)
        printf("something was never seen to happen\n");
    return arguments->covered && !covered ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    if (!read_arguments(&arguments, argc, argv)) {
        fputs("usage: usher-sim [--seeds N | --seconds N] [--first S] [--steps N] [--covered] "
              "[--replay]\n"
              "       usher-sim [--seeds N] [--first S] (--bug NAME | --expect RULES)\n"
              "       usher-sim --seed S [--steps N] [--verbose]\n"
              "       usher-sim --list-bugs\n",
              stderr);
        return 64;
    }
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (arguments.list_bugs) {
        list_bugs();
        return 0;
    }
    return arguments.expected != NULL ? hunt(&arguments) : run_all(&arguments);
}
