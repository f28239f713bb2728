/* SPDX-License-Identifier: Apache-2.0 */
#include "lmdb/private.h"

#include <errno.h>

#include "storage/record.h"

/* Reads: each a short transaction of its own, on any thread, under the read side of the lock that
 * the writer takes to open the file anew. The file is not trusted: keys and records are checked as
 * they are met. */

/* Every 0 is followed by read_end. */
int lmdb_read_begin(struct lmdb_store *store, MDB_txn **transaction)
{
    CHECK(!on_thread(&store->replacing));
    pthread_rwlock_rdlock(&store->lock);
    int result = -EIO;
    if (store->env != NULL)
        result = lmdb_translate(mdb_txn_begin(store->env, NULL, MDB_RDONLY, transaction));
    if (result < 0)
        pthread_rwlock_unlock(&store->lock);
    else
        atomic_fetch_add_explicit(&store->readers, 1, memory_order_relaxed);
    return result;
}

void lmdb_read_end(struct lmdb_store *store, MDB_txn *transaction)
{
    mdb_txn_abort(transaction);
    CHECK(atomic_fetch_sub_explicit(&store->readers, 1, memory_order_relaxed) > 0);
    pthread_rwlock_unlock(&store->lock);
}

int lmdb_position(struct store *base, struct store_position *position)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = lmdb_position_read(store, transaction, position);
    if (result == 0)
        result = lmdb_log_position(store, transaction, position);
    lmdb_read_end(store, transaction);
    return result;
}

/* -ENOENT: no session. */
static int session_read(struct lmdb_store *store, MDB_txn *transaction, const char *user,
                        struct session_record *record)
{
    if (!store_name_is_usable(user))
        return -ENOENT;
    MDB_val key = lmdb_value_of_text(user);
    MDB_val value;
    int result = lmdb_translate(mdb_get(transaction, store->sessions, &key, &value));
    return result == 0 ? record_unpack_session(user, lmdb_bytes_of_value(&value), record) : result;
}

int lmdb_look_up(struct store *base, const char *const *users, size_t count,
                 store_session_each *each, void *context, uint64_t *presence_last)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    struct store_position position;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = lmdb_position_read(store, transaction, &position);
    if (result == 0)
        *presence_last = position.presence_last;
    bool wanted = true;
    for (size_t i = 0; result == 0 && wanted && i < count; i++) {
        struct session_record record;
        int found = session_read(store, transaction, users[i], &record);
        if (found == 0 || found == -ENOENT)
            wanted = each(context, users[i], found == 0 ? &record : NULL);
        else
            result = found;
    }
    lmdb_read_end(store, transaction);
    return result;
}

/* A key as text. The file is not trusted: a name has 1 to 64 bytes and no NUL. */
static int name_read(const MDB_val *key, char user[STORE_NAME_BYTES_MAX + 1])
{
    if (key->mv_size == 0 || key->mv_size > STORE_NAME_BYTES_MAX ||
        memchr(key->mv_data, '\0', key->mv_size) != NULL)
        return -EUCLEAN;
    memcpy(user, key->mv_data, key->mv_size);
    user[key->mv_size] = '\0';
    return 0;
}

static int list_walk(MDB_cursor *cursor, const struct store_query *query, store_session_each *each,
                     void *context, bool *more)
{
    MDB_val key = lmdb_value_of_text(query->start);
    MDB_val value;
    size_t given = 0;
    bool wanted = true;
    char before[STORE_NAME_BYTES_MAX + 1] = "";
    int code = mdb_cursor_get(cursor, &key, &value, key.mv_size > 0 ? MDB_SET_RANGE : MDB_FIRST);
    for (; code == 0; code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        char user[STORE_NAME_BYTES_MAX + 1];
        int result = name_read(&key, user);
        if (result == 0 && strcmp(user, before) <= 0)
            result = -EUCLEAN; /* a page may name a record twice, and each is sound */
        if (result < 0)
            return result;
        memcpy(before, user, sizeof(before));
        if (store_query_is_past(query, user))
            return 0;
        if (!store_query_matches(query, user))
            continue;
        if (!wanted || given == query->limit) {
            *more = true;
            return 0;
        }
        struct session_record record;
        result = record_unpack_session(user, lmdb_bytes_of_value(&value), &record);
        if (result < 0)
            return result;
        given++;
        wanted = each(context, user, &record);
    }
    return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
}

int lmdb_list_sessions(struct store *base, const struct store_query *query,
                       store_session_each *each, void *context, uint64_t *presence_last, bool *more)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    struct store_position position;
    *more = false;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = lmdb_position_read(store, transaction, &position);
    if (result == 0)
        result = lmdb_translate(mdb_cursor_open(transaction, store->sessions, &cursor));
    if (result == 0) {
        *presence_last = position.presence_last;
        result = list_walk(cursor, query, each, context, more);
        mdb_cursor_close(cursor);
    }
    lmdb_read_end(store, transaction);
    return result;
}

/* `seq` is there when the position says so; a gap is damage. */
static int events_walk(MDB_cursor *cursor, uint64_t seq, uint64_t last, size_t limit,
                       store_event_each *each, void *context)
{
    uint8_t key_bytes[RECORD_EVENT_KEY_BYTES];
    record_event_key(seq, key_bytes);
    MDB_val key = {sizeof(key_bytes), key_bytes};
    MDB_val value;
    MDB_cursor_op step = MDB_SET_KEY;
    for (; limit > 0 && seq <= last; limit--, seq++) {
        int code = mdb_cursor_get(cursor, &key, &value, step);
        if (code != 0)
            return code == MDB_NOTFOUND ? -EUCLEAN : lmdb_translate(code);
        if (key.mv_size != RECORD_EVENT_KEY_BYTES || record_event_seq(key.mv_data) != seq)
            return -EUCLEAN;
        struct presence_event event;
        int result = record_unpack_event(seq, lmdb_bytes_of_value(&value), &event);
        if (result < 0)
            return result;
        if (!each(context, &event))
            return 0;
        step = MDB_NEXT;
    }
    return 0;
}

int lmdb_read_events(struct store *base, uint64_t after, size_t limit, store_event_each *each,
                     void *context, struct store_position *position)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = lmdb_position_read(store, transaction, position);
    if (result == 0)
        result = lmdb_log_position(store, transaction, position);
    if (result == 0 && after < position->presence_last) {
        uint64_t seq = position->presence_first;
        if (after >= seq)
            seq = after + 1;
        result = lmdb_translate(mdb_cursor_open(transaction, store->events, &cursor));
        if (result == 0) {
            result = events_walk(cursor, seq, position->presence_last, limit, each, context);
            mdb_cursor_close(cursor);
        }
    }
    lmdb_read_end(store, transaction);
    return result;
}

int lmdb_get_cursor(struct store *base, const char *reader, uint64_t *seq)
{
    struct lmdb_store *store = lmdb_of(base);
    char key_bytes[RECORD_CURSOR_KEY_BYTES_MAX + 1];
    MDB_txn *transaction;
    MDB_val value;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    MDB_val key = {record_cursor_key(reader, key_bytes), key_bytes};
    result = lmdb_translate(mdb_get(transaction, store->meta, &key, &value));
    if (result == 0)
        result = record_unpack_cursor(reader, lmdb_bytes_of_value(&value), seq);
    lmdb_read_end(store, transaction);
    return result;
}

/* The messages behind the head that the cursor is on. */
static int inbox_walk(MDB_cursor *cursor, const char *user, store_message_each *each, void *context)
{
    struct arena arena = {0};
    MDB_val key;
    MDB_val value;
    uint64_t seq_before = 0;
    int result = 0;
    int code;
    while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
        uint64_t seq;
        struct saved_message message;
        result = record_inbox_seq(user, lmdb_bytes_of_value(&key), &seq);
        if (result <= 0)
            break;
        result = seq > seq_before ? record_unpack_message(user, seq, lmdb_bytes_of_value(&value),
                                                          &arena, &message)
                                  : -EUCLEAN;
        if (result < 0 || !each(context, &message))
            break;
        seq_before = seq;
    }
    arena_fini(&arena);
    if (code != 0)
        return code == MDB_NOTFOUND ? 0 : lmdb_translate(code);
    return result;
}

static int inbox_read(MDB_cursor *cursor, const char *user, struct saved_inbox *inbox,
                      store_message_each *each, void *context)
{
    uint8_t key_bytes[RECORD_INBOX_KEY_BYTES_MAX];
    MDB_val key = {record_inbox_key(user, 0, key_bytes), key_bytes};
    MDB_val value;
    int result = lmdb_translate(mdb_cursor_get(cursor, &key, &value, MDB_SET));
    if (result == 0)
        result = record_unpack_inbox(user, lmdb_bytes_of_value(&value), inbox);
    return result == 0 ? inbox_walk(cursor, user, each, context) : result;
}

int lmdb_read_inbox(struct store *base, const char *user, struct saved_inbox *inbox,
                    store_message_each *each, void *context)
{
    struct lmdb_store *store = lmdb_of(base);
    MDB_txn *transaction;
    MDB_cursor *cursor;
    if (store->without_inboxes)
        return -ENOENT;
    int result = lmdb_read_begin(store, &transaction);
    if (result < 0)
        return result;
    result = lmdb_translate(mdb_cursor_open(transaction, store->inboxes, &cursor));
    if (result == 0) {
        result = inbox_read(cursor, user, inbox, each, context);
        mdb_cursor_close(cursor);
    }
    lmdb_read_end(store, transaction);
    return result;
}
