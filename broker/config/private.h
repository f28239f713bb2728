/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_CONFIG_PRIVATE_H
#define USHER_CONFIG_PRIVATE_H

/* What the files of the configuration share: the rows of options.def as data. Only config*.c
 * include this. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/config.h"

enum option_type { OPTION_BOOL, OPTION_UNSIGNED, OPTION_TEXT, OPTION_ENUM, OPTION_TEXT_LIST };

struct option_row {
    const char *key;
    enum option_type type;
    enum option_holds holds;
    const char *default_text;
    uint64_t min;
    uint64_t max;
    const char *unit; /* for OPTION_ENUM: the words, separated by | */
    const char *help;
    size_t offset; /* in struct options */
};

enum option_index {
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) OPTION_INDEX_##field,
#include "base/options.def"
#undef OPTION
    OPTION_COUNT
};

extern const struct option_row option_rows[OPTION_COUNT];

/* The row of a key, or NULL. */
const struct option_row *option_find(const char *key);

/* Whether some key begins with `group` and a dot. */
bool option_is_group(const char *group);

/* The key that was probably meant, or NULL when none is near. */
const char *option_nearest(const char *key);

/* Gives the option a value as a user writes it. 0, -EINVAL (not acceptable; nothing changed),
 * -ENOMEM. A list takes `text` apart at commas. */
int option_set(struct options *options, const struct option_row *row, const char *text);

/* For OPTION_TEXT_LIST: how many items there may be, at most TEXT_LIST_MAX; sets the items as they
 * are, -E2BIG above that. */
size_t option_items_max(const struct option_row *row);
int option_set_list(struct options *options, const struct option_row *row, const char *const *items,
                    size_t count);

/* The option's value as a user writes it, cut when too long. */
void config_print_option(const struct options *options, const struct option_row *row,
                         char text[OPTION_TEXT_BYTES]);

/* Writes what the row accepts, for people. */
void config_describe_option(const struct option_row *row, FILE *to);

/* One complaint: "WHERE: KEY: wrong; accepted: ..." and "WHERE: KEY: unknown ...". */
void config_complain_value(FILE *complaints, const char *where, const struct option_row *row,
                           int error);
void config_complain_unknown(FILE *complaints, const char *where, const char *key);

/* Reads a YAML file into the options. 0 or CONFIG_INVALID, with its complaints written. */
int config_read_yaml(struct options *options, const char *path, FILE *complaints);

#endif
