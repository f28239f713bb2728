/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/check.h"
#include "storage/record.h"

/* One write transaction at a time, by one thread. */

enum {
    READER_CHECK_COMMITS = 100, /* clears what dead processes left in the reader table */
    EVENTS_DROPPED_MAX = 64,    /* per append: a lowered limit is reached in small steps */
};

int lmdb_begin(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    CHECK(store->transaction == NULL);
    int result = lmdb_look(base);
    if (result < 0)
        return result;
    if (store->broken && lmdb_file_reopen(store) < 0)
        return -EIO;
    int code = mdb_txn_begin(store->env, NULL, 0, &store->transaction);
    if (code == MDB_PANIC) {
        if (lmdb_file_reopen(store) < 0)
            return -EIO;
        code = mdb_txn_begin(store->env, NULL, 0, &store->transaction);
    }
    store->changed = store->log_changed = false;
    store->log_dropped = 0;
    if (code != 0)
        store->transaction = NULL;
    if (code != 0)
        return lmdb_translate(code);
    result = lmdb_position_read(store, store->transaction, &store->pending);
    if (result == 0)
        result = lmdb_log_count(store, store->transaction, &store->pending);
    if (result == 0)
        result = lmdb_space_open(store);
    if (result == 0)
        result = lmdb_history_begin(store);
    if (result < 0)
        lmdb_abort(base);
    return result;
}

/* Whether the session takes more space than what lies under its name now. */
static int session_grows(struct lmdb_store *store, MDB_val *key, size_t size, bool *grows)
{
    MDB_val value;
    int code = mdb_get(store->transaction, store->sessions, key, &value);
    *grows = code != 0 || value.mv_size < size;
    return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
}

int lmdb_put_session(struct store *base, const char *user, const struct session_record *record)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t bytes[RECORD_BYTES_MAX];
    int size = record_pack_session(user, record, bytes);
    if (size < 0)
        return size;
    MDB_val key = lmdb_value_of_text(user);
    MDB_val value = {(size_t)size, bytes};
    bool grows;
    int result = session_grows(store, &key, value.mv_size, &grows);
    if (result == 0)
        result = lmdb_space_take(store, grows ? SPACE_GROWS : SPACE_KEEPS, value.mv_size);
    if (result < 0)
        return result;
    store->changed = true;
    return lmdb_translate(mdb_put(store->transaction, store->sessions, &key, &value, 0));
}

int lmdb_delete_session(struct store *base, const char *user)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_val key = lmdb_value_of_text(user);
    int result = lmdb_space_take(store, SPACE_KEEPS, 0);
    if (result < 0)
        return result;
    int code = mdb_del(store->transaction, store->sessions, &key, NULL);
    if (code == MDB_NOTFOUND)
        return 0;
    store->changed = true;
    return lmdb_translate(code);
}

static int events_drop(struct lmdb_store *store)
{
    struct store_position *position = &store->pending;
    CHECK(position->presence_first <= position->presence_last);
    for (int i = 0; i < EVENTS_DROPPED_MAX; i++) {
        if (position->presence_last + 1 - position->presence_first <= store->events_kept_max)
            return 0;
        uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
        record_event_key(position->presence_first, key_bytes);
        MDB_val key = {sizeof(key_bytes), key_bytes};
        int code = mdb_del(store->transaction, store->events, &key, NULL);
        if (code != 0)
            return code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
        position->presence_first++;
    }
    return 0;
}

int lmdb_append_event(struct store *base, struct presence_event *event)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t bytes[RECORD_BYTES_MAX];
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    event->seq = store->pending.presence_last + 1;
    int size = record_pack_event(event, bytes);
    if (size < 0)
        return size;
    int result = lmdb_space_take(store, SPACE_KEEPS, (size_t)size);
    if (result < 0)
        return result;
    record_event_key(event->seq, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value = {(size_t)size, bytes};
    store->changed = true;
    int code = mdb_put(store->transaction, store->events, &key, &value, MDB_APPEND);
    if (code != 0)
        return code == MDB_KEYEXIST ? -EUCLEAN : lmdb_translate(code);
    store->pending.presence_last++;
    CHECK(store->pending.presence_last == event->seq);
    return events_drop(store);
}

int lmdb_put_inbox(struct store *base, const char *user, const struct saved_inbox *inbox)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t bytes[RECORD_BYTES_MAX];
    uint8_t key_bytes[RECORD_INBOX_KEY_BYTES_MAX];
    int size = record_pack_inbox(user, inbox, bytes);
    if (size < 0)
        return size;
    MDB_val key = {record_inbox_key(user, 0, key_bytes), key_bytes};
    int result = lmdb_space_take(store, SPACE_MESSAGE, key.mv_size + (size_t)size);
    if (result < 0)
        return result;
    MDB_val value = {(size_t)size, bytes};
    store->changed = true;
    return lmdb_translate(mdb_put(store->transaction, store->inboxes, &key, &value, 0));
}

int lmdb_put_message(struct store *base, const char *user, const struct saved_message *message)
{
    struct lmdb_store *store = lmdb_of(base);
    uint8_t key_bytes[RECORD_INBOX_KEY_BYTES_MAX];
    int size = record_message_size(message);
    if (size < 0)
        return size;
    MDB_val key = {record_inbox_key(user, message->seq, key_bytes), key_bytes};
    int result = lmdb_space_take(store, SPACE_MESSAGE, key.mv_size + (size_t)size);
    if (result < 0)
        return result;
    MDB_val value = {(size_t)size, NULL};
    store->changed = true;
    /* LMDB gives the place, so that megabytes are not packed twice. */
    int code = mdb_put(store->transaction, store->inboxes, &key, &value, MDB_RESERVE);
    if (code != 0)
        return lmdb_translate(code);
    CHECK(value.mv_size == (size_t)size);
    record_pack_message(user, message, value.mv_data);
    return 0;
}

int lmdb_drop_inboxes(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    CHECK(store->transaction != NULL);
    store->changed = true;
    return lmdb_translate(mdb_drop(store->transaction, store->inboxes, 0));
}

/* Some bytes, which replace as many from the second time on. */
int lmdb_put_cursor(struct store *base, const char *reader, uint64_t seq)
{
    struct lmdb_store *store = lmdb_of(base);
    char key_bytes[RECORD_CURSOR_KEY_BYTES_MAX + 1];
    uint8_t bytes[RECORD_CURSOR_BYTES];
    int result = lmdb_space_take(store, SPACE_KEEPS, sizeof(bytes));
    if (result < 0)
        return result;
    record_pack_cursor(reader, seq, bytes);
    MDB_val key = {record_cursor_key(reader, key_bytes), key_bytes};
    MDB_val value = {sizeof(bytes), bytes};
    store->changed = true;
    return lmdb_translate(mdb_put(store->transaction, store->meta, &key, &value, 0));
}

void lmdb_abort(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    CHECK(store->transaction != NULL);
    mdb_txn_abort(store->transaction);
    store->transaction = NULL;
}

static int position_write(const struct lmdb_store *store)
{
    uint8_t bytes[RECORD_POSITION_BYTES];
    CHECK(store->pending.presence_first <= store->pending.presence_last + 1);
    record_pack_position(store->pending.epoch_last, store->pending.presence_last, bytes);
    MDB_val key = lmdb_value_of_text("position");
    MDB_val value = {sizeof(bytes), bytes};
    return lmdb_translate(mdb_put(store->transaction, store->meta, &key, &value, 0));
}

int lmdb_commit(struct store *base, uint64_t epoch_last)
{
    struct lmdb_store *store = lmdb_of(base);
    CHECK(store->transaction != NULL && !store->broken);
    if (epoch_last > store->pending.epoch_last) {
        store->pending.epoch_last = epoch_last;
        store->changed = true;
    }
    int result = store->changed ? position_write(store) : 0;
    if (result == 0)
        result = lmdb_log_commit(store);
    if (result < 0) {
        lmdb_abort(base);
        return result;
    }
    int code = mdb_txn_commit(store->transaction);
    store->transaction = NULL;
    if (code != 0) {
        /* Without space nothing was written that counts, and LMDB goes on from the last state
         * (or answers MDB_PANIC, which begin handles). */
        result = lmdb_translate(code);
        store->broken = !store_is_full(result);
        return store->broken ? -EIO : result;
    }
    store->transaction_last = lmdb_transaction_of(store->env);
    store->commits++;
    int dead;
    if (store->commits % READER_CHECK_COMMITS == 0)
        (void)mdb_reader_check(store->env, &dead);
    return 0;
}

/* The map shows the page cache, and the pages that were looked at count as memory of this process
 * until somebody takes them from it. They are clean, since LMDB writes by write(): whoever looks at
 * one again gets it from the page cache. */
void lmdb_rest(struct store *base)
{
    struct lmdb_store *store = lmdb_of(base);
    CHECK(store->transaction == NULL);
    if (store->map != NULL)
        (void)madvise(store->map, store->map_bytes, MADV_DONTNEED);
}
