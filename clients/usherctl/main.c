/* SPDX-License-Identifier: Apache-2.0 */
#include "usherctl/ctl.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "files/token_file.h"
#include "proto/traceparent.h"

/* usherctl: questions and orders of an operator, on the command line.
 *
 * Options may stand anywhere and mean the same everywhere; a command names those that it takes, and
 * the others are refused. What stands behind `store` is usher-store's. Everything goes through
 * libusher-backend, as any service could do it. */

enum {
    COMMAND_WHO,
    COMMAND_FIND,
    COMMAND_COUNT,
    COMMAND_KICK,
    COMMAND_PUSH,
    COMMAND_PUSH_ALL,
    COMMAND_PRESENCE,
    COMMAND_SNAPSHOT,
    COMMAND_WHY,
    COMMAND_STATS,
    COMMAND_ROOMS,
    COMMAND_ROOM,
    COMMAND_INBOX,
    COMMAND_INBOX_DROP,
    COMMAND_RECORDER,
    COMMAND_TRACE,
    COMMAND_RELOAD,
    COMMAND_DRAIN,
    COMMAND_UPGRADE,
    COMMAND_STORE,
    COMMANDS,
};

static const struct command {
    const char *name;
    size_t arguments_min;
    size_t arguments_max;
    int (*run)(const struct ctl *ctl);
    const char *usage;
    const char *help;
} commands[COMMANDS] = {
    [COMMAND_WHO] = {"who", 0, 0, ctl_who, "who [--prefix P]", "list the sessions, by name"},
    [COMMAND_FIND] = {"find", 1, 100, ctl_find, "find USER...",
                      "show these users; exit 1 if one is not there"},
    [COMMAND_COUNT] = {"count", 0, 0, ctl_count, "count", "count the sessions"},
    [COMMAND_KICK] = {"kick", 1, 1, ctl_kick,
                      "kick USER [--epoch E] [--reason TEXT] [--do-not-return]",
                      "end a user's session"},
    [COMMAND_PUSH] = {"push", 2, 2, ctl_push,
                      "push USER TEXT [--epoch E] [--transient] [--keep-s N [--tag N]] "
                      "[--traceparent T]",
                      "send a message to a user; a transient one now or never, one with --keep-s "
                      "stored until he has it, for so many seconds at most"},
    [COMMAND_PUSH_ALL] = {"push-all", 1, 1, ctl_push_all,
                          "push-all TEXT [--transient] [--traceparent T]",
                          "send a message to everybody"},
    [COMMAND_PRESENCE] = {"presence", 0, 0, ctl_presence,
                          "presence [--user U] [--after N] [--follow]",
                          "show who came and went, and with --follow who comes and goes"},
    [COMMAND_SNAPSHOT] = {"snapshot", 0, 0, ctl_snapshot, "snapshot",
                          "all sessions and the presence seq they match"},
    [COMMAND_WHY] =
        {"why", 1, 1, ctl_why, "why USER [--last N]",
         "what happened to a user, newest first: who ended it, from where, and what the "
         "limits said; exit 1 if nothing is known"},
    [COMMAND_STATS] = {"stats", 0, 0, ctl_stats, "stats", "the node's numbers"},
    [COMMAND_ROOMS] = {"rooms", 0, 1, ctl_rooms, "rooms [PREFIX]", "list the rooms, by name"},
    [COMMAND_ROOM] = {"room", 1, 1, ctl_room, "room NAME",
                      "who is in a room; exit 1 if it is not there"},
    [COMMAND_INBOX] = {"inbox", 1, 1, ctl_inbox, "inbox USER",
                       "what is stored for a user and not processed by him, oldest first"},
    [COMMAND_INBOX_DROP] = {"inbox-drop", 1, 1, ctl_inbox_drop, "inbox-drop USER --up-to MID",
                            "drop what is stored for a user, up to that one; his next Welcome "
                            "says so"},
    [COMMAND_RECORDER] = {"recorder", 0, 0, ctl_recorder, "recorder [--user U]",
                          "the flight recorder: the last events, as JSON lines"},
    [COMMAND_TRACE] = {"trace", 1, 1, ctl_trace,
                       "trace USER [--seconds N] [--one-in N] [--trace-id ID]",
                       "follow what happens to a user's messages, as JSON lines, until the time is "
                       "over; or to those of one W3C trace"},
    [COMMAND_RELOAD] = {"reload", 0, 0, ctl_reload, "reload",
                        "read the configuration again; says what changed and what needs a restart"},
    [COMMAND_DRAIN] = {"drain", 0, 0, ctl_drain, "drain [--seconds N | --restart]",
                       "send the clients away in waves, then stop usherd; or, when no other node "
                       "takes them, restart it"},
    [COMMAND_UPGRADE] = {"upgrade", 0, 0, ctl_upgrade, "upgrade",
                         "put the newer program in the place of the running one, which no plain "
                         "client notices; says for how long nobody was served"},
    [COMMAND_STORE] = {"store", 1, 100, ctl_store, "store check|dump|backup|restore ...",
                       "look into a store, running or not; see usher-store --help"},
};

enum {
    WHO = 1 << COMMAND_WHO,
    KICK = 1 << COMMAND_KICK,
    PUSH = 1 << COMMAND_PUSH,
    PUSH_ALL = 1 << COMMAND_PUSH_ALL,
    PRESENCE = 1 << COMMAND_PRESENCE,
    WHY = 1 << COMMAND_WHY,
    INBOX_DROP = 1 << COMMAND_INBOX_DROP,
    RECORDER = 1 << COMMAND_RECORDER,
    TRACE = 1 << COMMAND_TRACE,
    DRAIN = 1 << COMMAND_DRAIN,
};

#define FIELD(field) offsetof(struct ctl, field)

static const struct option_row rows[] = {
    {.name = "url", .type = OPTION_TEXT, .offset = FIELD(url)},
    {.name = "token-file", .type = OPTION_TEXT, .offset = FIELD(token_file)},
    {.name = "json", .type = OPTION_FLAG, .offset = FIELD(json)},
    {.name = "prefix", .type = OPTION_TEXT, .offset = FIELD(prefix), .commands = WHO},
    {.name = "epoch",
     .type = OPTION_COUNT,
     .offset = FIELD(epoch),
     .max = OPTION_COUNT_MAX,
     .commands = KICK | PUSH},
    {.name = "transient",
     .type = OPTION_FLAG,
     .offset = FIELD(transient),
     .commands = PUSH | PUSH_ALL},
    {.name = "keep-s",
     .type = OPTION_COUNT,
     .offset = FIELD(keep_s),
     .min = 1,
     .max = UINT32_MAX,
     .commands = PUSH},
    {.name = "tag",
     .type = OPTION_COUNT,
     .offset = FIELD(tag),
     .min = 1,
     .max = OPTION_COUNT_MAX,
     .commands = PUSH},
    {.name = "up-to",
     .type = OPTION_COUNT,
     .offset = FIELD(up_to),
     .min = 1,
     .max = OPTION_COUNT_MAX,
     .commands = INBOX_DROP},
    {.name = "reason", .type = OPTION_TEXT, .offset = FIELD(reason), .commands = KICK},
    {.name = "do-not-return",
     .type = OPTION_FLAG,
     .offset = FIELD(do_not_return),
     .commands = KICK},
    {.name = "after",
     .type = OPTION_COUNT,
     .offset = FIELD(after),
     .max = OPTION_COUNT_MAX,
     .commands = PRESENCE},
    {.name = "last",
     .type = OPTION_COUNT,
     .offset = FIELD(last),
     .min = 1,
     .max = CTL_LAST_MAX,
     .commands = WHY},
    {.name = "follow", .type = OPTION_FLAG, .offset = FIELD(follow), .commands = PRESENCE},
    {.name = "user", .type = OPTION_TEXT, .offset = FIELD(user), .commands = PRESENCE | RECORDER},
    {.name = "seconds",
     .type = OPTION_COUNT,
     .offset = FIELD(seconds),
     .min = 1,
     .max = UINT32_MAX,
     .commands = TRACE | DRAIN},
    {.name = "one-in",
     .type = OPTION_COUNT,
     .offset = FIELD(one_in),
     .min = 1,
     .max = UINT32_MAX,
     .commands = TRACE},
    {.name = "trace-id", .type = OPTION_TEXT, .offset = FIELD(trace_id), .commands = TRACE},
    {.name = "traceparent",
     .type = OPTION_TEXT,
     .offset = FIELD(traceparent),
     .commands = PUSH | PUSH_ALL},
    {.name = "restart", .type = OPTION_FLAG, .offset = FIELD(restart), .commands = DRAIN},
};

static void print_help(void)
{
    puts("usherctl - ask and steer a running usherd\n\n"
         "Usage: usherctl [OPTIONS] COMMAND [ARGUMENTS]\n\nCommands:");
    for (size_t i = 0; i < COMMANDS; i++)
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

static const struct option_set options = {
    .program = "usherctl",
    .print_help = print_help,
    .rows = rows,
    .count = sizeof(rows) / sizeof(*rows),
    .passes_on = "store",
};

static int usage_error(const char *word, const char *what)
{
    options_complain(&options, NULL, word, what);
    return CTL_USAGE;
}

static int read_token(struct ctl *ctl)
{
    char *token;
    int error = token_file_read(ctl->token_file, &token, &ctl->token_size);
    if (error != 0) {
        options_complain(&options, "token-file", ctl->token_file, token_file_fault(error));
        return CTL_USAGE;
    }
    ctl->token = token;
    return CTL_OK;
}

static int complain_of_arguments(const struct command *command)
{
    fprintf(stderr, "usherctl: usage: usherctl %s; usherctl --help tells more\n", command->usage);
    return CTL_USAGE;
}

static int run_command(struct ctl *ctl, const struct option_words *words)
{
    unsigned number = 0;
    if (words->count == 0)
        return usage_error(NULL, "no command");
    while (number < COMMANDS && strcmp(commands[number].name, words->words[0]) != 0)
        number++;
    if (number == COMMANDS)
        return usage_error(words->words[0], "no such command");
    const struct command *command = &commands[number];
    ctl->arguments = words->words + 1;
    ctl->argument_count = words->count - 1;
    if (ctl->argument_count < command->arguments_min ||
        ctl->argument_count > command->arguments_max)
        return complain_of_arguments(command);
    if (!options_fit(&options, words, number, command->name))
        return CTL_USAGE;
    if (number == COMMAND_INBOX_DROP && ctl->up_to == 0)
        return complain_of_arguments(command);
    if (ctl->traceparent != NULL && !traceparent_valid(bytes_of_text(ctl->traceparent)))
        return usage_error(ctl->traceparent, "not a traceparent of W3C Trace Context");
    if (ctl->trace_id != NULL && !trace_id_valid(bytes_of_text(ctl->trace_id)))
        return usage_error(ctl->trace_id, "not a trace id: 32 digits in lower case hexadecimal");
    int result = ctl->token_file != NULL ? read_token(ctl) : CTL_OK;
    return result == CTL_OK ? command->run(ctl) : result;
}

int main(int argc, char **argv)
{
    struct ctl ctl = {.url = usher_backend_default_url()};
    struct option_words words;
    enum option_end end = options_read(&options, argc, argv, &ctl, &words);
    int result = end == OPTIONS_WRONG ? CTL_USAGE : CTL_OK;
    if (end == OPTIONS_READ)
        result = run_command(&ctl, &words);
    free(ctl.token);
    if (fflush(stdout) != 0 || ferror(stdout))
        result = result == CTL_OK ? CTL_REFUSED : result;
    return result;
}
