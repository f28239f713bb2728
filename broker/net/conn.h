/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_CONN_H
#define USHER_NET_CONN_H

/* Private to net/: connections, and the reactors they belong to. */

#include <pthread.h>
#include <stdatomic.h>

#include "net/net.h"
#include "net/sources.h"
#include "net/tls.h"

enum conn_state {
    CONN_FREE = 0,
    CONN_OPEN,
    CONN_ENDED,   /* on_end was called; waits for its release */
    CONN_CLOSING, /* released; the I/O thread owns the write side again */
    CONN_SHAKING, /* in the TLS handshake; nobody above knows of it */
};

/* Orders from the write-side owner to the I/O thread: bits in conn.orders. */
enum { ORDER_RELEASE = 1, ORDER_UNBIND = 2, ORDER_SLOW = 4, ORDER_RETURN = 8, ORDER_GO_ON = 16 };

/* Deadline queues: all connections in one wait equally long, so a list in order of entry is a
 * list in order of time. */
enum deadline { DEADLINE_LOGIN, DEADLINE_SILENCE, DEADLINE_LINGER, DEADLINE_HANDSHAKE, DEADLINES };

/* READ_BYTES: what is asked of a socket at a time, at most. */
enum { NO_SLOT = UINT32_MAX, CHUNK_CONNS = 256, READ_BYTES = 64 * 1024, DOOR_MAX = 256 };

/* A carry from here on is read in place; while memory is full no other becomes one. */
enum { IN_PLACE_BYTES = 8 * 1024 };

struct sockaddr_storage;

/* Last words: what goes with ORDER_UNBIND, to be written when the connection is unbound. */
struct parting {
    size_t size;
    uint8_t bytes[];
};

/* As small as it can be, since an idle user is little more than this and his session: what is rare
 * hangs off a pointer, and members lie in order of size. */
struct conn {
    /* owned by the I/O thread */
    _Atomic uint64_t owner;      /* atomic for net_fullest alone; it changes rarely */
    uint8_t *carry;              /* the beginning of a frame */
    void *kept;                  /* of the layer above, while unbound */
    _Atomic uint32_t carry_size; /* atomic for whoever looks for the largest */
    int fd;
    uint32_t slot;
    uint32_t evicted_bytes;  /* what net.output_evicting has of it */
    uint32_t source;         /* while it is a stranger: its entry in net.sources */
    uint32_t previous, next; /* in the deadline queue */
    uint32_t unbound_bytes;
    uint32_t chunks_given; /* on_frames calls */
    /* Times are the low bits of ms, told apart by net_ms_until and net_ms_since. */
    uint32_t due_ms;
    uint32_t heard_ms;
    uint32_t opened_ms;
    uint8_t state;
    uint8_t end;         /* enum conn_end, once ENDED */
    uint8_t queue;       /* enum deadline */
    bool again : 1;      /* listed in reactor.again */
    bool hung_up : 1;    /* the peer's end was reported: read on until it is found */
    bool input_over : 1; /* end of file or error seen */
    bool reset : 1;      /* an error: nobody will read what we write */
    bool slow_listed : 1;
    bool speaks_tls : 1;
    bool shaking_listed : 1; /* in reactor.shaking */
    bool stranger : 1;       /* counted in net.unbound and net.sources */
    /* owned by the write-side owner */
    bool dead; /* writes go nowhere */
    bool gone; /* for the peer's sake: he is not there any more */
    /* shared */
    _Atomic bool evicting;
    _Atomic bool wants_write;
    _Atomic bool welcomed;
    _Atomic bool delayed; /* `carry` has what came behind a request that is being judged */
    _Atomic uint8_t orders;
    _Atomic uint32_t output_bytes; /* memory of `pending`, for whoever looks for the largest */
    _Atomic uint32_t generation;
    _Atomic uint32_t chunks_done;
    _Atomic uint32_t soft_since; /* ms, low bits, never 0 while above the soft limit */
    struct tls *tls;             /* NULL: plain; set before the connection is shown to anybody */
    struct conn *order_next;     /* owned by whoever moved orders from 0 */
    /* owned by the write-side owner */
    uint8_t *pending;
    uint32_t pending_offset, pending_size, pending_capacity;
    uint32_t early_bytes; /* written before the welcome */
    void *errand; /* goes with ORDER_UNBIND (struct parting) or ORDER_RETURN (the layer above's), of
                   * which a connection gets one; freed when it comes too late */
};

struct deadline_queue {
    uint32_t first, last;
    uint32_t wait_ms;
};

/* Accepted, on its way to its reactor. */
struct arrival {
    int fd;
    uint32_t source;
    bool tls;
    uint8_t full;     /* the limits, as bits of enum refused, for which somebody has to go */
    uint32_t came_ms; /* to the door */
};

struct handle_list {
    conn_handle *items;
    size_t count, capacity;
};

struct reactor {
    /* set once */
    struct net *net;
    unsigned index;
    void *thread;
    pthread_t pthread;
    int epoll;
    int wake;
    /* What is read now: the largest carry that can be, bound or not, and READ_BYTES behind it. */
    uint8_t *input;
    size_t input_bytes;
    /* owned by the I/O thread */
    uint64_t now_ms;
    uint64_t read_ms;    /* all that had come by then has been read: deadlines are judged by it */
    uint64_t reading_ms; /* that will be so when so many rounds more were full of events */
    uint32_t rounds_left;
    uint32_t first_free; /* slot + 1, chained through conn.next */
    struct deadline_queue queues[DEADLINES];
    struct handle_list again; /* to be read without a new event */
    struct handle_list slow;
    struct handle_list shaking;        /* handshakes that can go on, oldest first */
    bool more;                         /* come back at once */
    _Atomic uint64_t accept_resume_ms; /* atomic for net_look alone */
    uint32_t accept_pause_ms;
    uint64_t evict_due_ms;
    bool accepting;
    /* shared */
    _Atomic uint32_t slots_made;
    _Atomic(struct conn *) *chunks;
    _Atomic bool pressed;          /* look for output to be evicted */
    _Atomic(struct conn *) orders; /* newest first */
    _Atomic bool wake_pending;
    _Atomic bool sleeping;
    pthread_mutex_t adopt_lock;
    struct arrival *adopted; /* given by the accepting reactor */
    size_t adopted_count, adopted_capacity;
    /* owned by the I/O thread */
    struct arrival *door; /* room for DOOR_MAX: who comes in when somebody goes */
    unsigned door_count;
};

struct listener {
    int fd; /* -1: closed, or never opened; the first I/O thread's */
    uint16_t port;
    char address[NET_ADDRESS_BYTES_MAX]; /* as the port: set before there are threads */
};

enum { LISTENER_PLAIN, LISTENER_TLS, LISTENERS };

struct net {
    struct net_options options;
    struct net_events events;
    struct listener listeners[LISTENERS];
    struct tls_domain *tls; /* NULL: none */
    struct sources *sources;
    _Atomic uint32_t open;
    _Atomic uint32_t unbound;
    _Atomic uint32_t handshakes;
    _Atomic uint32_t at_door;         /* those of these three that have to be made room for */
    _Atomic uint64_t output_total;    /* the sum of conn.output_bytes */
    _Atomic uint64_t output_evicting; /* that part of it which is on its way out */
    _Atomic uint64_t full_since_ms;   /* memory is full, and was at each look since; 0: it is not */
    _Atomic bool stopping;
    _Atomic bool accept_off;
    unsigned next_reactor; /* owned by reactor 0 */
    unsigned started;
    uint32_t slots_max;
    struct reactor reactors[NET_REACTORS_MAX];
};

/* From now to a moment (below 0: it is past), and from a moment to now; less than 24 days. */
static inline int32_t net_ms_until(uint32_t moment_ms, uint64_t now_ms)
{
    return (int32_t)(moment_ms - (uint32_t)now_ms);
}

static inline uint32_t net_ms_since(uint32_t moment_ms, uint64_t now_ms)
{
    return (uint32_t)now_ms - moment_ms;
}

static inline conn_handle conn_handle_of(const struct reactor *reactor, const struct conn *conn)
{
    return (uint64_t)atomic_load_explicit(&conn->generation, memory_order_relaxed) << 32 |
           (uint64_t)reactor->index << 24 | conn->slot;
}

static inline struct reactor *reactor_of(struct net *net, conn_handle handle)
{
    return &net->reactors[handle >> 24 & 0xff];
}

static inline void reactor_count(struct reactor *reactor, enum metric_id id, uint64_t n)
{
    metrics_add(reactor->net->options.metrics, reactor->index, id, n);
}

/* A connection counts as open, unbound, of its source and in a handshake from its accept on, before
 * its reactor has it. */
static inline void conn_discount(struct net *net, const struct arrival *arrival)
{
    if (arrival->full != 0)
        atomic_fetch_sub_explicit(&net->at_door, 1, memory_order_relaxed);
    if (arrival->tls)
        atomic_fetch_sub_explicit(&net->handshakes, 1, memory_order_relaxed);
    sources_give(net->sources, arrival->source);
    atomic_fetch_sub_explicit(&net->unbound, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&net->open, 1, memory_order_relaxed);
}

struct conn *conn_at(struct reactor *reactor, uint32_t slot);

/* As net_address gives it. */
void address_text(const struct sockaddr_storage *address, char text[NET_ADDRESS_BYTES_MAX]);

/* NULL when the handle is stale. */
struct conn *conn_find(struct net *net, conn_handle handle);

/* The memory of a carry of that size, in any connection. */
size_t conn_carry_room(const struct reactor *reactor, size_t size);

/* Room for what is carried over, whatever the options are, and for one read behind it. */
size_t conn_input_bytes(const struct net_options *options);

/* --- I/O thread --- */
void conn_adopt(struct reactor *reactor, const struct arrival *arrival); /* takes its fd */
void conn_on_event(struct reactor *reactor, struct conn *conn, uint32_t events);
/* A stranger is on its way out: its room is free at once. */
void conn_leaves_room(struct reactor *reactor, struct conn *conn);
void conn_close(struct reactor *reactor, struct conn *conn);

/* 0: it is a stranger's from now on, and counted as that. */
void conn_set_owner(struct reactor *reactor, struct conn *conn, uint64_t owner);

/* The socket may take bytes again. */
void conn_writable(struct reactor *reactor, struct conn *conn);

/* --- end.c: I/O thread --- */

void conn_end(struct reactor *reactor, struct conn *conn, enum conn_end end);
bool conn_is_heard(struct conn *conn); /* open, and not given back meanwhile: conn_end ends it */

/* Of one that is unbound and cannot be written to. */
enum conn_end conn_end_of_dead(const struct conn *conn);

void conn_orders(struct reactor *reactor, struct conn *conn, uint8_t orders);

/* Written out, then closed; the layer above does not know it, or has just released it. */
void conn_part(struct reactor *reactor, struct conn *conn);

/* Goes on with that: writes what waits, then closes our half, or all of it when the peer is
 * gone. */
void conn_finish(struct reactor *reactor, struct conn *conn);

/* Reads and drops what still comes. */
void conn_drain(struct reactor *reactor, struct conn *conn);

/* What it waited for may be known: what has been delayed need not wait any longer. */
void conn_go_on(struct reactor *reactor, struct conn *conn);

/* --- deadline.c: I/O thread --- */

void deadline_enter(struct reactor *reactor, struct conn *conn, enum deadline queue);
void deadline_leave(struct reactor *reactor, struct conn *conn);

/* Ends those whose output was too much for too long. */
void conn_check_slow(struct reactor *reactor);

/* --- read.c: I/O thread --- */

void conn_read(struct reactor *reactor, struct conn *conn);

/* It is read in the next round, without an event. */
void conn_read_again(struct reactor *reactor, struct conn *conn);

/* --- write.c: the write-side owner --- */
void conn_drop_pending(struct net *net, struct conn *conn);

/* --- shake.c: I/O thread --- */

/* The handshake can go on: it will, in its turn. */
void shake_list(struct reactor *reactor, struct conn *conn);

/* Goes on with handshakes until one step was costly. */
void shake_some(struct reactor *reactor);

/* One line about a connection whose TLS went wrong. */
void shake_log(struct reactor *reactor, struct conn *conn, const char *reason);

/* It is over without success, for that reason. */
void shake_fail(struct reactor *reactor, struct conn *conn, const char *reason);

/* What came first on the plain port is TLS. */
void shake_meets_tls(struct reactor *reactor, struct conn *conn);

/* --- room.c: I/O thread --- */

/* Of the accepting thread: counts who may come in; who may not is told why, and closed. */
bool room_admit(struct reactor *reactor, struct arrival *arrival,
                const struct sockaddr_storage *from);

/* Its own thread: lets it in, or has it wait until somebody may go for it. */
void room_enter(struct reactor *reactor, const struct arrival *arrival);

/* Those at the door who came before what has been read get room, or are refused. */
void room_judge(struct reactor *reactor);

/* Nobody comes in any more. */
void room_close(struct reactor *reactor);

/* --- evict.c --- */

/* The memory of the waiting output is to become `bytes`, whichever thread. False: that would be
 * too much of all together. */
bool evict_account(struct net *net, struct reactor *reactor, struct conn *conn, uint32_t bytes);

/* I/O thread: the connection's output is gone. */
void evict_done(struct reactor *reactor, struct conn *conn);

/* I/O thread: memory is full (base/memory.h) or on its way down from there, and nobody has looked
 * for a while: what fills it need not be output, so nobody may have asked for it. */
bool evict_is_due(struct reactor *reactor);

/* I/O thread: ends the largest until the rest is little enough. */
void evict_largest(struct reactor *reactor);

bool handle_list_add(struct handle_list *list, conn_handle handle);

void reactor_wake(struct reactor *reactor);
int listener_open(struct net *net, char *error);
void listener_accept(struct reactor *reactor, unsigned which);
void listener_resume(struct reactor *reactor);
void listener_stop(struct reactor *reactor);
void *reactor_run(void *argument);

/* One round of the I/O thread's loop, on the calling thread: there may be no other. */
void reactor_round(struct reactor *reactor, bool may_wait);
int reactor_open(struct net *net, unsigned index);
void reactor_close(struct reactor *reactor);

#endif
