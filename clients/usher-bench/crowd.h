/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHER_BENCH_CROWD_H
#define USHER_USHER_BENCH_CROWD_H

/* The users of one thread: their connections, logins and frames, without knowing what they are
 * for. One thread owns a crowd and everything in it; only `shown` is read by others. Nothing here
 * blocks but crowd_turn, for as long as it is told.
 *
 * Trouble that ends the run (no broker, no descriptors left, a connection lost that ought to
 * live) is noted once, in `error`; the owner goes on and somebody looks at shown.failed. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/addresses.h"
#include "libusher/frame.h"
#include "libusher/tls.h"
#include "libusher/websocket.h"
#include "proto/bytes.h"
#include "usher-bench/check.h"
#include "usher-bench/histogram.h"
#include "usher-bench/options.h"
#include "usher-bench/tokens.h"

enum {
    USER_NAME_BYTES_MAX = 48,
    USER_SECRET_BYTES_MAX = 32,
    CROWD_ERROR_BYTES_MAX = 200,
    CROWD_REASON_BYTES_MAX = 240,
    CROWD_READ_BYTES = 256 * 1024,
};

enum user_state {
    USER_AWAY,       /* no connection */
    USER_CONNECTING, /* TCP's handshake */
    USER_SECURING,   /* that of TLS */
    USER_UPGRADING,  /* that of WebSocket */
    USER_JOINING,    /* Login or Resume is under way */
    USER_ONLINE,
    USER_WAITING, /* was told to come again later */
};

struct user {
    int fd;
    struct tls_link *tls;        /* NULL: no TLS, or no connection */
    struct websocket *websocket; /* NULL: none, or not yet */
    uint32_t number;             /* over all crowds */
    enum user_state state;
    bool dirty, wants_write, wants_ack;
    char name[USER_NAME_BYTES_MAX];
    /* the session */
    uint64_t epoch; /* 0: none */
    uint64_t seq;   /* of the last message */
    uint8_t secret[USER_SECRET_BYTES_MAX];
    size_t secret_bytes;
    uint64_t due_ns; /* when its login ought to begin, or began */
    uint64_t spoke_ns;
    /* the scenario's */
    uint32_t sent;
    uint32_t credit;     /* messages that it may still begin */
    uint64_t unanswered; /* bit seq % 64: that call is in flight */
    struct lane lane;    /* what it expects of its one sender */
    uint32_t held;       /* messages that a limit put off... */
    uint64_t hold_ns;    /* ... until then */
    /* bytes */
    struct buffer in, out;
    size_t out_offset;
};

struct crowd;
struct client_frame;

/* Called on the crowd's thread. The frame is borrowed. */
struct crowd_events {
    void (*on_welcome)(struct crowd *crowd, struct user *user, const struct broker_frame *frame);
    void (*on_message)(struct crowd *crowd, struct user *user, const struct broker_frame *frame);
    /* Done, Reply or Error of a request of ours. */
    void (*on_answer)(struct crowd *crowd, struct user *user, const struct broker_frame *frame);
    /* The Login or Resume is about to leave; may be NULL. */
    void (*on_login)(struct crowd *crowd, struct user *user);
    /* A Resume is about to be written: what is put into it is borrowed until then. May be NULL. */
    void (*on_resume)(struct crowd *crowd, struct user *user, struct client_frame *resume);
    /* A frame of rooms or friends, if it is one: then true. May be NULL: none is expected. */
    bool (*on_company)(struct crowd *crowd, struct user *user, struct bytes frame);
};

/* What is seen of rooms and friends. */
struct company_counts {
    uint64_t published;      /* messages, whatever they are times members */
    uint64_t frames;         /* FriendStates, or frames of room messages */
    uint64_t herd_frames;    /* of these, those that came when all came back */
    uint64_t bytes;          /* of FriendStates */
    uint64_t gaps;           /* messages of a room left out without a word */
    uint64_t uneven;         /* members who have seen something else than others of their room */
    uint64_t recovered;      /* messages of the time in which they were away */
    uint64_t unrecovered;    /* and those that the room had no more */
    uint64_t beyond;         /* states that came to the herd and were no snapshot */
    uint64_t flaps;          /* a friend who was there and was shown as gone */
    uint64_t last_online_ns; /* when the last login was good */
};

/* For the one who watches: relaxed on both sides, each number for itself. */
struct crowd_shown {
    _Atomic uint64_t sent, received, refused, repeated, missed;
    _Atomic uint64_t reached; /* members that are in their rooms, or pairs that know each other */
    _Atomic uint64_t online;  /* users that are online now */
    _Atomic uint64_t left;    /* users that logged out */
    _Atomic uint64_t retries; /* logins that were put off */
    _Atomic int phase;
    _Atomic bool failed;
};

struct crowd {
    /* set once */
    const struct bench_options *options;
    const struct address *address;
    struct tls_client *security;       /* NULL: no TLS */
    const struct bench_tokens *tokens; /* NULL: none */
    const struct crowd_events *events;
    void *context; /* the run */
    void *own;     /* the scenario's, made by its `open` */
    unsigned index;
    uint32_t count;
    struct user *users;
    int epoll;
    uint8_t *input;   /* CROWD_READ_BYTES and the rest of a frame in front */
    uint8_t *pattern; /* a payload without its stamp */
    uint64_t born_ns; /* a message from before was sent by an earlier run to the same name */

    /* the owner's */
    uint64_t now_ns;
    uint64_t heartbeat_ms;
    struct websocket_masks masks;
    size_t message_bytes_max; /* of several frames in one message of a WebSocket */
    uint32_t beat_next;       /* whose silence is looked at next */
    uint64_t beat_ns;         /* up to when that was done */
    uint32_t join_next;       /* users before it have begun to log in */
    uint32_t joining;         /* logins under way */
    uint32_t waiting;         /* users in USER_WAITING */
    uint64_t waiting_ns;      /* when they were looked at last */
    uint32_t *dirty;          /* users with output */
    uint32_t dirty_count;
    uint64_t online, left, retries;
    uint64_t held;                           /* the sum over all users */
    uint64_t held_ns;                        /* when they were looked at last */
    char refused_by[CROWD_REASON_BYTES_MAX]; /* the first answer that refused a message, or "" */
    char put_off_by[CROWD_REASON_BYTES_MAX]; /* and a login */
    struct check check;
    struct histogram latency;
    uint64_t partial, rejected; /* resumes that were not complete, or refused */
    uint64_t reached;           /* see crowd_shown */
    struct company_counts company;
    bool was_online; /* somebody was, once */
    bool recording;  /* latency counts */
    bool running;    /* a message that came is followed by the next one */
    bool hold_acks;
    bool leaving; /* connections may end */
    int phase;
    uint64_t phase_ns;    /* when that phase began */
    uint64_t due_from_ns; /* open loop: when the first message was due */
    uint64_t due_count;   /* and how many have been begun since */
    char error[CROWD_ERROR_BYTES_MAX];

    struct crowd_shown shown;
};

/* Makes users first_number to first_number + count - 1; nobody is connected yet. `crowd` is zeroed
 * but for what is "set once" above users. 0 or -ENOMEM, -EMFILE...; crowd_close in any case. */
int crowd_open(struct crowd *crowd, uint32_t first_number, uint32_t count);
void crowd_close(struct crowd *crowd);

/* Connects, then logs in, or resumes if the user has a session. */
void crowd_join(struct crowd *crowd, struct user *user, uint64_t due_ns);

/* Breaks the connection off without a word, as a tunnel does. */
void crowd_drop(struct crowd *crowd, struct user *user);

/* Output was appended to user->out. */
void crowd_touch(struct crowd *crowd, struct user *user);

/* Copies the numbers to `shown`. */
void crowd_show(struct crowd *crowd);

/* Sends what waits, waits for events for at most wait_ns, handles them, shows the numbers. */
void crowd_turn(struct crowd *crowd, uint64_t wait_ns);

/* Notes the words of a refusal in `reason`, if it is the first. */
void crowd_note(char reason[CROWD_REASON_BYTES_MAX], const char *name,
                const struct broker_frame *frame);

void crowd_fail(struct crowd *crowd, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
