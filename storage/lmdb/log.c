/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "lmdb/private.h"
#include "storage/record.h"

/* The log of stored messages: values by number, appended at one end and dropped anywhere, mostly at
 * the other. Why it is cheap: a commit copies the pages on the way to the last value, whatever it
 * appends, and the values fill pages one after the other. Those of up to STORE_LOG_VALUE_BYTES fit
 * a page two by two; larger ones take a row of free pages each, and LMDB may look through its whole
 * list for one, so nobody makes them who need not.
 *
 * How far the numbers have come, and how many bytes are there, is a record of `meta`, which a
 * commit writes anyhow (storage/record.h): so an abort takes both back by itself, and numbers rise
 * also when all that had them is gone. Only this record is trusted for the bytes, since adding them
 * up would be reading all of the log.
 *
 * A value whose checksum is wrong is what its reader is told of and no error: it costs the messages
 * in it, where a session's would cost who that session is. It can be dropped like any other. */

/* The number of a key; 0: it is none. */
static uint64_t number_of(const MDB_val *key)
{
    return key->mv_size == RECORD_EVENT_KEY_BYTES ? record_event_seq(key->mv_data) : 0;
}

/* What the caller gave. It was a damaged page that says so if there is less than a header. */
static uint64_t bytes_of(size_t stored)
{
    return stored > RECORD_HEADER_BYTES ? stored - RECORD_HEADER_BYTES : 0;
}

/* --- the counters ----------------------------------------------------------------------------- */

int lmdb_log_count(const struct lmdb_store *store, MDB_txn *transaction,
                   struct store_position *position)
{
    MDB_val key = lmdb_value_of_text(RECORD_LOG_KEY);
    MDB_val value;
    position->log_first = 1;
    position->log_last = position->log_values = position->log_bytes = 0;
    if (store->without_log)
        return 0;
    int code = mdb_get(transaction, store->meta, &key, &value);
    if (code != 0)
        return code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
    if (record_unpack_log(lmdb_bytes_of_value(&value), &position->log_last, &position->log_bytes) !=
            0 ||
        position->log_last > STORE_COUNT_MAX)
        return -EUCLEAN;
    MDB_stat stat;
    code = mdb_stat(transaction, store->log, &stat);
    if (code != 0)
        return lmdb_translate(code);
    position->log_values = stat.ms_entries;
    position->log_first = position->log_last + 1;
    return 0;
}

/* The numbers at both ends of a log that is not empty. */
static int ends(MDB_cursor *cursor, uint64_t *first, uint64_t *last)
{
    MDB_val key;
    MDB_val value;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    *first = code == 0 ? number_of(&key) : 0;
    if (code == 0)
        code = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    *last = code == 0 ? number_of(&key) : 0;
    return code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
}

int lmdb_log_position(const struct lmdb_store *store, MDB_txn *transaction,
                      struct store_position *position)
{
    MDB_cursor *cursor;
    uint64_t last;
    int result = lmdb_log_count(store, transaction, position);
    if (result < 0 || position->log_values == 0)
        return result;
    result = lmdb_translate(mdb_cursor_open(transaction, store->log, &cursor));
    if (result < 0)
        return result;
    result = ends(cursor, &position->log_first, &last);
    mdb_cursor_close(cursor);
    bool whole = position->log_first > 0 && position->log_first <= last &&
                 last <= position->log_last &&
                 position->log_values <= last + 1 - position->log_first;
    return result == 0 && !whole ? -EUCLEAN : result;
}

int lmdb_log_commit(const struct lmdb_store *store)
{
    uint8_t bytes[RECORD_LOG_BYTES];
    MDB_val key = lmdb_value_of_text(RECORD_LOG_KEY);
    MDB_val value = {sizeof(bytes), bytes};
    if (!store->log_changed)
        return 0;
    record_pack_log(store->pending.log_last, store->pending.log_bytes, bytes);
    return lmdb_translate(mdb_put(store->transaction, store->meta, &key, &value, 0));
}

/* --- writing ---------------------------------------------------------------------------------- */

int lmdb_append_log(struct store *base, struct bytes given, bool spares, uint64_t *number)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    size_t size = RECORD_HEADER_BYTES + given.size;
    int result = lmdb_space_log(store, sizeof(key_bytes) + size, spares);
    if (result <= 0)
        return result;
    uint64_t next = store->pending.log_last + 1;
    record_event_key(next, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value = {size, NULL};
    store->changed = store->log_changed = true;
    int code = mdb_put(store->transaction, store->log, &key, &value, MDB_APPEND | MDB_RESERVE);
    if (code != 0)
        return code == MDB_KEYEXIST ? -EUCLEAN : lmdb_translate(code);
    CHECK(value.mv_size == size);
    record_pack_log_value(next, given, value.mv_data);
    store->pending.log_last = next;
    store->pending.log_bytes += given.size;
    *number = next;
    return 1;
}

int lmdb_drop_log(struct store *base, uint64_t number)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    record_event_key(number, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value;
    int code = mdb_get(store->transaction, store->log, &key, &value);
    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
    uint64_t bytes = bytes_of(value.mv_size);
    bool goes_on = store->log_dropped != 0 && number == store->log_dropped + 1;
    int result = goes_on ? 0 : lmdb_space_take(store, SPACE_LOG_DROP, 0);
    if (result < 0)
        return result;
    store->log_dropped = number;
    store->changed = store->log_changed = true;
    uint64_t *all = &store->pending.log_bytes;
    *all -= bytes < *all ? bytes : *all;
    return lmdb_translate(mdb_del(store->transaction, store->log, &key, NULL));
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool give(uint64_t number, const MDB_val *stored, store_log_each *each, void *context)
{
    struct bytes value;
    if (record_unpack_log_value(number, lmdb_bytes_of_value(stored), &value) != 0)
        value = (struct bytes){NULL, bytes_of(stored->mv_size)};
    return each(context, number, value);
}

static int walk(MDB_cursor *cursor, uint64_t from, store_log_each *each, void *context)
{
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    record_event_key(from, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value;
    uint64_t before = 0;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; code == 0; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        uint64_t number = number_of(&key);
        if (number <= before)
            return -EUCLEAN;
        before = number;
        if (!give(number, &value, each, context))
            return 0;
    }
    return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
}

int lmdb_read_log(struct store *base, uint64_t from, store_log_each *each, void *context)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    if (store->without_log)
        return 0;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = lmdb_translate(mdb_cursor_open(transaction, store->log, &cursor));
    if (result == 0) {
        result = walk(cursor, from, each, context);
        mdb_cursor_close(cursor);
    }
    lmdb_read_end(store, transaction);
    return result;
}

int lmdb_get_log(struct store *base, const uint64_t *numbers, size_t count, store_log_each *each,
                 void *context)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    if (store->without_log)
        return 0;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    bool wanted = true;
    for (size_t i = 0; result == 0 && wanted && i < count; i++) {
        uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
        record_event_key(numbers[i], key_bytes);
        MDB_val key = {sizeof(key_bytes), key_bytes};
        MDB_val value;
        int code = mdb_get(transaction, store->log, &key, &value);
        if (code == 0)
            wanted = give(numbers[i], &value, each, context);
        else if (code != MDB_NOTFOUND)
            result = lmdb_translate(code);
    }
    lmdb_read_end(store, transaction);
    return result;
}
