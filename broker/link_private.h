/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_BROKER_LINK_PRIVATE_H
#define USHER_BROKER_LINK_PRIVATE_H

/* Shared by link*.c and feed.c only: the one place besides them that knows nng's types. Nothing
 * here may be called by anybody else. */

#include <nng/nng.h>
#include <pthread.h>

#include "link.h"

enum {
    LINK_ERROR_BYTES = 256,
    LINK_URL_BYTES_MAX = 192,
    LINK_RECEIVE_BYTES_MAX = 64 * 1024, /* nng closes the connection of a larger request */
    LINK_CONTEXTS_MAX = 65535,
    LINK_PEERS_MAX = 4096,     /* connections; the next one is turned away before it may speak */
    LINK_PEER_SENDING_MAX = 4, /* answers in flight to one peer: it does not read them */
    LINK_SEND_MS = 1000,       /* then an answer that its peer does not read is thrown away */
    LINK_CLOSE_MS = 1000,      /* how long a close may take before it is left to process end */
    LINK_TICK_MS = 1000,
    LINK_PROBE_MS = 1000,
    LINK_KNOCK_TICKS = 30, /* without any suspicion */
    LINK_EXCUSE_TICKS = 3,
    LINK_CANARY_TICKS = 5
};

/* ---- link_peers.c: the connections that live. Not thread-safe; never blocks. ---- */

struct peer {
    uint32_t pipe;    /* nng's id; 0: a free cell */
    uint16_t waiting; /* 1 + index of the exchange that waits for an answer, or 0 */
    uint16_t sending; /* answers handed to nng and not yet finished */
};

struct peers {
    struct peer *cells;
    uint32_t mask;
    uint32_t count;
    uint32_t max;
};

int peers_init(struct peers *peers, uint32_t max); /* 0 or -ENOMEM */
void peers_fini(struct peers *peers);              /* harmless on zeroed memory */
int peers_add(struct peers *peers, uint32_t pipe); /* 0, or -ENOSPC beyond max */
void peers_remove(struct peers *peers, uint32_t pipe);

/* Borrowed until the next add or remove; NULL when the pipe is not known. */
struct peer *peers_find(const struct peers *peers, uint32_t pipe);

/* ---- link_listen.c: one URL, its lock file and its listener. One thread at a time. ---- */

enum endpoint_state {
    ENDPOINT_SPARE,   /* not listening (yet) */
    ENDPOINT_SERVING, /* as far as known */
    ENDPOINT_DEAD,    /* its listener died; a repair is due */
    ENDPOINT_SPENT    /* its listener died and holds the port; another one took over */
};

struct endpoint {
    char url[LINK_URL_BYTES_MAX];
    const char *path; /* into url; NULL for tcp */
    int lock_fd;      /* of PATH.lock, or -1 */
    /* of a link: shared, under link->lock */
    enum endpoint_state state;
    nng_listener listener;
    uint64_t arrivals; /* connections that this listener accepted */
    /* of a link: the watchdog's own */
    uint64_t troubles;      /* nng's counter when it was last looked at */
    unsigned excuses;       /* how many of the next ones are our own knocks, */
    unsigned excused_ticks; /* for how many ticks yet */
    bool suspect;
};

/* Borrows the URL. 0, or -EINVAL and -ENAMETOOLONG with a line in `error`. */
int endpoint_init(struct endpoint *endpoint, const char *url, char *error);

/* An ipc path is made ours: folder, lock file, no stale socket. Nothing for tcp. 0, -EADDRINUSE
 * when somebody serves it, -EEXIST when the path is no socket, or what the file system says. */
int endpoint_claim(struct endpoint *endpoint, char *error);

/* Makes a listener with our limits that does not listen yet; nng_listener_close if not started. */
int endpoint_listener(const struct endpoint *endpoint, nng_socket socket, nng_listener *listener,
                      char *error);
int endpoint_start(const struct endpoint *endpoint, nng_listener listener, char *error);

/* Removes the socket file of a claimed ipc path; anything but a socket stays. */
void endpoint_unlink(const struct endpoint *endpoint);
void endpoint_release(struct endpoint *endpoint); /* the lock; harmless when not claimed */

/* A raw connection to `listener` with the handshake sent. Gives a descriptor that the caller
 * closes, or a negative errno: -ECONNREFUSED and -ENOENT speak against the listener. */
int endpoint_knock(const struct endpoint *endpoint, nng_listener listener);

/* Does something with nng on a thread of its own, because nng may hang in it. False when it did not
 * finish within LINK_CLOSE_MS: then all that it refers to must live on. */
bool run_bounded(void (*work)(void *argument), void *argument);

/* nng_close, bounded. */
bool close_bounded(nng_socket socket);

int errno_of_nng(int error); /* negative errno */

/* ---- link.c and link_watch.c ---- */

enum exchange_state {
    EXCHANGE_RECEIVING, /* nng has the aio */
    EXCHANGE_ARRIVING,  /* on_request has not returned */
    EXCHANGE_WAITING,   /* for link_answer; nobody has the aio */
    EXCHANGE_SENDING,   /* nng has the aio */
    EXCHANGE_CLOSED
};

/* One per nng context, for ever; a generation is one use of it. */
struct exchange {
    /* set once */
    struct link *link;
    nng_ctx context;
    nng_aio *aio;
    uint32_t index;
    /* under link->lock */
    enum exchange_state state;
    uint32_t generation;
    uint32_t pipe;
    uint64_t owner;
    bool gone;       /* the peer went while on_request ran */
    bool answered;   /* link_answer came while on_request ran: `answer` waits for its return */
    nng_msg *answer; /* owned; NULL without memory */
};

struct canary {
    /* set once */
    nng_socket publisher;
    nng_socket subscriber;
    bool open;
    /* under link->lock */
    nng_pipe pipe;    /* the living connection of the pair; id 0: none */
    uint32_t closing; /* the id of the one that we closed and nng has not reported yet */
    unsigned missing; /* the watchdog's own: times that there was no connection to close */
};

struct link {
    /* set once */
    struct log *log;
    struct metrics *metrics;
    struct link_events events;
    size_t frame_bytes_max;
    nng_socket socket;
    bool socket_open;
    struct buffer refusal; /* a packed LinkAnswer */
    struct exchange *exchanges;
    uint32_t exchange_count;
    struct endpoint endpoints[LINK_URLS_MAX];
    size_t endpoint_count;
    struct canary canary;
    pthread_t watch_thread;
    bool watching;
    unsigned ticks; /* the watchdog's own */
    /* shared */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* closing, busy, peers.count or an endpoint's arrivals changed */
    struct peers peers;     /* under lock, as all that follows */
    unsigned busy;          /* calls up, and answers on their way into nng */
    bool closing;
    bool reaper_stuck;
};

/* Listens on a claimed endpoint; on success it serves. Never closes an earlier listener. */
int link_listen(struct link *link, struct endpoint *endpoint, char *error);

/* The condition `changed`, for at most until the monotonic time; false: the time is over. */
bool link_wait(struct link *link, uint64_t until_ms); /* lock is held */

int watch_start(struct link *link); /* 0 or a negative errno */
void watch_stop(struct link *link); /* after `closing` was set; waits; harmless if not started */

#endif
