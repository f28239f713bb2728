/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_CONFIG_CONFIG_H
#define USHER_CONFIG_CONFIG_H

/* The configuration: one struct, generated from the rows of options.def. It is read once at start,
 * by one thread, and is constant afterwards; reload.c has a copy that follows the file. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/listeners.h"
#include "base/prefixes.h"
#include "rules/friends.h"
#include "rules/room_classes.h"

/* As many as the prefixes that a content network publishes, and some more. Of link.urls fewer: each
 * is a listener. */
enum { TEXT_LIST_MAX = 64, OPTION_LINK_URLS_MAX = 8 };

/* Texts are owned by the struct options around them. */
struct text_list {
    char *items[TEXT_LIST_MAX];
    size_t count;
};

/* The words of the ENUM rows, in their order; log.level counts as enum log_level does. */
enum auth_mode { AUTH_MODE_OPEN, AUTH_MODE_TOKEN, AUTH_MODE_SERVICE, AUTH_MODE_HTTP };
enum session_ends { SESSION_ENDS_NEVER, SESSION_ENDS_WITH_TOKEN };
enum offline_from { OFFLINE_FROM_SERVICES, OFFLINE_FROM_ANY };
enum log_format { LOG_FORMAT_AUTO, LOG_FORMAT_JSON, LOG_FORMAT_TEXT };

/* From when on another value of a row holds: START from a restart on, each of the others from a
 * reload on. LIVE is a number that the layers ask for (base/limits.h); what has to be done for the
 * others is in broker/operate/reload.c, in this order. */
enum option_holds {
    HOLDS_START,
    HOLDS_LIVE,
    HOLDS_LINK_TOKEN,
    HOLDS_KEYS,
    HOLDS_LOG_LEVEL,
    HOLDS_ROOMS,
    HOLDS_WEBHOOK,
    HOLDS_AUTH_HTTP,
    HOLDS_CERTIFICATES,
    HOLDS_PROXIES,
    HOLDS_COUNT
};

#define OPTION_C_TYPE_BOOL bool
#define OPTION_C_TYPE_UNSIGNED uint64_t
#define OPTION_C_TYPE_TEXT char *
#define OPTION_C_TYPE_ENUM unsigned
#define OPTION_C_TYPE_TEXT_LIST struct text_list

struct options {
#define OPTION(field, key, type, holds, default_text, min, max, unit, help) \
    OPTION_C_TYPE_##type field;
#include "base/options.def"
#undef OPTION
};

enum config_action {
    CONFIG_RUN,   /* the options are complete and valid: start */
    CONFIG_CHECK, /* the same, but only whether they are is asked: the files that they name remain
                   */
    CONFIG_EXIT   /* what was asked for was printed on stdout: exit 0 */
};

/* sysexits.h numbers, which are the exit codes of the process. */
enum { CONFIG_USAGE = 64, CONFIG_UNWRITTEN = 74, CONFIG_INVALID = 78 };

/* Reads the command line and the files that it names, in their order, the later winning.
 *
 * 0, CONFIG_USAGE or CONFIG_INVALID; for these two, one line per fault went to `complaints`; or
 * CONFIG_UNWRITTEN: stdout did not take what was asked for. On 0
 * `options` is filled, with what depends on other values or on the machine resolved: link_urls has
 * at least one item, threads_io and threads_workers are at least 1. The caller owns it and calls
 * options_fini, in every case. Reads files, so it blocks. */
int config_load(struct options *options, int argc, char **argv, FILE *complaints,
                enum config_action *action);

/* All defaults, nothing resolved. 0 or -ENOMEM. */
int options_init(struct options *options);

/* Frees the texts; harmless on zeroed memory. */
void options_fini(struct options *options);

/* Where a listener is to be, "": nowhere. Whether there is one somewhere that is like it. */
const char *options_listen(const struct options *options, enum listener_kind kind);
bool options_listen_like(const struct options *options, enum listener_kind like);

/* The addresses and prefixes of a list; false: an item is none, and *faulty is it. */
bool options_prefixes(const struct text_list *list, struct prefixes *prefixes, const char **faulty);

/* What --help, --print-config and --print-options-markdown print. */
void config_print_help(FILE *to);
void config_print_yaml(FILE *to);
void config_print_markdown(FILE *to);
void config_print_relations(FILE *to); /* --print-relations-markdown */

/* --- what the options make of each other ------------------------------------------------------ */

enum { OPTION_CONFLICTS_MAX = 64 /* there are fewer rows */, OPTION_CONFLICT_BYTES = 400 };

struct option_conflict {
    bool refused; /* otherwise it is only odd, and told */
    const char *option, *other;
    char text[OPTION_CONFLICT_BYTES]; /* behind "option: " */
};

/* The rows of relations.def that do not hold, those of unused.def that do, and a broker that is
 * open to whom a proxy brings; gives how many. */
size_t config_conflicts(const struct options *options,
                        struct option_conflict conflicts[OPTION_CONFLICTS_MAX]);

/* --- a configuration that is read again ------------------------------------------------------- */

enum { OPTION_TEXT_BYTES = 128, OPTION_CHANGES_MAX = 160 /* there are fewer options */ };

struct option_change {
    const char *option; /* the key */
    bool restart;       /* it holds after a restart only */
    char from[OPTION_TEXT_BYTES],
        to[OPTION_TEXT_BYTES]; /* as a user writes it, cut when too long */
};

/* Which values differ; gives how many. */
size_t config_compare(const struct options *from, const struct options *to,
                      struct option_change changes[OPTION_CHANGES_MAX]);

/* A copy with texts of its own, for options_fini. 0 or -ENOMEM. */
int config_copy(struct options *to, const struct options *from);

/* Exchanges the values of those that a reload changes. */
void config_swap_reloadable(struct options *a, struct options *b);

/* --- the numbers, where the layers read them -------------------------------------------------- */

/* All of them (base/limits.h); while there are no other threads. */
void limits_fill(struct limits *limits, const struct options *options);

/* Those that are LIVE. Any thread, one at a time. */
void limits_follow(struct limits *limits, const struct options *options);

#endif
