/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_STORAGE_STORE_H
#define USHER_STORAGE_STORE_H

/* What survives the process: the session map, the numbered presence stream, the log of stored
 * messages, and for people what has happened to whom.
 *
 * Writing belongs to one thread (the committer): begin, any number of puts, deletes and appends,
 * then commit or abort. Reading is open to every other thread at any time; a read sees one
 * committed state, never half a transaction. Nothing here knows of actors or sockets.
 *
 * Errors are negative errno. The ones that callers tell apart:
 *   -ENOSPC, -EDQUOT, -EFBIG, -EXFULL   there is no space: on the disk, in the quota, within the
 * limit of a file's size, in the map (store_is_full); the transaction is gone, the next one may
 * succeed -EIO       a write or a sync failed; nothing of the transaction may be reported as stored
 *   -EUCLEAN   the file is damaged or of a version that this program does not read
 *   -EBUSY     another process holds the store
 *   -ESTALE    a file of the store was removed or replaced while it is open; nothing is written to
 * it -ENOENT    no such session Calls that take `error` write one line for a person into it
 * (STORE_ERROR_BYTES_MAX). */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"
#include "proto/number.h"

enum {
    STORE_NAME_BYTES_MAX = 64,
    STORE_SECRET_BYTES = 16,
    STORE_ADDRESS_BYTES_MAX = 56, /* text, "[v6]:port" fits */
    STORE_CLIENT_BYTES_MAX = 64,
    STORE_TRANSPORT_BYTES_MAX = 8,
    STORE_ROOMS_BYTES_MAX = 1055,
    STORE_READER_BYTES_MAX = 32,
    STORE_BY_BYTES_MAX = 129,
    STORE_DETAIL_BYTES_MAX = 120,
    STORE_LIMIT_BYTES_MAX = 48,
    STORE_PAYLOAD_BYTES_MAX = 1 << 30, /* of a saved message */
    STORE_LOG_VALUE_BYTES = 2000,      /* of the log: so much shares its page with others */
    STORE_LOG_VALUE_BYTES_MAX = 1 << 30,
    STORE_ERROR_BYTES_MAX = 256,
};

/* No epoch and no seq of an event comes as far: what is beyond is damage. */
#define STORE_COUNT_MAX NUMBER_START_MAX

/* The numbers are those of SessionInfo.State in backend.proto. */
enum session_state {
    SESSION_ONLINE = 1,
    SESSION_DETACHED = 2,
};

/* One user's session. Text is NUL-terminated. */
struct session_record {
    uint64_t epoch;
    uint64_t since_ms;      /* wall time of the login, Unix ms */
    uint64_t token_ends_ms; /* when the token of the login is good no more, Unix ms; 0: never */
    enum session_state state;
    bool acks;
    char transport[STORE_TRANSPORT_BYTES_MAX + 1]; /* "tcp": by which he came last; "": not known */
    uint8_t secret[STORE_SECRET_BYTES];
    char address[STORE_ADDRESS_BYTES_MAX + 1];
    char client[STORE_CLIENT_BYTES_MAX + 1];
    struct bytes rooms; /* of the token, as user/session.h has it; few have any. Borrowed: of one
                         * that was read it is there during the call of `each`, and
                         * store_get_session gives none */
};

/* One event of the presence stream. kind and cause are the numbers of PresenceEvent. */
struct presence_event {
    uint64_t seq; /* given by store_append_event */
    uint64_t time_ms;
    uint64_t epoch;
    uint64_t previous_epoch;
    uint64_t until_ms;
    uint8_t kind;
    uint8_t cause;
    char user[STORE_NAME_BYTES_MAX + 1];
    char address[STORE_ADDRESS_BYTES_MAX + 1];
    char client[STORE_CLIENT_BYTES_MAX + 1];
};

/* What the broker knows of a user's inbox when it stops in order. A record is kept for every
 * session, also when nothing waits: without one, the numbering of before is not known. */
struct saved_inbox {
    uint64_t epoch;     /* of the session it belongs to */
    uint64_t next_seq;  /* of the next message */
    uint64_t acked_seq; /* everything up to it is done with, or given up */
    bool unnumbered;    /* the numbers of an earlier life of the session are not known */
    bool loss_untold;   /* its client may not have heard that something may be gone */
};

/* One message of it. */
struct saved_message {
    uint64_t seq;     /* not 0 */
    uint64_t time_ms; /* wall time at which it was sent */
    uint64_t age_ms;  /* how long it had waited when it was saved */
    bool from_service;
    bool redelivered;
    bool sent;
    uint64_t mid;      /* of a stored one; 0: it is none */
    struct bytes name; /* sender or service, STORE_NAME_BYTES_MAX at most */
    struct bytes payload;
    struct bytes traceparent; /* a valid one, or empty */
};

/* Two rings, so that whoever is refused never pushes out what happened to those who were in. */
enum history_ring { HISTORY_SESSIONS, HISTORY_REFUSALS, HISTORY_RINGS };

/* The first four are those of PresenceEvent.Kind. */
enum history_kind {
    HISTORY_ONLINE = 1,
    HISTORY_DETACHED = 2,
    HISTORY_RESUMED = 3,
    HISTORY_OFFLINE = 4,
    HISTORY_LOGIN_REFUSED = 5,
    HISTORY_RESUME_REFUSED = 6,
    HISTORY_KINDS,
};

/* What has happened to a session, or to who asked for one: for people, nothing rests on it. Text is
 * NUL-terminated; "" and 0 where there is nothing to be said. See HistoryRecord. */
struct history_record {
    uint64_t seq; /* within its ring, given when it is stored */
    uint64_t time_ms;
    uint64_t epoch;
    uint64_t bound, value;
    uint64_t until_ms;
    uint64_t missing;
    uint32_t count;
    uint8_t kind; /* enum history_kind */
    uint8_t cause;
    char user[STORE_NAME_BYTES_MAX + 1];
    char address[STORE_ADDRESS_BYTES_MAX + 1];
    char client[STORE_CLIENT_BYTES_MAX + 1];
    char transport[STORE_TRANSPORT_BYTES_MAX + 1];
    char by[STORE_BY_BYTES_MAX + 1];
    char detail[STORE_DETAIL_BYTES_MAX + 1];
    char limit[STORE_LIMIT_BYTES_MAX + 1];
};

/* What is asked of a ring: newest first. */
struct history_query {
    enum history_ring ring;
    const char *user;  /* "": of everybody */
    uint64_t before;   /* seq; 0: from the newest */
    uint64_t since_ms; /* older ones are not given */
    size_t limit;      /* at most so many */
};

/* As of the state that was read. */
struct history_page {
    uint64_t next;     /* `before` of the next page; 0: this was the last */
    uint64_t records;  /* in the ring */
    uint64_t first_ms; /* of the oldest in it; 0: it is empty */
};

/* As of the last commit. */
struct store_position {
    uint64_t epoch_last;     /* the highest epoch ever stored; 0: none */
    uint64_t presence_first; /* the oldest event kept; presence_last + 1 when none is */
    uint64_t presence_last;  /* 0: no event yet */
    uint64_t sessions;       /* how many are in the map */
    uint64_t log_first;      /* the oldest value of the log; log_last + 1 when there is none */
    uint64_t log_last;       /* the number given last; 0: none yet */
    uint64_t log_values;     /* how many are there */
    uint64_t log_bytes;      /* of all of them, as they were given */
};

struct store_options {
    const char *path;         /* a folder; made with mode 0700 when missing */
    uint64_t map_bytes_max;   /* the file never grows beyond; at least 256 KiB */
    uint64_t events_kept_max; /* older events are dropped in the transaction that appends; on
                               * disk as many as surely fit a quarter of the map, at most */
    uint64_t history_max;     /* records of sessions, and a quarter as many of refusals; on disk as
                               * many as surely fit an eighth of the map, at most. 0: none */
    uint64_t history_age_ms;  /* older ones are dropped when others come; 0: never */
    int lock; /* what store_lock gave in another process, which has checked the file, may write
               * to it now, and writes nothing any more when this one begins to; copied. 0: there
               * is no such process */
};

struct store;

/* Opens, making what is missing, and holds a lock file against a second process. Checks the
 * schema version and the structure of the file, and every record's checksum as it is read.
 * 0 gives *store. Beside the errors above: -EACCES, -ENOTDIR, -EINVAL for bad options. */
int store_open_lmdb(struct store **store, const struct store_options *options, char *error);

/* What keeps others from the store, to be given to a process that takes over from this one: with it
 * that process may open the store beside this one. Borrowed; -1: there is no such thing. */
int store_lock(const struct store *store);

/* The schema that the store had before it was opened, when that was an older one; else NULL. */
const char *store_upgraded_from(const struct store *store);

/* The same contract in memory, for tests and the simulation. path and map size are ignored. */
int store_open_memory(struct store **store, const struct store_options *options);

/* Drops an open transaction and frees the store; no other call may be under way. NULL is fine. */
void store_close(struct store *store);

/* What an error of a store means, for a person. */
const char *store_error_text(int error);

static inline bool store_is_full(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -EFBIG || error == -EXFULL;
}

/* What is behind an -EIO in that folder: LMDB says so of a write that was done in part, which a
 * full disk does. Writes there as much as a store may need at once, and takes it away. 0: that went
 * well; otherwise how it failed. Blocks on the disk. */
int store_probe(const char *path);

/* --- writing: one thread ---------------------------------------------------------------- */

/* A write that fails undoes the whole transaction at once. Further writes and the commit repeat
 * its error, so the commit's answer alone tells how the transaction ended; then comes the next
 * begin. -EINVAL: an argument beyond its limits, or a call outside of a transaction.
 *
 * -ENOSPC on disk: refused are changes that make the content grow while only a reserve is left.
 * Sessions that are there can still be updated and deleted, in transactions small enough.
 *
 * begin after a failed commit makes sure that nothing of it remains, opens the file anew and gives
 * -EIO until all that succeeds. Reads see the last committed state meanwhile or give -EIO, and
 * wait while it goes on. */
int store_begin(struct store *store);

/* Whether the files are still those that were opened, as begin looks too: 0 or -ESTALE. Once they
 * are back under their names (moved, not copied), all is well again. Touches the disk. */
int store_look(struct store *store);

int store_put_session(struct store *store, const char *user, const struct session_record *record);
int store_delete_session(struct store *store, const char *user); /* -ENOENT is not an error here */
int store_append_event(struct store *store, struct presence_event *event); /* sets event->seq */

/* How far that reader of the presence stream has come, for its next start; a later one replaces it,
 * a lower seq too. Takes no space to speak of, so it fits where an update of a session does. */
int store_put_cursor(struct store *store, const char *reader, uint64_t seq);

/* Copies the record behind the others of its ring, whose oldest are dropped when there are too many
 * or they are too old. It gives way to everything else: without room for it the record is left out,
 * and the transaction is what it was. 1: it is stored with the commit; 0: there is no room, or none
 * is to be kept; the others as above. */
int store_append_history(struct store *store, enum history_ring ring,
                         const struct history_record *record);

/* The log of stored messages: numbered values, oldest first. What is in them is the caller's
 * (storage/log_entry.h); to the store they are bytes under a checksum. Those of up to
 * STORE_LOG_VALUE_BYTES share pages; a larger one has pages of its own, and is dearer.
 *
 * Appending copies the value, one byte at least, and gives its number; they rise by 1, also over
 * restarts, and those of an aborted transaction are free again. It gives way to sessions: the log
 * takes half of the map at most and leaves what they need to go on. 1: it is stored with the
 * commit; 0: there is no room, and the transaction is what it was; the others as above.
 *
 * Any value may be dropped, and one that is not there (no error) too. It takes no space of its own,
 * so it fits where the delete of a session does. */
int store_append_log(struct store *store, struct bytes value, uint64_t *number);
int store_drop_log(struct store *store, uint64_t number);

/* The same as the former, but an eighth of the log's part is left to that: what makes room in a log
 * needs some, and a log without would never be less full. */
int store_append_log_sparing(struct store *store, struct bytes value, uint64_t *number);

/* The saved inboxes are written by an orderly stop and dropped by the start that has read them.
 * Messages are put in order of seq. Dropping takes no space of its own. What is put copies its
 * bytes; a second put under the same user or seq replaces the first. */
int store_put_inbox(struct store *store, const char *user, const struct saved_inbox *inbox);
int store_put_message(struct store *store, const char *user, const struct saved_message *message);
int store_drop_inboxes(struct store *store);

/* Synced to the disk when it returns 0, with `epoch_last` as the new highest epoch (never
 * lowered). On any error the whole transaction is undone and the seqs that it gave are free. */
int store_commit(struct store *store, uint64_t epoch_last);
void store_abort(struct store *store);

/* Between transactions: gives back memory that only makes reading faster, some microseconds. Those
 * who read meanwhile are not disturbed. Does not block on the disk. */
void store_rest(struct store *store);

/* --- reading: any thread ---------------------------------------------------------------- */

int store_position(struct store *store, struct store_position *position);

/* 0, -ENOENT, -EUCLEAN. */
int store_get_session(struct store *store, const char *user, struct session_record *record);

/* Calls `each` for the names in their order, with NULL for who has no session, until it returns
 * false. One consistent state, that of *presence_last. */
typedef bool store_session_each(void *context, const char *user,
                                const struct session_record *record);
int store_look_up(struct store *store, const char *const *users, size_t count,
                  store_session_each *each, void *context, uint64_t *presence_last);

/* Calls `each` in byte order of the names for those that begin with `prefix` and come after
 * `after` (both may be ""), until `limit` or until it returns false. One consistent state, that
 * of *presence_last. *more tells whether names are left. `each` must not call the store. The names
 * rise, or -EUCLEAN. */
int store_list_sessions(struct store *store, const char *prefix, const char *after, size_t limit,
                        store_session_each *each, void *context, uint64_t *presence_last,
                        bool *more);

/* The events after `after`, oldest first, until `limit` or until `each` returns false.
 * *position is of the same state, so after + 1 < presence_first means that some are gone. */
typedef bool store_event_each(void *context, const struct presence_event *event);
int store_read_events(struct store *store, uint64_t after, size_t limit, store_event_each *each,
                      void *context, struct store_position *position);

/* What was put last for that reader. 0; -ENOENT: nothing yet; -EUCLEAN. */
int store_get_cursor(struct store *store, const char *reader, uint64_t *seq);

/* Those of the query until `each` returns false, which must not call the store. Looks at a bounded
 * number of records in one state; *page says where to go on, and a page may have none. 0,
 * -EUCLEAN. */
typedef bool store_history_each(void *context, const struct history_record *record);
int store_read_history(struct store *store, const struct history_query *query,
                       store_history_each *each, void *context, struct history_page *page);

/* The values of the log until `each` returns false, which must not call the store: from the number
 * `from` on in their order; or those of `numbers`, in that order, without those that are not there.
 * One state; a value is valid during the call, and its data is NULL when it is damaged, which is no
 * error. 0, -EUCLEAN: the log itself is damaged. */
typedef bool store_log_each(void *context, uint64_t number, struct bytes value);
int store_read_log(struct store *store, uint64_t from, store_log_each *each, void *context);
int store_get_log(struct store *store, const uint64_t *numbers, size_t count, store_log_each *each,
                  void *context);

/* The saved inbox of the user, and its messages in order of seq until `each` returns false. name
 * and payload are valid during the call. 0, -ENOENT when none was saved, -EUCLEAN. */
typedef bool store_message_each(void *context, const struct saved_message *message);
int store_read_inbox(struct store *store, const char *user, struct saved_inbox *inbox,
                     store_message_each *each, void *context);

/* --- faults, memory store only: for tests and the simulation ----------------------------- */

/* The next commits fail with `error` (-ENOSPC, -EIO); 0 heals. */
void store_memory_fail(struct store *store, int error);

/* A crash: an open transaction is gone, everything committed stays. */
void store_memory_crash(struct store *store);

/* Power is lost in the middle of the next commit that would have succeeded: what it wrote is there
 * afterwards (`kept`) or is not, and from then on every call fails with -EIO until
 * store_memory_crash: that commit, begin and all reads. A crash that comes first takes it back. */
void store_memory_cut(struct store *store, bool kept);
bool store_memory_is_cut(const struct store *store); /* it has happened */

/* How much the values of the log may have together, of those that come; UINT64_MAX: no bound, as at
 * the start. And a value of it that reads as damaged from now on, if it is there. */
void store_memory_bound_log(struct store *store, uint64_t bytes_max);
void store_memory_damage_log(struct store *store, uint64_t number);

#endif
