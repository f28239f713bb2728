/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"

/* A map that is full to the last page could not even delete: a change copies the pages on its
 * way, and the copied ones are free for the next but one transaction only. So each transaction
 * leaves PAGES_KEPT free pages to the next, and one that makes the content grow leaves twice as
 * many and what the events may still need. Refused are then new names, while those who are there
 * can change and leave, which makes space again.
 *
 * The estimate: a change copies two pages of its trees, but no page is copied twice, and what is
 * put fills new pages by half.
 *
 * Saved inboxes may be by far the most of a store, and they are written when it stops. They must
 * not keep the next start from its work, so they leave space for
 *   - an update of every session with an event each, in one transaction, and
 *   - the list of the pages that dropping them sets free. That list is one value, so if it is
 *     longer than a page it needs pages in a row: behind the file's last page, where what was
 *     just estimated leaves them, or a row of free pages that is longer than all of it. (LMDB
 *     takes from the low end of a row, so its high end is still one afterwards.)
 *
 * The log of stored messages gives way to sessions: all of it is at most half of the map, and a
 * value leaves half as much again as a new name leaves, and what a start may need. What comes
 * leaves an eighth of that half and some pages more, so that a log that is full can be cleaned:
 * what lives of its oldest values is written again before they are dropped. Its values are
 * appended, so they copy one way down its tree, whatever their number. Those that are dropped lie
 * anywhere, but a row of them costs what its first one does: LMDB takes a page that it copied and
 * emptied for the next copy, within the transaction.
 *
 * The history is for people, so it is the first to go without: it leaves what a new name leaves
 * twice over, and what a start may need.
 *
 * It is decided before LMDB is asked to make the change. Pages that a reader may still see are not
 * used again: one that stays in its transaction (of another process: those here are short) makes
 * the file grow up to the map's end, and then every commit is refused until it goes. One that died
 * there is cleared, now and then and whenever the end is near. */

enum {
    PAGES_KEPT = 16, /* what a transaction must leave for the next; see above */
    PAGE_HEADER_BYTES = 16,
    NODE_BYTES = 10,        /* of a key and its value on a page */
    NODES_PER_PAGE_MIN = 2, /* a value that leaves no space for others has pages of its own */
    PAGE_NUMBER_BYTES = 8,
    UPDATES_PER_SESSION = 2, /* of a start: the session and an event */
    LOG_SHARE = 2,           /* of the map, 1/n, at most for the log */
    LOG_EDGE_PAGES = 8,   /* from the root of its tree to the last value, and new ones on the way */
    LOG_SPARED = 8,       /* of its share, 1/n, for what makes room in it */
    LOG_KEPT = 3,         /* times PAGES_KEPT: a new name leaves 2 */
    LOG_SPARING_KEPT = 4, /* so as much is left for cleaning */
    HISTORY_KEPT = 4,     /* and this is twice what a new name leaves */
};

/* --- the estimate: pure ----------------------------------------------------------------------- */

static uint64_t at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

static uint64_t pages_of(const struct space *space, uint64_t bytes)
{
    return (bytes + space->file.page_bytes - 1) / space->file.page_bytes;
}

void space_begin(struct space *space, const struct space_file *file)
{
    CHECK(file->page_bytes > PAGE_HEADER_BYTES);
    *space = (struct space){.file = *file};
}

static void add_value(const struct space *space, size_t bytes, uint64_t *shared, uint64_t *pages)
{
    if (bytes + NODE_BYTES > (space->file.page_bytes - PAGE_HEADER_BYTES) / NODES_PER_PAGE_MIN)
        *pages += pages_of(space, bytes + PAGE_HEADER_BYTES);
    else
        *shared += bytes + NODE_BYTES;
}

void space_add(struct space *space, enum space_change change, size_t bytes)
{
    CHECK(change <= SPACE_HISTORY && space->bytes + bytes >= bytes);
    switch (change) {
    case SPACE_MESSAGE:
        space->inbox_changes++;
        add_value(space, bytes, &space->inbox_bytes, &space->inbox_value_pages);
        break;
    case SPACE_LOG:
    case SPACE_LOG_SPARING:
        space->log_values++;
        add_value(space, bytes, &space->log_bytes, &space->log_value_pages);
        break;
    case SPACE_LOG_DROP:
        space->log_drops++;
        break;
    default:
        space->changes++;
        space->bytes += bytes;
    }
}

void space_list(struct space *space, uint64_t pages, uint64_t run)
{
    space->listed_pages = pages;
    space->listed_run = run;
    space->listed = true;
}

/* What the changes take, the values on pages of their own left out. */
static uint64_t pages_taken(const struct space *space)
{
    const struct space_file *file = &space->file;
    uint64_t copied =
        at_most(2 * space->changes, file->session_pages + file->event_pages + file->history_pages);
    uint64_t inbox_copied = at_most(2 * space->inbox_changes, file->inbox_pages);
    uint64_t log_copied = at_most(2 * space->log_drops, file->log_pages) +
                          (space->log_values > 0 ? LOG_EDGE_PAGES : 0);
    return copied + inbox_copied + log_copied + 2 * pages_of(space, space->bytes) +
           2 * pages_of(space, space->inbox_bytes) + 2 * pages_of(space, space->log_bytes);
}

static uint64_t pages_for_events(const struct space *space)
{
    return pages_of(space, space->file.events_missing * SPACE_EVENT_BYTES_MAX);
}

/* An event is not larger than the session that it tells of. */
static uint64_t pages_for_start(const struct space *space)
{
    const struct space_file *file = &space->file;
    uint64_t copied =
        at_most(2 * UPDATES_PER_SESSION * file->sessions, file->session_pages + file->event_pages);
    return copied + 2 * UPDATES_PER_SESSION * file->session_pages;
}

/* The list of free pages after a start that dropped everything. */
static uint64_t pages_for_drop(const struct space *space)
{
    const struct space_file *file = &space->file;
    uint64_t pages = file->inbox_pages + file->inbox_value_pages + space->inbox_value_pages +
                     2 * pages_of(space, space->inbox_bytes) + pages_for_start(space) + PAGES_KEPT;
    return pages_of(space, pages * PAGE_NUMBER_BYTES) + 1;
}

static bool message_fits(const struct space *space)
{
    const struct space_file *file = &space->file;
    uint64_t drop = pages_for_drop(space);
    uint64_t single =
        pages_taken(space) + pages_for_start(space) + pages_for_events(space) + 2 * PAGES_KEPT;
    uint64_t wanted = single + space->inbox_value_pages + drop;
    uint64_t behind = file->pages - file->pages_used;
    if (wanted > behind + space->listed_pages)
        return false;
    uint64_t single_behind = single > space->listed_pages ? single - space->listed_pages : 0;
    return drop <= 2 || wanted <= space->listed_run ||
           single_behind + space->inbox_value_pages + drop <= behind;
}

static bool is_of_log(enum space_change change)
{
    return change == SPACE_LOG || change == SPACE_LOG_SPARING;
}

bool space_log_is_full(const struct space *space, enum space_change change)
{
    const struct space_file *file = &space->file;
    uint64_t share = file->pages / LOG_SHARE;
    uint64_t pages = file->log_pages + file->log_value_pages + space->log_value_pages +
                     2 * pages_of(space, space->log_bytes);
    return pages > share - (change == SPACE_LOG_SPARING ? share / LOG_SPARED : 0);
}

static uint64_t pages_for_others(const struct space *space, unsigned kept)
{
    return pages_for_start(space) + pages_for_drop(space) + pages_for_events(space) +
           (uint64_t)kept * PAGES_KEPT;
}

/* What a change of that kind leaves to those that come. */
static uint64_t pages_left(const struct space *space, enum space_change change)
{
    switch (change) {
    case SPACE_HISTORY:
        return pages_for_others(space, HISTORY_KEPT);
    case SPACE_LOG:
        return pages_for_others(space, LOG_KEPT);
    case SPACE_LOG_SPARING:
        return pages_for_others(space, LOG_SPARING_KEPT);
    case SPACE_GROWS:
        return 2 * PAGES_KEPT + pages_for_events(space);
    default:
        return PAGES_KEPT;
    }
}

/* Values on pages of their own need rows of them, and single pages are taken from the low end of
 * what is free: such values lie behind all that is used, or at the end of a row that holds it all.
 */
bool space_fits(const struct space *space, enum space_change change)
{
    const struct space_file *file = &space->file;
    if (file->pages_used > file->pages)
        return false;
    if (change == SPACE_MESSAGE)
        return message_fits(space);
    if (is_of_log(change) && space_log_is_full(space, change))
        return false;
    uint64_t rows = space->inbox_value_pages + space->log_value_pages;
    uint64_t single = pages_taken(space) + pages_left(space, change);
    uint64_t behind = file->pages - file->pages_used;
    if (single + rows > behind + space->listed_pages)
        return false;
    uint64_t single_behind = single > space->listed_pages ? single - space->listed_pages : 0;
    return !is_of_log(change) || space->log_value_pages == 0 ||
           single + rows <= space->listed_run || single_behind + rows <= behind;
}

/* --- the file, as the estimate has to know it ------------------------------------------------- */

static size_t free_list_at(const MDB_val *list, size_t index)
{
    size_t number;
    memcpy(&number, (const uint8_t *)list->mv_data + index * sizeof(number), sizeof(number));
    return number;
}

/* Counts the pages that were free at the last commit, and marks them in `bitmap` when there is
 * one. A write transaction may not look at LMDB's list of them, so a short read transaction does.
 */
static int free_list_read(MDB_env *env, uint64_t *pages, uint8_t *bitmap, uint64_t bitmap_pages)
{
    MDB_txn *transaction;
    MDB_cursor *cursor;
    int code = mdb_txn_begin(env, NULL, MDB_RDONLY, &transaction);
    if (code != 0)
        return code;
    code = mdb_cursor_open(transaction, 0, &cursor); /* 0: the list of free pages */
    if (code == 0) {
        MDB_val key;
        MDB_val value;
        while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
            size_t count = free_list_at(&value, 0); /* then their numbers */
            *pages += count;
            for (size_t i = 1; bitmap != NULL && i <= count; i++) {
                size_t page = free_list_at(&value, i);
                if (page < bitmap_pages)
                    bitmap[page / 8] |= (uint8_t)(1u << page % 8);
            }
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(transaction);
    return code == MDB_NOTFOUND ? 0 : code;
}

static uint64_t longest_run(const uint8_t *bitmap, uint64_t bits)
{
    uint64_t longest = 0;
    uint64_t run = 0;
    for (uint64_t i = 0; i < bits; i++) {
        run = bitmap[i / 8] & 1u << i % 8 ? run + 1 : 0;
        longest = run > longest ? run : longest;
    }
    return longest;
}

/* What is free inside of the file; rows of pages matter to saved inboxes, and to values of the log
 * that have pages of their own. */
static int space_count(struct lmdb_store *store, bool with_rows)
{
    uint64_t pages = 0;
    uint64_t file_pages = store->space.file.pages_used;
    uint8_t *bitmap = NULL;
    int dead;
    if (with_rows && (bitmap = calloc(1, file_pages / 8 + 1)) == NULL)
        return -ENOMEM;
    (void)mdb_reader_check(store->env, &dead); /* who died in a read keeps pages from use */
    int code = free_list_read(store->env, &pages, bitmap, file_pages);
    if (code == 0)
        space_list(&store->space, pages, bitmap == NULL ? 0 : longest_run(bitmap, file_pages));
    free(bitmap);
    return lmdb_translate(code);
}

int lmdb_space_open(struct lmdb_store *store)
{
    MDB_envinfo info;
    MDB_stat sessions;
    MDB_stat events;
    MDB_stat inboxes;
    MDB_stat log;
    uint64_t history_pages = 0;
    CHECK(store->transaction != NULL && store->env != NULL);
    int code = mdb_env_info(store->env, &info);
    if (code == 0)
        code = mdb_stat(store->transaction, store->sessions, &sessions);
    if (code == 0)
        code = mdb_stat(store->transaction, store->events, &events);
    if (code == 0)
        code = mdb_stat(store->transaction, store->inboxes, &inboxes);
    if (code == 0)
        code = mdb_stat(store->transaction, store->log, &log);
    for (int ring = 0; code == 0 && !store->without_history && ring < HISTORY_RINGS; ring++) {
        MDB_stat stat;
        code = mdb_stat(store->transaction, store->histories[ring], &stat);
        history_pages += code == 0 ? stat.ms_branch_pages + stat.ms_leaf_pages : 0;
    }
    if (code != 0)
        return lmdb_translate(code);
    uint64_t kept = store->pending.presence_last + 1 - store->pending.presence_first;
    space_begin(
        &store->space,
        &(struct space_file){
            .page_bytes = sessions.ms_psize,
            .pages = info.me_mapsize / sessions.ms_psize,
            .pages_used = info.me_last_pgno + 1,
            .session_pages = sessions.ms_branch_pages + sessions.ms_leaf_pages,
            .event_pages = events.ms_branch_pages + events.ms_leaf_pages,
            .history_pages = history_pages,
            .inbox_pages = inboxes.ms_branch_pages + inboxes.ms_leaf_pages,
            .inbox_value_pages = inboxes.ms_overflow_pages,
            .log_pages = log.ms_branch_pages + log.ms_leaf_pages,
            .log_value_pages = log.ms_overflow_pages,
            .sessions = sessions.ms_entries,
            .events_missing = kept < store->events_kept_max ? store->events_kept_max - kept : 0,
        });
    return 0;
}

/* 0 or -EXFULL for one more change in this transaction, which puts `bytes`. The free pages inside
 * of the file are counted only when those behind it do not do. */
int lmdb_space_take(struct lmdb_store *store, enum space_change change, size_t bytes)
{
    struct space *space = &store->space;
    CHECK(store->transaction != NULL);
    space_add(space, change, bytes);
    if (space_fits(space, change))
        return 0;
    bool counted = space->listed && (change != SPACE_MESSAGE || space->listed_run > 0);
    int result = counted ? 0 : space_count(store, change == SPACE_MESSAGE);
    if (result < 0)
        return result;
    if (space_fits(space, change))
        return 0;
    store->history_yields = true;
    return -EXFULL;
}

/* 1: it is added; 0: it does not fit, and it is as if it had not been asked for. */
static int take_if_it_fits(struct lmdb_store *store, enum space_change change, size_t bytes,
                           bool with_rows)
{
    struct space *space = &store->space;
    const struct space before = *space;
    CHECK(store->transaction != NULL);
    space_add(space, change, bytes);
    if (space_fits(space, change))
        return 1;
    bool counted = space->listed && (!with_rows || space->listed_run > 0);
    int result = counted ? 0 : space_count(store, with_rows);
    if (result == 0 && space_fits(space, change))
        return 1;
    struct space listed = *space; /* it was not put */
    *space = before;
    if (listed.listed)
        space_list(space, listed.listed_pages, listed.listed_run);
    return result;
}

int lmdb_space_spare(struct lmdb_store *store, size_t bytes)
{
    return take_if_it_fits(store, SPACE_HISTORY, bytes, false);
}

/* Where the log has not its share and yet no room, the history may have taken it. */
int lmdb_space_log(struct lmdb_store *store, size_t bytes, bool spares)
{
    enum space_change change = spares ? SPACE_LOG_SPARING : SPACE_LOG;
    struct space with = store->space;
    space_add(&with, change, bytes);
    if (space_log_is_full(&with, change))
        return 0;
    int result = take_if_it_fits(store, change, bytes, with.log_value_pages > 0);
    if (result == 0)
        store->history_yields = true;
    return result;
}
