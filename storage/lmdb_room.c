/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/lmdb_store.h"

#include <errno.h>
#include <stdlib.h>

/* What storage/room.c has to know of the file, and its verdict.
 *
 * storage/room.c decides whether a change still fits the map, before LMDB is asked to make it.
 * Pages that a reader may still see are not used again: one that stays in its transaction (of
 * another process: those here are short) makes the file grow up to the map's end, and then every
 * commit is refused until it goes. One that died there is cleared, now and then and whenever the
 * end is near. */

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

/* What is free inside of the file; rows of pages matter to saved inboxes alone. */
static int room_count(struct lmdb_store *store, enum room_change change)
{
    uint64_t pages = 0;
    uint64_t file_pages = store->room.file.pages_used;
    uint8_t *bitmap = NULL;
    int dead;
    if (change == ROOM_MESSAGE && (bitmap = calloc(1, file_pages / 8 + 1)) == NULL)
        return -ENOMEM;
    (void)mdb_reader_check(store->env, &dead); /* who died in a read keeps pages from use */
    int code = free_list_read(store->env, &pages, bitmap, file_pages);
    if (code == 0)
        room_list(&store->room, pages, bitmap == NULL ? 0 : longest_run(bitmap, file_pages));
    free(bitmap);
    return lmdb_translate(code);
}

int lmdb_room_open(struct lmdb_store *store)
{
    MDB_envinfo info;
    MDB_stat sessions;
    MDB_stat events;
    MDB_stat inboxes;
    int code = mdb_env_info(store->env, &info);
    if (code == 0)
        code = mdb_stat(store->transaction, store->sessions, &sessions);
    if (code == 0)
        code = mdb_stat(store->transaction, store->events, &events);
    if (code == 0)
        code = mdb_stat(store->transaction, store->inboxes, &inboxes);
    if (code != 0)
        return lmdb_translate(code);
    uint64_t kept = store->pending.presence_last + 1 - store->pending.presence_first;
    room_begin(
        &store->room,
        &(struct room_file){
            .page_bytes = sessions.ms_psize,
            .pages = info.me_mapsize / sessions.ms_psize,
            .pages_used = info.me_last_pgno + 1,
            .session_pages = sessions.ms_branch_pages + sessions.ms_leaf_pages,
            .event_pages = events.ms_branch_pages + events.ms_leaf_pages,
            .inbox_pages = inboxes.ms_branch_pages + inboxes.ms_leaf_pages,
            .inbox_value_pages = inboxes.ms_overflow_pages,
            .sessions = sessions.ms_entries,
            .events_missing = kept < store->events_kept_max ? store->events_kept_max - kept : 0,
        });
    return 0;
}

/* 0 or -EXFULL for one more change in this transaction, which puts `bytes`. The free pages inside
 * of the file are counted only when those behind it do not do. */
int lmdb_room_take(struct lmdb_store *store, enum room_change change, size_t bytes)
{
    struct room *room = &store->room;
    room_add(room, change, bytes);
    if (room_fits(room, change))
        return 0;
    bool counted = room->listed && (change != ROOM_MESSAGE || room->listed_run > 0);
    int result = counted ? 0 : room_count(store, change);
    if (result < 0)
        return result;
    return room_fits(room, change) ? 0 : -EXFULL;
}
