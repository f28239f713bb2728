/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_STORE_OPS_H
#define USHER_STORAGE_STORE_OPS_H

/* Between the dispatch (store.c) and the stores behind it; nobody else includes this.
 *
 * The dispatch has checked the arguments: names and texts are within their limits, and writes,
 * commit and abort come inside of a transaction only, rest outside. A write that fails is followed
 * by abort; commit ends the transaction whatever it returns. */

#include <stdarg.h>

#include "base/thread.h"
#include "storage/store.h"

struct store_query {
    const char *prefix;
    const char *after;
    char start[STORE_NAME_BYTES_MAX + 1]; /* the greater of both, where to seek */
    size_t limit;
};

struct store_ops {
    void (*close)(struct store *store);
    int (*lock)(const struct store *store); /* NULL: there are no files */
    int (*look)(struct store *store);       /* the same */
    int (*begin)(struct store *store);
    int (*put_session)(struct store *store, const char *user, const struct session_record *record);
    int (*delete_session)(struct store *store, const char *user);
    int (*append_event)(struct store *store, struct presence_event *event);
    int (*append_history)(struct store *store, enum history_ring ring,
                          const struct history_record *record);
    int (*append_log)(struct store *store, struct bytes value, bool spares, uint64_t *number);
    int (*drop_log)(struct store *store, uint64_t number);
    int (*put_inbox)(struct store *store, const char *user, const struct saved_inbox *inbox);
    int (*put_message)(struct store *store, const char *user, const struct saved_message *message);
    int (*drop_inboxes)(struct store *store);
    int (*put_cursor)(struct store *store, const char *reader, uint64_t seq);
    int (*commit)(struct store *store, uint64_t epoch_last);
    void (*abort)(struct store *store);
    void (*rest)(struct store *store); /* NULL: there is nothing to give back */
    int (*position)(struct store *store, struct store_position *position);
    int (*look_up)(struct store *store, const char *const *users, size_t count,
                   store_session_each *each, void *context, uint64_t *presence_last);
    int (*list_sessions)(struct store *store, const struct store_query *query,
                         store_session_each *each, void *context, uint64_t *presence_last,
                         bool *more);
    int (*read_events)(struct store *store, uint64_t after, size_t limit, store_event_each *each,
                       void *context, struct store_position *position);
    int (*get_cursor)(struct store *store, const char *reader, uint64_t *seq);
    int (*read_history)(struct store *store, const struct history_query *query,
                        store_history_each *each, void *context, struct history_page *page);
    int (*read_log)(struct store *store, uint64_t from, store_log_each *each, void *context);
    int (*get_log)(struct store *store, const uint64_t *numbers, size_t count, store_log_each *each,
                   void *context);
    int (*read_inbox)(struct store *store, const char *user, struct saved_inbox *inbox,
                      store_message_each *each, void *context);
};

/* The first member of every store. Apart from ops it belongs to the writing thread. */
struct store {
    const struct store_ops *ops;
    bool writing;              /* between begin and commit or abort */
    struct thread_mark writer; /* whose transaction that is */
    int failed;                /* why the transaction is gone already; 0: it is not */
    const char *upgraded_from; /* set once at open */
};

/* Writes the line for a person, when `error` is not NULL, and returns `code`. */
int store_explain(char *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A name that can be in the map. */
bool store_name_is_usable(const char *user);

/* Whether `user` begins with the prefix and comes after `after`. */
bool store_query_matches(const struct store_query *query, const char *user);

/* Whether nothing from `user` on can match any more. */
bool store_query_is_past(const struct store_query *query, const char *user);

#endif
