/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_CONN_H
#define USHER_NET_CONN_H

/* Private to net/: one connection, and what is done with it. Whose each member is stands beside it,
 * and so does the thread at each group of calls. */

#include <stdatomic.h>

#include "net/codec.h"
#include "net/net.h"
#include "net/transport.h"

enum conn_state {
    CONN_FREE = 0,
    CONN_OPEN,
    CONN_ENDED,   /* on_end was called; waits for its release */
    CONN_CLOSING, /* released; the I/O thread owns the write side again */
    CONN_SHAKING, /* in the handshake of its transport; nobody above knows of it */
};

/* Orders from the write-side owner to the I/O thread: bits in conn.orders. */
enum { ORDER_RELEASE = 1, ORDER_UNBIND = 2, ORDER_SLOW = 4, ORDER_RETURN = 8, ORDER_GO_ON = 16 };

/* Those that give the write side back. */
enum { ORDERS_GIVE = ORDER_RELEASE | ORDER_UNBIND | ORDER_RETURN };

/* Deadline queues: all connections in one wait equally long, so a list in order of entry is a
 * list in order of time. */
enum deadline { DEADLINE_LOGIN, DEADLINE_SILENCE, DEADLINE_LINGER, DEADLINE_HANDSHAKE, DEADLINES };

/* READ_BYTES: what is asked of a socket at a time, at most. */
enum { NO_SLOT = UINT32_MAX, READ_BYTES = 64 * 1024 };

/* A carry from here on is read in place; while memory is full no other becomes one. */
enum { IN_PLACE_BYTES = 8 * 1024 };

struct arrival;
struct reactor;
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
    uint8_t end;       /* enum conn_end, once ENDED */
    uint8_t queue;     /* enum deadline */
    uint8_t listener;  /* enum listener_kind: where it came in */
    uint8_t transport; /* enum transport_kind: the listener's, until it is found to speak another */
    bool again : 1;    /* listed in reactor.again */
    bool hung_up : 1;  /* the peer's end was reported: read on until it is found */
    bool input_over : 1; /* end of file or error seen */
    bool reset : 1;      /* an error: nobody will read what we write */
    bool slow_listed : 1;
    bool shaking_listed : 1; /* in reactor.shaking */
    bool stranger : 1;       /* counted in net.unbound and net.sources */
    bool forwards : 1;       /* its handshake may say for whom it is; it has no source before */
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
    void *wire; /* the transport's state; set before the connection is shown to anybody */
    struct conn *order_next; /* owned by whoever moved orders from 0 */
    /* owned by the write-side owner */
    uint8_t *pending;
    uint32_t pending_offset, pending_size, pending_capacity;
    uint32_t early_bytes; /* written before the welcome */
    void *errand; /* goes with ORDER_UNBIND (struct parting) or ORDER_RETURN (the layer above's), of
                   * which a connection gets one; freed when it comes too late. In a handshake: who
                   * the peer is (conn_name_peer) */
};

static inline const struct transport *conn_transport(const struct conn *conn)
{
    return transports[conn->transport];
}

static inline const struct codec *conn_codec(const struct conn *conn)
{
    return codecs[listener_rows[conn->listener].codec];
}

/* From now to a moment (below 0: it is past), and from a moment to now; less than 24 days. */
static inline int32_t net_ms_until(uint32_t moment_ms, uint64_t now_ms)
{
    return (int32_t)(moment_ms - (uint32_t)now_ms);
}

static inline uint32_t net_ms_since(uint32_t moment_ms, uint64_t now_ms)
{
    return (uint32_t)now_ms - moment_ms;
}

/* As net_address gives it. */
void net_address_text(const struct sockaddr_storage *address, char text[NET_ADDRESS_BYTES_MAX]);

/* The memory of a carry of that size, in any connection. */
size_t carry_room(const struct reactor *reactor, size_t size);

/* Room for what is carried over, whatever the options are, and for one read behind it. */
size_t conn_input_bytes(const struct net_options *options);

/* --- conn.c: I/O thread --- */

void conn_adopt(struct reactor *reactor, const struct arrival *arrival); /* takes its fd and peer */

/* From another process, into a slot that was claimed for it; takes the descriptor and what else it
 * is made of. It is counted as open already. */
struct conn_moved {
    int fd;
    uint8_t listener;
    uint64_t owner;
    char *peer;           /* its address, if the socket does not know it and no state has it */
    void *wire;           /* the state of a transport that is in service */
    bool fresh, forwards; /* its handshake is to come */
};
void conn_move_in(struct reactor *reactor, struct conn *conn, const struct conn_moved *moved);

/* From now on its events are the I/O thread's. 0 or -errno. */
int conn_watch(const struct reactor *reactor, const struct conn *conn);

/* The peer's address as net_address gives it; NULL: the socket has to be asked. Borrowed. */
const char *conn_peer(const struct conn *conn);

/* It is known from elsewhere than the socket (NULL: it is not); takes it. One without a handshake
 * is relayed from then on. And of one in a handshake, to be given on: the caller's. */
void conn_name_peer(struct conn *conn, char *peer);
char *conn_take_peer(struct conn *conn);

void conn_on_event(struct reactor *reactor, struct conn *conn, uint32_t events);
/* A stranger is on its way out: its room is free at once. */
void conn_leaves_strangers(struct reactor *reactor, struct conn *conn);
void conn_close(struct reactor *reactor, struct conn *conn);

/* 0: it is a stranger's from now on, and counted as that. */
void conn_set_owner(struct reactor *reactor, struct conn *conn, uint64_t owner);

/* The socket may take bytes again. */
void conn_writable(struct reactor *reactor, struct conn *conn);

/* The transport has something to say by itself. */
void conn_speak(struct reactor *reactor, struct conn *conn);

/* --- conn_end.c: I/O thread --- */

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

/* --- moved.c: there are no I/O threads --- */

/* It can go to another process, as it is now. */
bool conn_can_move(const struct conn *conn);

/* --- deadline.c: I/O thread --- */

void deadline_enter(struct reactor *reactor, struct conn *conn, enum deadline queue);
void deadline_leave(struct reactor *reactor, struct conn *conn);

/* Ends those whose output was too much for too long. */
void deadline_check_slow(struct reactor *reactor);

/* --- conn_read.c: I/O thread --- */

void conn_read(struct reactor *reactor, struct conn *conn);

/* It is read in the next round, without an event. */
void conn_read_again(struct reactor *reactor, struct conn *conn);

/* --- write.c: the write-side owner --- */

/* net_flush, also of what is the I/O thread's own again, or always was, and has been released: that
 * may wait to be carried out, or come twice. */
int write_flush(struct net *net, unsigned block, conn_handle handle, struct conn *conn);

void write_drop_pending(struct net *net, struct conn *conn);

/* What waited for the socket in another process. 0 or -ENOBUFS. */
int write_adopt(struct net *net, conn_handle handle, struct conn *conn, struct bytes waiting);

/* --- wake.c: the write-side owner --- */

/* To the connection's I/O thread; what the owner left in the connection is visible there. */
void wake_order(struct net *net, conn_handle handle, struct conn *conn, uint8_t what);

#endif
