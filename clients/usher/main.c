/* SPDX-License-Identifier: Apache-2.0 */
#include "usher/cli.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/options.h"
#include "files/token_file.h"
#include "proto/bytes.h"

/* The program `usher`: a person's client, and a script's. The command line is a table; each
 * subcommand logs in, does one thing and says by its exit code how it went. Without --acks it
 * logs out at its end; with --acks it leaves the session to its resume window, because logging
 * out would give up what is still in the inbox. */

enum {
    TIMEOUT_MS_DEFAULT = 10000,
    GOODBYE_MS = 2000,
    PAYLOAD_BYTES_MAX = 16 * 1024 * 1024, /* more than any broker takes */
    STDIN_BYTES_STEP = 64 * 1024,
};

enum command {
    COMMAND_CHAT,
    COMMAND_SEND,
    COMMAND_CALL,
    COMMAND_LISTEN,
    COMMANDS,
};

enum {
    SEND = 1 << COMMAND_SEND,
    CALL = 1 << COMMAND_CALL,
    LISTEN = 1 << COMMAND_LISTEN,
};

#define FIELD(field) offsetof(struct cli_options, field)

static const struct option_row rows[] = {
    {.name = "user", .type = OPTION_TEXT, .offset = FIELD(usher.username)},
    {.name = "url", .type = OPTION_TEXT, .offset = FIELD(usher.url)},
    {.name = "host", .type = OPTION_TEXT, .offset = FIELD(host)},
    {.name = "port", .type = OPTION_COUNT, .offset = FIELD(port), .min = 1, .max = 65535},
    {.name = "token", .type = OPTION_TEXT, .offset = FIELD(token_text)},
    {.name = "token-file", .type = OPTION_TEXT, .offset = FIELD(token_file)},
    {.name = "tls", .type = OPTION_FLAG, .offset = FIELD(usher.tls)},
    {.name = "ca", .type = OPTION_TEXT, .offset = FIELD(usher.tls_ca_file)},
    {.name = "server-name", .type = OPTION_TEXT, .offset = FIELD(usher.tls_server_name)},
    {.name = "certificate", .type = OPTION_TEXT, .offset = FIELD(usher.tls_certificate_file)},
    {.name = "key", .type = OPTION_TEXT, .offset = FIELD(usher.tls_key_file)},
    {.name = "acks", .type = OPTION_FLAG, .offset = FIELD(usher.acks)},
    {.name = "json", .type = OPTION_FLAG, .offset = FIELD(json)},
    {.name = "to", .type = OPTION_TEXT, .offset = FIELD(to), .commands = SEND},
    {.name = "delivered", .type = OPTION_FLAG, .offset = FIELD(delivered), .commands = SEND},
    {.name = "transient", .type = OPTION_FLAG, .offset = FIELD(transient), .commands = SEND},
    {.name = "keep-s",
     .type = OPTION_COUNT,
     .offset = FIELD(keep_s),
     .min = 1,
     .max = UINT32_MAX,
     .commands = SEND},
    {.name = "tag",
     .type = OPTION_COUNT,
     .offset = FIELD(tag),
     .min = 1,
     .max = OPTION_COUNT_MAX,
     .commands = SEND},
    {.name = "last-mid",
     .type = OPTION_COUNT,
     .offset = FIELD(usher.last_mid),
     .max = OPTION_COUNT_MAX},
    {.name = "service", .type = OPTION_TEXT, .offset = FIELD(service), .commands = CALL},
    {.name = "method", .type = OPTION_TEXT, .offset = FIELD(method), .commands = CALL},
    {.name = "traceparent",
     .type = OPTION_TEXT,
     .offset = FIELD(traceparent),
     .commands = SEND | CALL},
    {.name = "count",
     .type = OPTION_COUNT,
     .offset = FIELD(count),
     .min = 1,
     .max = OPTION_COUNT_MAX,
     .commands = LISTEN},
    {.name = "timeout",
     .type = OPTION_REAL,
     .offset = FIELD(timeout_s),
     .max = 1e6,
     .commands = SEND | CALL | LISTEN},
};

static const char USAGE[] =
    "usage: usher [chat] --user NAME [options]                 talk, line by line\n"
    "       usher send   --user NAME --to NAME [options] TEXT\n"
    "       usher call   --user NAME --service NAME --method NAME [options] [TEXT]\n"
    "       usher listen --user NAME [--count N] [--timeout SECONDS] [options]\n"
    "\n"
    "  --url URL          of the broker: tcp://HOST[:PORT], tls://HOST[:PORT],\n"
    "                     ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH], the last two\n"
    "                     for listen.ws and listen.wss (ports 7400, 7443, 80, 443; /usher)\n"
    "  --host HOST        of the broker, in place of --url (127.0.0.1)\n"
    "  --port PORT        of the broker (7400)\n"
    "  --token TEXT       what proves the name, if the broker asks; better in a file or in\n"
    "                     USHER_TOKEN, since others on this machine can see command lines\n"
    "  --token-file FILE  a file that holds it; read again for each login, so that a token that\n"
    "                     has expired meanwhile can be replaced there\n"
    "  --tls              over TLS; give the port of the broker's listen.tls\n"
    "  --ca FILE          who must have signed its certificate (the system's authorities)\n"
    "  --server-name NAME that its certificate must have (the host)\n"
    "  --certificate FILE, --key FILE   what to show to a broker that asks\n"
    "  --acks             acknowledge messages; the session is left, not ended, at the end\n"
    "  --delivered        send: wait until the receiver acknowledged it\n"
    "  --transient        send: now or never; refused if the receiver is away or behind\n"
    "  --keep-s N         send: stored until the receiver has it, for so many seconds at most\n"
    "  --tag N            with --keep-s: a second one under it within ten minutes is not stored\n"
    "  --last-mid N       stored messages up to that mid have been here\n"
    "  --traceparent TEXT send, call: of W3C Trace Context, passed on to who gets it\n"
    "  --count N          listen: end after N messages\n"
    "  --timeout SECONDS  listen: end after that time; send, call: wait that long (10)\n"
    "  --json             one JSON object per event on stdout\n"
    "  --help, --version\n"
    "\n"
    "TEXT is - to read stdin. Exit codes: 0 ok, 1 refused by the broker (listen: fewer than\n"
    "N messages came), 2 could not connect or lost the connection, 64 usage.\n";

static void print_help(void)
{
    fputs(USAGE, stdout);
}

static const struct option_set OPTIONS = {
    .program = "usher",
    .print_help = print_help,
    .rows = rows,
    .count = sizeof(rows) / sizeof(*rows),
};

static int wrong_use(const char *word, const char *what)
{
    options_complain(&OPTIONS, NULL, word, what);
    return EXIT_WRONG_USE;
}

/* A token source: the file may hold another token by now. It may also be away for a moment, while
 * somebody writes it. */
static int read_token_file(void *context, struct usher_token *token)
{
    struct cli_options *options = context;
    size_t size;
    char *read;
    if (token_file_read(options->token_file, &read, &size) != 0)
        return -EAGAIN;
    free(options->token);
    options->token = read;
    *token = (struct usher_token){read, size};
    return 0;
}

/* --- subcommands ------------------------------------------------------------------------------ */

/* All of stdin, or NULL: there is more than any broker takes, or no memory. */
static char *read_stdin(size_t *size)
{
    struct buffer read = {0};
    for (;;) {
        uint8_t *place = buffer_reserve(&read, STDIN_BYTES_STEP);
        size_t count = place != NULL ? fread(place, 1, STDIN_BYTES_STEP, stdin) : 0;
        read.size += count;
        if (place == NULL || read.size > PAYLOAD_BYTES_MAX) {
            buffer_fini(&read);
            return NULL;
        }
        if (count == 0)
            break;
    }
    *size = read.size;
    return (char *)read.data;
}

/* The text of the command line, or stdin. Gives an allocated text, or NULL. */
static char *payload_of(const char *argument, size_t *size)
{
    if (strcmp(argument, "-") == 0)
        return read_stdin(size);
    *size = strlen(argument);
    return strdup(argument);
}

/* How a request that could not be answered went. */
static int failed(struct usher_client *client, int result)
{
    const char *text = usher_client_error_text(client);
    if (text[0] == '\0')
        text = strerrordesc_np(-result);
    const struct printer plain = {stderr, false, true};
    fputs("usher: ", stderr);
    print_text(&plain, text, strlen(text));
    fputc('\n', stderr);
    return result == -EMSGSIZE ? EXIT_REFUSED : EXIT_NO_CONNECTION;
}

/* What the library says of itself (a negative code) is about the connection. */
static int finish_request(struct usher_client *client, const struct printer *printer, int result,
                          const struct usher_event *answer)
{
    if (result < 0)
        return failed(client, result);
    print_event(printer, answer);
    if ((answer->type == USHER_DONE && !answer->dropped) ||
        (answer->type == USHER_REPLY && answer->code == 0))
        return EXIT_OK;
    return answer->type == USHER_ERROR && answer->code < 0 ? EXIT_NO_CONNECTION : EXIT_REFUSED;
}

static int timeout_of(const struct cli_options *options)
{
    return options->timeout_ms >= 0 ? options->timeout_ms : TIMEOUT_MS_DEFAULT;
}

typedef int asking(struct usher_client *client, const struct cli_options *options,
                   const char *payload, size_t size, struct usher_event *answer);

/* One request, whose payload is the text. */
static int run_request(struct usher_client *client, const struct printer *printer,
                       const struct cli_options *options, const char *text, asking *ask)
{
    size_t size = 0;
    struct usher_event answer;
    char *payload = payload_of(text, &size);
    if (payload == NULL)
        return failed(client, -EMSGSIZE);
    int result = ask(client, options, payload, size, &answer);
    free(payload);
    return finish_request(client, printer, result, &answer);
}

static int ask_send(struct usher_client *client, const struct cli_options *options,
                    const char *payload, size_t size, struct usher_event *answer)
{
    if (options->keep_s != 0) {
        uint64_t id;
        int result = usher_send_stored(client, options->to, payload, size,
                                       (uint32_t)options->keep_s, options->tag, &id);
        return result < 0 ? result : usher_answer_wait(client, id, timeout_of(options), answer);
    }
    return usher_send_wait(client, options->to, payload, size,
                           options->delivered   ? USHER_DELIVERED
                           : options->transient ? USHER_TRANSIENT
                                                : USHER_ACCEPTED,
                           timeout_of(options), answer);
}

static int run_send(struct usher_client *client, const struct printer *printer,
                    const struct cli_options *options, const char *text)
{
    return run_request(client, printer, options, text, ask_send);
}

static int ask_call(struct usher_client *client, const struct cli_options *options,
                    const char *payload, size_t size, struct usher_event *answer)
{
    return usher_call_wait(client, options->service, options->method, payload, size,
                           timeout_of(options), answer);
}

static int run_call(struct usher_client *client, const struct printer *printer,
                    const struct cli_options *options, const char *text)
{
    return run_request(client, printer, options, text, ask_call);
}

/* Until so many messages have come, or so much time is over; a No ends it before. */
static int run_listen(struct usher_client *client, const struct printer *printer,
                      const struct cli_options *options, const char *text)
{
    (void)text;
    uint64_t left = options->count;
    uint64_t end_ms = clock_end_ms(options->timeout_ms);
    for (;;) {
        struct usher_event event;
        int result = usher_client_wait(client, clock_left_ms(end_ms), &event);
        if (result == 0)
            return options->count != 0 ? EXIT_REFUSED : EXIT_OK;
        if (result < 0)
            return failed(client, result);
        print_event(printer, &event);
        bool said_no = event.type == USHER_CLOSE || (event.type == USHER_ERROR && event.id == 0);
        if (said_no && usher_client_state(client) == USHER_STATE_ENDED)
            return EXIT_REFUSED;
        if (event.type == USHER_MESSAGE && left != 0 && --left == 0)
            return EXIT_OK;
    }
}

static int run_chat(struct usher_client *client, const struct printer *printer,
                    const struct cli_options *options, const char *text)
{
    (void)text;
    return chat_run(client, printer, options);
}

static const struct subcommand {
    const char *name;
    int (*run)(struct usher_client *client, const struct printer *printer,
               const struct cli_options *options, const char *text);
    size_t texts_min, texts_max;
} SUBCOMMANDS[COMMANDS] = {
    [COMMAND_CHAT] = {"chat", run_chat, 0, 0},
    [COMMAND_SEND] = {"send", run_send, 1, 1},
    [COMMAND_CALL] = {"call", run_call, 0, 1},
    [COMMAND_LISTEN] = {"listen", run_listen, 0, 0},
};

/* COMMANDS: there is none of that name. */
static unsigned find_subcommand(const char *name)
{
    unsigned command = 0;
    while (command < COMMANDS && strcmp(SUBCOMMANDS[command].name, name) != 0)
        command++;
    return command;
}

/* --- one run ---------------------------------------------------------------------------------- */

/* Waits until the broker has seen the last acknowledgement (its Pong comes after), or logs out. */
static void leave(struct usher_client *client, bool acks)
{
    if (usher_client_state(client) != USHER_STATE_ONLINE)
        return;
    usher_client_leave(client);
    struct usher_event event;
    uint64_t id;
    int result = acks ? usher_ping(client, &id) : usher_logout(client, &id);
    if (result == 0)
        (void)usher_answer_wait(client, id, GOODBYE_MS, &event);
}

/* Why the library takes none of it. */
static const char *what_is_wrong(const struct usher_options *options)
{
    if ((options->tls_certificate_file == NULL) != (options->tls_key_file == NULL))
        return "--certificate and --key go together";
    if (options->username[0] == '\0')
        return "--user is empty";
    if (options->url != NULL && strncasecmp(options->url, "tls:", 4) != 0 &&
        strncasecmp(options->url, "wss:", 4) != 0 && options->tls)
        return "only tls:// and wss:// in --url go with --tls, --ca and its like";
    if (options->host[0] == '\0')
        return "--host is empty";
    return "--user, --host or the token is too long";
}

static int complain_url(const char *url, const char *fault)
{
    fprintf(stderr,
            "usher: --url %s: %s; it is tcp://HOST[:PORT], tls://HOST[:PORT], "
            "ws://HOST[:PORT][/PATH] or wss://HOST[:PORT][/PATH]\n",
            url, fault);
    return EXIT_WRONG_USE;
}

static int run(const struct subcommand *subcommand, struct cli_options *options, const char *text)
{
    struct usher_client *client;
    const char *fault = options->usher.url != NULL ? usher_url_fault(options->usher.url) : NULL;
    if (fault != NULL)
        return complain_url(options->usher.url, fault);
    int result = usher_client_create(&options->usher, &client);
    if (result == -EINVAL)
        return wrong_use(NULL, what_is_wrong(&options->usher));
    if (result < 0) {
        fprintf(stderr, "usher: %s\n", strerrordesc_np(-result));
        return EXIT_NO_CONNECTION;
    }
    if (options->token_file != NULL)
        (void)usher_client_set_token_source(client, read_token_file, options);
    if (usher_set_traceparent(client, options->traceparent) < 0) {
        usher_client_destroy(client);
        return wrong_use(NULL, "--traceparent: 00-, 32 digits of the trace, -, 16 of the parent, "
                               "-01, in lower case hexadecimal");
    }
    struct printer printer = {stdout, options->json, isatty(STDOUT_FILENO) != 0};
    struct usher_event event;
    result = usher_login(client, TIMEOUT_MS_DEFAULT, &event);
    int code;
    if (result < 0) {
        if (result == -EACCES && options->json)
            print_event(&printer, &event);
        code = failed(client, result);
        if (result == -EACCES)
            code = EXIT_REFUSED;
    } else {
        if (subcommand->run == run_chat || subcommand->run == run_listen)
            print_event(&printer, &event);
        code = subcommand->run(client, &printer, options, text);
        leave(client, options->usher.acks);
    }
    usher_client_destroy(client);
    return code;
}

/* Where the token comes from; the environment's only without one on the command line. */
static void take_token(struct cli_options *options)
{
    const char *token = options->token_text;
    if (token == NULL && options->token_file == NULL)
        token = getenv("USHER_TOKEN");
    options->usher.token = token;
    options->usher.token_size = token != NULL ? strlen(token) : 0;
}

/* What the rows say, as the library takes it. */
static void settle(struct cli_options *options)
{
    struct usher_options *usher = &options->usher;
    if (options->host != NULL)
        usher->host = options->host;
    if (options->port != 0)
        usher->port = (uint16_t)options->port;
    usher->tls = usher->tls || usher->tls_ca_file != NULL || usher->tls_server_name != NULL ||
                 usher->tls_certificate_file != NULL || usher->tls_key_file != NULL;
    options->timeout_ms = options->timeout_s < 0 ? -1 : (int)(options->timeout_s * 1000);
    take_token(options);
}

static const char *missing_or_too_much(unsigned command, const struct cli_options *options)
{
    if (options->usher.username == NULL)
        return "--user is missing";
    if (options->usher.url != NULL && (options->host != NULL || options->port != 0))
        return "--url or --host and --port, not both";
    if (options->token_text != NULL && options->token_file != NULL)
        return "--token or --token-file, not both";
    if (options->delivered && options->transient)
        return "--delivered or --transient, not both";
    if (options->keep_s != 0 && (options->delivered || options->transient))
        return "--keep-s goes with neither --delivered nor --transient";
    if (command == COMMAND_SEND && options->to == NULL)
        return "--to is missing";
    if (command == COMMAND_CALL && (options->service == NULL || options->method == NULL))
        return "--service or --method is missing";
    return NULL;
}

static int run_words(struct cli_options *options, const struct option_words *words)
{
    unsigned command = words->count > 0 ? find_subcommand(words->words[0]) : COMMAND_CHAT;
    if (command == COMMANDS)
        return wrong_use(words->words[0], "there is no such command");
    const struct subcommand *subcommand = &SUBCOMMANDS[command];
    if (!options_fit(&OPTIONS, words, command, subcommand->name))
        return EXIT_WRONG_USE;
    const char *missing = missing_or_too_much(command, options);
    if (missing != NULL)
        return wrong_use(NULL, missing);
    if (options->token_file != NULL &&
        read_token_file(options, &(struct usher_token){NULL, 0}) != 0) {
        options_complain(&OPTIONS, "token-file", options->token_file, "no token can be read there");
        return EXIT_WRONG_USE;
    }
    size_t texts = words->count > 0 ? words->count - 1 : 0;
    if (texts < subcommand->texts_min || texts > subcommand->texts_max)
        return wrong_use(NULL,
                         texts < subcommand->texts_min ? "TEXT is missing" : "too many words");
    return run(subcommand, options, texts > 0 ? words->words[1] : "");
}

int main(int count, char **arguments)
{
    struct cli_options options = {.timeout_s = -1};
    struct option_words words;
    usher_options_init(&options.usher);
    options.usher.client = "usher/" USHER_VERSION;
    enum option_end end = options_read(&OPTIONS, count, arguments, &options, &words);
    if (end != OPTIONS_READ)
        return end == OPTIONS_SHOWN ? EXIT_OK : EXIT_WRONG_USE;
    settle(&options);
    int code = run_words(&options, &words);
    free(options.token);
    return code;
}
