/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ACTORS_MESSAGES_H
#define USHER_ACTORS_MESSAGES_H

/* Everything that an actor can receive. Each is one flat allocation (runtime/message.h): names
 * and payloads stand behind the struct. Whoever receives a message owns it. */

#include <stdbool.h>
#include <stdint.h>

#include "proto/bytes.h"
#include "proto/client_frame.h"
#include "proto/traceparent.h"
#include "proto/username.h"
#include "runtime/actor.h"

enum message_kind {
    /* to a user, from the front end */
    MESSAGE_ATTACH = 1, /* a verified login */
    MESSAGE_RESUME,
    MESSAGE_FRAMES,
    MESSAGE_MORE_FRAMES, /* to oneself: go on with the frames that are left */
    MESSAGE_LOGOUT,      /* posted to nobody: the cause of a change */
    MESSAGE_CONN_END,
    MESSAGE_WRITABLE,
    /* to a user, from anybody */
    MESSAGE_DELIVER,
    MESSAGE_BUNDLE,
    MESSAGE_CALL_RESULT,
    MESSAGE_KICK,
    /* to whoever asked: a user for a Send, an instance for a command */
    MESSAGE_RESULT,
    /* to an instance */
    MESSAGE_LINK_REQUEST,
    MESSAGE_LINK_GONE,
    MESSAGE_USER_CALL,
    MESSAGE_QUERY_RESULT,
    MESSAGE_PRESENCE,
    MESSAGE_JOINED,
    MESSAGE_LEAVE,
    MESSAGE_WALK, /* to oneself: go on with the walk over the calls */
    MESSAGE_PUSHED_ALL,
    /* of rooms; see actors/room_messages.h */
    MESSAGE_ROOM_JOIN,
    MESSAGE_ROOM_PUBLISH,
    MESSAGE_ROOM_COMMAND,
    MESSAGE_ROOM_PULL,
    MESSAGE_ROOM_AWAY,
    MESSAGE_ROOM_LEAVE,
    MESSAGE_ROOM_MORE, /* to oneself: go on with what goes out */
    MESSAGE_ROOM_INVITE,
    MESSAGE_ROOM_EXPEL,
    MESSAGE_ROOM_STATE,
    MESSAGE_ROOM_BUNDLE,
    MESSAGE_ROOM_ANSWER,
    MESSAGE_ROOMS_LOOK, /* to a user: which is he in? */
    /* about friends (watch.h): to a shard, to a user, to the instance that gave a list */
    MESSAGE_WATCH,
    MESSAGE_UNWATCH,
    MESSAGE_WATCH_STATUS,
    MESSAGE_WATCH_EVENT,
    MESSAGE_WATCH_LOOKED,
    MESSAGE_WATCH_STALE,
    MESSAGE_WATCH_MORE, /* to oneself: go on telling */
    MESSAGE_WATCHED,
    MESSAGE_WATCHED_MANY,
    MESSAGE_WATCH_LIST,
    MESSAGE_WATCH_LISTED,
    /* to every actor */
    MESSAGE_TICK,
    MESSAGE_RESTORE,
    MESSAGE_MOVED, /* from another process: see what its kind of actor makes of it */
    MESSAGE_STOP,
    MESSAGE_TRACE, /* to a user; see tracing.h */
    MESSAGE_KINDS
};

enum {
    ADDRESS_BYTES_MAX = 56,
    CLIENT_TEXT_BYTES_MAX = 64,
    SECRET_BYTES = 16,
    DETAIL_BYTES_MAX = 120 /* of a Kick; WebSocket's Close has room for 123 */
};

struct attach_message {
    struct message header;
    uint64_t conn;
    uint64_t id;
    uint64_t token_ends_ms; /* Unix ms; 0: never, or nobody asked for a token */
    uint64_t last_mid;      /* of a stored message: the highest that the client has processed */
    uint32_t stamp_us;      /* when it was read; 0: not timed */
    bool acks;
    uint8_t listener; /* enum listener_kind: by which he came */
    char user[USERNAME_BYTES_MAX + 1];
    char address[ADDRESS_BYTES_MAX + 1];
    char client[CLIENT_TEXT_BYTES_MAX + 1];
    /* behind it: attach_rooms */
};

/* The claim `rooms` of the token, as session_set_rooms takes it: what stands behind the message. */
struct bytes attach_rooms(const struct attach_message *attach);

/* The same login with that claim; takes the message. NULL without memory, and it is still the
 * caller's. */
struct attach_message *attach_with_rooms(struct attach_message *attach, struct bytes rooms);

struct resume_message {
    struct message header;
    uint64_t conn;
    uint64_t id;
    uint64_t epoch;
    uint64_t last_seq, received_seq;
    uint64_t last_mid; /* as in attach_message */
    uint8_t listener;  /* as in attach_message */
    uint8_t secret[SECRET_BYTES];
    char address[ADDRESS_BYTES_MAX + 1];
    uint32_t position_count;
    struct client_position positions[]; /* of his rooms, as he names them */
};

/* Copies what fits, cut between characters of UTF-8, and a NUL. */
void message_copy_text(char *to, size_t room, struct bytes from);

/* Whole frames with their lengths, as read. */
struct frames_message {
    struct message header;
    uint64_t conn;
    uint32_t stamp_us;   /* when they were read; 0: not timed */
    bool welcomed;       /* read after the Welcome went out */
    uint64_t arrived_us; /* when it was read; 0: nobody is traced */
    uint32_t done;       /* bytes of it that are handled */
    uint32_t size;
    uint8_t bytes[];
};

struct logout_message {
    struct message header;
    uint64_t id; /* of the Logout, to be answered when it is stored */
};

/* Why the front end gave a connection up. */
enum loss {
    LOSS_GONE = 1,  /* the peer is gone */
    LOSS_PROTOCOL,  /* a frame that cannot be */
    LOSS_TOO_LARGE, /* a frame beyond the limit */
    LOSS_SILENT,
    LOSS_SLOW,
    LOSS_MESSAGE, /* against the rules of its transport */
    LOSS_FLOOD,   /* too much that says nothing */
};

struct conn_end_message {
    struct message header;
    uint64_t conn;
    enum loss loss;
    bool reset;            /* LOSS_GONE: an error, and not the peer's end */
    const char *detail;    /* for people, static: more than the loss says; NULL: nothing */
    const char *limit;     /* the option whose limit it was, static; NULL: none was */
    uint64_t bound, value; /* its value, and what there was */
};

/* Zeroed but for what is given. */
struct conn_end_message *conn_end_create(uint64_t conn, enum loss loss);

/* That limit was the reason. */
void conn_end_blame(struct conn_end_message *end, const char *limit, uint64_t bound,
                    uint64_t value);

struct writable_message {
    struct message header;
    uint64_t conn;
    bool go_on; /* not from the front end: there may be room for what waits in the session */
};

/* More than inbox.keep_max_s can be, and what keep_s of a deliver_message holds. */
enum { KEEP_S_MAX = (1 << 23) - 1 };

/* A message for a user's inbox; also what the inbox keeps.
 *
 * One with keep_s is to be *stored*: it is nobody's before it is on the disk, and then `mid` is its
 * number. Most messages are not, so what only these have takes the place of what they do not: no
 * login is wanted of one that is for whoever comes, and what is on the disk has no age here. */
struct deliver_message {
    struct message header;
    uint64_t seq; /* given by the receiver */
    uint32_t payload_size;
    uint16_t refusal; /* of a CHANGE_STORE: an Error.Code; 0: it is stored */
    uint8_t name_size;
    uint8_t push_index;   /* which one of the bundle that it holds (push.h) */
    uint32_t stamp_us;    /* when its frame was read; 0: not timed */
    uint32_t keep_s : 23; /* not 0: it is to be stored, for so long */
    bool until_delivered : 1;
    bool from_service : 1;
    bool redelivered : 1;
    bool transient : 1; /* now or never: no inbox ever holds it */
    bool sent : 1;      /* to the present connection or an earlier one */
    bool stored : 1;    /* it is on the disk, and `mid` holds; its receiver's turn sets it */
    bool repeated : 1;  /* of a CHANGE_STORE: its tag has been seen, and mid is that of the first */
    bool traced : 1;    /* it has a traceparent */
    bool for_present : 1; /* with keep_s: not for who is away, its sender has stored enough */
    union {
        uint64_t arrived_ms; /* monotonic */
        uint64_t mid;        /* from the committer, or from a window */
    };
    uint64_t time_ms;
    actor_handle sender; /* gets the MESSAGE_RESULT, if `request` is not 0 */
    uint64_t sender_epoch;
    uint64_t request;
    union {
        uint64_t epoch_wanted; /* 0: any */
        uint64_t tag;          /* with keep_s; 0: none */
    };
    uint8_t bytes[]; /* name, payload, traceparent; nothing when they are in a push_bundle */
};

/* 0: it is not on the disk. */
static inline uint64_t deliver_mid(const struct deliver_message *message)
{
    return message->stored ? message->mid : 0;
}

static inline bool deliver_is_to_be_stored(const struct message *message)
{
    return message->kind == MESSAGE_DELIVER &&
           ((const struct deliver_message *)message)->keep_s != 0;
}

/* Several pushes for a user's inbox, in the push_bundle that it holds. Without sender or epoch. */
struct bundle_message {
    struct message header;
};

/* push.c: of a message that shares them. */
struct bytes push_name(const struct deliver_message *message);
struct bytes push_payload(const struct deliver_message *message);
struct bytes push_traceparent(const struct deliver_message *message);

static inline struct bytes deliver_name(const struct deliver_message *message)
{
    if (!message_is_plain(&message->header))
        return push_name(message);
    return (struct bytes){message->bytes, message->name_size};
}

static inline struct bytes deliver_payload(const struct deliver_message *message)
{
    if (!message_is_plain(&message->header))
        return push_payload(message);
    return (struct bytes){message->bytes + message->name_size, message->payload_size};
}

/* Valid (proto/traceparent.h), or empty. */
static inline struct bytes deliver_traceparent(const struct deliver_message *message)
{
    if (!message->traced)
        return (struct bytes){0};
    if (!message_is_plain(&message->header))
        return push_traceparent(message);
    return (struct bytes){message->bytes + message->name_size + message->payload_size,
                          TRACEPARENT_BYTES};
}

/* Of it, its payload and its name. */
static inline uint32_t deliver_size(const struct deliver_message *message)
{
    return message->name_size + message->payload_size +
           (message->traced ? (uint32_t)TRACEPARENT_BYTES : 0);
}

/* NULL without memory. */
struct deliver_message *deliver_create(struct bytes name, struct bytes payload);
struct deliver_message *deliver_create_traced(struct bytes name, struct bytes payload,
                                              struct bytes traceparent);

/* How a Send or a command ended. code is an Error.Code of client.proto (0: done), or one of these.
 */
enum {
    RESULT_STALE_EPOCH = 1000, /* commands alone */
    RESULT_DROPPED,            /* it was transient, and did not go */
    RESULT_ROOMS_FULL,         /* he is in rooms.per_user rooms, or there are rooms.count */
    RESULT_MALFORMED,
};

struct result_message {
    struct message header;
    uint64_t request;
    uint64_t asker_epoch;
    uint64_t epoch;  /* of the user it was about */
    uint64_t offset; /* of a Publish; 0: it was none */
    uint64_t mid;    /* of a stored message; 0: it was none */
    uint16_t code;
};

struct call_result_message {
    struct message header;
    uint64_t request;
    uint64_t call;
    uint64_t epoch;
    uint16_t code; /* an Error.Code, or 0: status and payload hold */
    uint32_t status;
    uint64_t token_ends_ms; /* of a login that a service has judged; see ReplyTo */
    uint32_t stamp_us;      /* when the call was accepted; 0: not timed */
    uint32_t payload_size;
    uint32_t rooms_size; /* of the claim that a yes to a login comes with */
    uint8_t payload[];   /* and behind it the rooms */
};

struct call_result_message *call_result_create(uint16_t code, uint32_t status,
                                               struct bytes payload);

/* The same with the rooms as they were given: each with a NUL behind it. NULL without memory. */
struct call_result_message *call_result_with_rooms(uint32_t status, struct bytes payload,
                                                   char *const *rooms, size_t count);
struct bytes call_result_rooms(const struct call_result_message *result);

/* Exchanges of HTTP have this bit. Those of the link have no index that large (link.contexts). */
enum { EXCHANGE_OF_HTTP = 1 << 30 };

/* Service and instance, or the address of an operator, with a word before it. */
enum { KICKER_BYTES_MAX = 2 * USERNAME_BYTES_MAX + 1 };

struct kick_message {
    struct message header;
    actor_handle by;                   /* gets the MESSAGE_RESULT */
    char kicker[KICKER_BYTES_MAX + 1]; /* who that is, for people */
    uint64_t request;
    uint64_t epoch; /* 0: any */
    uint32_t reason;
    uint32_t retry_after_ms;
    bool do_not_return;
    char detail[DETAIL_BYTES_MAX + 1];
};

/* What stands in a user_call_message beside a user's call; see user_call.h. */
enum mail_body {
    MAIL_CALL,
    MAIL_LOGIN,
    MAIL_ROOM_ASK,
    MAIL_ROOM_NEWS,
    MAIL_WATCH_ASK,
    MAIL_STORED,
};

/* A call on its way to a service: in an instance's mailbox, then in its mail. */
struct user_call_message {
    struct message header;
    actor_handle caller;
    uint64_t epoch;
    uint64_t request;
    uint64_t call; /* 0: one way */
    uint64_t deadline_ms;
    uint64_t mail_seq;
    uint64_t mail_number; /* in the Batches of an incarnation that has been sent it */
    uint64_t share;       /* one way, in the mail: whose share of it this counts to; see shares.h */
    bool redelivered;
    uint8_t control; /* a Control.Kind: no call at all, but mail of the node's own */
    uint8_t body; /* enum mail_body; of MAIL_LOGIN, an AuthCall, method is the address, and payload
                   * the token and the client text */
    uint8_t client_size; /* of the client text */
    uint8_t ask;         /* MAIL_ROOM_ASK: a RoomAsk.Kind */
    uint8_t user_size, service_size, method_size;
    uint32_t stamp_us; /* when it was accepted; 0: not timed */
    uint32_t payload_size;
    uint8_t bytes[]; /* user, service, method, payload, and up to its end the traceparent */
};

struct user_call_message *user_call_create(struct bytes user, struct bytes service,
                                           struct bytes method, struct bytes payload);

/* The traceparent is valid (proto/traceparent.h), or empty. */
struct user_call_message *user_call_create_traced(struct bytes user, struct bytes service,
                                                  struct bytes method, struct bytes payload,
                                                  struct bytes traceparent);
struct bytes user_call_user(const struct user_call_message *message);
struct bytes user_call_service(const struct user_call_message *message);
struct bytes user_call_method(const struct user_call_message *message);
struct bytes user_call_payload(const struct user_call_message *message);
struct bytes user_call_traceparent(const struct user_call_message *message);

/* A session read from the store at start. Behind it: its rooms, as in an attach_message. */
struct restore_message {
    struct message header;
    uint64_t epoch;
    uint64_t since_ms;
    uint64_t token_ends_ms;
    bool acks;
    bool unnumbered; /* the session's numbers are not known */
    bool loss_untold;
    uint8_t listener; /* enum listener_kind; LISTENERS: nobody knows */
    bool stored_left; /* the disk has stored messages that the saved inbox has not */
    bool saved;       /* the two below hold */
    uint64_t next_seq;
    struct deliver_message *inbox; /* a list that the sender is done with, linked through
                                    * header.next; its arrived_ms says how old each is */
    uint8_t secret[SECRET_BYTES];
    char address[ADDRESS_BYTES_MAX + 1];
    char client[CLIENT_TEXT_BYTES_MAX + 1];
};

struct bytes restore_rooms(const struct restore_message *restore);

struct stop_message {
    struct message header;
    uint32_t retry_after_ms;
    const char *why; /* for people, static: a stop, a drain, a restart */
    bool later; /* only a warning: another one comes. Nobody can come back any more, so a session
                 * that is detached does not end */
};

/* One LinkRequest, encoded, and the exchange that waits for its answer. */
struct link_request_message {
    struct message header;
    uint64_t exchange;
    uint32_t size;
    bool stranger;                       /* nobody has vouched for its peer */
    char by_http[ADDRESS_BYTES_MAX + 1]; /* the address of a backend that asks by HTTP and may
                                          * change something without a link; "": by the link */
    uint8_t bytes[];
};

struct link_gone_message {
    struct message header;
    uint64_t exchange;
};

/* The stream has grown to `last`. */
struct presence_message {
    struct message header;
    uint64_t last;
};

#endif
