/* SPDX-License-Identifier: Apache-2.0 */
#include "usher/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

/* The interactive client: lines from stdin become requests, events become lines on stdout. stdin
 * is read with read(2) and cut into lines here, since stdio would hide from poll what it has
 * buffered. A line has a limit; the rest of a longer one is thrown away. */

enum {
    LINE_BYTES_MAX = 64 * 1024,
    GOODBYE_MS = 2000,
    WATCH_NAMES_MAX = 256,
    ANSWERS_MS = 10000, /* for what the input has asked before its end */
};

struct chat {
    struct usher_client *client;
    const struct printer *printer;
    bool acks;
    bool over;
    bool quits; /* he said so, and does not wait for long */
    uint64_t unanswered;
    bool overlong; /* in the rest of a line beyond the limit */
    size_t line_bytes;
    char line[LINE_BYTES_MAX];
};

static const char HELP[] =
    "  @NAME TEXT                      send TEXT to a user\n"
    "  /send NAME TEXT                 the same\n"
    "  /wave NAME TEXT                 now or never: dropped if NAME is\n"
    "                                  away or behind\n"
    "  /join ROOM                      be in a room, and hear what is said\n"
    "  #ROOM TEXT                      say TEXT to all who are in it\n"
    "  /leave ROOM                     be in it no more\n"
    "  /watch NAME...                  see who of these is online; -NAME: no\n"
    "                                  more\n"
    "  /status [TEXT]                  what those who watch see of you\n"
    "  /call SERVICE METHOD [PAYLOAD]  call a backend service\n"
    "  /ping                           see whether the broker answers\n"
    "  /help                           this\n"
    "  /quit                           leave (also the end of the input)\n";

/* What a person is told goes to stdout, or to stderr when stdout is for JSON. */
static FILE *talk(const struct chat *chat)
{
    return chat->printer->json ? stderr : stdout;
}

static void say_result(struct chat *chat, int result, uint64_t id)
{
    chat->unanswered += result >= 0;
    if (result < 0)
        fprintf(talk(chat), "not sent: %s\n",
                result == -EMSGSIZE   ? "longer than the broker takes"
                : result == -EAGAIN   ? "the connection is away, or behind"
                : result == -ENOBUFS  ? "too many requests are waiting for their answer"
                : result == -ENOENT   ? "you are not in that room"
                : result == -EALREADY ? "it is under way"
                : result == -EINVAL   ? "a name is missing, or is none; /help tells more"
                                      : strerrordesc_np(-result));
    else
        fprintf(talk(chat), "#%llu\n", (unsigned long long)id);
}

/* Cuts the first word off *rest; "" when there is none. */
static char *cut_word(char **rest)
{
    *rest += strspn(*rest, " \t");
    char *word = *rest;
    *rest += strcspn(*rest, " \t");
    if (**rest != '\0')
        *(*rest)++ = '\0';
    return word;
}

static void send_text(struct chat *chat, char *rest, enum usher_until until)
{
    char *to = cut_word(&rest);
    if (to[0] == '\0') {
        fputs("to whom? @NAME TEXT\n", talk(chat));
        return;
    }
    uint64_t id = 0;
    int result = usher_send(chat->client, to, rest, strlen(rest), until, &id);
    say_result(chat, result, id);
}

static void do_send(struct chat *chat, char *rest)
{
    send_text(chat, rest, USHER_ACCEPTED);
}

static void do_wave(struct chat *chat, char *rest)
{
    send_text(chat, rest, USHER_TRANSIENT);
}

static void do_call(struct chat *chat, char *rest)
{
    char *service = cut_word(&rest);
    char *method = cut_word(&rest);
    if (method[0] == '\0') {
        fputs("what? /call SERVICE METHOD [PAYLOAD]\n", talk(chat));
        return;
    }
    uint64_t id = 0;
    int result = usher_call(chat->client, service, method, rest, strlen(rest), 0, &id);
    say_result(chat, result, id);
}

static void do_join(struct chat *chat, char *rest)
{
    uint64_t id = 0;
    int result = usher_join(chat->client, cut_word(&rest), &id);
    say_result(chat, result, id);
}

static void do_leave(struct chat *chat, char *rest)
{
    uint64_t id = 0;
    int result = usher_leave(chat->client, cut_word(&rest), &id);
    say_result(chat, result, id);
}

static void do_publish(struct chat *chat, char *rest)
{
    uint64_t id = 0;
    const char *room = cut_word(&rest);
    int result = usher_publish(chat->client, room, rest, strlen(rest), &id);
    say_result(chat, result, id);
}

static void do_watch(struct chat *chat, char *rest)
{
    const char *names[2][WATCH_NAMES_MAX];
    size_t counts[2] = {0, 0};
    const char *name;
    uint64_t id = 0;
    while ((name = cut_word(&rest))[0] != '\0' && counts[0] + counts[1] < WATCH_NAMES_MAX) {
        bool removes = name[0] == '-' && name[1] != '\0';
        names[removes][counts[removes]++] = name + removes;
    }
    int result = usher_watch(chat->client, names[0], counts[0], names[1], counts[1], &id);
    say_result(chat, result, id);
}

static void do_status(struct chat *chat, char *rest)
{
    uint64_t id = 0;
    int result = usher_set_status(chat->client, rest, strlen(rest), false, &id);
    say_result(chat, result, id);
}

static void do_ping(struct chat *chat, char *rest)
{
    (void)rest;
    uint64_t id = 0;
    int result = usher_ping(chat->client, &id);
    say_result(chat, result, id);
}

static void do_help(struct chat *chat, char *rest)
{
    (void)rest;
    fputs(HELP, talk(chat));
}

static void do_quit(struct chat *chat, char *rest)
{
    (void)rest;
    chat->over = chat->quits = true;
}

static const struct command {
    const char *name;
    void (*run)(struct chat *chat, char *rest);
} COMMANDS[] = {
    {"/send", do_send},   {"/wave", do_wave},     {"/join", do_join}, {"/leave", do_leave},
    {"/watch", do_watch}, {"/status", do_status}, {"/call", do_call}, {"/ping", do_ping},
    {"/help", do_help},   {"/quit", do_quit},
};

/* @NAME, #ROOM and /WORD; everything else gets a hint and is sent to nobody. */
static void run_line(struct chat *chat, char *line)
{
    line += strspn(line, " \t");
    size_t length = strlen(line);
    if (length > 0 && line[length - 1] == '\r')
        line[length - 1] = '\0';
    if (line[0] == '\0')
        return;
    if (line[0] == '@' || line[0] == '#') {
        (line[0] == '@' ? do_send : do_publish)(chat, line + 1);
        return;
    }
    char *rest = line;
    const char *name = cut_word(&rest);
    for (size_t i = 0; i < sizeof(COMMANDS) / sizeof(*COMMANDS); i++) {
        if (strcmp(name, COMMANDS[i].name) == 0) {
            COMMANDS[i].run(chat, rest);
            return;
        }
    }
    fputs("say @NAME TEXT, #ROOM TEXT, or /help\n", talk(chat));
}

/* Runs the whole lines in the buffer; keeps the rest. */
static void run_lines(struct chat *chat)
{
    char *start = chat->line;
    char *end = chat->line + chat->line_bytes;
    char *newline;
    while (!chat->over && (newline = memchr(start, '\n', (size_t)(end - start))) != NULL) {
        *newline = '\0';
        if (!chat->overlong)
            run_line(chat, start);
        chat->overlong = false;
        start = newline + 1;
    }
    chat->line_bytes = (size_t)(end - start);
    memmove(chat->line, start, chat->line_bytes);
    if (chat->line_bytes == sizeof(chat->line) - 1) {
        if (!chat->overlong)
            fputs("that line is too long\n", talk(chat));
        chat->overlong = true;
        chat->line_bytes = 0;
    }
}

static void read_stdin(struct chat *chat)
{
    ssize_t count = read(STDIN_FILENO, chat->line + chat->line_bytes,
                         sizeof(chat->line) - 1 - chat->line_bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (count > 0) {
        chat->line_bytes += (size_t)count;
        run_lines(chat);
        return;
    }
    /* The end. A last line without its newline counts. */
    if (chat->line_bytes > 0 && !chat->overlong) {
        chat->line[chat->line_bytes] = '\0';
        run_line(chat, chat->line);
    }
    chat->over = true;
}

/* What answers one of ours is one less to wait for at the end. */
static void show_event(struct chat *chat, const struct usher_event *event)
{
    print_event(chat->printer, event);
    chat->unanswered -= event->id != 0 && chat->unanswered > 0;
    if (event->type == USHER_DISCONNECTED && usher_client_error_text(chat->client)[0] != '\0') {
        fprintf(talk(chat), "-- ");
        const struct printer plain = {talk(chat), false, true};
        const char *text = usher_client_error_text(chat->client);
        print_text(&plain, text, strlen(text));
        fputc('\n', talk(chat));
    }
}

/* Whatever is there on stdin or from the broker. */
static void one_round(struct chat *chat)
{
    short interest = (short)(POLLIN | (usher_client_wants_write(chat->client) ? POLLOUT : 0));
    struct pollfd watched[2] = {
        {.fd = STDIN_FILENO, .events = POLLIN},
        {.fd = usher_client_fd(chat->client), .events = interest},
    };
    if (poll(watched, 2, usher_client_timeout_ms(chat->client)) > 0 && watched[0].revents != 0)
        read_stdin(chat);
    (void)usher_client_process(chat->client);
    struct usher_event event;
    while (usher_client_next(chat->client, &event) == 1)
        show_event(chat, &event);
    fflush(talk(chat));
}

/* An answer comes when it likes, and none behind a Logout. */
static void wait_for_answers(struct chat *chat)
{
    const uint64_t end_ms = clock_end_ms(chat->quits ? GOODBYE_MS : ANSWERS_MS);
    struct usher_event event;
    int left_ms;
    while (chat->unanswered > 0 && (left_ms = clock_left_ms(end_ms)) > 0 &&
           usher_client_wait(chat->client, left_ms, &event) == 1)
        show_event(chat, &event);
}

/* Waits for what was asked; the session is ended only if nothing in its inbox may be left. */
static void say_goodbye(struct chat *chat)
{
    wait_for_answers(chat);
    uint64_t id;
    int result = chat->acks ? usher_ping(chat->client, &id) : usher_logout(chat->client, &id);
    struct usher_event event;
    while (result == 0 && usher_client_wait(chat->client, GOODBYE_MS, &event) == 1) {
        if (event.id == id)
            break;
        show_event(chat, &event);
    }
}

int chat_run(struct usher_client *client, const struct printer *printer,
             const struct cli_options *options)
{
    struct chat *chat = calloc(1, sizeof(*chat));
    if (chat == NULL)
        return EXIT_NO_CONNECTION;
    chat->client = client;
    chat->printer = printer;
    chat->acks = options->usher.acks;
    if (isatty(STDIN_FILENO))
        fputs("-- @NAME TEXT sends, /help tells more\n", talk(chat));
    fflush(talk(chat));
    while (!chat->over && usher_client_state(client) != USHER_STATE_ENDED)
        one_round(chat);
    int code = chat->over ? EXIT_OK : EXIT_REFUSED;
    if (usher_client_state(client) != USHER_STATE_ENDED)
        say_goodbye(chat);
    free(chat);
    return code;
}
