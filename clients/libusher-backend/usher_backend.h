/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BACKEND_H
#define USHER_BACKEND_H

/* libusher-backend: a service behind usher, in C.
 *
 * One struct usher_backend is one instance of one service. It registers itself with the node,
 * receives the calls of users, replies, pushes and follows presence. Connections, cursors,
 * retries and redials are its own business: calls arrive in order, once per link, and a command
 * takes effect at most once. docs/backend.md shows how to write a service.
 *
 * Threads: usher_backend_run belongs to one thread at a time and makes every callback there; a
 * callback may use any function here but usher_backend_run and usher_backend_close. Commands
 * (reply, push, kick, ...), queries and usher_backend_stop may come from any thread. Nothing here
 * may be used in a child after fork.
 *
 * Texts are UTF-8 and end with NUL. What a callback receives is borrowed for that call. Errors
 * are negative errno. The library ends the program (abort, with a line on stderr) only when its own
 * memory is no longer what it made it, or would be freed by a close while it runs. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct usher_backend;

/* Names one call for its reply. Copy it freely; keep it as long as you like. */
struct usher_backend_call_id {
    uint64_t link; /* counts the links of this instance: a reply to an earlier one is dropped */
    uint64_t call; /* 0: one way, no reply is wanted */
};

/* A user called the service. */
struct usher_backend_call {
    struct usher_backend_call_id id;
    const char *user;
    uint64_t epoch; /* of the login that called */
    const char *method;
    const void *payload;
    size_t payload_size;
    uint32_t timeout_ms;     /* what is left of the user's patience */
    bool redelivered;        /* another instance may have seen this call before */
    const char *traceparent; /* of W3C Trace Context, as the caller gave it; "": he gave none */
};

/* Somebody wants to log in, and the node has auth.mode service: usher_backend_reply with status 0,
 * or usher_backend_admit, lets him in, any other status refuses him. The payload of a yes is empty
 * or the username; with an empty `user` it must name him. Without a reply he is told to try later.
 */
struct usher_backend_login {
    struct usher_backend_call_id id;
    const char *user; /* whom he says to be; may be empty */
    const void *token;
    size_t token_size;
    const char *address;
    const char *client;
    uint32_t timeout_ms; /* what is left of auth.deadline_ms */
    bool redelivered;    /* another instance may have seen it before */
};

/* --- rooms: a service hears of those whose class names it as owner ------- */

/* May this user make that room (and be its first member), or be in it? usher_backend_reply with
 * status 0 is yes; with any other it is no, and its payload, if it is text, tells the user why.
 * Without a reply he is not let in. */
struct usher_backend_room_ask {
    struct usher_backend_call_id id;
    const char *room;
    const char *user;
    uint64_t epoch;
    bool creates;        /* the room is not there yet */
    uint32_t timeout_ms; /* what is left of rooms.ask_ms */
    bool redelivered;    /* another instance may have seen it before */
};

enum usher_backend_room_kind {
    USHER_BACKEND_ROOM_OPENED = 1,
    USHER_BACKEND_ROOM_CLOSED = 2,
    USHER_BACKEND_ROOM_JOINED = 3,
    USHER_BACKEND_ROOM_AWAY = 4, /* his connection is lost; he may come back */
    USHER_BACKEND_ROOM_BACK = 5,
    USHER_BACKEND_ROOM_LEFT = 6,
    USHER_BACKEND_ROOM_MESSAGE = 7, /* of classes that say follow=messages */
};

/* What has happened in a room, in order, each once; after a failover some may come again,
 * `redelivered`, so what is done of them is known by (room, incarnation, news_seq). A gap of
 * news_seq: something is missing, and USHER_BACKEND_ROOM_MEMBERS says how it is now. */
struct usher_backend_room_news {
    const char *room;
    uint64_t incarnation; /* of the life of the room; greater than those before */
    uint64_t news_seq;    /* from 1 in each incarnation */
    unsigned kind;        /* enum usher_backend_room_kind; others may be added */
    const char *user;     /* ""; of a MESSAGE: a service has published it */
    uint64_t epoch;
    unsigned cause;  /* see usher_backend_room_cause_name */
    uint64_t offset; /* MESSAGE: its own; otherwise of the newest one */
    const void *payload;
    size_t payload_size;
    const char *service; /* MESSAGE: that published it */
    uint64_t time_ms;
    bool redelivered;
};

struct usher_backend_room {
    const char *name;
    uint64_t incarnation;
    uint64_t offset; /* of the newest message */
    uint32_t members;
    uint32_t away;          /* of them */
    const char *room_class; /* its pattern */
    const char *owner;
    uint32_t history_messages;
    uint64_t history_bytes;
    uint64_t deliveries; /* since it was opened: messages times members */
    uint64_t opened_ms;
};

struct usher_backend_room_member {
    const char *user;
    uint64_t epoch;
    bool away;
    bool carry; /* it goes with him to his next login */
};

/* --- friends ------------------------------------------------------------- */

/* This user wants to watch others, and the node has friends.mode service: which of them may he?
 * usher_backend_grant names them; usher_backend_reply with any status but 0 means none of them.
 * Without a reply he watches nobody by it. */
struct usher_backend_watch_ask {
    struct usher_backend_call_id id;
    const char *user;
    uint64_t epoch;
    const char *const *targets;
    size_t target_count;
    uint32_t timeout_ms; /* what is left of friends.ask_ms */
    bool redelivered;    /* another instance may have seen it before */
};

/* --- stored messages ----------------------------------------------------- */

/* Something was stored for a user who has no session: the hook for what tells him elsewhere. Only
 * to the service that inbox.notify_service of the node names; at most once for each message. */
struct usher_backend_stored_notice {
    const char *user;
    uint64_t mid;
    const char *from;    /* the user who sent it, or "" */
    const char *service; /* the service that pushed it, or "" */
    uint32_t payload_bytes;
    uint64_t time_ms;
    uint32_t count; /* stored for that user, this one too */
};

/* One that its receiver has not processed yet. */
struct usher_backend_stored {
    uint64_t mid;
    const char *from, *service;
    uint32_t payload_bytes;
    uint64_t time_ms;
    uint64_t expires_ms;
};

enum usher_backend_kind {
    USHER_BACKEND_ONLINE = 1,
    USHER_BACKEND_DETACHED = 2, /* connection lost; may resume until until_ms */
    USHER_BACKEND_RESUMED = 3,
    USHER_BACKEND_OFFLINE = 4,
};

/* One change of one user. */
struct usher_backend_event {
    uint64_t seq; /* rises by one from event to event of a node */
    uint64_t time_ms;
    const char *user;
    unsigned kind; /* enum usher_backend_kind; others may be added */
    uint64_t epoch;
    uint64_t previous_epoch; /* not 0: this login took over from that one, which is closed */
    unsigned cause;          /* see usher_backend_cause_name */
    uint64_t until_ms;       /* DETACHED: offline then, Unix time */
    const char *address;
    const char *client;
};

enum usher_backend_session_state {
    USHER_BACKEND_SESSION_ONLINE = 1,
    USHER_BACKEND_SESSION_DETACHED = 2,
    USHER_BACKEND_SESSION_GONE = 3, /* lookups only: nobody by that name */
};

struct usher_backend_session {
    const char *user;
    unsigned state; /* enum usher_backend_session_state */
    uint64_t epoch;
    const char *node;
    uint64_t since_ms;
    const char *address;
    const char *client;
    uint32_t inbox_messages;
    const char *transport; /* "tcp", "tls", "ws", "wss": of the connection, or the last one; "" when
                            * the node does not know */
};

/* How a command ended. All but the last two are the node's own words. */
enum usher_backend_code {
    USHER_BACKEND_OK = 0,
    USHER_BACKEND_NOT_ONLINE = 1,
    USHER_BACKEND_STALE_EPOCH = 2,
    USHER_BACKEND_GONE = 3,
    USHER_BACKEND_INBOX_FULL = 4,
    USHER_BACKEND_TOO_LARGE = 5,
    USHER_BACKEND_MALFORMED = 6,
    USHER_BACKEND_UNAVAILABLE = 7,
    USHER_BACKEND_FORBIDDEN = 8, /* the token is missing or wrong */
    USHER_BACKEND_NO_ROOM = 9,   /* or no class for one of that name */
    USHER_BACKEND_ROOM_FULL = 10,
    USHER_BACKEND_NOT_MEMBER = 11,
    USHER_BACKEND_RATE_LIMITED = 12,
    USHER_BACKEND_FULL = 13,        /* a limit of users, rooms or targets is reached */
    USHER_BACKEND_LOST = 100,       /* the link broke before the answer: done once or not at all */
    USHER_BACKEND_NOT_STORED = 101, /* of push_stored: the node is of a version that stores none,
                                     * and took it for a push like any other */
};

struct usher_backend_failure {
    const char *user;
    unsigned code; /* enum usher_backend_code */
};

struct usher_backend_result {
    unsigned code;     /* enum usher_backend_code */
    uint32_t accepted; /* pushes: how many inboxes took it; transient: to how many it went; of
                        * inbox_drop: how many were dropped */
    const struct usher_backend_failure *failures;
    size_t failure_count; /* pushes: who did not get it, as far as the answer had room; of
                           * watch_list: who is not watched */
    uint32_t dropped;     /* transient pushes: to how many it did not go, who are no failures */
    const struct usher_backend_room *room; /* of room_open and room_publish, with the offset of the
                                            * message; else NULL */
    uint64_t mid;                          /* of push_stored */
};

enum usher_backend_state {
    USHER_BACKEND_LINKED,
    USHER_BACKEND_LINK_LOST, /* it is being tried again; commands wait in the queue */
};

/* Every member may be NULL. */
struct usher_backend_callbacks {
    void (*on_call)(void *context, const struct usher_backend_call *call);

    /* One change, in order, each once. */
    void (*on_presence)(void *context, const struct usher_backend_event *event);
    /* The picture begins anew (first link, or events were missed): forget all users. */
    void (*on_presence_reset)(void *context);
    /* After a reset: one user of the new picture. Without this callback no picture is taken. */
    void (*on_presence_snapshot)(void *context, const struct usher_backend_session *session);
    /* The picture is whole; changes follow. */
    void (*on_presence_current)(void *context);

    /* Of every command that was given a token other than 0. */
    void (*on_result)(void *context, uint64_t token, const struct usher_backend_result *result);
    /* No new users will come; finish what is here. `node_stops`: the node itself goes away. */
    void (*on_drain)(void *context, bool node_stops, const char *detail);
    /* `text` is one line for a log. */
    void (*on_state)(void *context, enum usher_backend_state state, const char *text);
    /* Without this callback nobody is let in by this instance. */
    void (*on_login)(void *context, const struct usher_backend_login *login);
    /* Without this callback nobody is let in where the owner is asked. */
    void (*on_room_ask)(void *context, const struct usher_backend_room_ask *ask);
    /* Acknowledged when it returns. */
    void (*on_room_news)(void *context, const struct usher_backend_room_news *news);
    /* Without this callback this instance lets nobody watch anybody. */
    void (*on_watch_ask)(void *context, const struct usher_backend_watch_ask *ask);
    /* Acknowledged when it returns. */
    void (*on_stored_notice)(void *context, const struct usher_backend_stored_notice *notice);
};

enum { USHER_BACKEND_URLS_MAX = 8 };

/* Zeroed memory is a good start; only the URLs are necessary. */
struct usher_backend_options {
    /* Addresses of one node, tried in turn: ipc://PATH, tcp://HOST:PORT, with nothing else in them
     * (usher_backend_open gives -EINVAL). All addresses of a HOST
     * are tried; a name is looked up by usher_backend_run and by the queries, when they connect. */
    const char *const *urls;
    size_t url_count;
    const char *service;  /* NULL: only observes (presence, queries, push, kick) */
    const char *instance; /* unique within the service and stable over restarts; NULL: host-pid */
    const void *token;    /* what the node wants to see, if anything */
    size_t token_size;
    bool presence;             /* follow presence */
    uint64_t presence_after;   /* the last event processed in an earlier life; 0: none */
    uint32_t wait_ms;          /* longest wait of one fetch; 0: as the node likes */
    size_t queue_commands_max; /* commands that wait for the node; 0: 4096 */
    size_t queue_bytes_max;    /* their bytes; 0: 4 MiB */
    struct usher_backend_callbacks callbacks;
    void *context; /* the first argument of each callback */
};

/* Copies the options; opens nothing on the network yet and does not block. Gives *backend, to be
 * given back by usher_backend_close. -EINVAL (no URL, too many, a bad one), -ENOMEM. */
int usher_backend_open(struct usher_backend **backend, const struct usher_backend_options *options);

/* Frees everything; commands still queued are lost. NULL is allowed. Blocks as long as a fetch
 * waits at the node (about wait_ms). Not while usher_backend_run runs. */
void usher_backend_close(struct usher_backend *backend);

/* Links and serves until usher_backend_stop: 0, after what was queued is submitted (at most two
 * seconds). -ETIMEDOUT: timeout_ms are over (negative: never); it may be called again. -EALREADY:
 * it runs, in another thread or around the callback that called this. -EACCES: the node refuses
 * this instance for good. -EINVAL: the node does not understand it. The last two have their reason
 * in usher_backend_error_text. A node that is not there is no error: it is tried again, and
 * on_state tells. */
int usher_backend_run(struct usher_backend *backend, int timeout_ms);

/* Ends usher_backend_run, also one that begins later. Any thread, and from a signal handler. */
void usher_backend_stop(struct usher_backend *backend);

/* One line on the last trouble with the link, or "". Valid until the next call on `backend` from
 * this thread; only for the thread that runs. */
const char *usher_backend_error_text(const struct usher_backend *backend);

/* --- Commands: queued, sent in batches, borrowed arguments are copied, never block.
 * 0, -EAGAIN (the queue is full: try again later), -EMSGSIZE (larger than one frame of the link),
 * -ENOMEM. `token` returns in on_result; 0: the result does not matter. */

/* Answers a call, at once or later. status 0 is success, others belong to the service. A call
 * without a reply (id.call 0) is ignored with 0. */
int usher_backend_reply(struct usher_backend *backend, struct usher_backend_call_id id,
                        uint32_t status, const void *payload, size_t payload_size);

/* Lets somebody in who wants to log in, as a reply of status 0 does. `user` names him; NULL: he is
 * who he says. The ticket is good until token_ends_ms, in Unix ms: with auth.session_ends his
 * session ends with it. 0: without end. */
int usher_backend_admit(struct usher_backend *backend, struct usher_backend_call_id id,
                        const char *user, uint64_t token_ends_ms);

/* The same, and `rooms` (names, or prefixes that end in *) are those that he may join where the
 * class says join=token, as the claim `rooms` of a token would say. */
int usher_backend_admit_rooms(struct usher_backend *backend, struct usher_backend_call_id id,
                              const char *user, uint64_t token_ends_ms, const char *const *rooms,
                              size_t room_count);

/* Sends a message to each of the users. epoch 0: whatever login they have; otherwise only that. */
int usher_backend_push(struct usher_backend *backend, const char *const *users, size_t user_count,
                       const void *payload, size_t payload_size, uint64_t epoch, uint64_t token);
int usher_backend_push_all(struct usher_backend *backend, const void *payload, size_t payload_size,
                           uint64_t token);

/* The same for what is worth something only now, as positions: it goes to those who are connected
 * and for whom nothing else waits, and is dropped for the others; nobody's inbox ever holds it. One
 * that has waited here for the node for more than a second is not sent, and ends as LOST. */
int usher_backend_push_transient(struct usher_backend *backend, const char *const *users,
                                 size_t user_count, const void *payload, size_t payload_size,
                                 uint64_t epoch, uint64_t token);
int usher_backend_push_all_transient(struct usher_backend *backend, const void *payload,
                                     size_t payload_size, uint64_t token);

/* All of the above in one, with a traceparent of W3C Trace Context, which the receivers' clients
 * are given beside the message and usherctl trace shows. NULL, or what is none: it goes without. */
struct usher_backend_message {
    const char *const *users;
    size_t user_count;
    bool to_all; /* in place of users and epoch */
    const void *payload;
    size_t payload_size;
    uint64_t epoch; /* 0: whatever login they have */
    bool transient;
    const char *traceparent;
    uint32_t keep_s; /* as in usher_backend_push_stored; 0: it is not stored */
    uint64_t tag;
};
int usher_backend_push_message(struct usher_backend *backend,
                               const struct usher_backend_message *message, uint64_t token);

/* Stores a message for each of the users, online or not: what the result counts as accepted is on
 * the node's disk, until its receiver has processed it or keep_s seconds are over. -EINVAL:
 * keep_s is 0. More than inbox.keep_max_s of the node is TOO_LARGE. `tag`, if not 0: for whom this
 * service has stored one under that tag within ten minutes, it is not stored again, and counts as
 * accepted; so what ended as LOST is pushed again with its tag. */
int usher_backend_push_stored(struct usher_backend *backend, const char *const *users,
                              size_t user_count, const void *payload, size_t payload_size,
                              uint32_t keep_s, uint64_t tag, uint64_t token);

/* Drops what is stored for a user, up to that mid. His next Welcome says so. */
int usher_backend_inbox_drop(struct usher_backend *backend, const char *user, uint64_t up_to_mid,
                             uint64_t token);

struct usher_backend_kick {
    const char *user;
    uint64_t epoch;     /* 0: any login */
    uint32_t reason;    /* a close reason of the client protocol; 0: kicked */
    const char *detail; /* for the user's client: what 120 bytes hold of it; may be NULL */
    uint32_t retry_after_ms;
    bool do_not_return;
};
int usher_backend_kick(struct usher_backend *backend, const struct usher_backend_kick *kick,
                       uint64_t token);

/* Makes a room, or finds it. room_class: the pattern of the class, where not the first that fits
 * the name is meant; or NULL. members_max 0: as the class says. */
int usher_backend_room_open(struct usher_backend *backend, const char *room, const char *room_class,
                            uint32_t members_max, uint64_t token);

/* Behind all that was published before. `detail` is for the members; may be NULL. */
int usher_backend_room_close(struct usher_backend *backend, const char *room, const char *detail,
                             uint64_t token);

/* Each of them is a member from then on, whatever the class says of joining; the result is that of
 * a push. */
struct usher_backend_room_add {
    const char *room;
    const char *const *users;
    size_t user_count;
    const uint64_t *epochs; /* one for each of them, 0: any login; NULL: any of all */
    bool carry;             /* the membership goes with the user to his next login */
};
int usher_backend_room_add(struct usher_backend *backend, const struct usher_backend_room_add *add,
                           uint64_t token);
int usher_backend_room_remove(struct usher_backend *backend, const char *room,
                              const char *const *users, size_t user_count, const char *detail,
                              uint64_t token);

/* To all members, in the one order of the room. */
int usher_backend_room_publish(struct usher_backend *backend, const char *room, const void *payload,
                               size_t payload_size, uint64_t token);

/* Whom a user watches, where the node has friends.mode backend. The result is that of a push, of
 * the targets: `accepted`, and a failure for each whose name is none, or who is watched by too
 * many. */
enum usher_backend_watch_mode {
    USHER_BACKEND_WATCH_SET = 0, /* these and no others */
    USHER_BACKEND_WATCH_ADD = 1,
    USHER_BACKEND_WATCH_REMOVE = 2, /* when it is answered, he is told nothing more of them */
};
struct usher_backend_watch_list {
    const char *user;
    uint64_t epoch; /* 0: any login */
    enum usher_backend_watch_mode mode;
    const char *const *targets;
    size_t target_count;
};
int usher_backend_watch_list(struct usher_backend *backend,
                             const struct usher_backend_watch_list *list, uint64_t token);

/* Answers a usher_backend_watch_ask, at once or later: he may watch these of those he asked for. */
int usher_backend_grant(struct usher_backend *backend, struct usher_backend_call_id id,
                        const char *const *targets, size_t target_count);

/* Asks for no new users from now on. */
int usher_backend_drain(struct usher_backend *backend, uint64_t token);

/* --- Queries: block until the answer, need no link and no usher_backend_run. --- */

enum usher_backend_query_kind {
    USHER_BACKEND_LOOKUP,   /* users -> sessions, GONE for who is not there */
    USHER_BACKEND_LIST,     /* prefix, after_user, limit -> sessions in order of name */
    USHER_BACKEND_SNAPSHOT, /* after_user, limit -> sessions and seq, true for that seq */
    USHER_BACKEND_EVENTS,   /* after_seq, limit -> events, seq, reset */
    USHER_BACKEND_COUNT,    /* -> numbers */
    USHER_BACKEND_STATS,    /* -> numbers */
    /* For operators; TRACE_START to UPGRADE_NODE change something, and send the token of the
     * options.
     */
    USHER_BACKEND_RECORDER,     /* user (or NULL), after_seq -> lines, seq, more */
    USHER_BACKEND_TRACE_READ,   /* user, after_seq -> lines, seq, more */
    USHER_BACKEND_TRACE_START,  /* user, seconds, one_in */
    USHER_BACKEND_TRACE_STOP,   /* user */
    USHER_BACKEND_RELOAD,       /* -> lines: what changed, or why nothing did (MALFORMED) */
    USHER_BACKEND_DRAIN_NODE,   /* seconds, or restart */
    USHER_BACKEND_UPGRADE_NODE, /* -> a line: see UpgradeNode in backend.proto */
    USHER_BACKEND_UPGRADE_LOOK, /* -> the same, and asks for nothing; needs the token too */
    USHER_BACKEND_ROOMS,        /* prefix, after_user (a room's name), limit -> rooms, more */
    USHER_BACKEND_ROOM_MEMBERS, /* room, after_user (`next` of the page before), limit -> members,
                                 * next, seq (the news that they are true for), incarnation, offset
                                 */
    USHER_BACKEND_HISTORY, /* user, limit -> history (newest first), seq (of all users: how many
                            * are kept), first_ms, more */
    USHER_BACKEND_INBOX,   /* user, mid (the last one of the page before), limit -> stored (oldest
                            * first), stored_count and stored_bytes (all that he has), more */
};

struct usher_backend_query {
    enum usher_backend_query_kind kind;
    const char *const *users;
    size_t user_count;
    const char *prefix;
    const char *after_user; /* the last name of the page before */
    uint64_t after_seq;
    uint32_t limit; /* 0: as many as fit */
    const char *user;
    uint32_t seconds, one_in; /* 0: the node's default */
    uint32_t timeout_ms;      /* 0: 3 seconds */
    bool restart;             /* the node is alone: it stops and begins again at once */
    const char *room;
    uint64_t mid;
};

/* What has happened to a user. Texts are of whoever said them: show them escaped. */
enum usher_backend_history_kind {
    USHER_BACKEND_HISTORY_ONLINE = 1,
    USHER_BACKEND_HISTORY_DETACHED = 2,
    USHER_BACKEND_HISTORY_RESUMED = 3,
    USHER_BACKEND_HISTORY_OFFLINE = 4,
    USHER_BACKEND_HISTORY_LOGIN_REFUSED = 5,
    USHER_BACKEND_HISTORY_RESUME_REFUSED = 6,
};

struct usher_backend_history {
    uint64_t time_ms;
    unsigned kind;  /* enum usher_backend_history_kind */
    unsigned cause; /* as of a presence event */
    uint64_t epoch; /* 0: of no session */
    const char *address;
    const char *client;
    const char *transport;
    const char *by;     /* who kicked him, or the other connection */
    const char *detail; /* "" where there is nothing to say, as the others */
    const char *limit;  /* the option whose limit it was */
    uint64_t bound;     /* its value then */
    uint64_t value;     /* what there was */
    uint64_t missing;   /* so many before this one, of whomever, could not be kept */
    uint32_t count;     /* refusals: so often */
    const char *text;   /* all of that in words, but for the time */
};

struct usher_backend_number {
    const char *name;
    uint64_t value;
};

struct usher_backend_answer {
    unsigned code; /* enum usher_backend_code */
    struct usher_backend_session *sessions;
    size_t session_count;
    struct usher_backend_event *events;
    size_t event_count;
    struct usher_backend_number *numbers;
    size_t number_count;
    const char *const *lines; /* a JSON object each */
    size_t line_count;
    uint64_t seq; /* sessions: the seq that they are true for; events: the newest of the node;
                   * lines: after_seq of the next page */
    bool more;    /* sessions, lines: there is a next page */
    bool reset;   /* events: those right after after_seq are no longer kept */
    struct usher_backend_room *rooms;
    size_t room_count;
    struct usher_backend_room_member *members;
    size_t member_count;
    const char *next;             /* members: after_user of the next page; "": this was the last */
    uint64_t incarnation, offset; /* members: of the room */
    struct usher_backend_history *history;
    size_t history_count;
    uint64_t first_ms; /* history: it goes back to then; 0: there is none */
    struct usher_backend_stored *stored;
    size_t stored_rows;
    uint32_t stored_count;
    uint64_t stored_bytes;
};

/* Gives *answer, to be given back by usher_backend_answer_free. -ETIMEDOUT (nobody answers),
 * -EACCES, -EBUSY or -EPROTO (refused), -EPERM (the socket's permissions keep us out), -EMSGSIZE,
 * -ENOMEM. */
int usher_backend_query(struct usher_backend *backend, const struct usher_backend_query *query,
                        struct usher_backend_answer **answer);
void usher_backend_answer_free(struct usher_backend_answer *answer);

/* --- Words and defaults. --- */

/* Lower-case words for logs and tables; never NULL. */
const char *usher_backend_kind_name(unsigned kind);
const char *usher_backend_history_kind_name(unsigned kind);
const char *usher_backend_cause_name(unsigned cause);
const char *usher_backend_room_kind_name(unsigned kind);
const char *usher_backend_room_cause_name(unsigned cause);
const char *usher_backend_state_name(unsigned session_state);
const char *usher_backend_code_name(unsigned code);

/* Where a node on this machine is likely to listen: $USHER_LINK, else the first socket found of
 * ./build/data/link.sock, ./usher-data/link.sock and /run/usher/link.sock, else the second of
 * these. */
const char *usher_backend_default_url(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
