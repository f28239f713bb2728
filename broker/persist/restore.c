/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "actors/messages.h"
#include "backend.pb-c.h"
#include "base/listeners.h"
#include "persist/history.h"
#include "persist/restore.h"
#include "process/failure.h"
#include "proto/number.h"
#include "proto/username.h"

/* What was online before is detached now: a connection does not outlive its process. Each session
 * gets a fresh resume window, because the time that the broker was away must not count against its
 * users; those that were detached already get no second event. Hence a start that is cut short
 * after some of them is simply begun again.
 *
 * The inboxes that an orderly stop has saved (persist/save.c) are read on the way and dropped at
 * the end, before anybody is let in: what happens from now on they know nothing of.
 *
 * Epochs go on above everything ever stored, and above a floor taken from the clock, so that a
 * store restored from an old backup cannot give out an epoch again (docs/decisions).
 *
 * A record may be whole, under a checksum that is right, and say what no broker stores: a name that
 * nobody can have, an epoch that nobody can have come to, a message with the number of a later one.
 * From here on these are promises, so here they are damage. */

enum { PAGE = 4096, EPOCH_FLOOR_BITS = 16 };

static const uint64_t EPOCH_FLOOR_START_S = 1767225600; /* 2026-01-01 */

/* A client may move its numbers half of the way (LAST_SEQ_MAX), and messages follow. */
static const uint64_t NEXT_SEQ_MAX = NUMBER_TOLD_MAX - UINT32_MAX;

/* Before numbers had that bound it was this one: what lies between is no damage, and is given up as
 * in a crash. */
static const uint64_t NEXT_SEQ_EVER_MAX = UINT64_MAX - UINT32_MAX;

struct row {
    char user[STORE_NAME_BYTES_MAX + 1];
    struct session_record record; /* its rooms are our own */
};

struct rows {
    struct row *list;
    size_t count;
    int error;
};

static void drop_rows(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        free((void *)(uintptr_t)rows->list[i].record.rooms.data);
    rows->count = 0;
}

static bool keep_row(void *context, const char *user, const struct session_record *record)
{
    struct rows *rows = context;
    CHECK(rows->count < PAGE);
    struct row *row = &rows->list[rows->count++];
    strncpy(row->user, user, sizeof(row->user) - 1);
    row->user[sizeof(row->user) - 1] = '\0';
    row->record = *record;
    if (record->rooms.size == 0) {
        row->record.rooms = (struct bytes){0};
        return true;
    }
    uint8_t *rooms = malloc(record->rooms.size);
    row->record.rooms.data = rooms;
    rows->error = rooms != NULL ? 0 : -ENOMEM;
    if (rooms != NULL)
        memcpy(rooms, record->rooms.data, record->rooms.size);
    return rooms != NULL;
}

/* Whoever is told of the history finds in it that he was cut off. */
static int tell_history(const struct survivors *survivors, const struct presence_event *event,
                        const char *transport)
{
    struct history_record record;
    history_of_restart(&record, event, transport);
    int result = store_append_history(survivors->store, HISTORY_SESSIONS, &record);
    return result < 0 ? result : 0;
}

static int mark_detached(const struct survivors *survivors, const struct row *row, bool told)
{
    if (row->record.state == SESSION_DETACHED)
        return 0;
    struct session_record record = row->record;
    record.state = SESSION_DETACHED;
    uint64_t wall_ms = env_wall_ms(survivors->env);
    struct presence_event event = {
        .time_ms = wall_ms,
        .epoch = record.epoch,
        .until_ms = wall_ms + session_resume_ms(survivors->limits),
        .kind = USHER__V1__PRESENCE_EVENT__KIND__DETACHED,
        .cause = USHER__V1__PRESENCE_EVENT__CAUSE__RESTART,
    };
    memcpy(event.user, row->user, sizeof(event.user));
    memcpy(event.address, record.address, sizeof(event.address));
    memcpy(event.client, record.client, sizeof(event.client));
    int error = store_put_session(survivors->store, row->user, &record);
    if (error == 0)
        error = store_append_event(survivors->store, &event);
    return error == 0 && told ? tell_history(survivors, &event, record.transport) : error;
}

/* In one transaction, or without the history, or in two of half the size when that has no room: in
 * a map that is full, sessions can be changed a few at a time. */
static int mark_rows(const struct survivors *survivors, const struct row *rows, size_t count,
                     bool told)
{
    int error = store_begin(survivors->store);
    if (error != 0)
        return error;
    for (size_t i = 0; error == 0 && i < count; i++)
        error = mark_detached(survivors, &rows[i], told);
    if (error == 0)
        error = store_commit(survivors->store, atomic_load(survivors->epoch_last));
    else
        store_abort(survivors->store);
    if (store_is_full(error) && told)
        return mark_rows(survivors, rows, count, false);
    if (!store_is_full(error) || count < 2)
        return error;
    error = mark_rows(survivors, rows, count / 2, false);
    return error != 0 ? error : mark_rows(survivors, rows + count / 2, count - count / 2, false);
}

struct saved_list {
    const struct saved_inbox *inbox; /* read before its messages */
    struct message_list messages;
    uint64_t mid; /* the last one's, of those that are stored as well */
    uint64_t mid_max;
    int error;
};

static bool take_message(void *context, const struct saved_message *saved)
{
    struct saved_list *list = context;
    struct deliver_message *message = NULL;
    if (saved->seq >= list->inbox->next_seq ||
        (saved->mid != 0 && (saved->mid <= list->mid || saved->mid > list->mid_max)))
        list->error = -EUCLEAN;
    else if ((message = deliver_create_traced(saved->name, saved->payload, saved->traceparent)) ==
             NULL)
        list->error = -ENOMEM;
    if (message == NULL)
        return false;
    message->seq = saved->seq;
    message->time_ms = saved->time_ms;
    message->stored = saved->mid != 0;
    if (message->stored)
        list->mid = message->mid = saved->mid;
    else
        message->arrived_ms = saved->age_ms;
    message->from_service = saved->from_service;
    message->redelivered = saved->redelivered;
    message->sent = saved->sent;
    message_append(&list->messages, &message->header);
    return true;
}

static void drop_messages(struct message *message)
{
    while (message != NULL) {
        struct message *next = message->next;
        message_destroy(message);
        message = next;
    }
}

/* The inbox as it was saved, if it was saved for this very epoch. */
static int read_inbox(const struct survivors *survivors, const struct row *row,
                      struct restore_message *message)
{
    struct saved_inbox inbox;
    struct saved_list list = {.inbox = &inbox, .mid_max = atomic_load(survivors->epoch_last)};
    int error = store_read_inbox(survivors->store, row->user, &inbox, take_message, &list);
    if (error == 0)
        error = list.error;
    if (error == 0 && (inbox.next_seq == 0 || inbox.next_seq > NEXT_SEQ_EVER_MAX))
        error = -EUCLEAN;
    message->saved =
        error == 0 && inbox.epoch == row->record.epoch && inbox.next_seq <= NEXT_SEQ_MAX;
    if (message->saved) {
        message->next_seq = inbox.next_seq;
        message->unnumbered = inbox.unnumbered;
        message->loss_untold = inbox.loss_untold;
        message->inbox = (struct deliver_message *)list.messages.first;
    } else {
        drop_messages(list.messages.first);
    }
    return error == -ENOENT ? 0 : error;
}

static struct restore_message *describe(const struct row *row)
{
    struct bytes rooms = row->record.rooms;
    struct restore_message *message =
        message_create(MESSAGE_RESTORE, sizeof(*message) + rooms.size);
    if (message == NULL)
        return NULL;
    message->epoch = row->record.epoch;
    message->since_ms = row->record.since_ms;
    message->token_ends_ms = row->record.token_ends_ms;
    message->acks = row->record.acks;
    message->listener = (uint8_t)listener_of_name(row->record.transport);
    message->saved = false;
    message->unnumbered = true;
    message->loss_untold = message->stored_left = false;
    message->next_seq = 0;
    message->inbox = NULL;
    memcpy(message->secret, row->record.secret, SECRET_BYTES);
    memcpy(message->address, row->record.address, sizeof(message->address));
    memcpy(message->client, row->record.client, sizeof(message->client));
    bytes_put((uint8_t *)(message + 1), rooms);
    return message;
}

static bool see(void *context, const struct log_entry *entry)
{
    (void)entry;
    *(bool *)context = true;
    return false;
}

/* Whether the disk has messages for him that his inbox has not: what comes before he does would
 * overtake them. */
static int look_for_stored(const struct survivors *survivors, const struct row *row,
                           struct restore_message *message)
{
    uint64_t mid = 0; /* they rise */
    struct stored_summary summary;
    for (const struct deliver_message *kept = message->inbox; kept != NULL;
         kept = (const struct deliver_message *)kept->header.next)
        mid = kept->stored ? kept->mid : mid;
    return survivors->stored == NULL ? 0
                                     : stored_list(survivors->stored, row->user, mid, 1, see,
                                                   &message->stored_left, &summary);
}

static int make_actor(const struct survivors *survivors, const struct row *row)
{
    struct restore_message *message = describe(row);
    if (message == NULL)
        return -ENOMEM;
    int error = read_inbox(survivors, row, message);
    if (error == 0)
        error = look_for_stored(survivors, row, message);
    actor_handle user =
        registry_claim(survivors->registry, row->user, strlen(row->user), survivors->user);
    if (error == 0 &&
        (user == 0 || registry_count_of(survivors->registry, KIND_USER) > survivors->users_max))
        error = -EUSERS;
    if (error == 0 &&
        scheduler_post(survivors->scheduler, survivors->runner, user, &message->header) != 0)
        error = -EUSERS;
    if (error != 0) {
        drop_messages((struct message *)message->inbox);
        message_destroy(&message->header);
    }
    return error;
}

static int check_rows(const struct survivors *survivors, const struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        uint64_t epoch = rows->list[i].record.epoch;
        if (epoch > STORE_COUNT_MAX || !username_valid(bytes_of_text(rows->list[i].user)))
            return -EUCLEAN;
        if (epoch > atomic_load(survivors->epoch_last))
            atomic_store(survivors->epoch_last, epoch);
    }
    return 0;
}

/* One page of the map. Nobody else uses the runner yet. */
static int restore_page(const struct survivors *survivors, struct rows *rows, char *after,
                        bool *more)
{
    uint64_t presence_last;
    drop_rows(rows);
    int error = store_list_sessions(survivors->store, "", after, PAGE, keep_row, rows,
                                    &presence_last, more);
    if (error == 0)
        error = rows->error;
    if (error == 0)
        error = check_rows(survivors, rows);
    if (error == 0 && rows->count > 0)
        error = mark_rows(survivors, rows->list, rows->count, true);
    for (size_t i = 0; error == 0 && i < rows->count; i++)
        error = make_actor(survivors, &rows->list[i]);
    CHECK(error != 0 || !*more || rows->count > 0); /* or there would be no end */
    if (rows->count > 0)
        memcpy(after, rows->list[rows->count - 1].user, STORE_NAME_BYTES_MAX + 1);
    struct runner *runner = survivors->runner;
    runner->now_ms = env_monotonic_ms(survivors->env);
    runner->wall_ms = env_wall_ms(survivors->env);
    scheduler_run(survivors->scheduler, runner, SIZE_MAX);
    CHECK(!scheduler_backlog(survivors->scheduler)); /* there is nobody but us */
    return error;
}

static int drop_inboxes(const struct survivors *survivors)
{
    int error = store_begin(survivors->store);
    if (error == 0)
        error = store_drop_inboxes(survivors->store);
    return error == 0 ? store_commit(survivors->store, atomic_load(survivors->epoch_last)) : error;
}

static int restore_all(const struct survivors *survivors, size_t *total)
{
    struct rows rows = {.list = calloc(PAGE, sizeof(struct row))};
    if (rows.list == NULL)
        return -ENOMEM;
    char after[STORE_NAME_BYTES_MAX + 1] = "";
    bool more = true;
    int error = 0;
    while (error == 0 && more) {
        error = restore_page(survivors, &rows, after, &more);
        *total += rows.count;
    }
    drop_rows(&rows);
    free(rows.list);
    return error == 0 ? drop_inboxes(survivors) : error;
}

static uint64_t epoch_floor(const struct survivors *survivors)
{
    uint64_t now_s = env_wall_ms(survivors->env) / 1000;
    return now_s > EPOCH_FLOOR_START_S ? (now_s - EPOCH_FLOOR_START_S) << EPOCH_FLOOR_BITS : 0;
}

int restore_sessions(const struct survivors *survivors, char *error_text)
{
    struct store_position position;
    size_t total = 0;
    uint64_t start_ms = env_monotonic_ms(survivors->env);
    CHECK(registry_count_of(survivors->registry, KIND_USER) == 0);
    int error = store_position(survivors->store, &position);
    if (error == 0) {
        uint64_t floor = epoch_floor(survivors);
        atomic_store(survivors->epoch_last,
                     position.epoch_last > floor ? position.epoch_last : floor);
        error = restore_all(survivors, &total);
    }
    if (error == 0)
        error = store_position(survivors->store, &position);
    if (error != 0) {
        snprintf(error_text, BROKER_ERROR_BYTES,
                 "store.path %.200s: cannot restore the sessions: %s", survivors->store_path,
                 error == -EUSERS ? "it holds more than limits.users" : store_error_text(error));
        return error;
    }
    store_rest(survivors->store);
    atomic_store(survivors->presence_last, position.presence_last);
    LOG(survivors->log, RESTORED, LOG_U("sessions", total),
        LOG_U("presence_last", position.presence_last),
        LOG_U("took_ms", env_monotonic_ms(survivors->env) - start_ms));
    return 0;
}
