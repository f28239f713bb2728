/* SPDX-License-Identifier: Apache-2.0 */
#include "common/options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* getopt_long knows what an option looks like, the rows what it means; here the one is made of the
 * other. It is asked for everything in order (`-`), so that a word behind which nothing is an
 * option of ours is seen before what follows it. */

enum {
    KEY_WORD = 1, /* getopt's own */
    KEY_HELP = 1000,
    KEY_VERSION,
    KEY_ROWS = 2000,
};

void options_complain(const struct option_set *set, const char *option, const char *value,
                      const char *what)
{
    fprintf(stderr, "%s: ", set->program);
    if (option != NULL)
        fprintf(stderr, "--%s ", option);
    if (value != NULL)
        fprintf(stderr, "%s: ", value);
    fprintf(stderr, "%s; %s --help tells more\n", what, set->program);
}

static bool has_argument(const struct option_row *row)
{
    return row->type != OPTION_FLAG && row->type != OPTION_NO_FLAG;
}

/* The rows, in the words of getopt. */
static void build_tables(const struct option_set *set, struct option *options, char *letters)
{
    *letters++ = '-';
    for (size_t i = 0; i < set->count; i++) {
        const struct option_row *row = &set->rows[i];
        *options++ = (struct option){row->name, has_argument(row) ? required_argument : no_argument,
                                     NULL, KEY_ROWS + (int)i};
        if (row->letter == 0)
            continue;
        *letters++ = row->letter;
        if (has_argument(row))
            *letters++ = ':';
    }
    *letters = '\0';
    *options++ = (struct option){"help", no_argument, NULL, KEY_HELP};
    *options++ = (struct option){"version", no_argument, NULL, KEY_VERSION};
    *options = (struct option){NULL, 0, NULL, 0};
}

/* Digits are read as such, so that a large number loses none; 1e5 is a whole number, too. */
static const char *take_count(const struct option_row *row, const char *text, uint64_t *count)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !isfinite(value))
        return "not a number";
    if (value < row->min || value > row->max)
        return "out of range";
    if (value != floor(value))
        return "not a whole number";
    if (text[strspn(text, "0123456789")] != '\0') {
        *count = (uint64_t)value;
        return NULL;
    }
    *count = strtoull(text, NULL, 10);
    return errno == 0 ? NULL : "out of range";
}

static const char *take_real(const struct option_row *row, const char *text, double *real)
{
    char *end;
    errno = 0;
    *real = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !isfinite(*real))
        return "not a number";
    return *real < row->min || *real > row->max ? "out of range" : NULL;
}

/* NULL, or what is wrong. */
static const char *take_value(const struct option_row *row, const char *text, void *values)
{
    void *place = (char *)values + row->offset;
    switch (row->type) {
    case OPTION_FLAG:
    case OPTION_NO_FLAG:
        *(bool *)place = row->type == OPTION_FLAG;
        return NULL;
    case OPTION_COUNT:
        return take_count(row, text, place);
    case OPTION_REAL:
        return take_real(row, text, place);
    case OPTION_TEXT:
        *(const char **)place = text;
        return NULL;
    }
    return "not known";
}

static enum option_end take_option(const struct option_set *set, int key, void *values,
                                   struct option_words *words)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option_row *row = &set->rows[i];
        if (key != KEY_ROWS + (int)i && key != row->letter)
            continue;
        words->given |= UINT64_C(1) << i;
        const char *fault = take_value(row, optarg, values);
        if (fault != NULL)
            options_complain(set, row->name, optarg, fault);
        return fault == NULL ? OPTIONS_READ : OPTIONS_WRONG;
    }
    /* getopt has said what is wrong with it. */
    fprintf(stderr, "%s --help tells more\n", set->program);
    return OPTIONS_WRONG;
}

static enum option_end show(const struct option_set *set, int key)
{
    if (key == KEY_HELP)
        set->print_help();
    else
        printf("%s " USHER_VERSION "\n", set->program);
    return OPTIONS_SHOWN;
}

/* Whether the word, the last one that came, ends our options. */
static bool passes_on(const struct option_set *set, const struct option_words *words)
{
    return set->passes_on != NULL && words->count == 1 &&
           strcmp(words->words[0], set->passes_on) == 0;
}

enum option_end options_read(const struct option_set *set, int argc, char **argv, void *values,
                             struct option_words *words)
{
    struct option options[OPTION_ROWS_MAX + 3];
    char letters[2 * OPTION_ROWS_MAX + 2];
    enum option_end end = OPTIONS_READ;
    int key;
    build_tables(set, options, letters);
    *words = (struct option_words){.words = argv + 1};
    while (end == OPTIONS_READ && !passes_on(set, words) &&
           (key = getopt_long(argc, argv, letters, options, NULL)) != -1)
        if (key == KEY_WORD) /* getopt is beyond that place */
            words->words[words->count++] = optarg;
        else if (key == KEY_HELP || key == KEY_VERSION)
            end = show(set, key);
        else
            end = take_option(set, key, values, words);
    while (end == OPTIONS_READ && optind < argc)
        words->words[words->count++] = argv[optind++];
    return end;
}

bool options_fit(const struct option_set *set, const struct option_words *words, unsigned command,
                 const char *name)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct option_row *row = &set->rows[i];
        if ((words->given >> i & 1) == 0 || row->commands == 0 ||
            (row->commands >> command & 1) != 0)
            continue;
        fprintf(stderr, "%s: --%s means nothing for %s; %s --help tells more\n", set->program,
                row->name, name, set->program);
        return false;
    }
    return true;
}
