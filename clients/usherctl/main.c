/* SPDX-License-Identifier: Apache-2.0 */
#include "usherctl/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "files/token_file.h"

/* usherctl: questions and orders of an operator, on the command line.
 *
 * Options may stand anywhere and mean the same everywhere; a command names those that it takes, and
 * the others are refused. What stands behind `store` is usher-store's. Everything goes through
 * libusher-backend, as any service could do it. */

struct command {
    const char *name;
    size_t arguments_min;
    size_t arguments_max;
    int (*run)(const struct ctl *ctl);
    const char *options; /* beside ALWAYS */
    const char *usage;
    const char *help;
};

static const char ALWAYS[] = "url token-file json help version";

static const struct command commands[] = {
    {"who", 0, 0, ctl_who, "prefix", "who [--prefix P]", "list the sessions, by name"},
    {"find", 1, 100, ctl_find, "", "find USER...", "show these users; exit 1 if one is not there"},
    {"count", 0, 0, ctl_count, "", "count", "count the sessions"},
    {"kick", 1, 1, ctl_kick, "epoch reason do-not-return",
     "kick USER [--epoch E] [--reason TEXT] [--do-not-return]", "end a user's session"},
    {"push", 2, 2, ctl_push, "epoch", "push USER TEXT [--epoch E]", "send a message to a user"},
    {"push-all", 1, 1, ctl_push_all, "", "push-all TEXT", "send a message to everybody"},
    {"presence", 0, 0, ctl_presence, "after follow user",
     "presence [--user U] [--after N] [--follow]",
     "show who came and went, and with --follow who comes and goes"},
    {"snapshot", 0, 0, ctl_snapshot, "", "snapshot",
     "all sessions and the presence seq they match"},
    {"stats", 0, 0, ctl_stats, "", "stats", "the node's numbers"},
    {"recorder", 0, 0, ctl_recorder, "user", "recorder [--user U]",
     "the flight recorder: the last events, as JSON lines"},
    {"trace", 1, 1, ctl_trace, "seconds one-in", "trace USER [--seconds N] [--one-in N]",
     "follow what happens to a user's messages, as JSON lines, until the time is over"},
    {"reload", 0, 0, ctl_reload, "", "reload",
     "read the configuration again; says what changed and what needs a restart"},
    {"drain", 0, 0, ctl_drain, "seconds restart", "drain [--seconds N | --restart]",
     "send the clients away in waves, then stop usherd; or, when no other node takes them, restart "
     "it"},
    {"store", 1, 100, ctl_store, "", "store check|dump|backup|restore ...",
     "look into a store, running or not; see usher-store --help"},
};

enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

static void print_help(void)
{
    puts("usherctl - ask and steer a running usherd\n\n"
         "Usage: usherctl [OPTIONS] COMMAND [ARGUMENTS]\n\nCommands:");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %s\n        %s\n", commands[i].usage, commands[i].help);
    puts("\nOptions:\n"
         "  --url URL          the node's link, ipc://PATH or tcp://HOST:PORT; default: the\n"
         "                     environment's USHER_LINK, else ipc://./build/data/link.sock,\n"
         "                     else ipc://./usher-data/link.sock,\n"
         "                     else ipc:///run/usher/link.sock, where the package's is\n"
         "  --token-file FILE  what the node wants from backends that say hello\n"
         "  --json             one JSON object per line\n"
         "  --                 end of options, for a TEXT that begins with a dash\n"
         "  --help, --version\n\n"
         "Exit codes: 0 done, 1 refused or a user is not online, 2 no broker answers, 64 usage.");
}

static int usage_error(const char *what, const char *about)
{
    fprintf(stderr, "usherctl: %s%s%s\nusherctl: see usherctl --help\n", what,
            about != NULL ? ": " : "", about != NULL ? about : "");
    return CTL_USAGE;
}

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && text[0] >= '0' && text[0] <= '9';
}

static bool parse_small(const char *text, uint32_t *value)
{
    uint64_t number;
    bool good = parse_number(text, &number) && number > 0 && number <= UINT32_MAX;
    *value = good ? (uint32_t)number : 0;
    return good;
}

static int read_token(struct ctl *ctl, const char *path)
{
    char *token;
    int error = token_file_read(path, &token, &ctl->token_size);
    if (error != 0)
        return usage_error(path, token_file_fault(error));
    free(ctl->token);
    ctl->token = token;
    return CTL_OK;
}

enum option_key {
    OPTION_URL = 256,
    OPTION_TOKEN_FILE,
    OPTION_JSON,
    OPTION_PREFIX,
    OPTION_EPOCH,
    OPTION_REASON,
    OPTION_DO_NOT_RETURN,
    OPTION_AFTER,
    OPTION_FOLLOW,
    OPTION_USER,
    OPTION_SECONDS,
    OPTION_ONE_IN,
    OPTION_RESTART,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option options[] = {
    {"url", required_argument, NULL, OPTION_URL},
    {"token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"json", no_argument, NULL, OPTION_JSON},
    {"prefix", required_argument, NULL, OPTION_PREFIX},
    {"epoch", required_argument, NULL, OPTION_EPOCH},
    {"reason", required_argument, NULL, OPTION_REASON},
    {"do-not-return", no_argument, NULL, OPTION_DO_NOT_RETURN},
    {"after", required_argument, NULL, OPTION_AFTER},
    {"follow", no_argument, NULL, OPTION_FOLLOW},
    {"user", required_argument, NULL, OPTION_USER},
    {"seconds", required_argument, NULL, OPTION_SECONDS},
    {"one-in", required_argument, NULL, OPTION_ONE_IN},
    {"restart", no_argument, NULL, OPTION_RESTART},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

/* CTL_OK, CTL_USAGE, or -1: help or version was printed. */
static int take_option(struct ctl *ctl, int key, const char *value)
{
    switch (key) {
    case OPTION_URL:
        ctl->url = value;
        return CTL_OK;
    case OPTION_TOKEN_FILE:
        return read_token(ctl, value);
    case OPTION_JSON:
        ctl->json = true;
        return CTL_OK;
    case OPTION_PREFIX:
        ctl->prefix = value;
        return CTL_OK;
    case OPTION_EPOCH:
        return parse_number(value, &ctl->epoch) ? CTL_OK : usage_error("not a number", value);
    case OPTION_REASON:
        ctl->reason = value;
        return CTL_OK;
    case OPTION_DO_NOT_RETURN:
        ctl->do_not_return = true;
        return CTL_OK;
    case OPTION_AFTER:
        return parse_number(value, &ctl->after) ? CTL_OK : usage_error("not a number", value);
    case OPTION_FOLLOW:
        ctl->follow = true;
        return CTL_OK;
    case OPTION_USER:
        ctl->user = value;
        return CTL_OK;
    case OPTION_SECONDS:
        return parse_small(value, &ctl->seconds) ? CTL_OK : usage_error("not a number", value);
    case OPTION_ONE_IN:
        return parse_small(value, &ctl->one_in) ? CTL_OK : usage_error("not a number", value);
    case OPTION_RESTART:
        ctl->restart = true;
        return CTL_OK;
    case OPTION_HELP:
        print_help();
        return -1;
    case OPTION_VERSION:
        puts("usherctl " USHER_VERSION);
        return -1;
    default:
        return CTL_USAGE; /* getopt has said what */
    }
}

static int refuse_option(const char *name, const char *command)
{
    fprintf(stderr, "usherctl: --%s means nothing for %s\nusherctl: see usherctl --help\n", name,
            command);
    return CTL_USAGE;
}

static int run_command(struct ctl *ctl, const char *name, uint64_t given)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const struct command *command = &commands[i];
        if (strcmp(command->name, name) != 0)
            continue;
        if (ctl->argument_count < command->arguments_min ||
            ctl->argument_count > command->arguments_max)
            return usage_error("usage: usherctl", command->usage);
        const char *misplaced = option_out_of_place(options, given, ALWAYS, command->options);
        return misplaced != NULL ? refuse_option(misplaced, name) : command->run(ctl);
    }
    return usage_error("no such command", name);
}

/* The words that are no options, in their order, to ctl->arguments; the first is the command. */
static int read_line(struct ctl *ctl, int argc, char **argv, uint64_t *given)
{
    int place = 0;
    int key;
    int result = CTL_OK;
    while (result == CTL_OK && (key = getopt_long(argc, argv, "-", options, &place)) != -1) {
        if (key == 1) {
            ctl->arguments[ctl->argument_count++] = optarg;
            if (ctl->argument_count == 1 && strcmp(optarg, "store") == 0)
                break;
            continue;
        }
        *given |= UINT64_C(1) << place;
        result = take_option(ctl, key, optarg);
    }
    while (result == CTL_OK && optind < argc)
        ctl->arguments[ctl->argument_count++] = argv[optind++];
    return result;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.url = usher_backend_default_url()};
    char **words = calloc((size_t)argc + 1, sizeof(*words));
    uint64_t given = 0;
    int result;
    if (words == NULL)
        return CTL_REFUSED;
    ctl.arguments = words;
    result = read_line(&ctl, argc, argv, &given);
    if (result == CTL_OK && ctl.argument_count == 0)
        result = usage_error("no command", NULL);
    if (result == CTL_OK) {
        ctl.arguments++;
        ctl.argument_count--;
        result = run_command(&ctl, words[0], given);
    }
    free(words);
    free(ctl.token);
    if (fflush(stdout) != 0 || ferror(stdout))
        result = result == CTL_OK || result == -1 ? CTL_REFUSED : result;
    return result == -1 ? CTL_OK : result;
}
