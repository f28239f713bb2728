/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "lmdb/private.h"
#include "storage/record.h"

/* The history: two rings by seq, appended at one end and dropped at the other, so that a storm of
 * logins touches few pages of it. Nothing is found by name: whoever asks for one walks over all of
 * a ring, which is bounded, a piece at a time, and passes the others over without unpacking them. A
 * tree by name would make each record a page of its own in the commit that everybody waits for,
 * to spare some milliseconds of an operator's question.
 *
 * Nothing rests on it, so nothing fails for it: a record without room is left out, and one that is
 * damaged at the end that is dropped goes like the others. */

enum {
    DROPPED_MAX = 8,     /* for each that comes: what is too much or too old goes in small steps */
    YIELDED_MAX = 1024,  /* by a transaction, when another had no room */
    SCANNED_MAX = 16384, /* by one read */
};

const char *const lmdb_history_names[HISTORY_RINGS] = {
    [HISTORY_SESSIONS] = "history",
    [HISTORY_REFUSALS] = "refusals",
};

/* The seq of a key; 0: it is none. */
static uint64_t seq_of(const MDB_val *key)
{
    return key->mv_size == RECORD_EVENT_KEY_BYTES ? record_event_seq(key->mv_data) : 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static int ring_look(struct lmdb_store *store, enum history_ring number)
{
    struct lmdb_ring *ring = &store->rings[number];
    MDB_stat stat;
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    if (ring->known)
        return 0;
    int code = mdb_stat(store->transaction, store->histories[number], &stat);
    if (code == 0)
        code = mdb_cursor_open(store->transaction, store->histories[number], &cursor);
    if (code != 0)
        return lmdb_translate(code);
    ring->count = stat.ms_entries;
    code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    mdb_cursor_close(cursor);
    ring->last = code == 0 ? seq_of(&key) : 0;
    ring->known = code == 0 || code == MDB_NOTFOUND;
    return ring->known ? 0 : lmdb_translate(code);
}

/* Whether the first of the ring is to go. */
static bool is_old(const struct lmdb_store *store, const MDB_val *key, const MDB_val *value,
                   uint64_t now_ms)
{
    struct history_record record;
    if (store->history_age_ms == 0 || now_ms <= store->history_age_ms)
        return false;
    int result = record_unpack_history(seq_of(key), lmdb_bytes_of_value(value), &record);
    return result != 0 || record.time_ms < now_ms - store->history_age_ms;
}

/* At most `most` of the oldest: what is beyond `kept`, and what is too old (now_ms 0: nothing is).
 */
static int ring_drop(struct lmdb_store *store, enum history_ring number, uint64_t kept,
                     unsigned most, uint64_t now_ms)
{
    struct lmdb_ring *ring = &store->rings[number];
    MDB_cursor *cursor;
    int code = mdb_cursor_open(store->transaction, store->histories[number], &cursor);
    if (code != 0)
        return lmdb_translate(code);
    for (; code == 0 && most > 0 && ring->count > 0; most--) {
        MDB_val key;
        MDB_val value;
        code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
        if (code != 0 || (ring->count <= kept && !is_old(store, &key, &value, now_ms)))
            break;
        store->changed = true;
        code = mdb_cursor_del(cursor, 0);
        ring->count -= code == 0;
    }
    mdb_cursor_close(cursor);
    return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
}

int lmdb_history_begin(struct lmdb_store *store)
{
    memset(store->rings, 0, sizeof(store->rings));
    if (!store->history_yields || store->without_history)
        return 0;
    store->history_yields = false;
    int result = 0;
    for (int ring = 0; result == 0 && ring < HISTORY_RINGS; ring++) {
        result = ring_look(store, ring);
        if (result != 0 || store->rings[ring].count == 0)
            continue;
        if (lmdb_space_take(store, SPACE_KEEPS, 0) != 0)
            return 0; /* not even that */
        result = ring_drop(store, ring, 0, YIELDED_MAX, 0);
    }
    return result;
}

int lmdb_append_history(struct store *base, enum history_ring number,
                        const struct history_record *record)
{
    struct lmdb_store *store = lmdb_of(base);
    struct lmdb_ring *ring = &store->rings[number];
    struct history_record copy = *record;
    uint8_t bytes[RECORD_BYTES_MAX];
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    if (store->without_history || store->history_max[number] == 0)
        return 0;
    int result = ring_look(store, number);
    if (result < 0)
        return result;
    copy.seq = ring->last + 1;
    int size = record_pack_history(&copy, bytes);
    if (size < 0)
        return size;
    result = lmdb_space_spare(store, (size_t)size);
    if (result <= 0)
        return result;
    record_event_key(copy.seq, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value = {(size_t)size, bytes};
    store->changed = true;
    int code = mdb_put(store->transaction, store->histories[number], &key, &value, MDB_APPEND);
    if (code == MDB_KEYEXIST)
        return 0; /* its end is damaged */
    if (code != 0)
        return lmdb_translate(code);
    ring->last = copy.seq;
    ring->count++;
    result = ring_drop(store, number, store->history_max[number], DROPPED_MAX, record->time_ms);
    return result < 0 ? result : 1;
}

/* --- reading ---------------------------------------------------------------------------------- */

/* To the newest record before `before`. */
static int seek(MDB_cursor *cursor, uint64_t before, MDB_val *key, MDB_val *value)
{
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    if (before == 0)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    record_event_key(before, key_bytes);
    *key = (MDB_val){sizeof(key_bytes), key_bytes};
    int code = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    return mdb_cursor_get(cursor, key, value, code == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
}

static int walk(MDB_cursor *cursor, const struct history_query *query, store_history_each *each,
                void *context, struct history_page *page)
{
    MDB_val key;
    MDB_val value;
    uint64_t before = query->before != 0 ? query->before : UINT64_MAX;
    size_t given = 0;
    int code = seek(cursor, query->before, &key, &value);
    for (unsigned scanned = 0; code == 0; scanned++) {
        uint64_t seq = seq_of(&key);
        if (seq == 0 || seq >= before)
            return -EUCLEAN;
        if (scanned == SCANNED_MAX || given == query->limit) {
            page->next = before;
            return 0;
        }
        before = seq;
        struct history_record record;
        struct bytes bytes = lmdb_bytes_of_value(&value);
        if (query->user[0] == '\0' || record_history_is_of(bytes, query->user)) {
            int result = record_unpack_history(seq, bytes, &record);
            if (result < 0)
                return result;
            bool fits = record.time_ms >= query->since_ms;
            given += fits;
            if (fits && !each(context, &record)) {
                page->next = seq + 1; /* it was not taken */
                return 0;
            }
        }
        code = mdb_cursor_get(cursor, &key, &value, MDB_PREV);
    }
    return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
}

static int look_at_ring(MDB_txn *transaction, MDB_dbi ring, MDB_cursor *cursor,
                        struct history_page *page)
{
    MDB_stat stat;
    MDB_val key;
    MDB_val value;
    struct history_record record;
    int code = mdb_stat(transaction, ring, &stat);
    if (code != 0)
        return lmdb_translate(code);
    page->records = stat.ms_entries;
    code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
    int result = record_unpack_history(seq_of(&key), lmdb_bytes_of_value(&value), &record);
    page->first_ms = result == 0 ? record.time_ms : 0;
    return result;
}

int lmdb_read_history(struct store *base, const struct history_query *query,
                      store_history_each *each, void *context, struct history_page *page)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor = NULL;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    /* Not before: the store may just be opened anew, and then they are others. */
    MDB_dbi ring = store->histories[query->ring];
    if (!store->without_history)
        result = lmdb_translate(mdb_cursor_open(transaction, ring, &cursor));
    if (cursor != NULL) {
        result = look_at_ring(transaction, ring, cursor, page);
        if (result == 0)
            result = walk(cursor, query, each, context, page);
        mdb_cursor_close(cursor);
    }
    lmdb_read_end(store, transaction);
    return result;
}
