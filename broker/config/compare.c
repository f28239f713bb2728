/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/private.h"

/* Two configurations side by side: the one that holds and the one that was read just now. What may
 * change while usherd runs is data (a column of options.def), so the report, the documentation and
 * the change itself cannot say different things. Pure. */

_Static_assert((int)OPTION_COUNT <= (int)OPTION_CHANGES_MAX, "room for a change of every option");

static size_t size_of(enum option_type type)
{
    static const size_t sizes[] = {
        [OPTION_BOOL] = sizeof(bool),
        [OPTION_UNSIGNED] = sizeof(uint64_t),
        [OPTION_TEXT] = sizeof(char *),
        [OPTION_ENUM] = sizeof(unsigned),
        [OPTION_TEXT_LIST] = sizeof(struct text_list),
    };
    return sizes[type];
}

static void *place(struct options *options, const struct option_row *row)
{
    return (char *)options + row->offset;
}

static const void *look(const struct options *options, const struct option_row *row)
{
    return (const char *)options + row->offset;
}

/* Of what is cut it is said that there is more. */
static void mark_cut(char text[OPTION_TEXT_BYTES], size_t size)
{
    static const char more[] = "...";
    if (size >= OPTION_TEXT_BYTES)
        memcpy(text + OPTION_TEXT_BYTES - sizeof(more), more, sizeof(more));
}

static void print_list(const struct text_list *list, char text[OPTION_TEXT_BYTES])
{
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < list->count && at < OPTION_TEXT_BYTES; i++)
        at += (size_t)snprintf(text + at, OPTION_TEXT_BYTES - at, "%s%s", i > 0 ? "," : "",
                               list->items[i]);
    mark_cut(text, at);
}

static void print_word(const char *words, unsigned index, char text[OPTION_TEXT_BYTES])
{
    while (index-- > 0)
        words += strcspn(words, "|") + 1;
    snprintf(text, OPTION_TEXT_BYTES, "%.*s", (int)strcspn(words, "|"), words);
}

void config_print_option(const struct options *options, const struct option_row *row,
                         char text[OPTION_TEXT_BYTES])
{
    const void *at = look(options, row);
    switch (row->type) {
    case OPTION_BOOL:
        snprintf(text, OPTION_TEXT_BYTES, "%s", *(const bool *)at ? "true" : "false");
        break;
    case OPTION_UNSIGNED:
        snprintf(text, OPTION_TEXT_BYTES, "%" PRIu64, *(const uint64_t *)at);
        break;
    case OPTION_TEXT:
        mark_cut(text, (size_t)snprintf(text, OPTION_TEXT_BYTES, "%s", *(char *const *)at));
        break;
    case OPTION_ENUM:
        print_word(row->unit, *(const unsigned *)at, text);
        break;
    case OPTION_TEXT_LIST:
        print_list(at, text);
        break;
    }
}

static bool lists_equal(const struct text_list *a, const struct text_list *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++)
        equal = strcmp(a->items[i], b->items[i]) == 0;
    return equal;
}

static bool values_equal(const struct options *a, const struct options *b,
                         const struct option_row *row)
{
    if (row->type == OPTION_TEXT)
        return strcmp(*(char *const *)look(a, row), *(char *const *)look(b, row)) == 0;
    if (row->type == OPTION_TEXT_LIST)
        return lists_equal(look(a, row), look(b, row));
    return memcmp(look(a, row), look(b, row), size_of(row->type)) == 0;
}

/* The path of a place that requests go to may be what lets one in there, and logs are read by
 * others.
 */
static void hide_path(const struct option_row *row, char text[OPTION_TEXT_BYTES])
{
    const struct option_row *places[] = {&option_rows[OPTION_INDEX_webhook_url],
                                         &option_rows[OPTION_INDEX_auth_http_url]};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        const char *host = strstr(text, "://");
        size_t size = host != NULL ? (size_t)(host + 3 - text) + strcspn(host + 3, "/?") : 0;
        if (row == places[i] && host != NULL && text[size] != '\0' && text[size + 1] != '\0')
            snprintf(text + size, OPTION_TEXT_BYTES - size, "%c...", text[size]);
    }
}

size_t config_compare(const struct options *from, const struct options *to,
                      struct option_change changes[OPTION_CHANGES_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        if (values_equal(from, to, row))
            continue;
        struct option_change *change = &changes[count++];
        change->option = row->key;
        change->restart = row->holds == HOLDS_START;
        config_print_option(from, row, change->from);
        config_print_option(to, row, change->to);
        hide_path(row, change->from);
        hide_path(row, change->to);
    }
    return count;
}

int config_copy(struct options *to, const struct options *from)
{
    int error = options_init(to);
    for (size_t i = 0; error == 0 && i < OPTION_COUNT; i++) {
        const struct option_row *row = &option_rows[i];
        const struct text_list *list = look(from, row);
        if (row->type == OPTION_TEXT_LIST)
            error = option_set_list(to, row, (const char *const *)list->items, list->count);
        else if (row->type != OPTION_TEXT)
            memcpy(place(to, row), look(from, row), size_of(row->type));
    }
    for (size_t i = 0; error == 0 && i < OPTION_COUNT; i++) {
        char **text = place(to, &option_rows[i]);
        if (option_rows[i].type != OPTION_TEXT)
            continue;
        free(*text);
        *text = strdup(*(char *const *)look(from, &option_rows[i]));
        error = *text != NULL ? 0 : -ENOMEM;
    }
    if (error != 0)
        options_fini(to);
    return error;
}

void config_swap_reloadable(struct options *a, struct options *b)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char kept[sizeof(struct text_list)];
        size_t size = size_of(option_rows[i].type);
        if (option_rows[i].holds == HOLDS_START)
            continue;
        memcpy(kept, place(a, &option_rows[i]), size);
        memcpy(place(a, &option_rows[i]), place(b, &option_rows[i]), size);
        memcpy(place(b, &option_rows[i]), kept, size);
    }
}
