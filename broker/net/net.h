/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_NET_H
#define USHER_NET_NET_H

/* Client connections: bytes in, whole frames up; bytes down, one write per call. One listener for
 * each row of base/listeners.def; by which a connection came makes no difference for who uses it,
 * and is told for people alone. One whose transport has a handshake (TLS) shows itself when that is
 * done.
 *
 * Each connection belongs to one I/O thread (a reactor), which alone reads from it and closes it.
 * Its *write side* belongs to one owner at a time: the I/O thread while the connection is
 * unbound, and the running turn of the actor it is bound to from net_bind on, until that one
 * calls net_release or net_unbind. The write-side owner may write from whichever thread it runs
 * on; the descriptor stays open until it has let go.
 *
 * A connection is known by its handle (generation, reactor, slot). Calls are meant for the
 * write-side owner, so a stale handle is a broken invariant, but for net_release's repetition.
 * This layer knows frames and their limits, nothing of users or actors. */

#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/limits.h"
#include "base/listeners.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/prefixes.h"
#include "handover.pb-c.h"
#include "proto/bytes.h"

typedef uint64_t conn_handle; /* 0: none */

enum { NET_REACTORS_MAX = 64, NET_ADDRESS_BYTES_MAX = 56 };

/* Why the I/O thread gives a connection up. */
enum conn_end {
    CONN_LOST = 1,     /* end of file or an error */
    CONN_BROKEN_FRAME, /* a length that cannot be */
    CONN_FRAME_TOO_LARGE,
    CONN_PRELOGIN_BYTES, /* too many, in or out, before it was bound */
    CONN_LOGIN_DEADLINE,
    CONN_SILENT,         /* nothing came for silence_ms */
    CONN_SLOW,           /* output above the soft limit for too long */
    CONN_STOPPING,       /* unbound while net_stop_accepting was called */
    CONN_EVICTED,        /* its output was the largest when that of all was too much */
    CONN_CROWDING,       /* the same, when the memory of all was full */
    CONN_STARVED,        /* there was no memory for what it sends */
    CONN_DISPLACED,      /* unbound and idle when a newcomer wanted its room */
    CONN_BROKEN_MESSAGE, /* against the rules of its transport */
    CONN_FRAGMENTS,      /* the same: a frame in too many pieces */
    CONN_CONTROL_FLOOD,  /* too much that says nothing */
};

/* All are called on the connection's I/O thread. `thread` is that of net_options.threads. */
struct net_events {
    void *context;

    /* A batch begins: the time, once for all of it. */
    void (*on_begin)(void *context, void *thread, uint64_t now_ms);

    /* Whole frames, each with its length, borrowed for the call. `owner` is what net_bind gave
     * (0: unbound); `welcomed`: they came after net_welcome. The receiver says net_consumed when
     * it is done with them.
     *
     * Of an unbound connection it is one frame at a time. While something is kept for it
     * (net_keep), and from net_bind until net_welcome, net_unbind or net_return, nothing is given:
     * what comes meanwhile waits for the answer to what came before. */
    void (*on_frames)(void *context, void *thread, conn_handle conn, uint64_t owner,
                      struct bytes frames, bool welcomed);

    /* Nothing more will be read from it. Whoever owns the write side may still write, and must
     * release it. */
    void (*on_end)(void *context, void *thread, conn_handle conn, uint64_t owner,
                   enum conn_end end);

    /* Output waits and the socket takes bytes again: the write-side owner calls net_flush. Only
     * for bound connections. */
    void (*on_writable)(void *context, void *thread, conn_handle conn, uint64_t owner);

    /* What net_return gave, on an unbound connection: to be bound or answered, as its frames are.
     * Comes before whatever the peer sends or ends later; an end that came before is told after. */
    void (*on_returned)(void *context, void *thread, conn_handle conn, void *item);

    /* The batch is over: run what it caused. True: something is left, come back at once. */
    bool (*on_batch_end)(void *context, void *thread);
};

/* Where one listener is to be: a socket that listens already (0: none), or else at that address:
 * HOST:PORT, numeric host or name; port 0 for any; NULL or "": nowhere. Nowhere at all is an error,
 * unless the first one's address is NULL. */
struct net_listen {
    const char *address;
    int fd;
};

struct net_options {
    struct net_listen listen[LISTENERS];
    const char *tls_certificate_file; /* PEM, with those that signed it; when a listener needs it */
    const char *tls_key_file;
    const char *tls_client_ca_file; /* "": clients show no certificates */
    const char *ws_path;            /* where WebSocket is; borrowed until net_close */
    const char *const *ws_origins;  /* the pages that may; borrowed too */
    size_t ws_origins_count;        /* 0: any; */
    bool ws_strict;                 /* then those of this host alone */
    unsigned reactors;
    void *threads[NET_REACTORS_MAX];
    /* limits.prelogin_*, handshakes, frame_bytes, output_* and the deadlines. They hold for what
     * comes from then on; nobody who is in is thrown out by a lower one at once. */
    const struct limits *limits;
    uint32_t connections_max;
    uint32_t unbound_age_ms; /* so old is who goes when prelogin_*, handshakes are full and a
                                newcomer comes */
    uint32_t silence_ms;
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
};

struct net;

/* Who is believed when he says for whom a connection is. One from `proxies` has to begin with a
 * PROXY header, before TLS and everything else, and is taken for that of whom it names. One from
 * `forwarders`, where HTTP is spoken, may name him by X-Forwarded-For. From anybody else both mean
 * nothing. Nobody at first. Any thread; holds for what is accepted from then on. */
struct net_trust {
    struct prefixes proxies, forwarders;
};
void net_set_trust(struct net *net, const struct net_trust *trust);

/* Binds and listens, but accepts nothing yet. `error` takes a line (256 bytes). -EADDRINUSE,
 * -EADDRNOTAVAIL (also for a name that no server resolves at the moment), -EACCES, -EINVAL (also
 * for files that make no TLS server), -ENOMEM and what socket and bind give; after the first two
 * it may be called again with the same options. Texts of the options are borrowed until
 * net_close. */
int net_open(struct net **net, const struct net_options *options, const struct net_events *events,
             char *error);
int net_start(struct net *net);

/* The port of one listener; 0: there is none. Any thread, also when it has stopped listening. */
uint16_t net_port(const struct net *net, enum listener_kind kind);

/* Its address, "1.2.3.4:567" or "[::1]:567", as the port. */
void net_listen_address(const struct net *net, enum listener_kind kind,
                        char text[NET_ADDRESS_BYTES_MAX]);

struct net_tls_files {
    const char *certificate, *key, *client_ca;
};

/* Reads certificate, key and client CA again, from any thread; blocks on the disk. All of them are
 * used for the handshakes that begin from then on, or, with -EINVAL and a line in `error` (256
 * bytes), none. -ENOTSUP without TLS. The names are borrowed for the call. */
int net_reload_tls(struct net *net, const struct net_tls_files *files, char *error);

/* When the TLS certificates in use are good: the latest beginning and the earliest end of the
 * chain in Unix s, and how long the one that ends first lives. False: no TLS. Any thread. */
struct net_validity {
    int64_t begins_s, ends_s, life_s;
};
bool net_certificate_validity(struct net *net, struct net_validity *validity);
bool net_has_certificate(const struct net *net);

/* Whether a front end could use these files: 0 or as above. Any thread. */
int net_check_tls(const struct net_tls_files *files, char *error);

/* Accepts nothing more and ends what is unbound; returns at once. */
void net_stop_accepting(struct net *net);

/* The same, but ports that speak HTTP go on for a while: to say that the broker drains, whatever is
 * asked there. */
void net_drain(struct net *net);

/* Ends and joins the I/O threads; then net_close frees everything, and closes what is still open
 * without telling anybody: metrics and log may be gone before it. */
void net_stop(struct net *net);
void net_close(struct net *net);

/* --- for whoever looks after the broker: any thread, nobody is stopped ----------------------- */

/* A listening TCP socket at HOST:PORT for somebody else: the descriptor, the caller's, with its
 * port; or a negative errno with a line in `error` (256 bytes) that names the option. */
int net_listen(const char *option, const char *address, uint16_t *port, char *error);

/* The state of a moment lately. */
struct net_look {
    uint64_t output_bytes; /* memory of the output that waits, of all connections */
    bool accept_paused;    /* for lack of descriptors or memory */
};
void net_look(struct net *net, struct net_look *look);

/* The bound connections with the most waiting output, the fullest first; gives how many (at most
 * `max`). Reads two numbers of every connection that there has been at a time. */
struct net_waiting {
    uint64_t owner;
    uint32_t bytes;
};
size_t net_fullest(struct net *net, struct net_waiting *fullest, size_t max);

/* --- I/O thread, inside the events -------------------------------------------------------- */

/* Before something is posted to the owner. He may be gone by then, and nothing was posted: so it
 * may be bound again, to another one, or to nobody (0) as it was. */
void net_bind(struct net *net, conn_handle conn, uint64_t owner);

uint64_t net_owner(struct net *net, conn_handle conn);

/* What the layer above remembers of an unbound connection while it judges a request of it: NULL at
 * first, and again once the connection is closed. Borrowed; nothing is done with it here. A stale
 * handle has NULL. */
void net_keep(struct net *net, conn_handle conn, void *item);
void *net_kept(struct net *net, conn_handle conn);

/* The peer's address as text, "1.2.3.4:567" or "[::1]:567"; "" when it is none of IP. Behind a
 * trusted proxy it is that of who connected to the proxy. False, and
 * "": the peer has reset the connection, so nobody can say any more who he was; its end is on the
 * way. On the connection's I/O thread. */
bool net_address(struct net *net, conn_handle conn, char text[NET_ADDRESS_BYTES_MAX]);

/* By which listener it came. On the connection's I/O thread; the handle must not be stale. */
enum listener_kind net_listener(struct net *net, conn_handle conn);

/* --- the write-side owner, any thread ------------------------------------------------------ */

/* Hands the bytes to the socket, or keeps what it does not take. 0; or nothing more will be written
 * to this connection: -ENOBUFS, over its own limit, which is limits.output_bytes behind the
 * welcome; -EDQUOT, over limits.output_total_bytes; -ENOMEM; -EPIPE, the socket is dead (on_end has
 * come or will come). `block` is the metrics block of the thread. */
int net_write(struct net *net, unsigned block, conn_handle conn, const void *data, size_t size);
int net_flush(struct net *net, unsigned block, conn_handle conn);

/* What there is to say of a connection that has ended: during on_end, on its I/O thread. */
struct net_loss {
    bool reset;        /* by an error, and not by the peer's end */
    const char *fault; /* which rule of its transport it broke: a constant; NULL: none */
    uint32_t silent_ms;
    uint32_t output_bytes; /* the memory of what waited to be sent */
};
struct net_loss net_loss(struct net *net, conn_handle conn);

/* Bytes that wait for the socket; on_writable comes while there are any. NET_DEAD: nothing goes
 * there any more. */
#define NET_DEAD UINT32_MAX
uint32_t net_waiting(struct net *net, conn_handle conn);

/* Bytes that were written and are not on their way to the peer yet: those that wait, or what the
 * socket has taken and has not sent, because the peer does not read or is not heard of. A system
 * call. NET_DEAD as above. */
uint32_t net_unsent(struct net *net, conn_handle conn);

/* Frames count as sent after the welcome from now on. */
void net_welcome(struct net *net, conn_handle conn);

/* Why it is about to be released, for a transport that says its own end (WebSocket): a Close.Reason
 * of client.proto, and its detail in UTF-8, copied. Who reads our last frame knows it from there.
 */
void net_farewell(struct net *net, conn_handle conn, uint32_t reason, const char *detail);

/* Gives the write side back. The I/O thread writes what waits, closes its side, waits for the
 * peer's end for at most linger_ms and closes. */
void net_release(struct net *net, conn_handle conn);

/* Gives the write side back and leaves the connection unbound, free to log in; the I/O thread
 * writes `last_words` (copied) once that is so, hence what the peer sends in answer finds it
 * unbound. */
void net_unbind(struct net *net, conn_handle conn, const void *last_words, size_t size);

/* Gives the write side back and leaves the connection unbound, with an item for on_returned. Takes
 * the item: memory that free() gives back when the I/O threads have ended already. */
void net_return(struct net *net, conn_handle conn, void *item);

/* The receiver of on_frames is done with one call's frames; any thread. */
void net_consumed(struct net *net, conn_handle conn);

/* Any thread, also with a stale handle: the connection's I/O thread begins a batch soon, hence
 * on_begin. What the caller wrote before is visible there. */
void net_wake(struct net *net, conn_handle conn);

/* The same for every I/O thread. */
void net_wake_all(struct net *net);

uint32_t net_count(struct net *net);

/* --- moved.c: connections go over to another process; one thread, and no I/O threads
 * --------------
 */

/* Joins the I/O threads; net_start goes on as if nothing had been. */
void net_pause(struct net *net);

/* Does what they were ordered to, and runs no turns. False: there was nothing. */
bool net_settle(struct net *net);

/* The socket of a listener; -1: there is none. */
int net_listen_fd(const struct net *net, enum listener_kind kind);

/* One connection as it goes over. Bytes and text are borrowed. */
struct net_moved {
    conn_handle handle; /* the same on both sides; 0: it waits for its PROXY header, and has only a
                           listener, a descriptor and opened_ms */
    uint64_t owner;     /* 0: unbound */
    int fd;
    uint8_t listener; /* enum listener_kind: where it came in */
    bool welcomed;
    bool fresh;                   /* nothing of its handshake has come */
    bool forwards;                /* and it may say in it for whom it is */
    uint32_t opened_ms, heard_ms; /* monotonic, which is the machine's; the low bits */
    uint32_t unbound_bytes, early_bytes;
    struct bytes carry;   /* read, and not yet a whole frame */
    struct bytes pending; /* written, and not yet taken by the socket */
    const char *peer;     /* its address, if the socket does not know it; else NULL */
    const Usher__V1__HandoverWebSocket *websocket; /* NULL: it is none */
};
typedef void net_move_each(void *context, const struct net_moved *moved);

/* Calls `each` for those that can go, in rising order of their handles of each I/O thread; gives
 * how many cannot: they end with this process. */
size_t net_move_out(struct net *net, net_move_each *each, void *context);

/* For those that could not, when the others are another process's: each is told Close(SHUTDOWN)
 * with a retry_after_ms below `spread_ms` behind all that waits for it, and ends. Waits until the
 * peers have ended too, for `linger_ms` at most. Gives how many were told. Nothing else may be done
 * with the front end afterwards. */
struct net_dismissal {
    const char *detail; /* UTF-8 */
    uint32_t spread_ms;
    uint32_t linger_ms;
};
size_t net_dismiss_left(struct net *net, const struct net_dismissal *how);

/* No connection has had a higher generation in its handle; and over there no other begins at a
 * lower one, so that handles which somebody may still remember are nobody else's. Before
 * net_move_in. */
uint32_t net_generation(struct net *net);
void net_begin_above(struct net *net, uint32_t generation);

/* Before net_start, in that order. Takes its descriptor if it gives 0; -EINVAL: it cannot be so;
 * -ENOMEM. */
int net_move_in(struct net *net, const struct net_moved *moved);

/* Has it watched from net_start on: also by another thread than that of net_move_in, while that
 * goes on with others. Once for each that came in. 0; -errno: it cannot be. */
int net_move_watch(struct net *net, conn_handle handle);

#endif
