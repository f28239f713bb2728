/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "backend.pb-c.h"
#include "operate/past.h"

/* A record in the words of whoever is asked at night. Nothing is said twice: the time and the user
 * stand beside it. What comes from clients stands in quotes, and is the reader's to escape. */

static const char OPERATOR[] = "admin ", BY_HTTP[] = "http ";

struct words {
    char *text;
    size_t size;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *words, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size =
        vsnprintf(words->text + words->size, PAST_WORDS_MAX - words->size, format, arguments);
    va_end(arguments);
    words->size += size > 0 ? (size_t)size : 0;
    if (words->size > PAST_WORDS_MAX - 1)
        words->size = PAST_WORDS_MAX - 1;
}

/* By which way, from where and with what he came. */
static void say_origin(struct words *words, const struct history_record *record)
{
    say(words, " from %s", record->address[0] != '\0' ? record->address : "an unknown address");
    if (record->transport[0] != '\0')
        say(words, " by %s", record->transport);
    if (record->client[0] != '\0')
        say(words, ", client \"%s\"", record->client);
}

/* The option and what there was, where a limit was the reason. */
static void say_limit(struct words *words, const struct history_record *record)
{
    if (record->limit[0] == '\0')
        return;
    say(words, " (%s", record->limit);
    if (record->bound != 0)
        say(words, " is %" PRIu64, record->bound);
    say(words, ")");
}

static void say_online(struct words *words, const struct history_record *record)
{
    say(words, "logged in");
    say_origin(words, record);
    if (record->by[0] == '\0')
        return;
    if (record->detail[0] != '\0')
        say(words, ", which displaced the connection from %s", record->by);
    else
        say(words, ", in place of a session from %s that nobody was connected to", record->by);
}

static void say_resumed(struct words *words, const struct history_record *record)
{
    say(words, "came back to the session");
    say_origin(words, record);
    if (record->detail[0] != '\0')
        say(words, ", which displaced the connection from %s", record->by);
}

static void say_kicked(struct words *words, const struct history_record *record)
{
    if (strncmp(record->by, OPERATOR, strlen(OPERATOR)) == 0)
        say(words, "kicked by an operator, %s", record->by);
    else if (strncmp(record->by, BY_HTTP, strlen(BY_HTTP)) == 0)
        say(words, "kicked by a backend, %s", record->by);
    else if (record->by[0] == '/') /* of no service */
        say(words, "kicked by usherctl or its like, %s", record->by + 1);
    else
        say(words, "kicked by service %s", record->by[0] != '\0' ? record->by : "?");
    if (record->detail[0] != '\0')
        say(words, ", reason \"%s\"", record->detail);
}

/* Numbers that go with a limit: silent so long, so many bytes waited. */
static void say_value(struct words *words, const struct history_record *record)
{
    switch (record->cause) {
    case USHER__V1__PRESENCE_EVENT__CAUSE__HEARTBEAT:
        say(words, ": silent for %" PRIu64 " ms", record->value);
        break;
    case USHER__V1__PRESENCE_EVENT__CAUSE__SLOW_CONSUMER:
        if (record->value != 0)
            say(words, ": %" PRIu64 " bytes waited for it", record->value);
        break;
    case USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL:
        if (record->value != 0)
            say(words, ": %" PRIu64 " refused in a row", record->value);
        break;
    default:
        break;
    }
}

static const char *reason_of(const struct history_record *record)
{
    static const char *const reasons[] = {
        [USHER__V1__PRESENCE_EVENT__CAUSE__LOST] = "connection lost",
        [USHER__V1__PRESENCE_EVENT__CAUSE__HEARTBEAT] = "heartbeat lost (half-open or asleep)",
        [USHER__V1__PRESENCE_EVENT__CAUSE__SLOW_CONSUMER] = "slow consumer",
        [USHER__V1__PRESENCE_EVENT__CAUSE__PROTOCOL] = "broke the rules",
        [USHER__V1__PRESENCE_EVENT__CAUSE__SHUTDOWN] = "sent away",
        [USHER__V1__PRESENCE_EVENT__CAUSE__RESTART] = "cut off",
        [USHER__V1__PRESENCE_EVENT__CAUSE__EXPIRED] = "resume window over",
        [USHER__V1__PRESENCE_EVENT__CAUSE__LOGOUT] = "logged out",
        [USHER__V1__PRESENCE_EVENT__CAUSE__TOKEN_EXPIRED] = "token expired",
    };
    size_t count = sizeof(reasons) / sizeof(reasons[0]);
    const char *reason = record->cause < count ? reasons[record->cause] : NULL;
    return reason != NULL ? reason : "ended";
}

static void say_end(struct words *words, const struct history_record *record)
{
    if (record->cause == USHER__V1__PRESENCE_EVENT__CAUSE__KICKED) {
        say_kicked(words, record);
    } else {
        say(words, "%s", reason_of(record));
        if (record->cause == USHER__V1__PRESENCE_EVENT__CAUSE__RESTART)
            say(words,
                ": the broker ended without a goodbye (a crash, a kill, the power) and began "
                "anew");
        else if (record->detail[0] != '\0')
            say(words, ": %s", record->detail);
        say_value(words, record);
        say_limit(words, record);
    }
    if (record->address[0] != '\0')
        say(words, "; it was connected from %s", record->address);
}

static void say_refused(struct words *words, const struct history_record *record)
{
    say(words, "%s", record->kind == HISTORY_LOGIN_REFUSED ? "login refused" : "resume refused");
    if (record->count > 1)
        say(words, " %" PRIu32 " times", record->count);
    say(words, ": %s", record->detail);
    say_limit(words, record);
    say(words, ";");
    say_origin(words, record);
}

void past_words(const struct history_record *record, char text[PAST_WORDS_MAX])
{
    struct words words = {text, 0};
    text[0] = '\0';
    switch ((enum history_kind)record->kind) {
    case HISTORY_ONLINE:
        say_online(&words, record);
        break;
    case HISTORY_RESUMED:
        say_resumed(&words, record);
        break;
    case HISTORY_DETACHED:
    case HISTORY_OFFLINE:
        say_end(&words, record);
        break;
    case HISTORY_LOGIN_REFUSED:
    case HISTORY_RESUME_REFUSED:
        say_refused(&words, record);
        break;
    case HISTORY_KINDS:
        break;
    }
}
