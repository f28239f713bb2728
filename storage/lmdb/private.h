/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LMDB_PRIVATE_H
#define USHER_LMDB_PRIVATE_H

/* Private to the files of the store on disk, which alone know LMDB: store.c (its life, and why it
 * is so), open.c and check.c (the file), space.c (whether a change fits), write.c, read.c, log.c
 * and history.c, and inspect.c (the store from outside). Results are negative errno; what LMDB
 * answers is translated (code.c). */

#include <limits.h>
#include <lmdb.h>
#include <pthread.h>
#include <string.h>
#include <sys/types.h>

#include "base/check.h"
#include "base/thread.h"
#include "lmdb/space.h"
#include "storage/store_ops.h"

/* Which file has one of the store's names. */
struct lmdb_name {
    dev_t device;
    ino_t inode;
};

enum { LMDB_NAMES = 3 /* data.mdb, lock.mdb, usher.lock */ };

/* A ring of the history, as the transaction has it. */
struct lmdb_ring {
    bool known; /* the rest has been looked at */
    uint64_t last, count;
};

struct lmdb_store {
    struct store base;

    /* set once at open */
    char path[PATH_MAX];
    uint64_t map_bytes;
    uint64_t events_kept_max;
    uint64_t history_max[HISTORY_RINGS];
    uint64_t history_age_ms; /* 0: they have no age */
    int lock_file;
    bool beside; /* while it is opened: another process has it, and may write to it */
    struct lmdb_name names[LMDB_NAMES]; /* as they were when env was opened */

    pthread_rwlock_t lock; /* readers share it; the writer takes it to replace what follows */
    struct thread_mark replacing; /* of the writer, while it does */
    _Atomic unsigned readers;     /* that share it now */
    MDB_env *env;                 /* NULL after a reopening that failed */
    void *map;                    /* of env: where the file is in memory; NULL: not known */
    MDB_dbi sessions;
    MDB_dbi events;
    MDB_dbi inboxes;
    MDB_dbi log;
    MDB_dbi meta;
    MDB_dbi histories[HISTORY_RINGS];
    bool without_inboxes; /* a reader of a store of version 1 */
    bool without_log;     /* and of one of version 2 */
    bool without_history; /* of one that no start of today has opened, or had no room for it */

    /* the writer's */
    MDB_txn *transaction;
    struct store_position pending;
    bool changed;            /* something of the transaction is to be committed */
    bool log_changed;        /* of the log, too */
    bool broken;             /* a commit failed: reopen before anything else */
    size_t transaction_last; /* the last that was acknowledged */
    struct space space;      /* of the transaction */
    uint64_t log_dropped;    /* the last value that it dropped; 0: none yet */
    struct lmdb_ring rings[HISTORY_RINGS];
    bool history_yields; /* a change had no room: the oldest of the history go */
    uint64_t commits;
};

static inline struct lmdb_store *lmdb_of(struct store *base)
{
    return (struct lmdb_store *)base;
}

static inline MDB_val lmdb_value_of_text(const char *text)
{
    return (MDB_val){strlen(text), (void *)text};
}

static inline struct bytes lmdb_bytes_of_value(const MDB_val *value)
{
    return (struct bytes){value->mv_data, value->mv_size};
}

/* --- code.c ----------------------------------------------------------------------------------- */

/* A code of LMDB's as a negative errno. */
int lmdb_translate(int code);

/* --- open.c ----------------------------------------------------------------------------------- */

/* Opens the environment of a store that holds its lock file; makes the file when it may be new. */
int lmdb_file_open(struct lmdb_store *store, bool may_be_new, char *error);

/* Says why the environment at `path` could not be opened; gives `result`. */
int lmdb_explain_open(char *error, int result, const char *path);

/* The environment alone, for reading beside another process that may write. -EBUSY: a process of
 * another container has our number. */
int lmdb_env_open_reader(MDB_env **env, const char *path);

/* That of a file which nobody else has, without a lock file beside it. */
int lmdb_env_open_private(MDB_env **env, const char *file);

/* Whether the names are still those of the files that are open: 0 or -ESTALE. */
int lmdb_look(struct store *base);

/* After a commit that failed. Waits for the reads that are under way. */
int lmdb_file_reopen(struct lmdb_store *store);

/* The last transaction that the environment knows. */
size_t lmdb_transaction_of(MDB_env *env);
void lmdb_env_close(struct lmdb_store *store);

/* The counters, checked against the events that are there: no gap, none beyond the last. */
int lmdb_position_read(const struct lmdb_store *store, MDB_txn *transaction,
                       struct store_position *position);

/* --- inspect.c, records.c: the store from outside --------------------------------------------- */

struct store_about;

/* Opens the parts of the environment that its version has, and says what it is. */
int lmdb_about_read(struct lmdb_store *store, struct store_about *about);

/* Reads every record of a data file that nobody else has. 0; -EUCLEAN: one is damaged. The
 * structure has been checked. */
int lmdb_records_check(const char *file);

/* --- space.c ---------------------------------------------------------------------------------- */

/* What the transaction that begins finds. */
int lmdb_space_open(struct lmdb_store *store);

/* 0, or -EXFULL when one more change of that many bytes must not be made. */
int lmdb_space_take(struct lmdb_store *store, enum space_change change, size_t bytes);

/* 1 when that many bytes may be put that nobody needs, else 0; or an error. */
int lmdb_space_spare(struct lmdb_store *store, size_t bytes);

/* 1 when a value of the log has room that takes that many bytes with its key, else 0; or an error.
 * `spares`: room for what makes room is left. */
int lmdb_space_log(struct lmdb_store *store, size_t bytes, bool spares);

/* --- history.c -------------------------------------------------------------------------------- */

/* The names of the rings' databases. */
extern const char *const lmdb_history_names[HISTORY_RINGS];

/* A transaction begins: if changes had no room, some of the oldest make it. */
int lmdb_history_begin(struct lmdb_store *store);

int lmdb_append_history(struct store *base, enum history_ring ring,
                        const struct history_record *record);
int lmdb_read_history(struct store *base, const struct history_query *query,
                      store_history_each *each, void *context, struct history_page *page);

/* --- log.c ------------------------------------------------------------------------------------ */

/* What is cheap to be known: log_first is not. And all of it, held against the ends of the log. */
int lmdb_log_count(const struct lmdb_store *store, MDB_txn *transaction,
                   struct store_position *position);
int lmdb_log_position(const struct lmdb_store *store, MDB_txn *transaction,
                      struct store_position *position);

/* The counters as the transaction leaves them. */
int lmdb_log_commit(const struct lmdb_store *store);

int lmdb_append_log(struct store *base, struct bytes value, bool spares, uint64_t *number);
int lmdb_drop_log(struct store *base, uint64_t number);
int lmdb_read_log(struct store *base, uint64_t from, store_log_each *each, void *context);
int lmdb_get_log(struct store *base, const uint64_t *numbers, size_t count, store_log_each *each,
                 void *context);

/* --- read.c ----------------------------------------------------------------------------------- */

/* Every 0 is followed by lmdb_read_end. */
int lmdb_read_begin(struct lmdb_store *store, MDB_txn **transaction);
void lmdb_read_end(struct lmdb_store *store, MDB_txn *transaction);

/* --- store.c ---------------------------------------------------------------------------------- */

/* Those of a store that is only read; begin gives -EACCES. */
extern const struct store_ops lmdb_reader_ops;

/* --- write.c, read.c: the operations of store_ops.h ------------------------------------------- */

int lmdb_begin(struct store *base);
int lmdb_put_session(struct store *base, const char *user, const struct session_record *record);
int lmdb_delete_session(struct store *base, const char *user);
int lmdb_append_event(struct store *base, struct presence_event *event);
int lmdb_put_inbox(struct store *base, const char *user, const struct saved_inbox *inbox);
int lmdb_put_message(struct store *base, const char *user, const struct saved_message *message);
int lmdb_drop_inboxes(struct store *base);
int lmdb_put_cursor(struct store *base, const char *reader, uint64_t seq);
int lmdb_commit(struct store *base, uint64_t epoch_last);
void lmdb_abort(struct store *base);
void lmdb_rest(struct store *base);
int lmdb_position(struct store *base, struct store_position *position);
int lmdb_look_up(struct store *base, const char *const *users, size_t count,
                 store_session_each *each, void *context, uint64_t *presence_last);
int lmdb_list_sessions(struct store *base, const struct store_query *query,
                       store_session_each *each, void *context, uint64_t *presence_last,
                       bool *more);
int lmdb_read_events(struct store *base, uint64_t after, size_t limit, store_event_each *each,
                     void *context, struct store_position *position);
int lmdb_get_cursor(struct store *base, const char *reader, uint64_t *seq);
int lmdb_read_inbox(struct store *base, const char *user, struct saved_inbox *inbox,
                    store_message_each *each, void *context);

#endif
