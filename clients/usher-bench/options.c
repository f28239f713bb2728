/* SPDX-License-Identifier: Apache-2.0 */
#include "usher-bench/options.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/options.h"
#include "usher-bench/check.h"

/* Options are rows: the parser and --help both come from the table, so none is undocumented; and
 * each row says for which scenarios it means something, so none is taken and ignored. */

enum {
    FORWARD = 1 << BENCH_FORWARD,
    LINKED = 1 << BENCH_CALL | 1 << BENCH_PUSH | 1 << BENCH_PUSH_ALL,
    TRAFFIC = FORWARD | LINKED,
    PRESENCE = 1 << BENCH_PRESENCE,
    LOGIN = 1 << BENCH_LOGIN,
    IDLE = 1 << BENCH_IDLE,
    HERD = 1 << BENCH_HERD,
    ROOM = 1 << BENCH_ROOM,
    FRIENDS = 1 << BENCH_FRIENDS,
};

#define FIELD(field) offsetof(struct bench_options, field)

static const struct option_row rows[] = {
    {"url", 0, OPTION_TEXT, FIELD(url), 0, 0, 0, "URL",
     "where the broker listens: tcp://HOST[:PORT], tls://HOST[:PORT], ws://HOST[:PORT][/PATH] or "
     "wss://HOST[:PORT][/PATH] (ports 7400, 7443, 80, 443; /usher)"},
    {"host", 'H', OPTION_TEXT, FIELD(host), 0, 0, 0, "NAME",
     "the same without a URL: its host (127.0.0.1)"},
    {"port", 'p', OPTION_COUNT, FIELD(port), 1, 65535, 0, "N", "and its port (7400)"},
    {"ws-frames", 0, OPTION_COUNT, FIELD(ws_frames), 0, 4096, 0, "N",
     "over ws and wss: at most N frames in a message; 1 is a message for each, as simple clients "
     "do. 0: what waits, up to 16 KiB (0)"},
    {"link", 0, OPTION_TEXT, FIELD(link), 0, 0, LINKED | PRESENCE, "URL",
     "the backend link, for call, push, push-all and presence; default as for usherctl"},
    {"token-file", 0, OPTION_TEXT, FIELD(token_file), 0, 0, LINKED | PRESENCE, "FILE",
     "what the node wants from backends that say hello"},
    {"users", 'u', OPTION_COUNT, FIELD(users), 1, 4000000, 0, "N", "how many users (100)"},
    {"window", 'w', OPTION_COUNT, FIELD(window), 1, 4096, TRAFFIC | ROOM, "W",
     "closed loop: messages in flight per user; push-all: pushes in flight; room: in each room "
     "(1)"},
    {"size", 's', OPTION_COUNT, FIELD(size_bytes), STAMP_BYTES, STAMPED_BYTES_MAX,
     TRAFFIC | IDLE | HERD | ROOM, "BYTES", "size of a payload, 16 at least (32)"},
    {"burst", 0, OPTION_FLAG, FIELD(burst), 0, 0, ROOM | 1 << BENCH_PUSH_ALL, NULL,
     "room, push-all: the next window begins, at once, when everything of the last one has come, "
     "so "
     "that as many messages leave together everywhere"},
    {"rate", 'r', OPTION_REAL, FIELD(rate_per_s), 0, 1e9, TRAFFIC | ROOM | PRESENCE | LOGIN, "N",
     "open loop: so many per second in all, whatever the broker does; latency counts from the "
     "time at which each was due. 0: closed loop (0)"},
    {"seconds", 'd', OPTION_REAL, FIELD(seconds), 0.01, 86400, TRAFFIC | ROOM | IDLE, "S",
     "how long to measure (5)"},
    {"warmup", 0, OPTION_REAL, FIELD(warmup_s), 0, 3600, TRAFFIC | ROOM, "S",
     "traffic before measuring (0.5)"},
    {"settle", 0, OPTION_REAL, FIELD(settle_s), 0, 3600, IDLE | FRIENDS, "S",
     "idle: quiet time before memory is read; friends: how long states may still come (2)"},
    {"after", 0, OPTION_COUNT, FIELD(after), 0, 1000000, IDLE, "N",
     "idle: messages that each user is sent afterwards (4)"},
    {"patience", 0, OPTION_REAL, FIELD(patience_s), 0.1, 3600, 0, "S",
     "how long nothing may move before what is missing is lost (30)"},
    {"acks", 'a', OPTION_FLAG, FIELD(acks), 0, 0, 0, NULL, "log in with acks and acknowledge"},
    {"post", 0, OPTION_FLAG, FIELD(post), 0, 0, FORWARD | ROOM, NULL,
     "forward, room: want no answers, so that a message costs what it costs and no more; what a "
     "limit "
     "refuses then looks lost"},
    {"confirm", 'c', OPTION_NO_FLAG, FIELD(post), 0, 0, FORWARD | ROOM, NULL,
     "forward, room: want an answer to each message, so that refusals are told from losses (the "
     "default)"},
    {"threads", 't', OPTION_COUNT, FIELD(threads), 1, 64, 0, "N", "threads that play users (1)"},
    {"joining", 'j', OPTION_COUNT, FIELD(joining_max), 0, 4000000, 0, "N",
     "logins in progress at once (24; login and presence: 256; herd: all)"},
    {"sources", 0, OPTION_COUNT, FIELD(sources), 0, 250, 0, "N",
     "source addresses 127.0.0.2 and on, for a broker on this machine (one per 5,000 users)"},
    {"rooms", 'R', OPTION_COUNT, FIELD(rooms), 1, 4000000, ROOM, "N",
     "room: how many rooms; the users share them evenly (1)"},
    {"room", 0, OPTION_TEXT, FIELD(room), 0, 0, ROOM, "TEXT",
     "room: they are called TEXT and a number; a class of the broker must let everybody make and "
     "join them (bench:)"},
    {"publishers", 0, OPTION_COUNT, FIELD(publishers), 0, 4000000, ROOM, "N",
     "room: so many members of each publish, in turn. 0: all (0)"},
    {"away", 0, OPTION_COUNT, FIELD(away), 0, 4000000, ROOM, "N",
     "room: so many members of each have no connection while it is measured, and come back then "
     "(0)"},
    {"watch", 0, OPTION_COUNT, FIELD(watch), 0, 1000, FRIENDS, "K",
     "friends: each user watches K others (100)"},
    {"service", 0, OPTION_TEXT, FIELD(service), 0, 0, LINKED, "NAME",
     "the name under which call and push register (bench)"},
    {"prefix", 0, OPTION_TEXT, FIELD(prefix), 0, 0, 0, "TEXT",
     "users are called TEXT and a number (bench-)"},
    {"tls", 0, OPTION_FLAG, FIELD(tls), 0, 0, 0, NULL,
     "over TLS; give the port of the broker's listen.tls. The next four mean it too"},
    {"ca", 0, OPTION_TEXT, FIELD(tls_ca), 0, 0, 0, "FILE",
     "who must have signed the broker's certificate (the system's authorities)"},
    {"server-name", 0, OPTION_TEXT, FIELD(tls_server_name), 0, 0, 0, "NAME",
     "that its certificate must have (the host)"},
    {"certificate", 0, OPTION_TEXT, FIELD(tls_certificate), 0, 0, 0, "FILE",
     "what to show to a broker that asks; with --key"},
    {"key", 0, OPTION_TEXT, FIELD(tls_key), 0, 0, 0, "FILE", "goes with it"},
    {"tokens", 0, OPTION_TEXT, FIELD(tokens_file), 0, 0, 0, "FILE",
     "the users' tokens, a line for each, for a broker that wants any"},
    {"token-key", 0, OPTION_TEXT, FIELD(token_key), 0, 0, 0, "FILE",
     "a key set with a private part, as usher-token keygen writes it: its first key signs a token "
     "for each user, good for a day"},
    {"issuer", 0, OPTION_TEXT, FIELD(issuer), 0, 0, 0, "TEXT", "of these tokens (auth.issuer)"},
    {"audience", 0, OPTION_TEXT, FIELD(audience), 0, 0, 0, "TEXT",
     "of these tokens (auth.audience)"},
    {"pid", 0, OPTION_COUNT, FIELD(pid), 1, 4194304, 0, "PID",
     "usherd's process on this machine, to see its CPU time and memory"},
    {"json", 0, OPTION_FLAG, FIELD(json), 0, 0, 0, NULL, "the result as one JSON object"},
    {"quiet", 'q', OPTION_FLAG, FIELD(quiet), 0, 0, 0, NULL, "no progress on the terminal"},
};

enum { PORT_DEFAULT = 7400, WATCH = 100 };
enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };
static_assert(sizeof(rows) / sizeof(rows[0]) <= OPTION_ROWS_MAX, "a bit for each row");

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
    [BENCH_ROOM] = {"room", "members publish to their rooms, and all of a room see the same"},
    [BENCH_FRIENDS] = {"friends", "users log in and watch each other; then all of them resume"},
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

static const struct option_set set = {
    .program = "usher-bench",
    .print_help = print_help,
    .rows = rows,
    .count = ROW_COUNT,
};

static int usage_error(const char *word, const char *what)
{
    options_complain(&set, NULL, word, what);
    return BENCH_USAGE;
}

static int take_scenario(struct bench_options *options, const struct option_words *words)
{
    if (words->count != 1)
        return usage_error(NULL, words->count == 0 ? "no scenario is named" : "name one scenario");
    for (unsigned i = 0; i < BENCH_SCENARIOS; i++) {
        if (strcmp(scenarios[i].name, words->words[0]) == 0) {
            options->scenario = (enum bench_scenario)i;
            return options_fit(&set, words, i, scenarios[i].name) ? BENCH_OK : BENCH_USAGE;
        }
    }
    return usage_error(words->words[0], "no such scenario");
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
    case BENCH_FRIENDS:
        return 256;
    default:
        return 24;
    }
}

/* Where the users go: by a URL, or by host, port and tls. */
static int settle_place(struct bench_options *options)
{
    const char *fault = options->url != NULL ? url_read(options->url, &options->place) : NULL;
    if (fault != NULL && strncmp(options->url, "ipc:", 4) == 0)
        fault = "that is no place for users; the backend link is --link";
    if (fault != NULL)
        return usage_error(options->url, fault);
    if (options->url != NULL && (options->host != NULL || options->port != 0))
        return usage_error(NULL, "--url or --host and --port, not both");
    options->tls = options->tls || options->tls_ca != NULL || options->tls_server_name != NULL ||
                   options->tls_certificate != NULL || options->tls_key != NULL;
    if (options->url != NULL && options->tls && !options->place.secure)
        return usage_error(options->url, "only tls and wss go with --tls, --ca and its like");
    if (options->ws_frames != 0 && !options->place.websocket)
        return usage_error(NULL, "--ws-frames is for ws:// and wss:// in --url");
    if (options->host == NULL)
        options->host = options->url != NULL ? options->place.host : "127.0.0.1";
    if (options->port == 0)
        options->port = options->url != NULL ? options->place.port : PORT_DEFAULT;
    options->tls = options->tls || options->place.secure;
    return BENCH_OK;
}

static int check_company(struct bench_options *options)
{
    uint64_t members = options->users / options->rooms; /* of the smallest room */
    if (options->watch == UINT64_MAX)
        options->watch = options->users > WATCH ? WATCH : options->users - 1;
    if (options->scenario == BENCH_FRIENDS && options->watch >= options->users)
        return usage_error(NULL, "--watch: fewer than there are users");
    if (options->scenario != BENCH_ROOM)
        return BENCH_OK;
    if (members == 0 || options->rooms < options->threads)
        return usage_error(NULL, "--rooms: no more than users, and no fewer than threads");
    if (options->away >= members)
        return usage_error(NULL, "--away: fewer than a room has members");
    if (options->publishers > members - options->away)
        return usage_error(NULL, "--publishers: no more than a room has members");
    if (strlen(options->room) == 0 || strlen(options->room) > 32)
        return usage_error(NULL, "--room: 1 to 32 bytes");
    return BENCH_OK;
}

static int check_together(struct bench_options *options)
{
    if (options->joining_max == 0)
        options->joining_max = joining_default(options);
    if (options->threads > options->users)
        options->threads = options->users;
    if (strlen(options->prefix) > 32 || strlen(options->prefix) == 0)
        return usage_error(NULL, "--prefix: 1 to 32 bytes");
    if ((options->tls_certificate == NULL) != (options->tls_key == NULL))
        return usage_error(NULL, "--certificate and --key go together");
    if (options->tokens_file != NULL && options->token_key != NULL)
        return usage_error(NULL, "--tokens or --token-key, not both");
    if ((options->issuer != NULL || options->audience != NULL) && options->token_key == NULL)
        return usage_error(NULL, "--issuer and --audience are of tokens that --token-key makes");
    if (options->scenario == BENCH_CALL && options->window > 64)
        return usage_error(NULL, "--window: at most 64 calls in flight per user");
    int result = check_company(options);
    return result == BENCH_OK ? settle_place(options) : result;
}

int bench_options_read(struct bench_options *options, int argc, char **argv)
{
    struct option_words words;
    *options = (struct bench_options){
        .prefix = "bench-",
        .service = "bench",
        .room = "bench:",
        .rooms = 1,
        .watch = UINT64_MAX,
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
    enum option_end end = options_read(&set, argc, argv, options, &words);
    if (end != OPTIONS_READ)
        return end == OPTIONS_SHOWN ? BENCH_SHOWN : BENCH_USAGE;
    int result = take_scenario(options, &words);
    return result == BENCH_OK ? check_together(options) : result;
}
