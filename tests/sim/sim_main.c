/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim.h"

/* usher-sim [--seeds N] [--first S] [--steps N] [--bug NAME] [--replay]
 * usher-sim --seed S [--verbose]
 *
 * Runs N seeds from S on; prints the first that breaks a rule and how to see it again. With --bug
 * that bug is planted and the run succeeds when the rule that ought to find it does. With --replay
 * every seed is run twice and must give the same history. */

struct bug_row {
    const char *name;
    enum sim_bug bug;
    const char *rules; /* one of these must be the first to be broken */
};

static const struct bug_row bugs[] = {
    {"none", BUG_NONE, ""},
    {"lost-end", BUG_LOST_END, "B3 A4 P8"},
    {"late-end", BUG_LATE_END, "CLOSE"},
    {"lost-record", BUG_LOST_RECORD, "P10"},
    {"twice", BUG_TWICE, "P5 C1"},
    {"reorder", BUG_REORDER, "C1"},
    {"zombie", BUG_ZOMBIE, "A2 P5 MAIL"},
    {"keep-open", BUG_KEEP_OPEN, "A4 P8 CLOSE"},
    {"lost-write", BUG_LOST_WRITE, "SEQ P5 CLOSE"},
    {"frozen-timers", BUG_FROZEN_TIMERS, "P8 P5"},
    {"added-event", BUG_ADDED_EVENT, "B2 P10"},
    {"lost-answer", BUG_LOST_ANSWER, "LIVE"},
};

struct arguments {
    uint64_t first, seeds;
    uint32_t steps;
    bool verbose, replay;
    const struct bug_row *bug;
};

/* For the signal handler only: what to say when the broker itself gives up. */
static volatile sig_atomic_t current_seed;

static void on_abort(int signal_number)
{
    char text[96];
    int size = snprintf(text, sizeof(text), "replay: usher-sim --seed %ld --verbose\n",
                        (long)current_seed);
    ssize_t written = write(STDERR_FILENO, text, (size_t)size);
    (void)written;
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

static bool read_arguments(struct arguments *to, int argc, char **argv)
{
    *to = (struct arguments){.seeds = 1, .steps = 5000, .bug = &bugs[0]};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--verbose") == 0) {
            to->verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--replay") == 0) {
            to->replay = true;
            continue;
        }
        if (value == NULL)
            return false;
        i++;
        if (strcmp(argv[i - 1], "--seeds") == 0)
            to->seeds = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--first") == 0 || strcmp(argv[i - 1], "--seed") == 0)
            to->first = strtoull(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--steps") == 0)
            to->steps = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i - 1], "--bug") == 0)
            to->bug = bug_named(value);
        else
            return false;
    }
    return to->bug != NULL;
}

/* The history's hash; `rule` gets what was broken, or NULL. */
static uint64_t run_seed(const struct arguments *arguments, uint64_t seed, const char **rule)
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
    if (world->rule != NULL && arguments->bug->bug == BUG_NONE)
        printf("seed %llu, step %llu: rule %s is broken: %s\n"
               "replay: usher-sim --seed %llu --steps %u --verbose\n",
               (unsigned long long)seed, (unsigned long long)world->step, world->rule,
               world->what, (unsigned long long)seed, arguments->steps);
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
    for (uint64_t seed = arguments->first; seed < arguments->first + arguments->seeds; seed++) {
        const char *rule;
        run_seed(arguments, seed, &rule);
        if (rule == NULL)
            continue;
        bool expected = is_expected(arguments->bug->rules, rule);
        printf("bug %s: seed %llu breaks rule %s, expected %s\n", arguments->bug->name,
               (unsigned long long)seed, rule, arguments->bug->rules);
        return expected ? 0 : 1;
    }
    printf("bug %s: no rule found it\n", arguments->bug->name);
    return 1;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    if (!read_arguments(&arguments, argc, argv)) {
        fputs("usage: usher-sim [--seeds N] [--first S] [--steps N] [--bug NAME] [--replay]\n"
              "       usher-sim --seed S [--steps N] [--verbose]\n",
              stderr);
        return 64;
    }
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (arguments.bug->bug != BUG_NONE)
        return hunt(&arguments);
    uint64_t all = 0;
    for (uint64_t seed = arguments.first; seed < arguments.first + arguments.seeds; seed++) {
        const char *rule;
        uint64_t history = run_seed(&arguments, seed, &rule);
        if (rule != NULL)
            return 1;
        if (arguments.replay && run_seed(&arguments, seed, &rule) != history) {
            printf("seed %llu: two runs, two histories\n", (unsigned long long)seed);
            return 1;
        }
        all = all * 31 + history;
    }
    printf("%llu seeds from %llu: every rule holds; history %016llx\n",
           (unsigned long long)arguments.seeds, (unsigned long long)arguments.first,
           (unsigned long long)all);
    return 0;
}
