/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_PRIVATE_H
#define USHER_NET_PRIVATE_H

/* Private to net/: the I/O threads, what they share, and what the files of net/ ask of each
 * other. */

#include <pthread.h>
#include <stdatomic.h>

#include "base/check.h"
#include "base/lock.h"
#include "base/thread.h"
#include "net/conn.h"
#include "net/net.h"
#include "net/sources.h"
#include "net/tls.h"
#include "net/ws.h"

enum { CHUNK_CONNS = 256, DOOR_MAX = 256 };

struct deadline_queue {
    uint32_t first, last;
    uint32_t wait_ms;
};

/* Accepted, on its way to its reactor. */
struct arrival {
    int fd;
    uint32_t source;
    uint8_t listener; /* enum listener_kind */
    uint8_t full;     /* the limits, as bits of enum refused, for which somebody has to go */
    bool forwards;    /* it may say for whom it is, and counts for no source before */
    uint32_t came_ms; /* to the door, or to the anteroom */
    char *peer;       /* its address as net_address gives it, owned; NULL: the socket knows it */
};

/* Those whose PROXY header has not come (anteroom.c); the first I/O thread's. */
struct waiting;
struct anteroom {
    struct waiting *places; /* by places from 1 on; 0: none */
    uint32_t made, capacity, free;
    uint32_t first, last, count;
};

struct handle_list {
    conn_handle *items;
    size_t count, capacity;
};

struct reactor {
    struct thread_mark mark; /* its thread, while that runs */
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
    /* shared */
    _Atomic uint32_t slots_made;
    _Atomic(struct conn *) *chunks;
    _Atomic bool pressed;          /* look for output to be evicted */
    _Atomic(struct conn *) orders; /* newest first */
    _Atomic bool sleeping;
    struct lock adopt_lock;
    /* under adopt_lock */
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

struct net {
    struct net_options options;
    struct net_events events;
    struct listener listeners[LISTENERS];
    struct transport_site site;
    struct ws_site ws;
    struct sources *sources;
    struct anteroom anteroom;
    struct lock trust_lock;
    struct net_trust trust; /* under trust_lock */
    _Atomic uint32_t open;
    _Atomic uint32_t unbound;
    _Atomic uint32_t handshakes;
    _Atomic uint32_t at_door;         /* those of these three that have to be made room for */
    _Atomic uint64_t output_total;    /* the sum of conn.output_bytes */
    _Atomic uint64_t output_evicting; /* that part of it which is on its way out */
    _Atomic uint64_t full_since_ms;   /* memory is full, and was at each look since; 0: it is not */
    _Atomic bool stopping;
    _Atomic bool accept_off;
    _Atomic bool answers_off; /* nor is anybody told so any more */
    unsigned next_reactor;    /* owned by reactor 0 */
    unsigned started;
    uint32_t slots_max;
    uint32_t generation_before; /* of all slots that are made */
    struct reactor reactors[NET_REACTORS_MAX];
};

static inline conn_handle conn_handle_of(const struct reactor *reactor, const struct conn *conn)
{
    return (uint64_t)atomic_load_explicit(&conn->generation, memory_order_relaxed) << 32 |
           (uint64_t)reactor->index << 24 | conn->slot;
}

/* A handle is ours, and so is what epoll gives back. */
static inline struct reactor *reactor_of(struct net *net, conn_handle handle)
{
    unsigned index = handle >> 24 & 0xff;
    CHECK(index < net->options.reactors);
    return &net->reactors[index];
}

/* The I/O thread, or whoever works for it while it does not run: before net_start, after net_stop,
 * and in a world of one thread. */
static inline bool on_io_thread(const struct reactor *reactor)
{
    return on_thread(&reactor->mark) || off_thread(&reactor->mark);
}

/* Whether a listener, or a handshake that came in there, goes on although nobody is accepted: its
 * language has words for that. */
static inline bool answers_still(const struct net *net, unsigned listener)
{
    return listener_rows[listener].by_http &&
           !atomic_load_explicit(&net->answers_off, memory_order_relaxed);
}

/* One less: never below zero. */
static inline void count_down(_Atomic uint32_t *count)
{
    CHECK(atomic_fetch_sub_explicit(count, 1, memory_order_relaxed) > 0);
}

static inline void reactor_count(struct reactor *reactor, enum metric_id id, uint64_t n)
{
    metrics_add(reactor->net->options.metrics, reactor->index, id, n);
}

static inline const struct transport *arrival_transport(const struct arrival *arrival)
{
    return transports[listener_rows[arrival->listener].transport];
}

/* A connection counts as open, unbound, of its source and in a handshake from its accept on, before
 * its reactor has it. */
static inline void conn_discount(struct net *net, const struct arrival *arrival)
{
    if (arrival->full != 0)
        count_down(&net->at_door);
    if (arrival_transport(arrival)->handshake != NULL)
        count_down(&net->handshakes);
    sources_give(net->sources, arrival->source);
    count_down(&net->unbound);
    count_down(&net->open);
}

/* Closed before anything was counted of it. */
void arrival_drop(const struct arrival *arrival);

/* The same, with last words where it can be told in the language of its port. */
void arrival_dismiss(struct reactor *reactor, const struct arrival *arrival,
                     Usher__V1__Close__Reason why, const char *detail, uint32_t retry_after_ms);

/* --- slots.c --- */

struct conn *slot_conn(struct reactor *reactor, uint32_t slot);

/* NULL when the handle is stale. */
struct conn *slot_find(struct net *net, conn_handle handle);

/* That very one, above all that there were; those between are free. NULL without memory. */
struct conn *slot_claim(struct reactor *reactor, uint32_t slot, uint32_t generation);

/* I/O thread. A free one, NULL when there is none; and back, when nothing of it is used any more.
 */
struct conn *slot_take(struct reactor *reactor);
void slot_give(struct reactor *reactor, struct conn *conn);

/* False without memory. */
bool handle_list_add(struct handle_list *list, conn_handle handle);

/* --- wake.c: any thread --- */

/* Something is on one of its lists. */
void wake_reactor(struct reactor *reactor);

/* Hands it on. Takes its fd. False: the reactor has no room for it. */
bool wake_give(struct reactor *to, const struct arrival *arrival);

/* --- handshake.c: I/O thread --- */

/* The handshake can go on: it will, in its turn. */
void handshake_list(struct reactor *reactor, struct conn *conn);

/* Goes on with handshakes until one step was costly. */
void handshake_some(struct reactor *reactor);

/* Counts what went wrong with a transport, in a handshake or later, with one line about it. */
void handshake_note(struct reactor *reactor, struct conn *conn, struct transport_fault fault);

/* It has taken too long. */
void handshake_expire(struct reactor *reactor, struct conn *conn);

/* --- greeting.c: I/O thread --- */

/* What came first where frames are expected. True: it is something else; it was told so, and is
 * being closed. */
bool greeting_is_foreign(struct reactor *reactor, struct conn *conn, struct bytes input);

/* The same where a handshake is expected and none begins. */
void greeting_meet_foreign(struct reactor *reactor, struct conn *conn);

/* --- strangers.c: I/O thread --- */

/* Of the accepting thread: counts who may come in; who may not is told why, and closed. */
bool strangers_admit(struct reactor *reactor, struct arrival *arrival,
                     const struct sockaddr_storage *from);

/* Its own thread: lets it in, or has it wait until somebody may go for it. */
void strangers_enter(struct reactor *reactor, const struct arrival *arrival);

/* Those at the door who came before what has been read get room, or are refused. */
void strangers_judge(struct reactor *reactor);

/* Nobody comes in any more. */
void strangers_close(struct reactor *reactor);

/* Its own thread: one that came for somebody, whose address is known now, counts for him. NULL, or
 * why it may not. */
const char *strangers_count(struct reactor *reactor, struct conn *conn, const char *peer);

/* Of the accepting thread: too many wait for their PROXY header. Takes its fd. */
void strangers_refuse_header(struct reactor *reactor, const struct arrival *arrival);

/* --- anteroom.c: the accepting thread --- */

/* One that comes from a proxy: accepted when its header has come. Takes its fd. */
void anteroom_enter(struct reactor *reactor, struct arrival *arrival);

/* The epoll data of those who wait: below any handle, above all other tags. */
#define ANTEROOM_TAG (UINT64_C(1) << 31)
void anteroom_on_event(struct reactor *reactor, uint64_t tag, uint32_t events);

/* Those who wait go over to another process, and come: 0 or -ENOMEM, without the descriptor. */
void anteroom_move_out(struct reactor *reactor, net_move_each *each, void *context);
int anteroom_move_in(struct reactor *reactor, const struct net_moved *moved);

/* When the next one has waited for too long, UINT64_MAX: nobody waits; and ends those that have. */
uint64_t anteroom_due_ms(const struct reactor *reactor);
void anteroom_check(struct reactor *reactor);

/* Nobody comes in any more, but where somebody is still told so. */
void anteroom_stop(struct reactor *reactor);
void anteroom_close(struct reactor *reactor); /* its thread has ended */

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

/* --- net.c: any thread --- */

/* Whether that address is one of a list of net.trust; and whom a list of X-Forwarded-For names. */
bool net_trusts(struct net *net, const struct prefixes *list, const struct sockaddr_storage *from);
bool net_forwarded(struct net *net, struct bytes values, struct sockaddr_storage *address);

/* --- listener.c: before there are threads, then the first I/O thread --- */

int listener_open(struct net *net, char *error);
int listener_watch(struct reactor *reactor);
void listener_accept(struct reactor *reactor, enum listener_kind kind);

/* Whose address is known now: let in and dealt to an I/O thread, or refused. Takes its fd. */
void listener_deal(struct reactor *reactor, struct arrival *arrival,
                   const struct sockaddr_storage *from);
void listener_resume(struct reactor *reactor);
void listener_stop(struct reactor *reactor);

/* --- reactor.c --- */

int reactor_open(struct net *net, unsigned index);
void *reactor_run(void *argument);

/* One round of the I/O thread's loop, on the calling thread: there may be no other. */
void reactor_round(struct reactor *reactor, bool may_wait);
void reactor_close(struct reactor *reactor);

/* There is no thread: who was accepted and what was ordered, on the calling one. False: nothing
 * was.
 */
bool reactor_settle(struct reactor *reactor);

#endif
