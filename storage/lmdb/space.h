/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LMDB_SPACE_H
#define USHER_LMDB_SPACE_H

/* Whether the changes of a transaction still fit the map: an estimate in pages that errs on the
 * safe side, so that a store is never too full to be emptied. Pure arithmetic, one thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SPACE_EVENT_BYTES_MAX = 288,   /* one event on its page, with key and node */
    SPACE_HISTORY_BYTES_MAX = 720, /* one record of the history in the same way */
};

enum space_change {
    SPACE_KEEPS,       /* a session updated or deleted, an event */
    SPACE_GROWS,       /* a session that takes more space than before */
    SPACE_MESSAGE,     /* a part of a saved inbox */
    SPACE_LOG,         /* a value of the log: it takes no space that a session may want */
    SPACE_LOG_SPARING, /* nor what it may want that makes room in the log */
    SPACE_LOG_DROP,    /* one of its values, or more in a row */
    SPACE_HISTORY,     /* what nobody needs: it takes no space that anything else may want */
};

/* The file as the transaction finds it. */
struct space_file {
    uint64_t page_bytes;
    uint64_t pages;         /* of the map */
    uint64_t pages_used;    /* of them by the file, free ones among them */
    uint64_t session_pages; /* of the trees, without the pages that hold one value alone */
    uint64_t event_pages;
    uint64_t history_pages;
    uint64_t inbox_pages;
    uint64_t inbox_value_pages; /* and those */
    uint64_t log_pages;
    uint64_t log_value_pages;
    uint64_t sessions;
    uint64_t events_missing; /* how many more may be kept */
};

struct space {
    struct space_file file;
    uint64_t changes;
    uint64_t bytes; /* put by them */
    uint64_t inbox_changes;
    uint64_t inbox_bytes;       /* on pages that they share */
    uint64_t inbox_value_pages; /* on pages of their own */
    uint64_t log_values, log_drops;
    uint64_t log_bytes;
    uint64_t log_value_pages;
    uint64_t listed_pages; /* free inside of the file; 0 until space_list */
    uint64_t listed_run;   /* the most of them in a row */
    bool listed;
};

void space_begin(struct space *space, const struct space_file *file);

/* Adds one more change that puts `bytes` with its key. */
void space_add(struct space *space, enum space_change change, size_t bytes);

/* Whether all that was added fits, the last one being of that kind. A false before space_list
 * means: only if the free pages inside of the file do. */
bool space_fits(const struct space *space, enum space_change change);

/* Whether the log would have more than its share, for what spares or does not. */
bool space_log_is_full(const struct space *space, enum space_change change);

void space_list(struct space *space, uint64_t pages, uint64_t run);

#endif
