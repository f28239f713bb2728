/* SPDX-License-Identifier: Apache-2.0 */
#include "usher/cli.h"

#include <errno.h>
#include <getopt.h>
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

enum option_key {
    OPTION_USER = 256,
    OPTION_HOST,
    OPTION_PORT,
    OPTION_TOKEN,
    OPTION_TOKEN_FILE,
    OPTION_TLS,
    OPTION_CA,
    OPTION_SERVER_NAME,
    OPTION_CERTIFICATE,
    OPTION_KEY,
    OPTION_ACKS,
    OPTION_JSON,
    OPTION_TO,
    OPTION_DELIVERED,
    OPTION_SERVICE,
    OPTION_METHOD,
    OPTION_COUNT,
    OPTION_TIMEOUT,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option OPTIONS[] = {
    {"user", required_argument, NULL, OPTION_USER},
    {"host", required_argument, NULL, OPTION_HOST},
    {"port", required_argument, NULL, OPTION_PORT},
    {"token", required_argument, NULL, OPTION_TOKEN},
    {"token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"tls", no_argument, NULL, OPTION_TLS},
    {"ca", required_argument, NULL, OPTION_CA},
    {"server-name", required_argument, NULL, OPTION_SERVER_NAME},
    {"certificate", required_argument, NULL, OPTION_CERTIFICATE},
    {"key", required_argument, NULL, OPTION_KEY},
    {"acks", no_argument, NULL, OPTION_ACKS},
    {"json", no_argument, NULL, OPTION_JSON},
    {"to", required_argument, NULL, OPTION_TO},
    {"delivered", no_argument, NULL, OPTION_DELIVERED},
    {"service", required_argument, NULL, OPTION_SERVICE},
    {"method", required_argument, NULL, OPTION_METHOD},
    {"count", required_argument, NULL, OPTION_COUNT},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

static const char USAGE[] =
    "usage: usher [chat] --user NAME [options]                 talk, line by line\n"
    "       usher send   --user NAME --to NAME [options] TEXT\n"
    "       usher call   --user NAME --service NAME --method NAME [options] [TEXT]\n"
    "       usher listen --user NAME [--count N] [--timeout SECONDS] [options]\n"
    "\n"
    "  --host HOST        of the broker (127.0.0.1)\n"
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
    "  --count N          listen: end after N messages\n"
    "  --timeout SECONDS  listen: end after that time; send, call: wait that long (10)\n"
    "  --json             one JSON object per event on stdout\n"
    "  --help, --version\n"
    "\n"
    "TEXT is - to read stdin. Exit codes: 0 ok, 1 refused by the broker (listen: fewer than\n"
    "N messages came), 2 could not connect or lost the connection, 64 usage.\n";

static int wrong_use(const char *what)
{
    fprintf(stderr, "usher: %s; usher --help tells more\n", what);
    return EXIT_WRONG_USE;
}

static int wrong_value(const char *option, const char *value, const char *what)
{
    fprintf(stderr, "usher: --%s %s: %s; usher --help tells more\n", option, value, what);
    return EXIT_WRONG_USE;
}

/* --- command line ----------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint64_t most, uint64_t *value)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || text[0] == '-' || number > most)
        return false;
    *value = number;
    return true;
}

static bool parse_seconds(const char *text, int *timeout_ms)
{
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= 1e6))
        return false;
    *timeout_ms = (int)(seconds * 1000);
    return true;
}

static bool take_number_option(struct cli_options *options, int key)
{
    uint64_t number = 0;
    switch (key) {
    case OPTION_PORT:
        if (!parse_number(optarg, 65535, &number) || number == 0)
            return false;
        options->usher.port = (uint16_t)number;
        return true;
    case OPTION_COUNT:
        return parse_number(optarg, UINT64_MAX, &options->count) && options->count > 0;
    case OPTION_TIMEOUT:
        return parse_seconds(optarg, &options->timeout_ms);
    default:
        return false;
    }
}

/* Each of them means TLS. */
static bool take_tls_option(struct usher_options *options, int key)
{
    switch (key) {
    case OPTION_TLS:
        break;
    case OPTION_CA:
        options->tls_ca_file = optarg;
        break;
    case OPTION_SERVER_NAME:
        options->tls_server_name = optarg;
        break;
    case OPTION_CERTIFICATE:
        options->tls_certificate_file = optarg;
        break;
    case OPTION_KEY:
        options->tls_key_file = optarg;
        break;
    default:
        return false;
    }
    options->tls = true;
    return true;
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

static bool take_option(struct cli_options *options, int key)
{
    if (take_tls_option(&options->usher, key))
        return true;
    switch (key) {
    case OPTION_USER:
        options->usher.username = optarg;
        return true;
    case OPTION_HOST:
        options->usher.host = optarg;
        return true;
    case OPTION_TOKEN:
        options->usher.token = optarg;
        options->usher.token_size = strlen(optarg);
        return true;
    case OPTION_TOKEN_FILE:
        options->token_file = optarg;
        return read_token_file(options, &(struct usher_token){NULL, 0}) == 0;
    case OPTION_ACKS:
        options->usher.acks = true;
        return true;
    case OPTION_JSON:
        options->json = true;
        return true;
    case OPTION_TO:
        options->to = optarg;
        return true;
    case OPTION_DELIVERED:
        options->delivered = true;
        return true;
    case OPTION_SERVICE:
        options->service = optarg;
        return true;
    case OPTION_METHOD:
        options->method = optarg;
        return true;
    default:
        return take_number_option(options, key);
    }
}

/* 0, or how the program ends: exit code + 1. `given` gets the bits of what was given. */
static int parse_options(struct cli_options *options, int count, char **arguments, uint64_t *given)
{
    int place = 0;
    int key;
    while ((key = getopt_long(count, arguments, "", OPTIONS, &place)) != -1) {
        *given |= UINT64_C(1) << place;
        if (key == OPTION_HELP) {
            fputs(USAGE, stdout);
            return EXIT_OK + 1;
        }
        if (key == OPTION_VERSION) {
            puts("usher " USHER_VERSION);
            return EXIT_OK + 1;
        }
        if (key == '?')
            return EXIT_WRONG_USE + 1;
        if (!take_option(options, key))
            return wrong_value(OPTIONS[place].name, optarg,
                               key == OPTION_TOKEN_FILE ? "no token can be read there"
                                                        : "not a number, or out of range") +
                   1;
    }
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

static int finish_request(struct usher_client *client, const struct printer *printer, int result,
                          const struct usher_event *answer)
{
    if (result < 0)
        return failed(client, result);
    print_event(printer, answer);
    if (answer->type == USHER_DONE || (answer->type == USHER_REPLY && answer->code == 0))
        return EXIT_OK;
    return answer->type == USHER_ERROR && answer->code < 0 ? EXIT_NO_CONNECTION : EXIT_REFUSED;
}

static int timeout_of(const struct cli_options *options)
{
    return options->timeout_ms >= 0 ? options->timeout_ms : TIMEOUT_MS_DEFAULT;
}

static int run_send(struct usher_client *client, const struct printer *printer,
                    const struct cli_options *options, const char *text)
{
    size_t size = 0;
    char *payload = payload_of(text, &size);
    if (payload == NULL)
        return failed(client, -EMSGSIZE);
    struct usher_event answer;
    int result = usher_send_wait(client, options->to, payload, size,
                                 options->delivered ? USHER_DELIVERED : USHER_ACCEPTED,
                                 timeout_of(options), &answer);
    free(payload);
    return finish_request(client, printer, result, &answer);
}

static int run_call(struct usher_client *client, const struct printer *printer,
                    const struct cli_options *options, const char *text)
{
    size_t size = 0;
    char *payload = payload_of(text, &size);
    if (payload == NULL)
        return failed(client, -EMSGSIZE);
    struct usher_event answer;
    int result = usher_call_wait(client, options->service, options->method, payload, size,
                                 timeout_of(options), &answer);
    free(payload);
    return finish_request(client, printer, result, &answer);
}

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
    int texts_min;
    int texts_max;
    const char *options; /* beside ALWAYS */
} SUBCOMMANDS[] = {
    {"chat", run_chat, 0, 0, ""},
    {"send", run_send, 1, 1, "to delivered timeout"},
    {"call", run_call, 0, 1, "service method timeout"},
    {"listen", run_listen, 0, 0, "count timeout"},
};

static const char ALWAYS[] =
    "user host port token token-file tls ca server-name certificate key acks "
    "json help version";

static const struct subcommand *find_subcommand(const char *name)
{
    for (size_t i = 0; i < sizeof(SUBCOMMANDS) / sizeof(*SUBCOMMANDS); i++)
        if (strcmp(SUBCOMMANDS[i].name, name) == 0)
            return &SUBCOMMANDS[i];
    return NULL;
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
    if (options->host[0] == '\0')
        return "--host is empty";
    return "--user, --host or the token is too long";
}

static int run(const struct subcommand *subcommand, struct cli_options *options, const char *text)
{
    struct usher_client *client;
    int result = usher_client_create(&options->usher, &client);
    if (result == -EINVAL)
        return wrong_use(what_is_wrong(&options->usher));
    if (result < 0) {
        fprintf(stderr, "usher: %s\n", strerrordesc_np(-result));
        return EXIT_NO_CONNECTION;
    }
    if (options->token_file != NULL)
        (void)usher_client_set_token_source(client, read_token_file, options);
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

/* What the command line says goes before it. */
static void take_token_of_environment(struct cli_options *options)
{
    const char *token = getenv("USHER_TOKEN");
    if (token == NULL || options->usher.token != NULL || options->token_file != NULL)
        return;
    options->usher.token = token;
    options->usher.token_size = strlen(token);
}

static const char *missing_or_too_much(const struct subcommand *subcommand,
                                       const struct cli_options *options)
{
    if (options->usher.username == NULL)
        return "--user is missing";
    if (options->usher.token != NULL && options->token_file != NULL)
        return "--token or --token-file, not both";
    if (subcommand->run == run_send && options->to == NULL)
        return "--to is missing";
    if (subcommand->run == run_call && (options->service == NULL || options->method == NULL))
        return "--service or --method is missing";
    return NULL;
}

static int run_arguments(struct cli_options *options, int count, char **arguments)
{
    const struct subcommand *subcommand = &SUBCOMMANDS[0];
    if (count > 1 && arguments[1][0] != '-') {
        subcommand = find_subcommand(arguments[1]);
        if (subcommand == NULL)
            return wrong_use("there is no such command");
        arguments[1] = arguments[0];
        arguments++;
        count--;
    }
    uint64_t given = 0;
    int ended = parse_options(options, count, arguments, &given);
    if (ended != 0)
        return ended - 1;
    const char *misplaced = option_out_of_place(OPTIONS, given, ALWAYS, subcommand->options);
    if (misplaced != NULL) {
        fprintf(stderr, "usher: --%s means nothing for %s; usher --help tells more\n", misplaced,
                subcommand->name);
        return EXIT_WRONG_USE;
    }
    take_token_of_environment(options);
    const char *missing = missing_or_too_much(subcommand, options);
    if (missing != NULL)
        return wrong_use(missing);
    int texts = count - optind;
    if (texts < subcommand->texts_min || texts > subcommand->texts_max)
        return wrong_use(texts < subcommand->texts_min ? "TEXT is missing" : "too many words");
    return run(subcommand, options, texts > 0 ? arguments[optind] : "");
}

int main(int count, char **arguments)
{
    struct cli_options options = {.timeout_ms = -1};
    usher_options_init(&options.usher);
    options.usher.client = "usher/" USHER_VERSION;
    int code = run_arguments(&options, count, arguments);
    free(options.token);
    return code;
}
