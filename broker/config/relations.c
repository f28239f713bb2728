/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "config/private.h"
#include "rules/room_classes.h"

/* What the options make of each other: the rows of relations.def and unused.def as data, so that
 * the start, the reload, --check-config and the documentation cannot say different things. The
 * ranges of options.def keep each product far below 64 bits. Pure. */

enum comparison { AT_MOST, LESS, ZERO_TOO };

enum when { ALWAYS, LIMITED, AUTH, AUTH_SERVICE, AUTH_ASKED };

enum kind { REFUSED, TOLD };

struct relation {
    enum kind kind;
    enum option_index option;
    uint64_t factor;
    enum comparison comparison;
    enum option_index other;
    enum when when;
    const char *why;
};

static const struct relation relations[] = {
#define RELATION(kind, field, factor, comparison, other, when, why) \
    {kind, OPTION_INDEX_##field, factor, comparison, OPTION_INDEX_##other, when, why},
#include "config/relations.def"
#undef RELATION
};

/* A text that does nothing while the other option has one of these values. */
struct unused {
    enum option_index option, other;
    const char *values, *why;
};

static const struct unused unused[] = {
#define UNUSED(field, other, values, why) {OPTION_INDEX_##field, OPTION_INDEX_##other, values, why},
#include "config/unused.def"
#undef UNUSED
};

enum {
    RELATION_COUNT = sizeof(relations) / sizeof(*relations),
    UNUSED_COUNT = sizeof(unused) / sizeof(*unused)
};

/* Who brings clients from elsewhere: the text lists that say so. */
static const enum option_index bringers[] = {OPTION_INDEX_proxy_from,
                                             OPTION_INDEX_ws_forwarded_from};

enum { BRINGERS = sizeof(bringers) / sizeof(*bringers) };

/* What may be open, and what it means when it is. */
static const struct opening {
    enum option_index option;
    unsigned open; /* its value then */
    const char *why, *accepted;
} openings[] = {
    {OPTION_INDEX_auth_mode, AUTH_MODE_OPEN,
     "a proxy brings clients from anywhere, also to a loopback address, and every name is believed",
     "auth.mode token, service or http"},
    {OPTION_INDEX_friends_mode, FRIENDS_OPEN,
     "a proxy brings clients from anywhere, also to a loopback address, and everybody is shown to "
     "them",
     "friends.mode backend or service"},
};

enum { OPENINGS = sizeof(openings) / sizeof(*openings) };

_Static_assert((int)RELATION_COUNT + (int)UNUSED_COUNT + (int)BRINGERS * (int)OPENINGS + 2 <=
                   (int)OPTION_CONFLICTS_MAX,
               "room for all at once");

static uint64_t number_of(const struct options *options, enum option_index index)
{
    return *(const uint64_t *)((const char *)options + option_rows[index].offset);
}

static bool matters(const struct options *options, const struct relation *relation)
{
    switch (relation->when) {
    case LIMITED:
        return number_of(options, relation->option) != 0 &&
               number_of(options, relation->other) != 0;
    case AUTH:
        return options->auth_mode != AUTH_MODE_OPEN;
    case AUTH_SERVICE:
        return options->auth_mode == AUTH_MODE_SERVICE;
    case AUTH_ASKED:
        return options->auth_mode == AUTH_MODE_SERVICE || options->auth_mode == AUTH_MODE_HTTP;
    case ALWAYS:
        break;
    }
    return true;
}

static bool holds(const struct options *options, const struct relation *relation)
{
    uint64_t option = number_of(options, relation->option) * relation->factor;
    uint64_t other = number_of(options, relation->other);
    switch (relation->comparison) {
    case LESS:
        return option < other;
    case ZERO_TOO:
        return option != 0 || other == 0;
    case AT_MOST:
        break;
    }
    return option <= other;
}

/* "8 times a.b at most c.d" */
static void describe(const struct relation *relation, char *text, size_t size)
{
    char times[32] = "";
    if (relation->comparison == ZERO_TOO) {
        snprintf(text, size, "%s 0 only with %s 0", option_rows[relation->option].key,
                 option_rows[relation->other].key);
        return;
    }
    if (relation->factor != 1)
        snprintf(times, sizeof(times), "%" PRIu64 " times ", relation->factor);
    snprintf(text, size, "%s%s %s %s", times, option_rows[relation->option].key,
             relation->comparison == LESS ? "less than" : "at most",
             option_rows[relation->other].key);
}

/* Whether `value` is one of the words between bars; "" is the empty one. */
static bool is_among(const char *words, const char *value)
{
    size_t size = strlen(value);
    for (;; words++) {
        size_t length = strcspn(words, "|");
        if (length == size && memcmp(words, value, size) == 0)
            return true;
        words += length;
        if (*words == '\0')
            return false;
    }
}

/* A row names one listener for all that are like it. */
static bool another_listens(const struct options *options, const char *option)
{
    enum listener_kind kind = listener_of_option(option);
    return kind != LISTENERS && options_listen_like(options, kind);
}

static bool is_unused(const struct options *options, const struct unused *row,
                      struct option_conflict *conflict)
{
    char text[OPTION_TEXT_BYTES], other[OPTION_TEXT_BYTES];
    config_print_option(options, &option_rows[row->option], text);
    config_print_option(options, &option_rows[row->other], other);
    if (text[0] == '\0' || !is_among(row->values, other) ||
        another_listens(options, option_rows[row->other].key))
        return false;
    *conflict = (struct option_conflict){.option = option_rows[row->option].key,
                                         .other = option_rows[row->other].key};
    snprintf(conflict->text, sizeof(conflict->text), "it is set, and %s is %s: %s", conflict->other,
             other[0] != '\0' ? other : "empty", row->why);
    return true;
}

/* Nobody shall be open to the network without having said so. */
static bool is_open(const struct options *options, const struct option_row *row,
                    const struct opening *opening, struct option_conflict *conflict)
{
    char text[OPTION_TEXT_BYTES];
    const char *key = option_rows[opening->option].key;
    unsigned value =
        *(const unsigned *)((const char *)options + option_rows[opening->option].offset);
    config_print_option(options, row, text);
    if (text[0] == '\0' || value != opening->open || options->auth_allow_open_network)
        return false;
    *conflict = (struct option_conflict){.refused = true, .option = row->key, .other = key};
    snprintf(conflict->text, sizeof(conflict->text),
             "it is set, and %s is open: %s; accepted: %s, or auth.allow_open_network true", key,
             opening->why, opening->accepted);
    return true;
}

static bool says_token(const struct room_class *class)
{
    return class->create == ROOM_TOKEN || class->join == ROOM_TOKEN;
}

static bool says_webhook(const struct room_class *class)
{
    return class->webhook;
}

static bool opens_to_all(const struct options *options)
{
    return options->auth_mode == AUTH_MODE_OPEN;
}

static bool posts_nothing(const struct options *options)
{
    return options->webhook_url[0] == '\0';
}

/* What some class says, and another option makes nothing of. */
static const struct class_remark {
    bool (*says)(const struct room_class *class);
    bool (*matters)(const struct options *options);
    enum option_index other;
    const char *holds, *text;
} class_remarks[] = {
    {says_token, opens_to_all, OPTION_INDEX_auth_mode, "token in a class, with auth.mode open",
     "a class says token, and auth.mode is open: no token is looked at, so nobody has the claim"},
    {says_webhook, posts_nothing, OPTION_INDEX_webhook_url,
     "webhook=yes in a class, with webhook.url empty",
     "a class says webhook=yes, and webhook.url is empty: its news are posted to nobody"},
};

enum { CLASS_REMARKS = sizeof(class_remarks) / sizeof(class_remarks[0]) };

/* Classes that cannot be read are refused as such, and without memory a note is missing. */
static bool is_remarked(const struct options *options, const struct class_remark *remark,
                        struct option_conflict *conflict)
{
    struct room_classes *classes = NULL;
    char error[ROOM_CLASS_ERROR_BYTES];
    bool said = false;
    if (!remark->matters(options) || options->rooms_classes.count == 0 ||
        room_classes_read(options->rooms_classes.items, options->rooms_classes.count, &classes,
                          error) != 0)
        return false;
    for (size_t i = 0; i < classes->count; i++)
        said = said || remark->says(&classes->classes[i]);
    room_classes_destroy(classes);
    *conflict = (struct option_conflict){.option = option_rows[OPTION_INDEX_rooms_classes].key,
                                         .other = option_rows[remark->other].key};
    snprintf(conflict->text, sizeof(conflict->text), "%s", remark->text);
    return said;
}

size_t config_conflicts(const struct options *options,
                        struct option_conflict conflicts[OPTION_CONFLICTS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < BRINGERS; i++)
        for (size_t j = 0; j < OPENINGS; j++)
            count += is_open(options, &option_rows[bringers[i]], &openings[j], &conflicts[count]);
    for (size_t i = 0; i < UNUSED_COUNT; i++)
        count += is_unused(options, &unused[i], &conflicts[count]);
    for (size_t i = 0; i < CLASS_REMARKS; i++)
        count += is_remarked(options, &class_remarks[i], &conflicts[count]);
    for (size_t i = 0; i < RELATION_COUNT; i++) {
        const struct relation *relation = &relations[i];
        if (!matters(options, relation) || holds(options, relation))
            continue;
        struct option_conflict *conflict = &conflicts[count++];
        char accepted[128];
        describe(relation, accepted, sizeof(accepted));
        conflict->refused = relation->kind == REFUSED;
        conflict->option = option_rows[relation->option].key;
        conflict->other = option_rows[relation->other].key;
        snprintf(conflict->text, sizeof(conflict->text),
                 "%" PRIu64 ", and %s is %" PRIu64 ": %s; accepted: %s",
                 number_of(options, relation->option), conflict->other,
                 number_of(options, relation->other), relation->why, accepted);
    }
    return count;
}

void config_print_relations(FILE *to)
{
    static const char *const when[] = {[ALWAYS] = "",
                                       [LIMITED] = " (unless one is 0)",
                                       [AUTH] = " (auth.mode not open)",
                                       [AUTH_SERVICE] = " (auth.mode service)",
                                       [AUTH_ASKED] = " (auth.mode service or http)"};
    fputs("| What has to hold | Otherwise | At the start |\n| --- | --- | --- |\n", to);
    for (size_t i = 0; i < RELATION_COUNT; i++) {
        char text[128];
        describe(&relations[i], text, sizeof(text));
        fprintf(to, "| %s%s | %s | %s |\n", text, when[relations[i].when], relations[i].why,
                relations[i].kind == REFUSED ? "refused" : "told");
    }
    for (size_t i = 0; i < BRINGERS; i++)
        for (size_t j = 0; j < OPENINGS; j++)
            fprintf(to,
                    "| %s set only with another %s than open, or with auth.allow_open_network | %s "
                    "| refused |\n",
                    option_rows[bringers[i]].key, option_rows[openings[j].option].key,
                    openings[j].why);
    for (size_t i = 0; i < CLASS_REMARKS; i++)
        fprintf(to, "| %s without %s | %s | told |\n", option_rows[OPTION_INDEX_rooms_classes].key,
                class_remarks[i].holds, class_remarks[i].text);
    for (size_t i = 0; i < UNUSED_COUNT; i++) {
        const struct unused *row = &unused[i];
        fprintf(to, "| %s set, but not with %s ", option_rows[row->option].key,
                option_rows[row->other].key);
        for (const char *at = row->values[0] != '\0' ? row->values : "empty"; *at != '\0'; at++)
            fputs(*at == '|' ? " or " : (char[]){*at, '\0'}, to);
        fprintf(to, " | %s | told |\n", row->why);
    }
}
