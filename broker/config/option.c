/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

/* Options as data: one generic reader per type instead of one branch per option. Values are read
 * strictly, because a configuration that is half understood is worse than one that is refused:
 * decimal digits, an optional unit of the row's own kind, nothing else. No leading zero (YAML 1.1
 * would read octal), no sign, no spaces, no trailing junk. Pure, but for the texts it allocates. */

const struct option_row option_rows[OPTION_COUNT] = {
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    {key,          OPTION_##type, HOLDS_##holds,                            \
     default_text, min,           max,                                      \
     unit,         help,          offsetof(struct options, field)},
#include "base/options.def"
#undef OPTION
};

/* What is no number is not asked for each time, so somebody has to see to it. */
#define OPTION(field, key, type, holds, default_text, min, max, unit, help)         \
    _Static_assert(HOLDS_##holds != HOLDS_LIVE || OPTION_##type == OPTION_UNSIGNED, \
                   key " is LIVE and no number: its row has to name who sees to it");
#include "base/options.def"
#undef OPTION

/* An option's place in the struct; the row's type says what lies there. */
static void *place(struct options *options, const struct option_row *row)
{
    return (char *)options + row->offset;
}

const struct option_row *option_find(const char *key)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strcmp(option_rows[i].key, key) == 0)
            return &option_rows[i];
    return NULL;
}

bool option_is_group(const char *group)
{
    size_t size = strlen(group);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strncmp(option_rows[i].key, group, size) == 0 && option_rows[i].key[size] == '.')
            return true;
    return false;
}

enum { KEY_BYTES_MAX = 63 };

/* How many letters to insert, drop or change to get from one word to the other. */
static size_t distance(const char *a, const char *b)
{
    size_t width = strlen(b);
    if (strlen(a) > KEY_BYTES_MAX || width > KEY_BYTES_MAX)
        return SIZE_MAX;
    size_t row[KEY_BYTES_MAX + 1];
    for (size_t j = 0; j <= width; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= width; j++) {
            size_t change = corner + (a[i - 1] != b[j - 1]);
            size_t insert = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            corner = row[j];
            row[j] = change < insert ? change : insert;
        }
    }
    return row[width];
}

const char *option_nearest(const char *key)
{
    const char *nearest = NULL;
    size_t least = 4; /* farther away it is a guess, not a help */
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const char *candidate = option_rows[i].key;
        size_t whole = distance(key, candidate);
        /* The right word under the wrong group, or without one, is meant too. */
        const char *word = strrchr(key, '.') != NULL ? strrchr(key, '.') + 1 : key;
        if (strcmp(word, strrchr(candidate, '.') + 1) == 0)
            whole = whole < 1 ? whole : 1;
        if (whole < least) {
            least = whole;
            nearest = candidate;
        }
    }
    return nearest;
}

struct suffix {
    const char *unit; /* of the row */
    const char *text;
    uint64_t factor;
};

static const struct suffix suffixes[] = {
    {"bytes", "KiB", UINT64_C(1) << 10},
    {"bytes", "MiB", UINT64_C(1) << 20},
    {"bytes", "GiB", UINT64_C(1) << 30},
    {"bytes", "TiB", UINT64_C(1) << 40},
    {"ms", "ms", 1},
    {"ms", "s", 1000},
    {"ms", "min", 60000},
    {"ms", "h", 3600000},
};

/* The factor of what follows the digits; 0 when it is not a suffix of this unit. */
static uint64_t suffix_factor(const char *text, const char *unit)
{
    if (*text == '\0')
        return 1;
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++)
        if (strcmp(text, suffixes[i].text) == 0 && strcmp(unit, suffixes[i].unit) == 0)
            return suffixes[i].factor;
    return 0;
}

static int parse_unsigned(const char *text, const struct option_row *row, uint64_t *to)
{
    uint64_t number = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || (text[0] == '0' && digits > 1))
        return -EINVAL;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(text[i] - '0'), &number))
            return -EINVAL;
    uint64_t factor = suffix_factor(text + digits, row->unit);
    if (factor == 0 || __builtin_mul_overflow(number, factor, &number) || number < row->min ||
        number > row->max)
        return -EINVAL;
    *to = number;
    return 0;
}

/* The words that YAML 1.1 takes for truth, and only here. */
static int parse_bool(const char *text, bool *to)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"};
    for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
        if (strcmp(text, words[i]) == 0) {
            *to = i % 2 == 1;
            return 0;
        }
    }
    return -EINVAL;
}

static int parse_enum(const char *text, const char *words, unsigned *to)
{
    size_t size = strlen(text);
    for (unsigned index = 0; words != NULL; index++) {
        size_t length = strcspn(words, "|");
        if (length == size && memcmp(words, text, size) == 0) {
            *to = index;
            return 0;
        }
        words = words[length] == '|' ? words + length + 1 : NULL;
    }
    return -EINVAL;
}

/* Texts become addresses, paths and names in log lines: no control characters. */
static bool is_text_acceptable(const char *text, const struct option_row *row)
{
    size_t size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return size >= row->min && size <= row->max;
}

static int set_text(const char *text, const struct option_row *row, char **to)
{
    if (!is_text_acceptable(text, row))
        return -EINVAL;
    char *copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

static void text_list_fini(struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    *list = (struct text_list){.count = 0};
}

size_t option_items_max(const struct option_row *row)
{
    bool are_urls = row->offset == offsetof(struct options, link_urls);
    return are_urls ? OPTION_LINK_URLS_MAX : TEXT_LIST_MAX;
}

int option_set_list(struct options *options, const struct option_row *row, const char *const *items,
                    size_t count)
{
    if (row->type != OPTION_TEXT_LIST)
        return -EINVAL;
    if (count > option_items_max(row))
        return -E2BIG;
    struct text_list list = {.count = 0};
    for (size_t i = 0; i < count; i++) {
        int error = set_text(items[i], row, &list.items[i]);
        if (error != 0) {
            text_list_fini(&list);
            return error;
        }
        list.count++;
    }
    text_list_fini(place(options, row));
    *(struct text_list *)place(options, row) = list;
    return 0;
}

static int set_list_text(struct options *options, const struct option_row *row, const char *text)
{
    const char *items[TEXT_LIST_MAX + 1];
    size_t count = 0;
    char *copy = strdup(text);
    if (copy == NULL)
        return -ENOMEM;
    char *rest = *text != '\0' ? copy : NULL;
    while (rest != NULL && count <= TEXT_LIST_MAX)
        items[count++] = strsep(&rest, ",");
    int error = option_set_list(options, row, items, count);
    free(copy);
    return error;
}

int option_set(struct options *options, const struct option_row *row, const char *text)
{
    switch (row->type) {
    case OPTION_BOOL:
        return parse_bool(text, place(options, row));
    case OPTION_UNSIGNED:
        return parse_unsigned(text, row, place(options, row));
    case OPTION_TEXT:
        return set_text(text, row, place(options, row));
    case OPTION_ENUM:
        return parse_enum(text, row->unit, place(options, row));
    case OPTION_TEXT_LIST:
        break;
    }
    return set_list_text(options, row, text);
}

int options_init(struct options *options)
{
    *options = (struct options){0};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        int error = option_set(options, &option_rows[i], option_rows[i].default_text);
        if (error != 0) {
            options_fini(options);
            return error;
        }
    }
    return 0;
}

const char *options_listen(const struct options *options, enum listener_kind kind)
{
    switch (kind) {
#define LISTENER(name, codec, transport, standard, whom, help) \
    case LISTENER_##name:                                      \
        return options->listen_##name;
#include "base/listeners.def"
    case LISTENERS:
        break;
    }
    return "";
}

bool options_listen_like(const struct options *options, enum listener_kind like)
{
    bool found = false;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        found = found || (listener_is_like(kind, like) && options_listen(options, kind)[0] != '\0');
    return found;
}

_Static_assert((int)TEXT_LIST_MAX <= (int)PREFIXES_MAX, "room for all items of a list");

bool options_prefixes(const struct text_list *list, struct prefixes *prefixes, const char **faulty)
{
    *prefixes = (struct prefixes){.count = 0};
    for (size_t i = 0; i < list->count; i++) {
        *faulty = list->items[i];
        if (!prefix_read(&prefixes->items[prefixes->count++], list->items[i]))
            return false;
    }
    return true;
}

void options_fini(struct options *options)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (option_rows[i].type == OPTION_TEXT) {
            char **text = place(options, &option_rows[i]);
            free(*text);
            *text = NULL;
        } else if (option_rows[i].type == OPTION_TEXT_LIST) {
            text_list_fini(place(options, &option_rows[i]));
        }
    }
}
