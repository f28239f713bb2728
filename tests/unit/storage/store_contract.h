/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_TESTS_STORE_CONTRACT_H
#define USHER_TESTS_STORE_CONTRACT_H

/* What storage/store.h promises, as tests that run against every store. A test program says how
 * its store is opened (struct contract) and lists CONTRACT_TESTS with its own setup. */

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/store.h"

enum { CONTRACT_KEPT = 10, CONTRACT_MAP_BYTES = 64 << 20, CONTRACT_SEEN_MAX = 4096 };

struct contract {
    int (*open)(struct store **store, const struct store_options *options, char *error);
    bool keeps; /* what was committed is there after closing and opening */
};

struct fixture {
    const struct contract *contract;
    struct store *store;
    struct store_options options;
    char folder[64];
    char error[STORE_ERROR_BYTES_MAX];
};

static inline int contract_setup(void **state, const struct contract *contract)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    assert_non_null(fixture);
    fixture->contract = contract;
    const char *place = getenv("TMPDIR");
    snprintf(fixture->folder, sizeof(fixture->folder), "%s/usher-store-XXXXXX",
             place != NULL ? place : "/tmp");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->options = (struct store_options){
        .path = fixture->folder,
        .map_bytes_max = CONTRACT_MAP_BYTES,
        .events_kept_max = CONTRACT_KEPT,
    };
    assert_int_equal(contract->open(&fixture->store, &fixture->options, fixture->error), 0);
    *state = fixture;
    return 0;
}

static inline int contract_remove(const char *path, const struct stat *status, int kind,
                                  struct FTW *walk)
{
    return remove(path);
}

static inline int contract_teardown(void **state)
{
    struct fixture *fixture = *state;
    store_close(fixture->store);
    (void)nftw(fixture->folder, contract_remove, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

static inline void contract_reopen(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
    int result = fixture->contract->open(&fixture->store, &fixture->options, fixture->error);
    if (result != 0)
        fail_msg("reopen: %d %s", result, fixture->error);
}

static inline struct session_record contract_record(uint64_t epoch)
{
    struct session_record record = {
        .epoch = epoch,
        .since_ms = 1700000000000 + epoch,
        .state = epoch % 2 ? SESSION_ONLINE : SESSION_DETACHED,
        .acks = epoch % 3 == 0,
        .address = "203.0.113.7:40000",
        .client = "unit/1",
        .transport = "tcp",
        .rooms = bytes_of_text(epoch % 4 == 3 ? "lobby match:*" : ""),
    };
    memset(record.secret, (int)epoch, sizeof(record.secret));
    return record;
}

static inline struct presence_event contract_event(const char *user, uint64_t epoch)
{
    struct presence_event event = {
        .time_ms = 1700000000000 + epoch,
        .epoch = epoch,
        .kind = 1,
        .cause = 1,
        .address = "203.0.113.7:40000",
    };
    (void)snprintf(event.user, sizeof(event.user), "%.*s", STORE_NAME_BYTES_MAX, user);
    return event;
}

static inline void contract_assert_record(const struct session_record *got, uint64_t epoch)
{
    struct session_record wanted = contract_record(epoch);
    assert_int_equal(got->epoch, wanted.epoch);
    assert_int_equal(got->since_ms, wanted.since_ms);
    assert_int_equal(got->state, wanted.state);
    assert_int_equal(got->acks, wanted.acks);
    assert_memory_equal(got->secret, wanted.secret, STORE_SECRET_BYTES);
    assert_string_equal(got->address, wanted.address);
    assert_string_equal(got->client, wanted.client);
    assert_string_equal(got->transport, wanted.transport);
}

/* One transaction with one login: record and event. Gives the event's seq. */
static inline uint64_t contract_login(struct store *store, const char *user, uint64_t epoch)
{
    struct session_record record = contract_record(epoch);
    struct presence_event event = contract_event(user, epoch);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_session(store, user, &record), 0);
    assert_int_equal(store_append_event(store, &event), 0);
    assert_int_equal(store_commit(store, epoch), 0);
    return event.seq;
}

static inline void contract_assert_position(struct store *store, uint64_t epoch_last,
                                            uint64_t first, uint64_t last, uint64_t sessions)
{
    struct store_position position;
    assert_int_equal(store_position(store, &position), 0);
    assert_int_equal(position.epoch_last, epoch_last);
    assert_int_equal(position.presence_first, first);
    assert_int_equal(position.presence_last, last);
    assert_int_equal(position.sessions, sessions);
}

/* --- what a walk has seen ---------------------------------------------------------------- */

struct seen {
    size_t count;
    size_t stop_after; /* each() returns false then; 0: never */
    char users[CONTRACT_SEEN_MAX][STORE_NAME_BYTES_MAX + 1];
    uint64_t epochs[CONTRACT_SEEN_MAX];
    uint64_t seqs[CONTRACT_SEEN_MAX];
};

static inline bool seen_session(void *context, const char *user,
                                const struct session_record *record)
{
    struct seen *seen = context;
    assert_true(seen->count < CONTRACT_SEEN_MAX);
    strcpy(seen->users[seen->count], user);
    seen->epochs[seen->count++] = record->epoch;
    return seen->count != seen->stop_after;
}

static inline bool seen_event(void *context, const struct presence_event *event)
{
    struct seen *seen = context;
    assert_true(seen->count < CONTRACT_SEEN_MAX);
    strcpy(seen->users[seen->count], event->user);
    seen->epochs[seen->count] = event->epoch;
    seen->seqs[seen->count++] = event->seq;
    return seen->count != seen->stop_after;
}

static inline struct seen *seen_create(void)
{
    struct seen *seen = calloc(1, sizeof(*seen));
    assert_non_null(seen);
    return seen;
}

/* Lists and compares with names separated by blanks. */
static inline void contract_assert_list(struct store *store, const char *prefix, const char *after,
                                        size_t limit, const char *wanted, bool wanted_more)
{
    struct seen *seen = seen_create();
    char got[1024] = "";
    uint64_t presence_last = 0;
    bool more = !wanted_more;
    assert_int_equal(
        store_list_sessions(store, prefix, after, limit, seen_session, seen, &presence_last, &more),
        0);
    for (size_t i = 0; i < seen->count; i++) {
        strcat(got, i == 0 ? "" : " ");
        strcat(got, seen->users[i]);
    }
    assert_string_equal(got, wanted);
    assert_int_equal(more, wanted_more);
    free(seen);
}

/* The events after `after` are first..last (none when first > last). */
static inline void contract_assert_events(struct store *store, uint64_t after, size_t limit,
                                          uint64_t first, uint64_t last)
{
    struct seen *seen = seen_create();
    struct store_position position;
    assert_int_equal(store_read_events(store, after, limit, seen_event, seen, &position), 0);
    assert_int_equal(seen->count, last + 1 - first);
    for (size_t i = 0; i < seen->count; i++)
        assert_int_equal(seen->seqs[i], first + i);
    free(seen);
}

/* --- the tests --------------------------------------------------------------------------- */

static inline void contract_new_is_empty(void **state)
{
    struct fixture *fixture = *state;
    struct session_record record;
    contract_assert_position(fixture->store, 0, 1, 0, 0);
    contract_assert_list(fixture->store, "", "", 10, "", false);
    contract_assert_events(fixture->store, 0, 10, 1, 0);
    assert_int_equal(store_get_session(fixture->store, "nobody", &record), -ENOENT);
}

static inline bool contract_note(void *context, const char *user,
                                 const struct session_record *record)
{
    char *text = context;
    size_t size = strlen(text);
    snprintf(text + size, 100 - size, "%s:%llu ", user,
             record != NULL ? (unsigned long long)record->epoch : 0);
    return strcmp(user, "stop") != 0;
}

static inline bool contract_note_rooms(void *context, const char *user,
                                       const struct session_record *record)
{
    char *text = context;
    size_t size = strlen(text);
    snprintf(text + size, 100 - size, "%s:%.*s ", user, (int)record->rooms.size,
             (const char *)record->rooms.data);
    return true;
}

/* They are those of the record that was stored last, and there while it is read. */
static inline void contract_rooms(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const char *users[] = {"anna", "bob"};
    char text[100] = "";
    uint64_t presence_last = 0;
    bool more;
    struct session_record record;
    contract_login(store, "anna", 7);
    contract_login(store, "bob", 11);
    contract_login(store, "bob", 12);
    assert_int_equal(store_look_up(store, users, 2, contract_note_rooms, text, &presence_last), 0);
    assert_string_equal(text, "anna:lobby match:* bob: ");
    contract_login(store, "bob", 15);
    contract_login(store, "anna", 16);
    text[0] = '\0';
    assert_int_equal(
        store_list_sessions(store, "", "", 9, contract_note_rooms, text, &presence_last, &more), 0);
    assert_string_equal(text, "anna: bob:lobby match:* ");
    assert_int_equal(store_get_session(store, "bob", &record), 0);
    assert_int_equal(record.rooms.size, 0);
}

/* In the order asked for, those who are not there too, of one state. */
static inline void contract_look_up(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    const char *users[] = {"bob", "nobody", "", "anna", "bob", "stop", "anna"};
    char text[100] = "";
    uint64_t presence_last = 0;
    contract_login(store, "anna", 7);
    contract_login(store, "bob", 8);
    assert_int_equal(store_look_up(store, users, 7, contract_note, text, &presence_last), 0);
    assert_string_equal(text, "bob:8 nobody:0 :0 anna:7 bob:8 stop:0 ");
    assert_int_equal(presence_last, 2);
}

static inline void contract_put_get_delete(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct session_record record = contract_record(7);
    contract_login(store, "anna", 7);
    contract_login(store, "bob", 8);
    assert_int_equal(store_get_session(store, "anna", &record), 0);
    contract_assert_record(&record, 7);
    contract_login(store, "anna", 9);
    assert_int_equal(store_get_session(store, "anna", &record), 0);
    contract_assert_record(&record, 9);
    contract_assert_position(store, 9, 1, 3, 2);

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_delete_session(store, "anna"), 0);
    assert_int_equal(store_delete_session(store, "never was"), 0);
    assert_int_equal(store_commit(store, 0), 0);
    assert_int_equal(store_get_session(store, "anna", &record), -ENOENT);
    assert_int_equal(store_get_session(store, "bob", &record), 0);
    contract_assert_position(store, 9, 1, 3, 1);
}

static inline void contract_order_within_a_transaction(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct session_record first = contract_record(1);
    struct session_record second = contract_record(2);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_session(store, "a", &first), 0);
    assert_int_equal(store_put_session(store, "a", &second), 0);
    assert_int_equal(store_put_session(store, "b", &first), 0);
    assert_int_equal(store_delete_session(store, "b"), 0);
    assert_int_equal(store_delete_session(store, "c"), 0);
    assert_int_equal(store_put_session(store, "c", &first), 0);
    assert_int_equal(store_commit(store, 2), 0);
    contract_assert_list(store, "", "", 10, "a c", false);
    assert_int_equal(store_get_session(store, "a", &first), 0);
    assert_int_equal(first.epoch, 2);
    contract_assert_position(store, 2, 1, 0, 2);
}

static inline void contract_list_pages(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    static const char *const names[] = {"b", "a.2", "ab", "a", "B", "a.1", "a.10", "c"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        contract_login(store, names[i], i + 1);
    contract_assert_list(store, "", "", 100, "B a a.1 a.10 a.2 ab b c", false);
    contract_assert_list(store, "", "", 8, "B a a.1 a.10 a.2 ab b c", false);
    contract_assert_list(store, "", "", 7, "B a a.1 a.10 a.2 ab b", true);
    contract_assert_list(store, "", "", 0, "", true);
    contract_assert_list(store, "", "c", 0, "", false);
    contract_assert_list(store, "", "a.10", 2, "a.2 ab", true);
    contract_assert_list(store, "", "a.11", 2, "a.2 ab", true);
    contract_assert_list(store, "a.", "", 2, "a.1 a.10", true);
    contract_assert_list(store, "a.", "a.10", 2, "a.2", false);
    contract_assert_list(store, "a.", "a.2", 2, "", false);
    contract_assert_list(store, "a.", "b", 2, "", false);
    contract_assert_list(store, "a.1", "B", 9, "a.1 a.10", false);
    contract_assert_list(store, "x", "", 2, "", false);
    contract_assert_list(store, "c", "", 2, "c", false);
}

static inline void contract_list_long_arguments(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    char name[STORE_NAME_BYTES_MAX + 1];
    char beyond[1000];
    memset(name, 'm', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    memset(beyond, 'm', sizeof(beyond) - 1);
    beyond[sizeof(beyond) - 1] = '\0';
    contract_login(store, name, 1);
    contract_login(store, "n", 2);
    contract_assert_list(store, "", beyond, 9, "n", false);
    contract_assert_list(store, beyond, "", 9, "", false);
    contract_assert_list(store, name, "", 9, name, false);
}

static inline void contract_list_stops(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct seen *seen = seen_create();
    uint64_t presence_last;
    bool more = false;
    contract_login(store, "a", 1);
    contract_login(store, "b", 2);
    seen->stop_after = 1;
    assert_int_equal(
        store_list_sessions(store, "", "", 9, seen_session, seen, &presence_last, &more), 0);
    assert_int_equal(seen->count, 1);
    assert_int_equal(presence_last, 2);
    assert_true(more);
    seen->count = 0;
    seen->stop_after = 2;
    assert_int_equal(
        store_list_sessions(store, "", "", 9, seen_session, seen, &presence_last, &more), 0);
    assert_int_equal(seen->count, 2);
    assert_false(more);
    free(seen);
}

static inline void contract_abort_undoes(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct session_record record = contract_record(5);
    struct presence_event event = contract_event("anna", 5);
    contract_login(store, "anna", 1);
    contract_login(store, "bob", 2);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_session(store, "anna", &record), 0);
    assert_int_equal(store_put_session(store, "carl", &record), 0);
    assert_int_equal(store_delete_session(store, "bob"), 0);
    assert_int_equal(store_append_event(store, &event), 0);
    assert_int_equal(event.seq, 3);
    /* Nobody sees it before the commit. */
    contract_assert_position(store, 2, 1, 2, 2);
    contract_assert_list(store, "", "", 9, "anna bob", false);
    store_abort(store);
    contract_assert_position(store, 2, 1, 2, 2);
    contract_assert_list(store, "", "", 9, "anna bob", false);
    assert_int_equal(store_get_session(store, "anna", &record), 0);
    contract_assert_record(&record, 1);
    assert_int_equal(contract_login(store, "carl", 3), 3);
    contract_assert_events(store, 0, 10, 1, 3);
}

static inline void contract_events_survive(void **state)
{
    struct fixture *fixture = *state;
    if (!fixture->contract->keeps)
        skip();
    contract_login(fixture->store, "anna", 11);
    contract_login(fixture->store, "bob", 12);
    contract_reopen(fixture);
    contract_assert_position(fixture->store, 12, 1, 2, 2);
    assert_int_equal(contract_login(fixture->store, "carl", 13), 3);
    for (uint64_t epoch = 14; epoch < 30; epoch++)
        contract_login(fixture->store, "dora", epoch);
    contract_reopen(fixture);
    contract_assert_position(fixture->store, 29, 10, 19, 4);
    struct session_record record;
    assert_int_equal(store_get_session(fixture->store, "anna", &record), 0);
    contract_assert_record(&record, 11);
    assert_int_equal(contract_login(fixture->store, "anna", 30), 20);
    contract_assert_events(fixture->store, 0, 100, 11, 20);
}

static inline void contract_retention(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (uint64_t epoch = 1; epoch <= CONTRACT_KEPT; epoch++)
        contract_login(store, "anna", epoch);
    contract_assert_position(store, CONTRACT_KEPT, 1, CONTRACT_KEPT, 1);
    contract_assert_events(store, 0, 100, 1, CONTRACT_KEPT);
    contract_login(store, "anna", 100);
    contract_assert_position(store, 100, 2, CONTRACT_KEPT + 1, 1);
    contract_assert_events(store, 0, 100, 2, CONTRACT_KEPT + 1);

    /* One transaction with more events than are kept. */
    assert_int_equal(store_begin(store), 0);
    for (int i = 0; i < 3 * CONTRACT_KEPT; i++) {
        struct presence_event event = contract_event("bob", 101);
        assert_int_equal(store_append_event(store, &event), 0);
        assert_int_equal(event.seq, CONTRACT_KEPT + 2 + i);
    }
    assert_int_equal(store_commit(store, 101), 0);
    contract_assert_position(store, 101, 3 * CONTRACT_KEPT + 2, 4 * CONTRACT_KEPT + 1, 1);
    contract_assert_events(store, 0, 100, 3 * CONTRACT_KEPT + 2, 4 * CONTRACT_KEPT + 1);
}

static inline void contract_read_events(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    for (uint64_t epoch = 1; epoch <= 15; epoch++)
        contract_login(store, "anna", epoch);
    contract_assert_events(store, 0, 3, 6, 8);
    contract_assert_events(store, 5, 3, 6, 8);
    contract_assert_events(store, 6, 3, 7, 9);
    contract_assert_events(store, 13, 3, 14, 15);
    contract_assert_events(store, 15, 3, 16, 15);
    contract_assert_events(store, UINT64_MAX, 3, 16, 15);
    contract_assert_events(store, 0, 0, 1, 0);
    struct seen *seen = seen_create();
    struct store_position position;
    seen->stop_after = 2;
    assert_int_equal(store_read_events(store, 7, 100, seen_event, seen, &position), 0);
    assert_int_equal(seen->count, 2);
    assert_int_equal(seen->seqs[0], 8);
    assert_int_equal(seen->epochs[0], 8);
    assert_string_equal(seen->users[0], "anna");
    assert_int_equal(position.presence_first, 6);
    assert_int_equal(position.presence_last, 15);
    free(seen);
}

static inline void contract_no_events_kept(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.events_kept_max = 0;
    contract_reopen(fixture);
    for (uint64_t epoch = 1; epoch <= 3; epoch++)
        assert_int_equal(contract_login(fixture->store, "anna", epoch), epoch);
    contract_assert_position(fixture->store, 3, 4, 3, 1);
    contract_assert_events(fixture->store, 0, 10, 4, 3);
}

static inline void contract_epoch_only_rises(void **state)
{
    struct fixture *fixture = *state;
    contract_login(fixture->store, "anna", 50);
    contract_login(fixture->store, "bob", 20);
    contract_assert_position(fixture->store, 50, 1, 2, 2);
    assert_int_equal(store_begin(fixture->store), 0);
    assert_int_equal(store_commit(fixture->store, 60), 0);
    assert_int_equal(store_begin(fixture->store), 0);
    assert_int_equal(store_commit(fixture->store, 0), 0);
    contract_assert_position(fixture->store, 60, 1, 2, 2);
    assert_int_equal(store_begin(fixture->store), 0);
    store_abort(fixture->store);
    contract_assert_position(fixture->store, 60, 1, 2, 2);
}

/* A bad argument takes the transaction with it, and only that. */
static inline void contract_bad_arguments(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct session_record record = contract_record(3);
    struct presence_event event = contract_event("anna", 3);
    char name[STORE_NAME_BYTES_MAX + 2];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';

    assert_int_equal(store_put_session(store, "anna", &record), -EINVAL);
    assert_int_equal(store_commit(store, 1), -EINVAL);
    store_abort(store);

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_begin(store), -EINVAL);
    assert_int_equal(store_put_session(store, "anna", &record), 0);
    assert_int_equal(store_put_session(store, name, &record), -EINVAL);
    assert_int_equal(store_put_session(store, "bob", &record), -EINVAL);
    assert_int_equal(store_append_event(store, &event), -EINVAL);
    assert_int_equal(store_commit(store, 3), -EINVAL);
    contract_assert_position(store, 0, 1, 0, 0);

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_session(store, "", &record), -EINVAL);
    store_abort(store);

    memset(record.client, 'c', sizeof(record.client)); /* no NUL */
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_session(store, "anna", &record), -EINVAL);
    store_abort(store);

    assert_int_equal(store_get_session(store, name, &record), -ENOENT);
    assert_int_equal(store_get_session(store, "", &record), -ENOENT);
    name[STORE_NAME_BYTES_MAX] = '\0';
    assert_int_equal(contract_login(store, name, 3), 1);
    assert_int_equal(store_get_session(store, name, &record), 0);
    contract_assert_record(&record, 3);
}

/* --- saved inboxes ------------------------------------------------------------------------ */

static inline struct saved_inbox contract_inbox(uint64_t epoch)
{
    return (struct saved_inbox){
        .epoch = epoch,
        .next_seq = epoch + 100,
        .acked_seq = epoch + 7,
        .unnumbered = epoch % 2 == 0,
    };
}

/* A message that its seq and size say all about. The payload is the caller's to free. */
static inline struct saved_message contract_message(uint64_t seq, size_t bytes)
{
    uint8_t *payload = malloc(bytes + 1);
    assert_non_null(payload);
    for (size_t i = 0; i < bytes; i++)
        payload[i] = (uint8_t)(seq * 31 + i * 7 + (i >> 8));
    return (struct saved_message){
        .seq = seq,
        .time_ms = 1700000000000 + seq,
        .age_ms = seq * 3,
        .from_service = seq % 2 == 0,
        .redelivered = seq % 3 == 0,
        .sent = seq % 5 == 0,
        .mid = seq % 7 == 0 ? seq << 40 : 0,
        .name = bytes_of_text(seq % 2 == 0 ? "matchmaker" : "anna"),
        .payload = {payload, bytes},
        .traceparent = bytes_of_text(
            seq % 4 == 0 ? "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" : ""),
    };
}

static inline int contract_put_message(struct store *store, const char *user, uint64_t seq,
                                       size_t bytes)
{
    struct saved_message message = contract_message(seq, bytes);
    int result = store_put_message(store, user, &message);
    free((void *)message.payload.data);
    return result;
}

struct inbox_seen {
    size_t count;
    size_t stop_after;
    uint64_t seqs[64];
    size_t bytes[64];
};

static inline bool seen_message(void *context, const struct saved_message *message)
{
    struct inbox_seen *seen = context;
    assert_true(seen->count < 64);
    struct saved_message wanted = contract_message(message->seq, message->payload.size);
    assert_int_equal(message->time_ms, wanted.time_ms);
    assert_int_equal(message->age_ms, wanted.age_ms);
    assert_int_equal(message->from_service, wanted.from_service);
    assert_int_equal(message->redelivered, wanted.redelivered);
    assert_int_equal(message->sent, wanted.sent);
    assert_int_equal(message->mid, wanted.mid);
    assert_true(bytes_equal(message->name, wanted.name));
    assert_true(bytes_equal(message->payload, wanted.payload));
    assert_true(bytes_equal(message->traceparent, wanted.traceparent));
    free((void *)wanted.payload.data);
    seen->bytes[seen->count] = message->payload.size;
    seen->seqs[seen->count++] = message->seq;
    return seen->count != seen->stop_after;
}

static inline bool seen_seq(void *context, const struct saved_message *message)
{
    *(uint64_t *)context = message->seq;
    return true;
}

/* The inbox of the epoch with messages of these seqs and sizes; the list ends with 0. */
static inline void contract_assert_inbox(struct store *store, const char *user, uint64_t epoch,
                                         const size_t (*wanted)[2])
{
    struct saved_inbox inbox = {0};
    struct inbox_seen seen = {0};
    assert_int_equal(store_read_inbox(store, user, &inbox, seen_message, &seen), 0);
    assert_int_equal(inbox.epoch, contract_inbox(epoch).epoch);
    assert_int_equal(inbox.next_seq, contract_inbox(epoch).next_seq);
    assert_int_equal(inbox.acked_seq, contract_inbox(epoch).acked_seq);
    assert_int_equal(inbox.unnumbered, contract_inbox(epoch).unnumbered);
    size_t count = 0;
    for (; wanted[count][0] != 0; count++) {
        assert_true(count < seen.count);
        assert_int_equal(seen.seqs[count], wanted[count][0]);
        assert_int_equal(seen.bytes[count], wanted[count][1]);
    }
    assert_int_equal(seen.count, count);
}

static inline void contract_assert_no_inbox(struct store *store, const char *user)
{
    struct saved_inbox inbox;
    struct inbox_seen seen = {0};
    assert_int_equal(store_read_inbox(store, user, &inbox, seen_message, &seen), -ENOENT);
    assert_int_equal(seen.count, 0);
}

static inline void contract_put_inbox(struct store *store, const char *user, uint64_t epoch)
{
    struct saved_inbox inbox = contract_inbox(epoch);
    assert_int_equal(store_put_inbox(store, user, &inbox), 0);
}

/* Names that are each other's beginning, seqs on both sides of a byte, payloads from nothing to
 * megabytes. */
static inline void contract_inboxes_come_back(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    contract_assert_no_inbox(store, "ann");
    contract_assert_no_inbox(store, "");
    assert_int_equal(store_begin(store), 0);
    contract_put_inbox(store, "anna", 5);
    assert_int_equal(contract_put_message(store, "anna", 1, 0), 0);
    assert_int_equal(contract_put_message(store, "anna", 255, 100), 0);
    assert_int_equal(contract_put_message(store, "anna", 256, 5000), 0);
    assert_int_equal(contract_put_message(store, "anna", UINT64_MAX, 3 << 20), 0);
    contract_put_inbox(store, "ann", 6);
    assert_int_equal(contract_put_message(store, "ann", 9, 1), 0);
    contract_put_inbox(store, "anna.2", 7);
    contract_assert_no_inbox(store, "anna"); /* not before the commit */
    assert_int_equal(store_commit(store, 0), 0);
    for (int round = 0; round < 2; round++) {
        contract_assert_inbox(
            fixture->store, "anna", 5,
            (const size_t[][2]){{1, 0}, {255, 100}, {256, 5000}, {UINT64_MAX, 3 << 20}, {0}});
        contract_assert_inbox(fixture->store, "ann", 6, (const size_t[][2]){{9, 1}, {0}});
        contract_assert_inbox(fixture->store, "anna.2", 7, (const size_t[][2]){{0}});
        contract_assert_no_inbox(fixture->store, "an");
        contract_assert_no_inbox(fixture->store, "anna.");
        if (fixture->contract->keeps)
            contract_reopen(fixture);
    }
    contract_assert_position(fixture->store, 0, 1, 0, 0);
}

static inline void contract_inboxes_drop(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_drop_inboxes(store), 0); /* nothing is fine */
    contract_put_inbox(store, "anna", 5);
    assert_int_equal(contract_put_message(store, "anna", 1, 10), 0);
    contract_put_inbox(store, "bob", 6);
    assert_int_equal(store_commit(store, 0), 0);

    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_drop_inboxes(store), 0);
    store_abort(store);
    contract_assert_inbox(store, "anna", 5, (const size_t[][2]){{1, 10}, {0}});

    /* What is put behind a drop stays, what was put before goes. */
    assert_int_equal(store_begin(store), 0);
    contract_put_inbox(store, "carl", 8);
    assert_int_equal(store_drop_inboxes(store), 0);
    contract_put_inbox(store, "bob", 9);
    assert_int_equal(contract_put_message(store, "bob", 2, 20), 0);
    assert_int_equal(store_commit(store, 0), 0);
    contract_assert_no_inbox(store, "anna");
    contract_assert_no_inbox(store, "carl");
    contract_assert_inbox(store, "bob", 9, (const size_t[][2]){{2, 20}, {0}});
}

static inline void contract_inboxes_replace_and_stop(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    assert_int_equal(store_begin(store), 0);
    contract_put_inbox(store, "anna", 5);
    for (uint64_t seq = 1; seq <= 20; seq++)
        assert_int_equal(contract_put_message(store, "anna", seq, (size_t)seq), 0);
    assert_int_equal(store_commit(store, 0), 0);
    assert_int_equal(store_begin(store), 0);
    contract_put_inbox(store, "anna", 6);
    for (uint64_t seq = 3; seq <= 20; seq++)
        assert_int_equal(contract_put_message(store, "anna", seq, 9000), 0);
    assert_int_equal(store_commit(store, 0), 0);
    struct saved_inbox inbox;
    struct inbox_seen seen = {.stop_after = 3};
    assert_int_equal(store_read_inbox(store, "anna", &inbox, seen_message, &seen), 0);
    assert_int_equal(seen.count, 3);
    assert_int_equal(inbox.epoch, 6);
    assert_int_equal(seen.bytes[1], 2);
    assert_int_equal(seen.bytes[2], 9000);
    seen = (struct inbox_seen){0};
    assert_int_equal(store_read_inbox(store, "anna", &inbox, seen_message, &seen), 0);
    assert_int_equal(seen.count, 20);
}

static inline void contract_inboxes_bad_arguments(void **state)
{
    struct store *store = ((struct fixture *)*state)->store;
    struct saved_inbox inbox = contract_inbox(1);
    struct saved_message message = {.seq = 1};
    char name[STORE_NAME_BYTES_MAX + 2];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(store_put_inbox(store, "anna", &inbox), -EINVAL);
    assert_int_equal(store_put_message(store, "anna", &message), -EINVAL);
    assert_int_equal(store_drop_inboxes(store), -EINVAL);
    for (int which = 0; which < 5; which++) {
        assert_int_equal(store_begin(store), 0);
        contract_put_inbox(store, "anna", 1);
        struct saved_message bad = message;
        if (which == 0)
            bad.seq = 0;
        if (which == 1)
            bad.name = bytes_of_text(name);
        if (which == 2)
            bad.payload.size = (size_t)STORE_PAYLOAD_BYTES_MAX + 1;
        int result = which == 4 ? store_put_inbox(store, "", &inbox)
                                : store_put_message(store, which == 3 ? name : "anna", &bad);
        assert_int_equal(result, -EINVAL);
        assert_int_equal(store_drop_inboxes(store), -EINVAL);
        assert_int_equal(store_commit(store, 0), -EINVAL);
        contract_assert_no_inbox(store, "anna");
    }
    name[STORE_NAME_BYTES_MAX] = '\0';
    assert_int_equal(store_begin(store), 0);
    contract_put_inbox(store, name, 2);
    message.seq = 3;
    message.name = bytes_of_text("anna");
    assert_int_equal(store_put_message(store, name, &message), 0);
    assert_int_equal(store_commit(store, 0), 0);
    uint64_t seq = 0;
    assert_int_equal(store_read_inbox(store, name, &inbox, seen_seq, &seq), 0);
    assert_int_equal(inbox.epoch, 2);
    assert_int_equal(seq, 3);
}

/* --- against a model --------------------------------------------------------------------- */

enum { MODEL_USERS = 60, MODEL_STEPS = 3000 };

struct model {
    uint64_t epochs[MODEL_USERS]; /* 0: not there */
    uint64_t epoch_last;
    uint64_t presence_last;
};

static inline uint32_t model_random(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % below;
}

static inline void model_compare(struct store *store, const struct model *model)
{
    struct seen *seen = seen_create();
    uint64_t presence_last = 0;
    bool more = true;
    size_t count = 0;
    assert_int_equal(
        store_list_sessions(store, "", "", 1000, seen_session, seen, &presence_last, &more), 0);
    assert_int_equal(presence_last, model->presence_last);
    for (int user = 0; user < MODEL_USERS; user++) {
        char name[16];
        if (model->epochs[user] == 0)
            continue;
        (void)snprintf(name, sizeof(name), "user%03d", user);
        assert_true(count < seen->count);
        assert_string_equal(seen->users[count], name);
        assert_int_equal(seen->epochs[count], model->epochs[user]);
        count++;
    }
    assert_int_equal(seen->count, count);
    uint64_t first =
        model->presence_last < CONTRACT_KEPT ? 1 : model->presence_last + 1 - CONTRACT_KEPT;
    contract_assert_position(store, model->epoch_last, first, model->presence_last, count);
    contract_assert_events(store, 0, 1000, first, model->presence_last);
    free(seen);
}

static inline void model_step(struct store *store, struct model *next, uint32_t *seed)
{
    char name[16];
    uint32_t user = model_random(seed, MODEL_USERS);
    (void)snprintf(name, sizeof(name), "user%03u", user);
    struct presence_event event = contract_event(name, next->epoch_last);
    if (model_random(seed, 3) == 0) {
        assert_int_equal(store_delete_session(store, name), 0);
        next->epochs[user] = 0;
    } else {
        struct session_record record = contract_record(++next->epoch_last);
        assert_int_equal(store_put_session(store, name, &record), 0);
        next->epochs[user] = record.epoch;
    }
    assert_int_equal(store_append_event(store, &event), 0);
    assert_int_equal(event.seq, ++next->presence_last);
}

static inline void contract_model(void **state)
{
    struct fixture *fixture = *state;
    static const struct model empty;
    struct model committed = empty;
    uint32_t seed = 4711;
    for (int done = 0; done < MODEL_STEPS;) {
        struct model next = committed;
        assert_int_equal(store_begin(fixture->store), 0);
        for (uint32_t i = model_random(&seed, 20); i > 0; i--, done++)
            model_step(fixture->store, &next, &seed);
        if (model_random(&seed, 4) == 0) {
            store_abort(fixture->store);
        } else {
            assert_int_equal(store_commit(fixture->store, next.epoch_last), 0);
            committed = next;
        }
        done++;
        if (fixture->contract->keeps && model_random(&seed, 30) == 0)
            contract_reopen(fixture);
        if (model_random(&seed, 4) == 0)
            model_compare(fixture->store, &committed);
    }
    model_compare(fixture->store, &committed);
}

/* --- how far readers have come ------------------------------------------------------------ */

static inline void contract_cursors(void **state)
{
    struct fixture *fixture = *state;
    struct store *store = fixture->store;
    uint64_t seq = 7;
    assert_int_equal(store_get_cursor(store, "hook", &seq), -ENOENT);
    assert_int_equal(store_put_cursor(store, "hook", 1), -EINVAL); /* no transaction */
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_cursor(store, "hook", 5), 0);
    assert_int_equal(store_get_cursor(store, "hook", &seq), -ENOENT);
    store_abort(store);
    assert_int_equal(store_get_cursor(store, "hook", &seq), -ENOENT);
    for (uint64_t wanted = 9; wanted > 3; wanted -= 3) { /* lower ones too */
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_put_cursor(store, "hook", wanted), 0);
        assert_int_equal(store_commit(store, 0), 0);
        if (fixture->contract->keeps)
            contract_reopen(fixture);
        store = fixture->store;
        assert_int_equal(store_get_cursor(store, "hook", &seq), 0);
        assert_int_equal(seq, wanted);
        assert_int_equal(store_get_cursor(store, "other", &seq), -ENOENT);
    }
    char long_name[STORE_READER_BYTES_MAX + 2];
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    const char *const wrong[] = {"", long_name};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_begin(store), 0);
        assert_int_equal(store_put_cursor(store, wrong[i], 1), -EINVAL);
        assert_int_equal(store_commit(store, 0), -EINVAL);
        assert_int_equal(store_get_cursor(store, wrong[i], &seq), -ENOENT);
    }
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_put_cursor(store, "hook", STORE_COUNT_MAX + 1), -EINVAL);
    store_abort(store);
}

/* --- readers beside the writer ----------------------------------------------------------- */

enum { THREADS_COMMITS = 400, THREADS_READERS = 2 };

struct threads {
    struct store *store;
    atomic_bool stop;
    atomic_uint failures; /* cmocka's asserts belong to the main thread */
    atomic_uint reads;
};

/* Commit n puts "left" and "right" with epoch n and appends one event: a state that is none of a
 * single commit shows itself. */
static inline void *threads_read(void *context)
{
    struct threads *threads = context;
    struct seen *seen = calloc(1, sizeof(*seen));
    while (!atomic_load(&threads->stop)) {
        struct store_position position;
        uint64_t presence_last;
        bool more;
        seen->count = 0;
        if (store_list_sessions(threads->store, "", "", 10, seen_session, seen, &presence_last,
                                &more) != 0 ||
            (seen->count != 0 && (seen->count != 2 || seen->epochs[0] != seen->epochs[1] ||
                                  seen->epochs[0] != presence_last)))
            atomic_fetch_add(&threads->failures, 1);
        seen->count = 0;
        if (store_read_events(threads->store, 0, 100, seen_event, seen, &position) != 0 ||
            position.epoch_last != position.presence_last ||
            seen->count != position.presence_last + 1 - position.presence_first)
            atomic_fetch_add(&threads->failures, 1);
        atomic_fetch_add(&threads->reads, 1);
    }
    free(seen);
    return NULL;
}

static inline void contract_threads(void **state)
{
    struct fixture *fixture = *state;
    struct threads threads = {.store = fixture->store};
    pthread_t readers[THREADS_READERS];
    for (int i = 0; i < THREADS_READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, threads_read, &threads), 0);
    for (uint64_t epoch = 1; epoch <= THREADS_COMMITS; epoch++) {
        struct session_record record = contract_record(epoch);
        struct presence_event event = contract_event("left", epoch);
        assert_int_equal(store_begin(fixture->store), 0);
        assert_int_equal(store_put_session(fixture->store, "left", &record), 0);
        assert_int_equal(store_put_session(fixture->store, "right", &record), 0);
        assert_int_equal(store_append_event(fixture->store, &event), 0);
        assert_int_equal(store_commit(fixture->store, epoch), 0);
    }
    while (atomic_load(&threads.reads) < 10)
        usleep(1000);
    atomic_store(&threads.stop, true);
    for (int i = 0; i < THREADS_READERS; i++)
        pthread_join(readers[i], NULL);
    assert_int_equal(atomic_load(&threads.failures), 0);
}

/* --- the history ------------------------------------------------------------------------- */

static inline struct history_record contract_told(const char *user, uint64_t time_ms)
{
    struct history_record record = {.time_ms = time_ms,
                                    .epoch = 7,
                                    .bound = 30000,
                                    .value = 91000,
                                    .until_ms = time_ms + 1,
                                    .missing = 3,
                                    .count = 2,
                                    .kind = HISTORY_OFFLINE,
                                    .cause = 6,
                                    .address = "203.0.113.7:40000",
                                    .client = "unit/1",
                                    .transport = "tls",
                                    .by = "match/m1",
                                    .detail = "afk",
                                    .limit = "session.heartbeat_ms"};
    (void)snprintf(record.user, sizeof(record.user), "%.*s", STORE_NAME_BYTES_MAX, user);
    return record;
}

/* One transaction for each. */
static inline void contract_tell(struct store *store, enum history_ring ring, const char *user,
                                 uint64_t time_ms)
{
    struct history_record record = contract_told(user, time_ms);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_append_history(store, ring, &record), 1);
    assert_int_equal(store_commit(store, 0), 0);
}

struct contract_past {
    size_t count, most;
    uint64_t times[64];
};

static inline bool contract_take_past(void *context, const struct history_record *record)
{
    struct contract_past *past = context;
    if (past->count == past->most)
        return false;
    struct history_record wanted = contract_told(record->user, record->time_ms);
    wanted.seq = record->seq;
    assert_memory_equal(record->user, wanted.user, strlen(wanted.user) + 1);
    assert_string_equal(record->address, wanted.address);
    assert_string_equal(record->client, wanted.client);
    assert_string_equal(record->transport, wanted.transport);
    assert_string_equal(record->by, wanted.by);
    assert_string_equal(record->detail, wanted.detail);
    assert_string_equal(record->limit, wanted.limit);
    assert_int_equal(record->bound, wanted.bound);
    assert_int_equal(record->value, wanted.value);
    assert_int_equal(record->until_ms, wanted.until_ms);
    assert_int_equal(record->missing, wanted.missing);
    assert_int_equal(record->count, wanted.count);
    assert_int_equal(record->kind, wanted.kind);
    assert_int_equal(record->cause, wanted.cause);
    assert_int_equal(record->epoch, wanted.epoch);
    past->times[past->count++] = record->time_ms;
    return true;
}

/* The times of all of that user, in pages of `limit`. */
static inline struct contract_past contract_past_of(struct store *store, enum history_ring ring,
                                                    const char *user, size_t limit)
{
    struct contract_past past = {.most = 64};
    struct history_query query = {.ring = ring, .user = user, .limit = limit};
    struct history_page page;
    do {
        assert_int_equal(store_read_history(store, &query, contract_take_past, &past, &page), 0);
        query.before = page.next;
    } while (page.next != 0);
    return past;
}

static inline void contract_history_comes_back(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.history_max = 40;
    contract_reopen(fixture);
    struct store *store = fixture->store;
    for (uint64_t i = 1; i <= 20; i++)
        contract_tell(store, HISTORY_SESSIONS, i % 2 ? "anna" : "bob", 1000 + i);
    contract_tell(store, HISTORY_REFUSALS, "anna", 5000);
    for (size_t limit = 1; limit <= 21; limit++) {
        struct contract_past anna = contract_past_of(store, HISTORY_SESSIONS, "anna", limit);
        assert_int_equal(anna.count, 10);
        for (size_t i = 0; i < anna.count; i++)
            assert_int_equal(anna.times[i], 1019 - 2 * i);
        assert_int_equal(contract_past_of(store, HISTORY_SESSIONS, "", limit).count, 20);
    }
    assert_int_equal(contract_past_of(store, HISTORY_SESSIONS, "ann", 5).count, 0);
    assert_int_equal(contract_past_of(store, HISTORY_SESSIONS, "annabel", 5).count, 0);
    assert_int_equal(contract_past_of(store, HISTORY_REFUSALS, "anna", 5).count, 1);
    struct history_query query = {
        .ring = HISTORY_SESSIONS, .user = "anna", .since_ms = 1010, .limit = 50};
    struct contract_past past = {.most = 64};
    struct history_page page;
    assert_int_equal(store_read_history(store, &query, contract_take_past, &past, &page), 0);
    assert_int_equal(past.count, 5);
    assert_int_equal(page.records, 20);
    assert_int_equal(page.first_ms, 1001);
}

/* At n all are there, at n + 1 the first is gone; of refusals a quarter as many. */
static inline void contract_history_bounds(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.history_max = 8;
    contract_reopen(fixture);
    struct store *store = fixture->store;
    for (uint64_t i = 1; i <= 8; i++)
        contract_tell(store, HISTORY_SESSIONS, "anna", i);
    assert_int_equal(contract_past_of(store, HISTORY_SESSIONS, "anna", 64).count, 8);
    contract_tell(store, HISTORY_SESSIONS, "anna", 9);
    struct contract_past past = contract_past_of(store, HISTORY_SESSIONS, "anna", 64);
    assert_int_equal(past.count, 8);
    assert_int_equal(past.times[7], 2);
    for (uint64_t i = 1; i <= 50; i++)
        contract_tell(store, HISTORY_REFUSALS, "anna", i);
    assert_int_equal(contract_past_of(store, HISTORY_REFUSALS, "anna", 64).count, 2);
    assert_int_equal(contract_past_of(store, HISTORY_SESSIONS, "anna", 64).count, 8);
    /* Too old: they go when others come. */
    fixture->options.history_age_ms = 1000;
    contract_reopen(fixture);
    contract_tell(fixture->store, HISTORY_SESSIONS, "anna", 1006);
    if (fixture->contract->keeps) {
        past = contract_past_of(fixture->store, HISTORY_SESSIONS, "anna", 64);
        assert_int_equal(past.count, 5);
        assert_int_equal(past.times[4], 6);
    }
}

static inline void contract_history_of_nobody(void **state)
{
    struct store *store = ((struct fixture *)*state)->store; /* none is kept */
    struct history_record record = contract_told("anna", 1);
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_append_history(store, HISTORY_SESSIONS, &record), 0);
    assert_int_equal(store_commit(store, 9), 0);
    contract_assert_position(store, 9, 1, 0, 0);
    assert_int_equal(contract_past_of(store, HISTORY_SESSIONS, "", 5).count, 0);
    assert_int_equal(store_append_history(store, HISTORY_SESSIONS, &record), -EINVAL);
    record.kind = HISTORY_KINDS;
    assert_int_equal(store_begin(store), 0);
    assert_int_equal(store_append_history(store, HISTORY_SESSIONS, &record), -EINVAL);
    assert_int_equal(store_commit(store, 10), -EINVAL);
}

/* What was aborted never was. */
static inline void contract_history_aborts(void **state)
{
    struct fixture *fixture = *state;
    fixture->options.history_max = 40;
    contract_reopen(fixture);
    struct history_record record = contract_told("anna", 1);
    assert_int_equal(store_begin(fixture->store), 0);
    assert_int_equal(store_append_history(fixture->store, HISTORY_SESSIONS, &record), 1);
    store_abort(fixture->store);
    assert_int_equal(contract_past_of(fixture->store, HISTORY_SESSIONS, "", 5).count, 0);
    contract_tell(fixture->store, HISTORY_SESSIONS, "anna", 2);
    assert_int_equal(contract_past_of(fixture->store, HISTORY_SESSIONS, "", 5).count, 1);
}

#define CONTRACT_TEST(test, setup) cmocka_unit_test_setup_teardown(test, setup, contract_teardown)

#define CONTRACT_TESTS(setup)                                                                      \
    CONTRACT_TEST(contract_new_is_empty, setup), CONTRACT_TEST(contract_put_get_delete, setup),    \
        CONTRACT_TEST(contract_look_up, setup), CONTRACT_TEST(contract_rooms, setup),              \
        CONTRACT_TEST(contract_cursors, setup),                                                    \
        CONTRACT_TEST(contract_order_within_a_transaction, setup),                                 \
        CONTRACT_TEST(contract_list_pages, setup),                                                 \
        CONTRACT_TEST(contract_list_long_arguments, setup),                                        \
        CONTRACT_TEST(contract_list_stops, setup), CONTRACT_TEST(contract_abort_undoes, setup),    \
        CONTRACT_TEST(contract_events_survive, setup), CONTRACT_TEST(contract_retention, setup),   \
        CONTRACT_TEST(contract_read_events, setup), CONTRACT_TEST(contract_no_events_kept, setup), \
        CONTRACT_TEST(contract_epoch_only_rises, setup),                                           \
        CONTRACT_TEST(contract_bad_arguments, setup),                                              \
        CONTRACT_TEST(contract_inboxes_come_back, setup),                                          \
        CONTRACT_TEST(contract_inboxes_drop, setup),                                               \
        CONTRACT_TEST(contract_inboxes_replace_and_stop, setup),                                   \
        CONTRACT_TEST(contract_inboxes_bad_arguments, setup),                                      \
        CONTRACT_TEST(contract_history_comes_back, setup),                                         \
        CONTRACT_TEST(contract_history_bounds, setup),                                             \
        CONTRACT_TEST(contract_history_of_nobody, setup),                                          \
        CONTRACT_TEST(contract_history_aborts, setup), CONTRACT_TEST(contract_model, setup),       \
        CONTRACT_TEST(contract_threads, setup)

#endif
