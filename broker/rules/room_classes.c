/* SPDX-License-Identifier: Apache-2.0 */
#include "rules/room_classes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An item is taken apart at blanks: the pattern, then words of the form name=value, in any order,
 * each at most once. What is not said is narrow: nobody but services may make or join a room of a
 * class that does not say who may. */

static const uint64_t IDLE_MS = 12 * 1000;
static const uint64_t TIME_MS_MAX = UINT64_C(7) * 86400 * 1000;
enum { TICK_MS_MAX = 60 * 1000, MEMBERS = 4096 };

/* One item, as it is being read. */
struct reading {
    struct room_class *class;
    bool members_said, idle_said;
    unsigned said; /* a bit for each word */
};

struct choice {
    const char *word;
    uint8_t value;
};

static bool choose(const struct choice *choices, const char *value, uint8_t *to)
{
    for (; choices->word != NULL; choices++)
        if (strcmp(choices->word, value) == 0) {
            *to = choices->value;
            return true;
        }
    return false;
}

static const struct choice create_choices[] = {{"backend", ROOM_BACKEND},
                                               {"service", ROOM_SERVICE},
                                               {"token", ROOM_TOKEN},
                                               {"client", ROOM_CLIENT},
                                               {NULL, 0}};
static const struct choice join_choices[] = {{"backend", ROOM_BACKEND},
                                             {"service", ROOM_SERVICE},
                                             {"token", ROOM_TOKEN},
                                             {"any", ROOM_CLIENT},
                                             {NULL, 0}};
static const struct choice publish_choices[] = {
    {"backend", ROOM_BACKEND}, {"member", ROOM_MEMBER}, {"any", ROOM_CLIENT}, {NULL, 0}};
static const struct choice roster_choices[] = {{"none", ROOM_ROSTER_NONE},
                                               {"count", ROOM_ROSTER_COUNT},
                                               {"list", ROOM_ROSTER_LIST},
                                               {NULL, 0}};

/* Digits and then `rest`; false: too large, or none. */
static bool read_number(const char *text, uint64_t max, uint64_t *value, const char **rest)
{
    const char *at = text;
    *value = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        *value = *value * 10 + (uint64_t)(*at - '0');
        if (*value > max)
            return false;
    }
    *rest = at;
    return at != text;
}

static bool read_count(const char *text, uint32_t max, uint32_t *value)
{
    uint64_t number;
    const char *rest;
    if (!read_number(text, max, &number, &rest) || *rest != '\0')
        return false;
    *value = (uint32_t)number;
    return true;
}

/* "50ms", "12s", "5m", "1h", "1d"; without a unit only 0. */
static bool read_time(const char *text, uint64_t max_ms, uint64_t *time_ms)
{
    static const struct {
        const char *word;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    uint64_t number;
    const char *rest;
    if (!read_number(text, max_ms, &number, &rest))
        return false;
    if (*rest == '\0') {
        *time_ms = 0;
        return number == 0;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(rest, units[i].word) == 0) {
            *time_ms = number * units[i].ms;
            return number <= max_ms / units[i].ms;
        }
    return false;
}

static bool read_create(struct reading *reading, const char *value)
{
    return choose(create_choices, value, &reading->class->create);
}

static bool read_join(struct reading *reading, const char *value)
{
    return choose(join_choices, value, &reading->class->join);
}

static bool read_publish(struct reading *reading, const char *value)
{
    return choose(publish_choices, value, &reading->class->publish);
}

static bool read_roster(struct reading *reading, const char *value)
{
    return choose(roster_choices, value, &reading->class->roster);
}

static bool read_members(struct reading *reading, const char *value)
{
    reading->members_said = true;
    return read_count(value, ROOM_MEMBERS_MAX, &reading->class->members_max) &&
           reading->class->members_max > 0;
}

static bool read_owner(struct reading *reading, const char *value)
{
    if (!username_valid(bytes_of_text(value)))
        return false;
    strcpy(reading->class->owner, value);
    return true;
}

static bool read_follow(struct reading *reading, const char *value)
{
    reading->class->follows_messages = strcmp(value, "messages") == 0;
    return reading->class->follows_messages || strcmp(value, "members") == 0;
}

static bool read_webhook(struct reading *reading, const char *value)
{
    reading->class->webhook = strcmp(value, "yes") == 0;
    return reading->class->webhook || strcmp(value, "no") == 0;
}

static bool read_tick(struct reading *reading, const char *value)
{
    uint64_t tick_ms;
    if (!read_time(value, TICK_MS_MAX, &tick_ms))
        return false;
    reading->class->tick_ms = (uint32_t)tick_ms;
    return true;
}

static bool read_idle(struct reading *reading, const char *value)
{
    reading->idle_said = true;
    if (strcmp(value, "never") == 0) {
        reading->class->idle_ms = UINT64_MAX;
        return true;
    }
    return read_time(value, TIME_MS_MAX, &reading->class->idle_ms);
}

/* "64/60s": so many messages, none of them older. */
static bool read_history(struct reading *reading, const char *value)
{
    const char *slash = strchr(value, '/');
    char number[16];
    if (slash == NULL || (size_t)(slash - value) >= sizeof(number))
        return false;
    memcpy(number, value, (size_t)(slash - value));
    number[slash - value] = '\0';
    return read_count(number, ROOM_HISTORY_MESSAGES_MAX, &reading->class->history_messages) &&
           read_time(slash + 1, TIME_MS_MAX, &reading->class->history_ms);
}

#define ACCEPTED "is not one; accepted: "

static const struct word {
    const char *name;
    bool (*read)(struct reading *reading, const char *value);
    const char *wrong;
} words[] = {
    {"create", read_create, ACCEPTED "create=backend|service|token|client"},
    {"join", read_join, ACCEPTED "join=backend|service|token|any"},
    {"publish", read_publish, ACCEPTED "publish=backend|member|any"},
    {"roster", read_roster, ACCEPTED "roster=none|count|list"},
    {"members", read_members, ACCEPTED "members= 1 to 1000000"},
    {"history", read_history, ACCEPTED "history=MESSAGES/TIME, 0 to 256 messages, as in 64/60s"},
    {"tick", read_tick, ACCEPTED "tick=TIME, 0 to 60s, as in 50ms"},
    {"idle", read_idle, ACCEPTED "idle=TIME, 0 to 7d, as in 12s, or never"},
    {"owner", read_owner, ACCEPTED "owner=SERVICE"},
    {"follow", read_follow, ACCEPTED "follow=members|messages"},
    {"webhook", read_webhook, ACCEPTED "webhook=yes|no"},
};

enum { WORDS = sizeof(words) / sizeof(words[0]) };

/* Why the word is not taken; NULL: it is. */
static const char *read_word(struct reading *reading, char *text)
{
    char *value = strchr(text, '=');
    if (value == NULL)
        return "is not of the form name=value";
    *value++ = '\0';
    for (unsigned i = 0; i < WORDS; i++) {
        if (strcmp(words[i].name, text) != 0)
            continue;
        if ((reading->said >> i & 1) != 0)
            return "stands twice";
        reading->said |= 1u << i;
        if (words[i].read(reading, value))
            return NULL;
        value[-1] = '='; /* it is told as it was written */
        return words[i].wrong;
    }
    return "is none of create, join, publish, roster, members, history, tick, idle, owner, follow, "
           "webhook";
}

static bool pattern_valid(const char *pattern)
{
    size_t size = strlen(pattern);
    bool open = size > 0 && pattern[size - 1] == '*';
    if (open && size == 1)
        return true;
    return size <= (size_t)USERNAME_BYTES_MAX + open &&
           username_valid((struct bytes){(const uint8_t *)pattern, size - open});
}

/* What the words make of each other; NULL: they go together. */
static const char *finish(struct reading *reading)
{
    struct room_class *class = reading->class;
    bool asks = class->create == ROOM_SERVICE || class->join == ROOM_SERVICE;
    if (asks && class->owner[0] == '\0')
        return "asks its owner, and names none";
    if (class->follows_messages && class->owner[0] == '\0' && !class->webhook)
        return "says follow=messages, and neither owner nor webhook";
    if (!reading->members_said)
        class->members_max = class->roster == ROOM_ROSTER_LIST ? ROOM_ROSTER_MEMBERS : MEMBERS;
    if (class->roster == ROOM_ROSTER_LIST && class->members_max > ROOM_ROSTER_MEMBERS_MAX)
        return "says roster=list, which has members=1024 at most";
    if (!reading->idle_said)
        class->idle_ms = class->create == ROOM_BACKEND ? UINT64_MAX : IDLE_MS;
    return NULL;
}

static int read_item(const char *item, struct room_class *class, char *error)
{
    char text[256];
    struct reading reading = {.class = class};
    char *rest = text;
    if (strlen(item) >= sizeof(text)) {
        snprintf(error, ROOM_CLASS_ERROR_BYTES, "a class of more than 255 bytes");
        return -EINVAL;
    }
    strcpy(text, item);
    char *pattern = strtok_r(rest, " \t", &rest);
    if (pattern == NULL || !pattern_valid(pattern)) {
        snprintf(error, ROOM_CLASS_ERROR_BYTES,
                 "'%.60s' does not begin with a pattern: a name, or the beginning of one and a *",
                 item);
        return -EINVAL;
    }
    class->publish = ROOM_MEMBER; /* the rest is 0, also between the members: see use_classes */
    strcpy(class->pattern, pattern);
    const char *wrong = NULL;
    char *word = "";
    while (wrong == NULL && (word = strtok_r(rest, " \t", &rest)) != NULL)
        wrong = read_word(&reading, word);
    if (wrong != NULL) {
        snprintf(error, ROOM_CLASS_ERROR_BYTES, "class %.66s: '%.20s' %s", class->pattern, word,
                 wrong);
        return -EINVAL;
    }
    wrong = finish(&reading);
    if (wrong != NULL)
        snprintf(error, ROOM_CLASS_ERROR_BYTES, "class %.66s %s", class->pattern, wrong);
    return wrong != NULL ? -EINVAL : 0;
}

int room_classes_read(char *const *items, size_t count, struct room_classes **classes,
                      char error[ROOM_CLASS_ERROR_BYTES])
{
    struct room_classes *made = calloc(1, sizeof(*made) + count * sizeof(made->classes[0]));
    int failed = made != NULL ? 0 : -ENOMEM;
    error[0] = '\0';
    for (size_t i = 0; i < count && failed == 0; i++)
        failed = read_item(items[i], &made->classes[made->count++], error);
    if (failed != 0) {
        free(made);
        return failed;
    }
    *classes = made;
    return 0;
}

void room_classes_destroy(struct room_classes *classes)
{
    while (classes != NULL) {
        struct room_classes *before = classes->before;
        free(classes);
        classes = before;
    }
}

bool room_pattern_fits(struct bytes pattern, struct bytes room)
{
    if (pattern.size == 0 || pattern.data[pattern.size - 1] != '*')
        return bytes_equal(pattern, room);
    size_t head = pattern.size - 1;
    return room.size >= head && (head == 0 || memcmp(pattern.data, room.data, head) == 0);
}

const struct room_class *room_class_of(const struct room_classes *classes, struct bytes room)
{
    for (size_t i = 0; classes != NULL && i < classes->count; i++)
        if (room_pattern_fits(bytes_of_text(classes->classes[i].pattern), room))
            return &classes->classes[i];
    return NULL;
}

const struct room_class *room_class_named(const struct room_classes *classes, struct bytes pattern,
                                          struct bytes room)
{
    for (size_t i = 0; classes != NULL && i < classes->count; i++) {
        struct bytes own = bytes_of_text(classes->classes[i].pattern);
        if (bytes_equal(own, pattern) && room_pattern_fits(own, room))
            return &classes->classes[i];
    }
    return NULL;
}

bool room_classes_post(const struct room_classes *classes)
{
    bool any = false;
    for (size_t i = 0; classes != NULL && i < classes->count; i++)
        any = any || classes->classes[i].webhook;
    return any;
}
