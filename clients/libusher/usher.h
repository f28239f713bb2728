/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_H
#define USHER_H

/* libusher: a game client's side of an usher session.
 *
 * A client logs in under one name, sends to other users, calls backend services and receives
 * messages. When the connection is lost it comes back by itself and resumes the session, so that
 * the program sees a pause and not a loss.
 *
 * Threads: one client belongs to one thread at a time; different clients are independent. No
 * call blocks, except those whose name ends in _wait, usher_login, usher_client_wait, and the
 * name lookup at the start of a try: none if `host` is an address, otherwise as long as the
 * system's resolver takes (resolv.conf: by default 5 s for each name server, twice).
 *
 * Memory: the library copies what it is given. What an event points to is borrowed until the next
 * call that takes this client, except calls that only send.
 *
 * Errors: 0 or negative errno, and usher_client_error_text() for a person. Common to all
 * requests: -ENOTCONN (not started, or ended), -ENOBUFS (a limit of the options is reached: take
 * events, try again later), -EMSGSIZE (larger than the broker takes), -EINVAL, -ENOMEM. A failed
 * call changes nothing. The library ends the program (abort, with a line on stderr) only when its
 * own memory is no longer what it made it, or would be freed within its own token source.
 *
 * With an event loop of one's own:
 *
 *     usher_client_start(client);
 *     for (;;) {
 *         poll usher_client_fd() for reading, and for writing if usher_client_wants_write(),
 *             for at most usher_client_timeout_ms();
 *         usher_client_process(client);
 *         while (usher_client_next(client, &event) > 0)
 *             ...
 *     }
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define USHER_API __attribute__((visibility("default")))

struct usher_client;

/* --- options ---------------------------------------------------------------------------------- */

struct usher_options {
    const char *host;
    uint16_t port;
    const char *username;
    const void *token; /* any bytes; NULL for none */
    size_t token_size;
    const char *client; /* free text that operators see; NULL for none */

    bool acks;        /* acknowledge messages, so that undelivered ones are kept */
    bool manual_acks; /* by usher_ack alone; else each message once it was taken and left */
    bool reconnect;   /* come back after a loss */

    uint32_t connect_timeout_ms; /* from the first byte to Welcome; again for each address of host
                                    that takes the connection and says nothing */
    uint32_t request_timeout_ms; /* then a request without an answer fails */
    uint32_t backoff_min_ms;     /* the n-th pause is a random part of min * 2^n ... */
    uint32_t backoff_max_ms;     /* ... and of no more than this */

    uint32_t in_flight_max;    /* requests that wait for sending or for their answer */
    size_t outgoing_bytes_max; /* requests not yet handed to the socket; one always may be there */
    uint32_t events_max;       /* then reading pauses until events are taken */
    size_t event_bytes_max;    /* likewise */
    size_t incoming_frame_bytes_max; /* of one frame of the broker that is held; a larger message is
                                        passed over, and an ERROR says so in its place */

    /* Over TLS, to the port of the broker's listen.tls. Its certificate is always checked; NULL for
     * the texts means what stands in brackets. Files are PEM, and read by the first connection. */
    bool tls;
    const char *tls_ca_file;          /* who must have signed it (the system's authorities) */
    const char *tls_server_name;      /* the name that it must have (host) */
    const char *tls_certificate_file; /* what this client shows, if the broker asks (nothing) */
    const char *tls_key_file;         /* goes with it */

    /* Where the broker is, as one text in place of host, port and tls: tcp://HOST[:PORT] (7400),
     * tls://HOST[:PORT] (7443), ws://HOST[:PORT][/PATH] (80, /usher) or wss://HOST[:PORT][/PATH]
     * (443, /usher). NULL: what these say. With `tls` it must be tls or wss. */
    const char *url;

    /* The highest mid of a stored message that this program has processed, also in an earlier life:
     * what usher_last_mid said then. No stored message up to it comes again. 0: not known. */
    uint64_t last_mid;
};

/* Fills in the defaults: 127.0.0.1:7400, reconnecting, no acks. */
USHER_API void usher_options_init(struct usher_options *options);

/* --- events ----------------------------------------------------------------------------------- */

enum usher_event_type {
    USHER_WELCOME = 1, /* online: epoch, seq (the first to come), replay, resume_ms, time_ms,
                          stored, stored_messages */
    USHER_MESSAGE, /* seq, from or service, payload, redelivered, missed, time_ms, traceparent; mid
                      of one that is stored. One that is transient has seq 0 and is not acknowledged
                    */
    USHER_DONE,    /* positive answer: id, epoch (of the receiver; 0 with `dropped`, where it is
                      not known), dropped; to usher_publish: offset; to usher_send_stored: mid */
    USHER_REPLY,   /* a service's answer: id, code (its status, 0 is success), payload */
    USHER_ERROR,   /* negative answer: id, code (enum usher_error), detail, retry_after_ms.
                      With a seq it is no answer but stands for the message of that seq, which
                      is larger than incoming_frame_bytes_max: code USHER_ERROR_TOO_LARGE.
                      With a room, for one or more of its messages that are. Without an id: to
                      what the library asked by itself, or to what wanted no answer */
    USHER_PONG,    /* answer to usher_ping: id, time_ms */
    USHER_CLOSE,   /* the broker ends the connection: code (enum usher_close), detail,
                      retry_after_ms, do_not_return */
    USHER_DISCONNECTED, /* error (negative errno), will_retry, retry_after_ms */
    USHER_ROOM, /* how this client stands to a room from here on: room, room_state, detail; and
                   of one that it is in: id (of usher_join, or 0), room_replay, incarnation,
                   offset (of the newest message), members, tick_ms, changes (the roster) */
    USHER_ROOM_MESSAGE, /* room, incarnation, offset, from or service, payload, time_ms */
    USHER_ROOM_MEMBERS, /* room, members, changes: how it is now with these */
    USHER_FRIENDS,      /* friends, snapshot: they are how it is, the others are what has changed */
};

enum usher_replay {
    USHER_FRESH = 0,    /* a new session, a new epoch */
    USHER_COMPLETE = 1, /* resumed, nothing missing */
    USHER_PARTIAL = 2,  /* resumed, some messages are gone, or may be: the broker crashed */
};

enum usher_room_state {
    USHER_ROOM_JOINED = 0,  /* with each join and each resume, and whenever something was missed */
    USHER_ROOM_LEFT = 1,    /* as asked for */
    USHER_ROOM_REMOVED = 2, /* by a service, which says why in detail */
    USHER_ROOM_CLOSED = 3,  /* the room is no more */
    USHER_ROOM_LOST = -1,   /* said by this library: the session is a new one, and this room has not
                               been joined again; code and detail say why (0: a service had added
                               this user), retry_after_ms when it may be tried */
};

enum usher_room_replay {
    USHER_ROOM_NONE = 0,     /* the next message is the one behind `offset` */
    USHER_ROOM_COMPLETE = 1, /* the next one is the one behind the last that was given */
    USHER_ROOM_PARTIAL = 2,  /* some are gone: fetch the state that they made anew */
};

enum usher_presence {
    USHER_PRESENCE_JOINED = 0,
    USHER_PRESENCE_AWAY = 1, /* without a connection */
    USHER_PRESENCE_BACK = 2,
    USHER_PRESENCE_LEFT = 3,
};

struct usher_room_change {
    const char *user;
    enum usher_presence presence;
};

enum usher_friend_state {
    USHER_FRIEND_OFFLINE = 0,
    USHER_FRIEND_ONLINE = 1,
    USHER_FRIEND_AWAY = 2, /* without a connection, and expected back; if the broker shows it */
};

struct usher_friend {
    const char *user;
    enum usher_friend_state state;
    uint64_t since_ms;  /* Unix time; 0: not known */
    const void *status; /* what he says of himself; NULL when status_size is 0 */
    size_t status_size;
};

enum usher_error {
    USHER_ERROR_PROTOCOL = 1,
    USHER_ERROR_UNAUTHENTICATED = 2,
    USHER_ERROR_FORBIDDEN = 3,
    USHER_ERROR_INVALID_NAME = 4,
    USHER_ERROR_NOT_ONLINE = 5,
    USHER_ERROR_INBOX_FULL = 6,
    USHER_ERROR_BUSY = 7,
    USHER_ERROR_NO_SERVICE = 8,
    USHER_ERROR_TIMEOUT = 9,
    USHER_ERROR_SERVICE_LOST = 10,
    USHER_ERROR_TOO_LARGE = 11,
    USHER_ERROR_RATE_LIMITED = 12,
    USHER_ERROR_UNAVAILABLE = 13,
    USHER_ERROR_UNDELIVERED = 14,
    USHER_ERROR_RESUME_REJECTED = 15,
    USHER_ERROR_DRAINING = 16,
    USHER_ERROR_INTERNAL = 17,
    USHER_ERROR_NO_ROOM = 18,
    USHER_ERROR_ROOM_FULL = 19,
    USHER_ERROR_NOT_MEMBER = 20,
    /* Said by this library, not by the broker: */
    USHER_ERROR_NOT_SENT = -1,   /* certainly not carried out */
    USHER_ERROR_NO_ANSWER = -2,  /* carried out or not, nobody will tell */
    USHER_ERROR_NOT_STORED = -3, /* carried out, but as a message that is not stored: the broker is
                                    older than those */
};

enum usher_close {
    USHER_CLOSE_REPLACED = 1,
    USHER_CLOSE_KICKED = 2,
    USHER_CLOSE_PROTOCOL_ERROR = 3,
    USHER_CLOSE_AUTH_FAILED = 4,
    USHER_CLOSE_AUTH_TIMEOUT = 5,
    USHER_CLOSE_HEARTBEAT_TIMEOUT = 6,
    USHER_CLOSE_SLOW_CONSUMER = 7,
    USHER_CLOSE_RATE_LIMITED = 8,
    USHER_CLOSE_DRAINING = 9,
    USHER_CLOSE_SHUTDOWN = 10,
    USHER_CLOSE_LOGGED_OUT = 11,
    USHER_CLOSE_OVERLOADED = 12,
    USHER_CLOSE_INTERNAL = 13,
    USHER_CLOSE_STALE_SESSION = 14,
    USHER_CLOSE_TOKEN_EXPIRED = 15, /* the session has ended; the client logs in anew */
};

/* Fields that an event does not name above are zero, texts are empty and never NULL. Texts and
 * payloads come from other people: nothing is promised of what they hold. */
struct usher_event {
    enum usher_event_type type;
    uint64_t id;    /* of the request answered, or 0 */
    uint64_t epoch; /* of this session, in WELCOME and MESSAGE; of the receiver, in DONE */
    uint64_t seq;
    uint64_t time_ms; /* Unix time, for people */
    uint64_t missed;  /* messages that are missing right before this one */
    int64_t code;
    enum usher_replay replay;
    uint32_t retry_after_ms;
    uint32_t heartbeat_ms;
    uint32_t resume_ms;
    uint32_t frame_bytes_max;
    int error;
    bool redelivered;
    bool do_not_return;
    bool will_retry;
    bool transient; /* MESSAGE: it would not have waited, and nothing says that more came before */
    bool dropped;   /* DONE to a transient message: it did not go */
    const char *from;
    const char *service;
    const char *detail;
    const char *node;
    const void *payload; /* NULL when payload_size is 0 */
    size_t payload_size;
    const char *room;
    enum usher_room_state room_state;
    enum usher_room_replay room_replay;
    uint64_t incarnation; /* of the room: one that is made anew has a greater one */
    uint64_t offset;      /* of a message in its room, in this incarnation */
    uint32_t members;
    uint32_t tick_ms; /* messages leave together, once in so long; 0: at once */
    bool snapshot;
    const struct usher_room_change *changes; /* NULL when change_count is 0 */
    size_t change_count;
    const struct usher_friend *friends; /* NULL when friend_count is 0 */
    size_t friend_count;
    uint64_t mid;             /* of a stored message; rises for each user, over all his sessions */
    enum usher_replay stored; /* WELCOME: COMPLETE, or PARTIAL: of what was stored for this user
                                 some expired before he came, or an operator dropped it. FRESH:
                                 nothing is or was, or the broker is older than stored messages */
    uint32_t stored_messages; /* WELCOME: so many wait on the broker's disk, and follow */
    const char *traceparent;  /* MESSAGE: of W3C Trace Context, as whoever sent it gave it */
};

/* "NOT_ONLINE", "REPLACED", "MESSAGE"; "UNKNOWN" for a number that this version does not know.
 * Never fails, any thread. */
USHER_API const char *usher_error_name(int64_t code);
USHER_API const char *usher_close_name(int64_t reason);
USHER_API const char *usher_event_name(enum usher_event_type type);

/* --- life ------------------------------------------------------------------------------------- */

enum usher_state {
    USHER_STATE_IDLE,       /* not started */
    USHER_STATE_CONNECTING, /* the connection is being made */
    USHER_STATE_GREETING,   /* Login or Resume is under way */
    USHER_STATE_ONLINE,
    USHER_STATE_WAITING, /* lost, will try again */
    USHER_STATE_ENDED,   /* over: only what is queued can still be taken */
};

/* Gives a client in *client; the options are copied. -EINVAL (a name or a limit is missing, or the
 * URL is none), -ENOMEM. */
USHER_API int usher_client_create(const struct usher_options *options,
                                  struct usher_client **client);

/* What is wrong with a text that is to be options.url, in words for who wrote it: no host, a port
 * that is none, a user's name, a fragment. NULL: nothing. Any thread; lasts forever. */
USHER_API const char *usher_url_fault(const char *url);

/* For tokens that live shorter than the program: asks for the token of each Login anew, in place of
 * the one in the options. There is a Login at the start, and when a session could not be resumed,
 * or has ended with its token. Called on the client's thread, within the calls that connect; it
 * uses no call that takes this client, and is quick, for the broker waits
 * (limits.login_deadline_ms).
 *
 * 0, with a token that stays where it is until the client asks again or is destroyed; -EAGAIN:
 * there is none now, so this try is given up and the next one asks again (DISCONNECTED with
 * -EAGAIN; usher_login gives it back); another negative errno: there will be none, and the client
 * ends with it. A refused token (UNAUTHENTICATED) is asked for once more; refused again, the client
 * ends. */
struct usher_token {
    const void *data;
    size_t size;
};
typedef int usher_token_source(void *context, struct usher_token *token);

/* Before the client is started. NULL: the token of the options again. -EALREADY while under way. */
USHER_API int usher_client_set_token_source(struct usher_client *client, usher_token_source *source,
                                            void *context);

/* Closes the connection and frees everything, borrowed events too. The session stays with the
 * broker for its resume window; usher_logout ends it at once. NULL is fine. */
USHER_API void usher_client_destroy(struct usher_client *client);

/* Begins to connect; the outcome comes as WELCOME or DISCONNECTED. -EALREADY when under way. A
 * client that has ended can be started again; events not yet taken are then forgotten. */
USHER_API int usher_client_start(struct usher_client *client);

/* Closes the connection and tries no more. Requests without an answer fail as events. */
USHER_API void usher_client_stop(struct usher_client *client);

/* Starts and waits for WELCOME, which it gives in *event (may be NULL). Tries once: on a failure
 * the client has ended. -EACCES (refused: *event is the ERROR or CLOSE if there was one),
 * -ETIMEDOUT, -ECONNREFUSED and whatever else connecting can say. */
USHER_API int usher_login(struct usher_client *client, int timeout_ms, struct usher_event *event);

USHER_API enum usher_state usher_client_state(const struct usher_client *client);

/* What went wrong last and what to do about it: one line, empty if nothing did. Borrowed until
 * the next call. */
USHER_API const char *usher_client_error_text(const struct usher_client *client);

/* --- event loop ------------------------------------------------------------------------------- */

/* What to wait for, or -1 while there is nothing. It may be another one after each call: while the
 * addresses of the host are tried it is a set of sockets, later the one. */
USHER_API int usher_client_fd(const struct usher_client *client);
USHER_API bool usher_client_wants_write(const struct usher_client *client);

/* When to call usher_client_process even if the socket is quiet: 0 now, -1 never. */
USHER_API int usher_client_timeout_ms(const struct usher_client *client);

/* Does all that is possible without blocking: connects, reads, writes, keeps the heartbeat. A
 * lost connection is an event, not an error of this call. -ENOTCONN when idle or ended. */
USHER_API int usher_client_process(struct usher_client *client);

/* Gives the next event in *event: 1, or 0 when there is none. Leaves the event given before: a
 * message left (or the word of one that was too large) is a message processed, and is acknowledged
 * if `acks` is set. */
USHER_API int usher_client_next(struct usher_client *client, struct usher_event *event);

/* Leaves the event given last, as the next usher_client_next would, without taking another. */
USHER_API void usher_client_leave(struct usher_client *client);

/* Process and next, blocking: 1 with an event, 0 after timeout_ms (negative: no limit),
 * -ENOTCONN when idle or ended and nothing is left to take. */
USHER_API int usher_client_wait(struct usher_client *client, int timeout_ms,
                                struct usher_event *event);

/* --- requests --------------------------------------------------------------------------------- */

/* All may be called while the connection is away: they are sent after the next Welcome. Each
 * gives its id in *id (may be NULL), and exactly one DONE, REPLY, ERROR or PONG bears it. A
 * request that a lost connection leaves without an answer waits for it when the session is
 * resumed, and fails with USHER_ERROR_NO_ANSWER when it is not: nothing is sent twice. */

enum usher_until {
    USHER_ACCEPTED = 0,  /* DONE when the receiver's inbox took it */
    USHER_DELIVERED = 1, /* DONE when the receiver acknowledged it */
    USHER_TRANSIENT = 2, /* now or never: DONE at once, and `dropped` says if it did not go */
};

/* A transient message is for what is worth something only now, as a position: it goes to a receiver
 * who is connected and for whom nothing else waits, else it is dropped. -EAGAIN when it would have
 * to wait on this side: the connection is away, or has not sent yet what it was given before. What
 * a lost connection keeps it from sending fails with USHER_ERROR_NOT_SENT. */

USHER_API int usher_send(struct usher_client *client, const char *to, const void *payload,
                         size_t payload_size, enum usher_until until, uint64_t *id);

/* A stored message is on the broker's disk when DONE comes, with its mid, and stays there until its
 * receiver has processed it or keep_s seconds are over. No crash takes it away, of the broker or of
 * either side, and the receiver's library gives it once: see usher_last_mid. Whether it may be for
 * somebody without a session is the broker's to say (NOT_ONLINE). keep_s 0 is -EINVAL, more than
 * the broker's inbox.keep_max_s is TOO_LARGE. `tag`, if not 0: a second one from this user to that
 * one under that tag within ten minutes is not stored, and its DONE bears the mid of the first. So
 * what ended with NO_ANSWER is sent again with its tag. NOT_STORED: the broker is older, and took
 * it for a message like any other. */
USHER_API int usher_send_stored(struct usher_client *client, const char *to, const void *payload,
                                size_t payload_size, uint32_t keep_s, uint64_t tag, uint64_t *id);
/* timeout_ms 0: the broker's default. */
USHER_API int usher_call(struct usher_client *client, const char *service, const char *method,
                         const void *payload, size_t payload_size, uint32_t timeout_ms,
                         uint64_t *id);
USHER_API int usher_ping(struct usher_client *client, uint64_t *id);

/* A traceparent of W3C Trace Context ("00-" 32 digits "-" 16 digits "-01") that goes with each send
 * and call from now on, so that a service sees it beside the call, the receiver beside the message,
 * and usherctl trace shows it. NULL: none. -EINVAL: it is no traceparent, and none goes with them.
 */
USHER_API int usher_set_traceparent(struct usher_client *client, const char *traceparent);

/* Ends the session: DONE, then CLOSE(LOGGED_OUT), then DISCONNECTED for good. */
USHER_API int usher_logout(struct usher_client *client, uint64_t *id);

/* --- rooms and friends ------------------------------------------------------------------------ */

/* The library keeps which rooms this client is in and how far their messages have come. After a
 * lost connection it says so by itself, and each room comes as an event ROOM: COMPLETE with what
 * was missed behind it, or PARTIAL, or that it is over. After WELCOME with FRESH it joins those
 * that the program joined again, behind the last message that came: JOINED says what came of it, or
 * LOST. A refusal for the moment, as BUSY and RATE_LIMITED, is neither: it asks once more later.
 * Messages of a room come in order and without a gap but where a ROOM says so; a broker that breaks
 * that is none, and the connection ends. */

/* Answered by ROOM or ERROR; asked again over each new connection until it is answered. -EALREADY
 * while it is under way. */
USHER_API int usher_join(struct usher_client *client, const char *room, uint64_t *id);

/* The same, and what the room still has behind that message first, as far as it goes back;
 * incarnation 0: from the oldest that it has. */
USHER_API int usher_join_behind(struct usher_client *client, const char *room, uint64_t incarnation,
                                uint64_t offset, uint64_t *id);

/* DONE, and then ROOM with LEFT. -ENOENT: this client is not in it, as far as it knows. */
USHER_API int usher_leave(struct usher_client *client, const char *room, uint64_t *id);

/* To all members of the room, this client too. DONE bears the offset. While the room is being
 * joined (again) it waits for that, and fails with NOT_SENT when nothing comes of it. Who is not a
 * member asks the broker all the same: some rooms let everybody publish. */
USHER_API int usher_publish(struct usher_client *client, const char *room, const void *payload,
                            size_t payload_size, uint64_t *id);

/* Whose presence is to be seen, and whose no more; either may be NULL with count 0. DONE, and the
 * states follow as FRIENDS. The broker forgets it with the session, and this library asks again
 * after WELCOME with FRESH: for those whom the broker has taken, and not for whom a request that
 * ended with an ERROR named. What is refused then comes as an ERROR without an id. -ENOBUFS: too
 * many. */
USHER_API int usher_watch(struct usher_client *client, const char *const *add, size_t add_count,
                          const char *const *remove, size_t remove_count, uint64_t *id);

/* What those who watch this user see beside ONLINE; `invisible`: they are told OFFLINE. It is said
 * again to a new session, as a watch is. */
USHER_API int usher_set_status(struct usher_client *client, const void *status, size_t status_size,
                               bool invisible, uint64_t *id);

/* --- without an answer ------------------------------------------------------------------------ */

/* Of the requests above, without any answer, success or not. */
USHER_API int usher_post(struct usher_client *client, const char *to, const void *payload,
                         size_t payload_size);
USHER_API int usher_post_transient(struct usher_client *client, const char *to, const void *payload,
                                   size_t payload_size);
USHER_API int usher_post_call(struct usher_client *client, const char *service, const char *method,
                              const void *payload, size_t payload_size);
USHER_API int usher_post_publish(struct usher_client *client, const char *room, const void *payload,
                                 size_t payload_size);

/* The highest mid of a stored message that the program is done with. The library tells the broker
 * with each Login and Resume, and gives no message up to it. A program that is to process each once
 * also over its own restarts keeps this number where it keeps what the messages made, in one step
 * with it, and gives it back as options.last_mid. With manual_acks what is not acknowledged comes
 * again in a new session, also what the program has in hand; its mid says that it is the same. */
USHER_API uint64_t usher_last_mid(const struct usher_client *client);

/* With manual_acks: every message up to seq of the current epoch is processed. -EINVAL beyond
 * what was received or without manual_acks. */
USHER_API int usher_ack(struct usher_client *client, uint64_t seq);

/* Waits for the answer of request `id` and gives it in *event, ahead of the events that came
 * before it; those stay queued. 0 with the answer (which may be an ERROR), -ETIMEDOUT (the answer
 * may still come, as an event), -ENOENT (no such request in flight), -ENOBUFS (the event queue is
 * full: take events), -ENOTCONN. */
USHER_API int usher_answer_wait(struct usher_client *client, uint64_t id, int timeout_ms,
                                struct usher_event *event);

/* A request and its answer in one call. */
USHER_API int usher_send_wait(struct usher_client *client, const char *to, const void *payload,
                              size_t payload_size, enum usher_until until, int timeout_ms,
                              struct usher_event *event);
USHER_API int usher_call_wait(struct usher_client *client, const char *service, const char *method,
                              const void *payload, size_t payload_size, int timeout_ms,
                              struct usher_event *event);

#ifdef __cplusplus
}
#endif

#endif
