/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "usher-bench/check.h"

/* Options are rows: the parser and --help both come from the table, so none is undocumented; and
 * each row says for which scenarios it means something, so none is taken and ignored. */

enum option_type {
    TYPE_FLAG,
    TYPE_NO_FLAG, /* clears it */
    TYPE_COUNT,   /* uint64_t */
    TYPE_REAL,    /* double */
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
    unsigned scenarios; /* bits by enum bench_scenario; 0: all */
};

enum {
    FORWARD = 1 << BENCH_FORWARD,
    LINKED = 1 << BENCH_CALL | 1 << BENCH_PUSH | 1 << BENCH_PUSH_ALL,
    TRAFFIC = FORWARD | LINKED,
    PRESENCE = 1 << BENCH_PRESENCE,
    LOGIN = 1 << BENCH_LOGIN,
    IDLE = 1 << BENCH_IDLE,
    HERD = 1 << BENCH_HERD,
};

#define FIELD(field) offsetof(struct bench_options, field)

static const struct option_row rows[] = {
    {"host", 'H', TYPE_TEXT, FIELD(host), 0, 0, "NAME", "where the broker listens (127.0.0.1)", 0},
    {"port", 'p', TYPE_COUNT, FIELD(port), 1, 65535, "N", "its port (7400)", 0},
    {"url", 0, TYPE_TEXT, FIELD(url), 0, 0, "URL",
     "the backend link, for call, push, push-all and presence; default as for usherctl",
     LINKED | PRESENCE},
    {"token-file", 0, TYPE_TEXT, FIELD(token_file), 0, 0, "FILE",
     "what the node wants from backends that say hello", LINKED | PRESENCE},
    {"users", 'u', TYPE_COUNT, FIELD(users), 1, 4000000, "N", "how many users (100)", 0},
    {"window", 'w', TYPE_COUNT, FIELD(window), 1, 4096, "W",
     "closed loop: messages in flight per user; push-all: pushes in flight (1)", TRAFFIC},
    {"size", 's', TYPE_COUNT, FIELD(size_bytes), STAMP_BYTES, STAMPED_BYTES_MAX, "BYTES",
     "size of a payload, 16 at least (32)", TRAFFIC | IDLE | HERD},
    {"rate", 'r', TYPE_REAL, FIELD(rate_per_s), 0, 1e9, "N",
     "open loop: so many per second in all, whatever the broker does; latency counts from the "
     "time at which each was due. 0: closed loop (0)",
     TRAFFIC | PRESENCE | LOGIN},
    {"seconds", 'd', TYPE_REAL, FIELD(seconds), 0.01, 86400, "S", "how long to measure (5)",
     TRAFFIC | IDLE},
    {"warmup", 0, TYPE_REAL, FIELD(warmup_s), 0, 3600, "S", "traffic before measuring (0.5)",
     TRAFFIC},
    {"settle", 0, TYPE_REAL, FIELD(settle_s), 0, 3600, "S",
     "idle: quiet time before memory is read (2)", IDLE},
    {"after", 0, TYPE_COUNT, FIELD(after), 0, 1000000, "N",
     "idle: messages that each user is sent afterwards (4)", IDLE},
    {"patience", 0, TYPE_REAL, FIELD(patience_s), 0.1, 3600, "S",
     "how long nothing may move before what is missing is lost (30)", 0},
    {"acks", 'a', TYPE_FLAG, FIELD(acks), 0, 0, NULL, "log in with acks and acknowledge", 0},
    {"post", 0, TYPE_FLAG, FIELD(post), 0, 0, NULL,
     "forward: want no answers, so that a message costs what it costs and no more; what a limit "
     "refuses then looks lost",
     FORWARD},
    {"confirm", 'c', TYPE_NO_FLAG, FIELD(post), 0, 0, NULL,
     "forward: want an answer to each message, so that refusals are told from losses (the default)",
     FORWARD},
    {"threads", 't', TYPE_COUNT, FIELD(threads), 1, 64, "N", "threads that play users (1)", 0},
    {"joining", 'j', TYPE_COUNT, FIELD(joining_max), 0, 4000000, "N",
     "logins in progress at once (24; login and presence: 256; herd: all)", 0},
    {"sources", 0, TYPE_COUNT, FIELD(sources), 0, 250, "N",
     "source addresses 127.0.0.2 and on, for a broker on this machine (one per 5,000 users)", 0},
    {"service", 0, TYPE_TEXT, FIELD(service), 0, 0, "NAME",
     "the name under which call and push register (bench)", LINKED},
    {"prefix", 0, TYPE_TEXT, FIELD(prefix), 0, 0, "TEXT",
     "users are called TEXT and a number (bench-)", 0},
    {"tls", 0, TYPE_FLAG, FIELD(tls), 0, 0, NULL,
     "over TLS; give the port of the broker's listen.tls. The next four mean it too", 0},
    {"ca", 0, TYPE_TEXT, FIELD(tls_ca), 0, 0, "FILE",
     "who must have signed the broker's certificate (the system's authorities)", 0},
    {"server-name", 0, TYPE_TEXT, FIELD(tls_server_name), 0, 0, "NAME",
     "that its certificate must have (the host)", 0},
    {"certificate", 0, TYPE_TEXT, FIELD(tls_certificate), 0, 0, "FILE",
     "what to show to a broker that asks; with --key", 0},
    {"key", 0, TYPE_TEXT, FIELD(tls_key), 0, 0, "FILE", "goes with it", 0},
    {"tokens", 0, TYPE_TEXT, FIELD(tokens_file), 0, 0, "FILE",
     "the users' tokens, a line for each, for a broker that wants any", 0},
    {"token-key", 0, TYPE_TEXT, FIELD(token_key), 0, 0, "FILE",
     "a key set with a private part, as usher-token keygen writes it: its first key signs a token "
     "for each user, good for a day",
     0},
    {"issuer", 0, TYPE_TEXT, FIELD(issuer), 0, 0, "TEXT", "of these tokens (auth.issuer)", 0},
    {"audience", 0, TYPE_TEXT, FIELD(audience), 0, 0, "TEXT", "of these tokens (auth.audience)", 0},
    {"pid", 0, TYPE_COUNT, FIELD(pid), 1, 4194304, "PID",
     "usherd's process on this machine, to see its CPU time and memory", 0},
    {"json", 0, TYPE_FLAG, FIELD(json), 0, 0, NULL, "the result as one JSON object", 0},
    {"quiet", 'q', TYPE_FLAG, FIELD(quiet), 0, 0, NULL, "no progress on the terminal", 0},

};

enum {
    ROW_COUNT = sizeof(rows) / sizeof(rows[0]),
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
            snprintf(letter, sizeof(letter), "-%c, ", rows[i].letter);
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
    if (row->type == TYPE_FLAG || row->type == TYPE_NO_FLAG) {
        *(bool *)field = row->type == TYPE_FLAG;
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
        bool flag = rows[i].type == TYPE_FLAG || rows[i].type == TYPE_NO_FLAG;
        int wants = flag ? no_argument : required_argument;
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

/* `given` has the bits of the rows that were named. */
static int take_option(struct bench_options *options, int key, const char *text, uint64_t *given)
{
    if (key == KEY_HELP) {
        print_help();
        return BENCH_SHOWN;
    }
    if (key == KEY_VERSION) {
        puts("usher-bench " USHER_VERSION);
        return BENCH_SHOWN;
    }
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (key == KEY_ROWS + (int)i || (key != 0 && key == rows[i].letter)) {
            *given |= UINT64_C(1) << i;
            return take_value(options, &rows[i], text);
        }
    }
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

static int check_given(const struct bench_options *options, uint64_t given)
{
    char what[80];
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if ((given >> i & 1) == 0 || rows[i].scenarios == 0 ||
            (rows[i].scenarios >> options->scenario & 1) != 0)
            continue;
        snprintf(what, sizeof(what), "means nothing for %s", scenarios[options->scenario].name);
        return usage_error(what, rows[i].name);
    }
    return BENCH_OK;
}

/* Where logins are only the way to what is measured, no more than a broker takes from one address
 * (limits.prelogin_per_source). */
static uint64_t joining_default(const struct bench_options *options)
{
    switch (options->scenario) {
    case BENCH_HERD:
        return options->users;
    case BENCH_LOGIN:
    case BENCH_PRESENCE:
        return 256;
    default:
        return 24;
    }
}

static int check_together(struct bench_options *options)
{
    if (options->joining_max == 0)
        options->joining_max = joining_default(options);
    if (options->threads > options->users)
        options->threads = options->users;
    if (strlen(options->prefix) > 32 || strlen(options->prefix) == 0)
        return usage_error("1 to 32 bytes", "prefix");
    options->tls = options->tls || options->tls_ca != NULL || options->tls_server_name != NULL ||
                   options->tls_certificate != NULL || options->tls_key != NULL;
    if ((options->tls_certificate == NULL) != (options->tls_key == NULL))
        return usage_error("goes with the other of the two", "certificate, key");
    if (options->tokens_file != NULL && options->token_key != NULL)
        return usage_error("one of the two", "tokens, token-key");
    if ((options->issuer != NULL || options->audience != NULL) && options->token_key == NULL)
        return usage_error("only of tokens that --token-key makes", "issuer, audience");
    if (options->scenario == BENCH_CALL && options->window > 64)
        return usage_error("at most 64 calls in flight per user", "window");
    return BENCH_OK;
}

int bench_options_read(struct bench_options *options, int argc, char **argv)
{
    struct option flags[ROW_COUNT + 3];
    char letters[2 * ROW_COUNT + 1];
    uint64_t given = 0;
    int result = BENCH_OK;
    int key;
    static_assert(ROW_COUNT <= 64, "a bit for each row");
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
        result = take_option(options, key, optarg, &given);
    if (result == BENCH_OK)
        result = take_scenario(options, argc, argv);
    if (result == BENCH_OK)
        result = check_given(options, given);
    return result == BENCH_OK ? check_together(options) : result;
}
