/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_SESSION_H
#define USHER_LIBUSHER_SESSION_H

/* A client's state and the steps that change it. Nothing here blocks but the name lookup of
 * session_start and session_process; the client's thread. */

#include "common/clock.h"
#include "libusher/connection.h"
#include "libusher/events.h"
#include "libusher/friends.h"
#include "libusher/requests.h"
#include "libusher/rooms.h"
#include "libusher/stored.h"
#include "libusher/url.h"
#include "proto/traceparent.h"
#include "usher.h"

enum {
    SECRET_BYTES_MAX = 64,
    TOKEN_BYTES_MAX = 32 * 1024,
    ERROR_TEXT_BYTES_MAX = 256,
    FRAME_BYTES_MAX_UNKNOWN = 64 * 1024, /* what a broker takes, until it says so */
    AGAIN_MS = 1000, /* before what was refused for the moment is asked again, at least */
    CONTROL_BYTES_MAX = 64 * 1024, /* of frames without a payload: bounds names that were given */
};

struct usher_client {
    /* Set once; the pointers in options are owned. */
    struct usher_options options;
    struct url url; /* of the options; used only if they have one */

    usher_token_source *token_source; /* NULL: options.token */
    void *token_context;
    bool asks_token; /* the source has not returned yet */

    struct tls_client *security; /* NULL: not needed, or not needed yet */
    addresses_find *find_addresses;
    struct address_memory addresses; /* those that led to no broker, for the next try */
    struct connection connection;
    struct requests requests;
    struct rooms rooms;
    struct friends friends;
    struct stored stored;
    struct event_queue events;
    struct event_node *current; /* given to the program, owned until it leaves it */
    uint64_t next_id;
    char traceparent[TRACEPARENT_BYTES + 1]; /* of the requests to come; "": none */

    /* The session, as it outlives connections. epoch 0: there is none to resume. */
    uint64_t epoch;
    uint8_t secret[SECRET_BYTES_MAX];
    size_t secret_bytes;
    uint64_t received_seq;  /* the last message that came */
    uint64_t processed_seq; /* the last message that the program is done with */
    uint64_t acked_seq;     /* the last acknowledgement written */
    uint64_t missed;        /* before what comes next, in front of what was not for the program */
    bool logging_out;
    bool token_refused; /* the last one; another is asked for once */

    /* This connection. */
    enum usher_state state;
    bool answered; /* something that only a broker says has come */
    bool paused;   /* reading, because the event queue is full */
    uint64_t hello_id;
    bool hello_resumes;
    uint64_t hello_last_seq;
    uint64_t hello_deadline_ms;
    uint64_t online_since_ms;
    uint64_t last_received_ms;
    uint64_t last_sent_ms;
    uint64_t last_ping_ms;
    uint32_t heartbeat_ms; /* 0: none */
    size_t frame_bytes_max;
    size_t passing_bytes; /* of a frame too large to be held, still to come */

    /* The next connection. */
    bool once; /* no further try after a failure */
    unsigned attempts;
    uint64_t retry_at_ms;

    char error_text[ERROR_TEXT_BYTES_MAX];
};

/* Begins to connect, from any state without a connection. */
void session_start(struct usher_client *client);

/* One round of everything that can be done now. */
void session_process(struct usher_client *client);

/* Writes acknowledgements, requests and whatever else waits. A socket that fails is noticed by
 * the next session_process. */
void session_flush(struct usher_client *client);

/* The connection is over: says so as an event, then waits for the next try, or ends if `final`,
 * or if the options or the circumstances say so. One that led to no broker is not over while the
 * host has another address. */
void session_lose(struct usher_client *client, int error, uint32_t retry_after_ms, bool final);

/* Sends Resume if there is something to resume, else Login. May lose the connection. */
void session_greet(struct usher_client *client);

/* The broker does not take the token: true when another one may help. */
bool session_token_refused(struct usher_client *client);

/* No connection, no further try; what is unanswered fails. */
void session_end(struct usher_client *client);

bool session_events_full(const struct usher_client *client);

/* Milliseconds until time alone gives something to do: 0 now, -1 never. */
int session_timeout_ms(const struct usher_client *client);

/* Refusals that say nothing against this user, and when what met one is asked again. */
bool session_may_pass(int64_t code);
uint64_t session_again_ms(uint32_t retry_after_ms);

/* Sets the line for usher_client_error_text. */
void session_say(struct usher_client *client, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The broker is none: it sent that. Loses the connection. */
void session_break_off(struct usher_client *client, int error, const char *what);

/* Reads and handles what the socket holds, within a budget. May lose the connection. */
void receive_all(struct usher_client *client);

#endif
