/* SPDX-License-Identifier: Apache-2.0 */

/* Options are rows: the parser and --help both come from the table, so none is undocumented. */

#include "clients/bench_options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/bench_check.h"

enum option_type {
    TYPE_FLAG,
    TYPE_COUNT, /* uint64_t */
    TYPE_REAL,  /* double */
    TYPE_TEXT,
};

struct option_row {
    const char *name;
    char letter; /* 0: none */
    enum option_type type;
    size_t offset;
    double min, max;
    const char *argument;
    const char *help;
};

#define FIELD(field) offsetof(struct bench_options, field)

static const struct option_row rows[] = {
    {"host", 'H', TYPE_TEXT, FIELD(host), 0, 0, "NAME", "where the broker listens (127.0.0.1)"},
    {"port", 'p', TYPE_COUNT, FIELD(port), 1, 65535, "N", "its port (7400)"},
    {"url", 0, TYPE_TEXT, FIELD(url), 0, 0, "URL",
     "the backend link, for call, push, push-all and presence; default as for usherctl"},
    {"token-file", 0, TYPE_TEXT, FIELD(token_file), 0, 0, "FILE",
     "its first line is what the node wants from backends that say hello"},
    {"users", 'u', TYPE_COUNT, FIELD(users), 1, 4000000, "N", "how many users (100)"},
    {"window", 'w', TYPE_COUNT, FIELD(window), 1, 4096, "W",
     "closed loop: messages in flight per user; push-all: pushes in flight (1)"},
    {"size", 's', TYPE_COUNT, FIELD(size_bytes), STAMP_BYTES, STAMPED_BYTES_MAX, "BYTES",
     "size of a payload, 16 at least (32)"},
    {"rate", 'r', TYPE_REAL, FIELD(rate_per_s), 0, 1e9, "N",
     "open loop: so many per second in all, whatever the broker does; latency counts from the "
     "time at which each was due. 0: closed loop (0)"},
    {"seconds", 'd', TYPE_REAL, FIELD(seconds), 0.01, 86400, "S", "how long to measure (5)"},
    {"warmup", 0, TYPE_REAL, FIELD(warmup_s), 0, 3600, "S", "traffic before measuring (0.5)"},
    {"settle", 0, TYPE_REAL, FIELD(settle_s), 0, 3600, "S",
     "idle: quiet time before memory is read (2)"},
    {"after", 0, TYPE_COUNT, FIELD(after), 0, 1000000, "N",
     "idle: messages that each user is sent afterwards (4)"},
    {"patience", 0, TYPE_REAL, FIELD(patience_s), 0.1, 3600, "S",
     "how long nothing may move before what is missing is lost (30)"},
    {"acks", 'a', TYPE_FLAG, FIELD(acks), 0, 0, NULL, "log in with acks and acknowledge"},
    {"confirm", 'c', TYPE_FLAG, FIELD(confirm), 0, 0, NULL,
     "forward: want an answer to each message, so that refusals are told from losses"},
    {"threads", 't', TYPE_COUNT, FIELD(threads), 1, 64, "N", "threads that play users (1)"},
    {"joining", 'j', TYPE_COUNT, FIELD(joining_max), 0, 4000000, "N",
     "logins in progress at once (256; herd: all)"},
    {"sources", 0, TYPE_COUNT, FIELD(sources), 0, 250, "N",
     "source addresses 127.0.0.2 and on, for a broker on this machine (one per 5,000 users)"},
    {"service", 0, TYPE_TEXT, FIELD(service), 0, 0, "NAME",
     "the name under which call and push register (bench)"},
    {"prefix", 0, TYPE_TEXT, FIELD(prefix), 0, 0, "TEXT",
     "users are called TEXT and a number (bench-)"},
    {"pid", 0, TYPE_COUNT, FIELD(pid), 1, 4194304, "PID",
     "usherd's process on this machine, to see its CPU time and memory"},
    {"json", 0, TYPE_FLAG, FIELD(json), 0, 0, NULL, "the result as one JSON object"},
    {"quiet", 'q', TYPE_FLAG, FIELD(quiet), 0, 0, NULL, "no progress on the terminal"},
};

enum {
    ROW_COUNT = sizeof rows / sizeof rows[0],
    KEY_HELP = 1000,
    KEY_VERSION,
    KEY_ROWS = 2000,
};

static const struct {
    const char *name, *help;
} scenarios[BENCH_SCENARIOS] = {
    [BENCH_FORWARD] = {"forward", "every user sends to the next one"},
    [BENCH_CALL] = {"call", "every user calls a service of this program, which echoes"},
    [BENCH_PUSH] = {"push", "a service pushes to every user"},
    [BENCH_PUSH_ALL] = {"push-all", "a service pushes to all users at once"},
    [BENCH_PRESENCE] = {"presence", "users log in and out; one follower hears of it"},
    [BENCH_LOGIN] = {"login", "users log in, as fast as they can or at a rate"},
    [BENCH_IDLE] = {"idle", "users log in and do nothing, then are sent a few messages"},
    [BENCH_HERD] = {"herd", "all users lose their connections at once and resume"},
};

const char *bench_scenario_name(enum bench_scenario scenario)
{
    return scenarios[scenario].name;
}

static void print_help(void)
{
    puts("usher-bench - load for a running usherd, measured and checked\n\n"
         "Usage: usher-bench SCENARIO [OPTIONS]\n\nScenarios:");
    for (size_t i = 0; i < BENCH_SCENARIOS; i++)
        printf("  %-10s %s\n", scenarios[i].name, scenarios[i].help);
    puts("\nOptions:");
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char letter[5] = "    ";

        if (rows[i].letter != 0)
            snprintf(letter, sizeof letter, "-%c, ", rows[i].letter);
        printf("  %s--%s%s%s\n          %s\n", letter, rows[i].name,
               rows[i].argument != NULL ? " " : "",
               rows[i].argument != NULL ? rows[i].argument : "", rows[i].help);
    }
    puts("      --help, --version\n\n"
         "Exit codes: 0 done; 1 something was lost, out of order or broken; 2 no broker answers;\n"
         "64 usage. docs/benchmarking.md explains scenarios and figures.");
}

static int usage_error(const char *what, const char *about)
{
    fprintf(stderr, "usher-bench: %s: %s\nusher-bench: see usher-bench --help\n", about, what);
    return BENCH_USAGE;
}

static int take_value(struct bench_options *options, const struct option_row *row, const char *text)
{
    char *field = (char *)options + row->offset;
    char *end;

    if (row->type == TYPE_FLAG) {
        *(bool *)field = true;
        return BENCH_OK;
    }
    if (row->type == TYPE_TEXT) {
        *(const char **)field = text;
        return BENCH_OK;
    }
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !isfinite(value))
        return usage_error("not a number", row->name);
    if (value < row->min || value > row->max)
        return usage_error("out of range", row->name);
    if (row->type == TYPE_COUNT && value != floor(value))
        return usage_error("not a whole number", row->name);
    if (row->type == TYPE_COUNT)
        *(uint64_t *)field = (uint64_t)value;
    else
        *(double *)field = value;
    return BENCH_OK;
}

static void build_flags(struct option *flags, char *letters)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        int wants = rows[i].type == TYPE_FLAG ? no_argument : required_argument;

        flags[i] = (struct option){rows[i].name, wants, NULL, KEY_ROWS + (int)i};
        if (rows[i].letter == 0)
            continue;
        *letters++ = rows[i].letter;
        if (wants == required_argument)
            *letters++ = ':';
    }
    *letters = '\0';
    flags[ROW_COUNT] = (struct option){"help", no_argument, NULL, KEY_HELP};
    flags[ROW_COUNT + 1] = (struct option){"version", no_argument, NULL, KEY_VERSION};
    flags[ROW_COUNT + 2] = (struct option){NULL, 0, NULL, 0};
}

static int take_option(struct bench_options *options, int key, const char *text)
{
    if (key == KEY_HELP) {
        print_help();
        return BENCH_SHOWN;
    }
    if (key == KEY_VERSION) {
        puts("usher-bench " USHER_VERSION);
        return BENCH_SHOWN;
    }
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (key == KEY_ROWS + (int)i || (key != 0 && key == rows[i].letter))
            return take_value(options, &rows[i], text);
    return BENCH_USAGE; /* getopt has said what */
}

static int take_scenario(struct bench_options *options, int argc, char **argv)
{
    if (optind + 1 != argc)
        return usage_error(optind == argc ? "none is named" : "name one", "scenario");
    for (int i = 0; i < BENCH_SCENARIOS; i++) {
        if (strcmp(scenarios[i].name, argv[optind]) == 0) {
            options->scenario = (enum bench_scenario)i;
            return BENCH_OK;
        }
    }
    return usage_error("no such scenario", argv[optind]);
}

static int check_together(struct bench_options *options)
{
    bool all_at_once = options->scenario == BENCH_HERD;

    if (options->joining_max == 0)
        options->joining_max = all_at_once ? options->users : 256;
    if (options->threads > options->users)
        options->threads = options->users;
    if (strlen(options->prefix) > 32 || strlen(options->prefix) == 0)
        return usage_error("1 to 32 bytes", "prefix");
    if (options->scenario == BENCH_CALL && options->window > 64)
        return usage_error("at most 64 calls in flight per user", "window");
    return BENCH_OK;
}

int bench_options_read(struct bench_options *options, int argc, char **argv)
{
    struct option flags[ROW_COUNT + 3];
    char letters[2 * ROW_COUNT + 1];
    int result = BENCH_OK;
    int key;

    *options = (struct bench_options){
        .host = "127.0.0.1",
        .port = 7400,
        .prefix = "bench-",
        .service = "bench",
        .users = 100,
        .window = 1,
        .size_bytes = 32,
        .seconds = 5,
        .warmup_s = 0.5,
        .settle_s = 2,
        .patience_s = 30,
        .after = 4,
        .threads = 1,
    };
    build_flags(flags, letters);
    while (result == BENCH_OK && (key = getopt_long(argc, argv, letters, flags, NULL)) != -1)
        result = take_option(options, key, optarg);
    if (result == BENCH_OK)
        result = take_scenario(options, argc, argv);
    return result == BENCH_OK ? check_together(options) : result;
}
