/* SPDX-License-Identifier: Apache-2.0 */
#include "storage/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "storage/record.h"
#include "storage/store_ops.h"

/* The part that all stores share: checking arguments and the shape of a transaction.
 *
 * A write that fails takes the whole transaction with it, at once: a half-written group must not
 * be committed by a caller who overlooked one answer. Until commit or abort every further write
 * repeats the first error, and commit returns it. So a caller may look at commit's answer only. */

int store_explain(char *error, int code, const char *format, ...)
{
    if (error == NULL)
        return code;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(error, STORE_ERROR_BYTES_MAX, format, arguments);
    va_end(arguments);
    return code;
}

bool store_name_is_usable(const char *user)
{
    return user[0] != '\0' && record_text_fits(user, STORE_NAME_BYTES_MAX);
}

static bool record_is_usable(const struct session_record *record)
{
    return (record->state == SESSION_ONLINE || record->state == SESSION_DETACHED) &&
           record_text_fits(record->address, STORE_ADDRESS_BYTES_MAX) &&
           record_text_fits(record->client, STORE_CLIENT_BYTES_MAX) &&
           record_text_fits(record->transport, STORE_TRANSPORT_BYTES_MAX);
}

static bool event_is_usable(const struct presence_event *event)
{
    return store_name_is_usable(event->user) &&
           record_text_fits(event->address, STORE_ADDRESS_BYTES_MAX) &&
           record_text_fits(event->client, STORE_CLIENT_BYTES_MAX);
}

static bool history_is_usable(const struct history_record *record)
{
    return store_name_is_usable(record->user) && record->kind > 0 && record->kind < HISTORY_KINDS &&
           record_text_fits(record->address, STORE_ADDRESS_BYTES_MAX) &&
           record_text_fits(record->client, STORE_CLIENT_BYTES_MAX) &&
           record_text_fits(record->transport, STORE_TRANSPORT_BYTES_MAX) &&
           record_text_fits(record->by, STORE_BY_BYTES_MAX) &&
           record_text_fits(record->detail, STORE_DETAIL_BYTES_MAX) &&
           record_text_fits(record->limit, STORE_LIMIT_BYTES_MAX);
}

int store_lock(const struct store *store)
{
    return store->ops->lock != NULL ? store->ops->lock(store) : -1;
}

const char *store_upgraded_from(const struct store *store)
{
    return store->upgraded_from;
}

static void end_writing(struct store *store)
{
    store->writing = false;
    store->failed = 0;
    store->writer = (struct thread_mark){0};
}

static void drop(struct store *store)
{
    if (store->failed == 0)
        store->ops->abort(store);
    end_writing(store);
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    if (store->writing)
        drop(store); /* whoever wrote does so no more */
    store->ops->close(store);
}

/* --- writing ----------------------------------------------------------------------------- */

int store_begin(struct store *store)
{
    if (store->writing)
        return -EINVAL;
    CHECK(off_thread(&store->writer) && store->failed == 0);
    int result = store->ops->begin(store);
    store->writing = result == 0;
    if (store->writing)
        thread_begin(&store->writer);
    return result;
}

/* 0 when a write may go on, or why it may not. */
static int write_check(const struct store *store)
{
    if (!store->writing)
        return -EINVAL;
    CHECK(on_thread(&store->writer) && store->failed <= 0);
    return store->failed;
}

static int write_done(struct store *store, int result)
{
    CHECK(store->writing && store->failed == 0 && result <= 0);
    if (result < 0) {
        store->ops->abort(store);
        store->failed = result;
    }
    return result;
}

int store_put_session(struct store *store, const char *user, const struct session_record *record)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    if (!store_name_is_usable(user) || !record_is_usable(record))
        return write_done(store, -EINVAL);
    return write_done(store, store->ops->put_session(store, user, record));
}

int store_delete_session(struct store *store, const char *user)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    if (!store_name_is_usable(user))
        return write_done(store, -EINVAL);
    return write_done(store, store->ops->delete_session(store, user));
}

int store_append_event(struct store *store, struct presence_event *event)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    if (!event_is_usable(event))
        return write_done(store, -EINVAL);
    return write_done(store, store->ops->append_event(store, event));
}

int store_append_history(struct store *store, enum history_ring ring,
                         const struct history_record *record)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    CHECK(ring < HISTORY_RINGS);
    result = history_is_usable(record) ? store->ops->append_history(store, ring, record) : -EINVAL;
    return result < 0 ? write_done(store, result) : result;
}

static int append_log(struct store *store, struct bytes value, bool spares, uint64_t *number)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    bool is_usable = value.size > 0 && value.size <= STORE_LOG_VALUE_BYTES_MAX;
    result = is_usable ? store->ops->append_log(store, value, spares, number) : -EINVAL;
    return result < 0 ? write_done(store, result) : result;
}

int store_append_log(struct store *store, struct bytes value, uint64_t *number)
{
    return append_log(store, value, false, number);
}

int store_append_log_sparing(struct store *store, struct bytes value, uint64_t *number)
{
    return append_log(store, value, true, number);
}

int store_drop_log(struct store *store, uint64_t number)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    return write_done(store, store->ops->drop_log(store, number));
}

int store_put_inbox(struct store *store, const char *user, const struct saved_inbox *inbox)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    if (!store_name_is_usable(user))
        return write_done(store, -EINVAL);
    return write_done(store, store->ops->put_inbox(store, user, inbox));
}

int store_put_message(struct store *store, const char *user, const struct saved_message *message)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    if (!store_name_is_usable(user) || !record_message_is_usable(message))
        return write_done(store, -EINVAL);
    return write_done(store, store->ops->put_message(store, user, message));
}

int store_drop_inboxes(struct store *store)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    return write_done(store, store->ops->drop_inboxes(store));
}

static bool reader_is_usable(const char *reader)
{
    return reader[0] != '\0' && record_text_fits(reader, STORE_READER_BYTES_MAX);
}

int store_put_cursor(struct store *store, const char *reader, uint64_t seq)
{
    int result = write_check(store);
    if (result < 0)
        return result;
    if (!reader_is_usable(reader) || seq > STORE_COUNT_MAX)
        return write_done(store, -EINVAL);
    return write_done(store, store->ops->put_cursor(store, reader, seq));
}

int store_commit(struct store *store, uint64_t epoch_last)
{
    int result = write_check(store);
    if (result == 0)
        result = store->ops->commit(store, epoch_last);
    end_writing(store);
    return result;
}

void store_abort(struct store *store)
{
    if (!store->writing)
        return;
    CHECK(on_thread(&store->writer));
    drop(store);
}

int store_look(struct store *store)
{
    return store->ops->look != NULL ? store->ops->look(store) : 0;
}

const char *store_error_text(int error)
{
    switch (error) {
    case -ESTALE:
        return "a file of the store was removed or replaced while usherd runs: move it back, or "
               "restart "
               "usherd to use what is there now";
    case -EXFULL:
        return "the store is full (store.map_bytes)";
    case -EUCLEAN:
        return "a record is damaged";
    default:
        return strerror(-error);
    }
}

void store_rest(struct store *store)
{
    if (!store->writing && store->ops->rest != NULL)
        store->ops->rest(store);
}

/* --- reading ----------------------------------------------------------------------------- */

int store_position(struct store *store, struct store_position *position)
{
    return store->ops->position(store, position);
}

struct found {
    struct session_record *record;
    bool there;
};

static bool take_found(void *context, const char *user, const struct session_record *record)
{
    struct found *found = context;
    found->there = record != NULL;
    if (record != NULL)
        *found->record = *record;
    found->record->rooms = (struct bytes){0}; /* it does not outlive this call */
    return true;
}

int store_get_session(struct store *store, const char *user, struct session_record *record)
{
    struct found found = {record, false};
    uint64_t presence_last;
    int result = store_look_up(store, &user, 1, take_found, &found, &presence_last);
    return result == 0 && !found.there ? -ENOENT : result;
}

int store_look_up(struct store *store, const char *const *users, size_t count,
                  store_session_each *each, void *context, uint64_t *presence_last)
{
    return store->ops->look_up(store, users, count, each, context, presence_last);
}

bool store_query_matches(const struct store_query *query, const char *user)
{
    return strncmp(user, query->prefix, strlen(query->prefix)) == 0 &&
           strcmp(user, query->after) > 0;
}

bool store_query_is_past(const struct store_query *query, const char *user)
{
    return strncmp(user, query->prefix, strlen(query->prefix)) > 0;
}

int store_list_sessions(struct store *store, const char *prefix, const char *after, size_t limit,
                        store_session_each *each, void *context, uint64_t *presence_last,
                        bool *more)
{
    struct store_query query = {.prefix = prefix, .after = after, .limit = limit};
    /* Both may come from a peer and be of any length. Cutting the start is safe: no name is
     * longer, and whatever lies before the true start does not match. */
    const char *start = strcmp(prefix, after) > 0 ? prefix : after;
    memcpy(query.start, start, strnlen(start, STORE_NAME_BYTES_MAX));
    return store->ops->list_sessions(store, &query, each, context, presence_last, more);
}

int store_read_events(struct store *store, uint64_t after, size_t limit, store_event_each *each,
                      void *context, struct store_position *position)
{
    return store->ops->read_events(store, after, limit, each, context, position);
}

int store_get_cursor(struct store *store, const char *reader, uint64_t *seq)
{
    return reader_is_usable(reader) ? store->ops->get_cursor(store, reader, seq) : -ENOENT;
}

int store_read_history(struct store *store, const struct history_query *query,
                       store_history_each *each, void *context, struct history_page *page)
{
    CHECK(query->ring < HISTORY_RINGS);
    *page = (struct history_page){0};
    return store->ops->read_history(store, query, each, context, page);
}

int store_read_log(struct store *store, uint64_t from, store_log_each *each, void *context)
{
    return store->ops->read_log(store, from, each, context);
}

int store_get_log(struct store *store, const uint64_t *numbers, size_t count, store_log_each *each,
                  void *context)
{
    return store->ops->get_log(store, numbers, count, each, context);
}

int store_read_inbox(struct store *store, const char *user, struct saved_inbox *inbox,
                     store_message_each *each, void *context)
{
    if (!store_name_is_usable(user))
        return -ENOENT;
    return store->ops->read_inbox(store, user, inbox, each, context);
}
