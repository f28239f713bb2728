/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LINK_PRIVATE_H
#define USHER_LINK_PRIVATE_H

/* Shared by link*.c and feed.c only: the one place besides them that knows nng's types. Nothing
 * here may be called by anybody else. */

#include <netinet/in.h>
#include <nng/nng.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/lock.h"
#include "base/thread.h"
#include "link/link.h"

enum {
    LINK_ERROR_BYTES = 256,
    LINK_URL_BYTES_MAX = 192,
    LINK_RECEIVE_BYTES_MAX = 64 * 1024, /* nng closes the connection of a larger request */
    LINK_CONTEXTS_MAX = 65535,
    LINK_PEERS_FIFTHS = 4,     /* of the files: connections. One more takes the place of an idle */
                               /* stranger, or is turned away before it may speak */
    LINK_PEERS_LEAVING = 8,    /* beside them: an eighth, which were closed and are not gone yet */
    LINK_PEER_SENDING_MAX = 4, /* answers in flight to one peer: it does not read them */
    LINK_SEND_TICKS = 2,       /* then an answer that its peer does not read is thrown away */
    LINK_CLOSE_MS = 1000,      /* how long a close may take before it is left to process end */
    LINK_TICK_MS = 1000,
    LINK_PROBE_MS = 1000,
    LINK_PAUSE_MS = 20,    /* between two looks at what a knock has done */
    LINK_KNOCK_TICKS = 30, /* without any suspicion; link_options.knock_seconds */
    LINK_EXCUSE_TICKS = 3,
    LINK_CANARY_TICKS = 5
};

/* SP's numbers of protocols, the second byte of two; the first is 0. */
enum { VISITOR_REQ = 0x30, VISITOR_SUB = 0x21 };

/* ---- link/peers.c: the connections that live. Not thread-safe; never blocks. ---- */

struct peer {
    uint64_t pipe;    /* nng's id; 0: a free cell */
    uint16_t waiting; /* 1 + index of the exchange that waits for an answer, or 0 */
    uint16_t sending; /* answers handed to nng and not yet finished */
    bool vouched;     /* it is no stranger */
    bool leaving; /* takes no place: we closed it, or it is our own knock; not reported gone yet */
    uint64_t followed, owner; /* the last exchange whose peer's end is told; 0: none */
};

struct peers {
    struct peer *cells;
    uint32_t mask;
    uint32_t count;
    uint32_t leaving; /* of them */
    uint32_t max;
};

int peers_init(struct peers *peers, uint32_t max); /* 0 or -ENOMEM */
void peers_fini(struct peers *peers);              /* harmless on zeroed memory */
int peers_add(struct peers *peers, uint32_t pipe); /* 0, or -ENOSPC beyond max */
void peers_remove(struct peers *peers, uint32_t pipe);

/* Who has been there longest before `newest` of those that nobody vouched for and that have nothing
 * outstanding; it is leaving from now on. Its pipe, or 0: there is none. Looks at all. */
uint32_t peers_displace(struct peers *peers, uint32_t newest);

/* One that is there, and not leaving, leaves by itself: it takes no place from now on. */
void peers_let_go(struct peers *peers, uint32_t pipe);

/* Borrowed until the next add or remove; NULL when the pipe is not known. */
struct peer *peers_find(const struct peers *peers, uint32_t pipe);

/* ---- link/endpoint.c: one URL, its lock file and its listener. One thread at a time. ---- */

/* What a listening socket is bound to. */
struct place {
    union {
        struct sockaddr any;
        struct sockaddr_un path;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t size; /* 0: nothing */
};

enum endpoint_state {
    ENDPOINT_SPARE,   /* not listening (yet) */
    ENDPOINT_SERVING, /* as far as known */
    ENDPOINT_DEAD,    /* its listener died; a repair is due */
    ENDPOINT_SPENT    /* its listener died and holds the port; another one took over */
};

struct endpoint {
    char url[LINK_URL_BYTES_MAX];
    const char *path;      /* into url; NULL for tcp */
    struct place place;    /* that of a path at once, otherwise from the first endpoint_listen on */
    int lock_fd;           /* of PATH.lock, or -1 */
    mode_t mode;           /* of an ipc path, for whom it is */
    gid_t group;           /* (gid_t)-1: that of the process */
    nng_socket socket;     /* that listens here; set before the first endpoint_listen */
    uint8_t visitor;       /* the SP protocol that its peers speak */
    nng_listener listener; /* the watchdog's own, once it runs */
    /* shared: an enum endpoint_state, which only the watchdog changes once it runs */
    _Atomic int state;
    /* the watchdog's own */
    uint64_t troubles;      /* nng's counter when it was last looked at */
    unsigned excuses;       /* how many of the next ones are our own knocks, */
    unsigned excused_ticks; /* for how many ticks yet */
    bool suspect;
    bool taken; /* its place was taken from the dead listener, and nobody listens there yet */
};

/* Cut to what a socket can be bound to. */
struct place endpoint_place(const char *path);

/* Borrows the URL. 0, or -EINVAL and -ENAMETOOLONG with a line in `error`. */
int endpoint_init(struct endpoint *endpoint, const char *url, char *error);

/* An ipc path is made ours: folder, lock file, no stale socket. Nothing for tcp. 0, -EADDRINUSE
 * when somebody serves it, -EEXIST when the path is no socket, or what the file system says. */
int endpoint_claim(struct endpoint *endpoint, char *error);

/* Listens on a claimed endpoint with our limits; on success it serves. Never closes an earlier
 * listener. */
int endpoint_listen(struct endpoint *endpoint, char *error);

/* The number `name` of nng's for its listener; 0 without memory. */
uint64_t endpoint_number(const struct endpoint *endpoint, const char *name);

/* Removes the socket file of a claimed ipc path; anything but a socket stays. */
void endpoint_unlink(const struct endpoint *endpoint);
void endpoint_release(struct endpoint *endpoint); /* the lock; harmless when not claimed */

/* A raw connection to its listener. Gives a descriptor that the caller closes, or a negative errno:
 * -ECONNREFUSED and -ENOENT speak against the listener. */
int endpoint_knock(const struct endpoint *endpoint);

/* Our part of the handshake on such a connection. */
bool endpoint_greet(const struct endpoint *endpoint, int fd);

/* The address of a socket's own end as nng names it on the other; NNG_AF_IPC: it has none. */
nng_sockaddr endpoint_address(int fd);

/* The group of that name or number; empty: (gid_t)-1. -EINVAL with a line in `error`. */
int endpoint_group(const char *name, gid_t *group, char *error);

int link_errno(int error); /* a negative errno, from nng's */

/* ---- link/bounded.c ---- */

/* Does something with nng on a thread of its own, because nng may hang in it. False when it did not
 * finish within LINK_CLOSE_MS: then all that it refers to must live on. */
bool bounded_run(void (*work)(void *argument), void *argument);

/* nng_close, bounded. */
bool bounded_close(nng_socket socket);

/* ---- link/gate.c: nng takes connections when their peers have said their header ---- */

/* From now on, for who listens at this place; open already: nothing. 0, or a negative errno. */
int gate_open(const struct place *place, uint8_t visitor);

/* How many may wait for their header, at all doors together; 256 unless it is less. */
void gate_limit(unsigned waiting);

/* Another listener can have the place from now on; nng keeps its dead one, which hears nothing any
 * more. False: nng has not asked there yet, or it has already been taken. */
bool gate_take_place(const struct place *place);
void gate_close(
    const struct place *place); /* nobody listens there any more; harmless if not open */

/* ---- feed.c ---- */

/* For the watchdog, which ends before the feed is closed. */
struct endpoint *feed_endpoint(struct feed *feed);

/* ---- link/orphans.c: connections that a dead listener left in nng. One thread at a time. ---- */

enum { LINK_ORPHANS_MAX = 256 };

struct orphan {
    int fd;
    uint64_t inode; /* of the socket, so that another under the same number is not taken for it */
};

struct orphans {
    int poller; /* nng's epoll descriptor, which is nng's; -1: not found */
    int quiet;  /* what is put in their place; -1: not open */
    int other;  /* its other end */
    struct orphan seen[LINK_ORPHANS_MAX]; /* at the last look */
    unsigned count;
};

/* Finds nng's epoll descriptor, by a socket that listens in it: after the first listener of nng has
 * started, and while no other epoll of the process has one. -ENOENT: it is not to be found; then
 * nothing is ever done. */
int orphans_open(struct orphans *orphans);

/* Gives how many were taken away. */
unsigned orphans_sweep(struct orphans *orphans);
void orphans_close(struct orphans *orphans);

/* ---- link.c and link/watch.c ---- */

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
    unsigned ticks;  /* of the watchdog, while it is sent */
    bool stranger;   /* nobody vouched for its peer: counted in link->strangers */
    bool gone;       /* the peer went while on_request ran */
    bool followed;   /* by link_follow, while it runs */
    bool answered;   /* link_answer came while on_request ran: `answer` waits for its return */
    nng_msg *answer; /* owned; NULL without memory */
};

struct canary {
    /* set once */
    nng_socket publisher;
    nng_socket subscriber;
    nng_dialer dialer; /* the watchdog's own */
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
    unsigned strangers_max;
    unsigned knock_ticks;
    struct exchange *exchanges;
    uint32_t exchange_count;
    struct endpoint endpoints[LINK_URLS_MAX];
    size_t endpoint_count;
    struct endpoint *watched[LINK_URLS_MAX + 1]; /* all of them, and the feed's */
    size_t watched_count;
    struct canary canary;
    struct orphans orphans; /* the watchdog's own */
    pthread_t watch_thread;
    struct thread_mark watchdog; /* of that thread */
    bool watching;
    unsigned ticks; /* the watchdog's own */
    /* shared */
    struct lock lock;
    pthread_cond_t changed; /* closing, busy or peers.count changed */
    unsigned peers_max;     /* set once */
    struct peers peers;     /* under lock, as all that follows */
    nng_sockaddr knock;     /* where the watchdog's last one came from; s_family 0: none yet */
    unsigned strangers;     /* exchanges that wait or are sent for them */
    unsigned busy;          /* calls up, and answers on their way into nng */
    bool closing;
    bool hidden; /* nobody comes any more, and that is as it should be */
    bool reaper_stuck;
};

/* The condition `changed`, for at most until the monotonic time; false: the time is over. */
bool link_wait(struct link *link, uint64_t until_ms); /* lock is held */

/* nng has counted so many troubles of its listener. Those that are no knock of ours make it
 * suspect; as an excuse serves once, and for a few ticks. Pure. */
void watch_judge(struct endpoint *endpoint, uint64_t troubles);

int watch_start(struct link *link); /* 0 or a negative errno */
void watch_stop(struct link *link); /* after `closing` was set; waits; harmless if not started */

#endif
