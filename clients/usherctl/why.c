/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json.h"
#include "usherctl/ctl.h"
#include "usherctl/print.h"

/* Why somebody is not there any more, in words: what the node says of him now, and then what has
 * happened, newest first. The words of each are the node's, so whoever else shows them (the
 * console) says the same. */

enum { LAST_DEFAULT = 10, AGO_BYTES_MAX = 48 };

static const char *ago(char to[AGO_BYTES_MAX], uint64_t now_ms, uint64_t time_ms)
{
    static const struct {
        uint64_t seconds;
        const char *unit;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
    uint64_t seconds = now_ms > time_ms ? (now_ms - time_ms) / 1000 : 0;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (seconds >= units[i].seconds) {
            snprintf(to, AGO_BYTES_MAX, "%" PRIu64 " %s ago", seconds / units[i].seconds,
                     units[i].unit);
            return to;
        }
    return "just now";
}

static bool is_end(const struct usher_backend_history *record)
{
    return record->kind == USHER_BACKEND_HISTORY_DETACHED ||
           record->kind == USHER_BACKEND_HISTORY_OFFLINE;
}

/* What there is now. */
static void say_state(const char *user, const struct usher_backend_session *session,
                      uint64_t now_ms)
{
    char since[AGO_BYTES_MAX];
    print_escaped(user);
    if (session == NULL || session->state == USHER_BACKEND_SESSION_GONE) {
        printf(" has no session now");
    } else if (session->state == USHER_BACKEND_SESSION_ONLINE) {
        printf(" is online from ");
        print_escaped(session->address);
        if (session->transport[0] != '\0')
            printf(" by %s", session->transport);
        printf(", logged in %s", ago(since, now_ms, session->since_ms));
    } else {
        printf(" is detached: the session waits for the client to come back; logged in %s",
               ago(since, now_ms, session->since_ms));
    }
    puts(".");
}

static void say_missing(uint64_t missing)
{
    if (missing != 0)
        printf("%20s (%" PRIu64 " records before this one, of whomever, could not be kept)\n", "",
               missing);
}

static void say_record(const struct usher_backend_history *record, uint64_t now_ms)
{
    char when[AGO_BYTES_MAX];
    char time_text[PRINT_TIME_BYTES_MAX];
    printf("%s  %-10s ", print_time(time_text, record->time_ms),
           ago(when, now_ms, record->time_ms));
    print_escaped(record->text);
    putchar('\n');
    say_missing(record->missing);
}

/* The one that somebody asks for first. */
static void say_last_end(const char *user, const struct usher_backend_answer *history,
                         uint64_t now_ms)
{
    char when[AGO_BYTES_MAX];
    for (size_t i = 0; i < history->history_count; i++) {
        const struct usher_backend_history *record = &history->history[i];
        if (!is_end(record))
            continue;
        print_escaped(user);
        printf(" was disconnected %s: ", ago(when, now_ms, record->time_ms));
        print_escaped(record->text);
        puts(".");
        return;
    }
}

static void say_reach(const struct usher_backend_answer *history, const char *what)
{
    char time_text[PRINT_TIME_BYTES_MAX];
    if (history->first_ms != 0)
        printf("%s The history goes back to %s.\n", what, print_time(time_text, history->first_ms));
    else
        printf("%s The history is empty, or this node keeps none (history.events).\n", what);
}

static void say_all(const struct ctl *ctl, const struct usher_backend_session *session,
                    const struct usher_backend_answer *history)
{
    uint64_t now_ms = clock_wall_ms();
    const char *user = ctl->arguments[0];
    say_state(user, session, now_ms);
    say_last_end(user, history, now_ms);
    puts("");
    for (size_t i = 0; i < history->history_count; i++)
        say_record(&history->history[i], now_ms);
    say_reach(history, history->more ? "There is more: --last N." : "");
}

static void print_json(const char *user, const struct usher_backend_history *record)
{
    print_json_number(stdout, "{", "time_ms", record->time_ms);
    print_json_text(stdout, ",", "user", user);
    print_json_text(stdout, ",", "kind", usher_backend_history_kind_name(record->kind));
    print_json_text(stdout, ",", "cause",
                    record->cause != 0 ? usher_backend_cause_name(record->cause) : "");
    print_json_number(stdout, ",", "epoch", record->epoch);
    print_json_text(stdout, ",", "address", record->address);
    print_json_text(stdout, ",", "transport", record->transport);
    print_json_text(stdout, ",", "client", record->client);
    print_json_text(stdout, ",", "by", record->by);
    print_json_text(stdout, ",", "detail", record->detail);
    print_json_text(stdout, ",", "limit", record->limit);
    print_json_number(stdout, ",", "bound", record->bound);
    print_json_number(stdout, ",", "value", record->value);
    print_json_number(stdout, ",", "count", record->count);
    print_json_number(stdout, ",", "missing", record->missing);
    print_json_text(stdout, ",", "text", record->text);
    puts("}");
}

static int tell(const struct ctl *ctl, const struct usher_backend_answer *found,
                const struct usher_backend_answer *history)
{
    const char *user = ctl->arguments[0];
    const struct usher_backend_session *session =
        found->session_count > 0 ? &found->sessions[0] : NULL;
    bool gone = session == NULL || session->state == USHER_BACKEND_SESSION_GONE;
    if (ctl->json) {
        for (size_t i = 0; i < history->history_count; i++)
            print_json(user, &history->history[i]);
    } else if (history->history_count == 0 && gone) {
        print_escaped(user);
        say_reach(history, " is not known here: no session, and nothing is told of that name.");
    } else {
        say_all(ctl, session, history);
    }
    return history->history_count == 0 && gone ? CTL_REFUSED : CTL_OK;
}

int ctl_why(const struct ctl *ctl)
{
    const char *const users[] = {ctl->arguments[0]};
    const struct usher_backend_query lookup = {
        .kind = USHER_BACKEND_LOOKUP, .users = users, .user_count = 1};
    const struct usher_backend_query query = {.kind = USHER_BACKEND_HISTORY,
                                              .user = ctl->arguments[0],
                                              .limit = ctl->last != 0 ? (uint32_t)ctl->last
                                                                      : LAST_DEFAULT};
    struct usher_backend *backend;
    struct usher_backend_answer *found = NULL;
    struct usher_backend_answer *history = NULL;
    int result = ctl_open(ctl, NULL, NULL, &backend);
    if (result == CTL_OK)
        result = ctl_ask(ctl, backend, &query, &history);
    if (result == CTL_OK)
        result = ctl_ask(ctl, backend, &lookup, &found);
    if (result == CTL_OK)
        result = tell(ctl, found, history);
    usher_backend_answer_free(found);
    usher_backend_answer_free(history);
    usher_backend_close(backend);
    return result;
}
