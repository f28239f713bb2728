/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_TRANSPORT_H
#define USHER_NET_TRANSPORT_H

/* Private to net/: how the bytes of connections travel, one table of functions for each row of
 * TRANSPORT (base/listeners.def). A transport knows a descriptor, which it borrows, and a state of
 * its own for each connection; neither connections nor frames. Nothing blocks on the network.
 * Errors are negative errno. */

#include <stdbool.h>
#include <sys/types.h>

#include "base/limits.h"
#include "base/listeners.h"
#include "base/log.h"
#include "base/metrics.h"
#include "handover.pb-c.h"
#include "proto/bytes.h"

struct tls_domain;
struct ws_site;

/* What the first bytes are to a transport with a handshake. */
enum hello {
    HELLO_AWAITED, /* too few to tell */
    HELLO_FINE,    /* its own, of a sane size */
    HELLO_FOREIGN, /* none of its own */
    HELLO_LARGE,
    HELLO_END, /* the peer has closed, or the socket is broken */
};

/* What handshakes go by; it lives as long as the front end. */
struct transport_site {
    struct tls_domain *tls;   /* NULL: no listener needs one */
    const struct ws_site *ws; /* net/ws.h */
    const struct limits *limits;
};

/* How a handshake stands after a step. */
enum shaken {
    SHAKEN_NOT_YET, /* wait for the socket */
    SHAKEN_DONE,
    SHAKEN_ANSWERED, /* it ends here, with an answer that shut() writes out */
    SHAKEN_CLAIMED,  /* he may have said for whom he is: claim() and name(), then the next step */
    /* below: -EPROTO, -ECONNRESET */
};

/* Why a handshake, or what came later, was refused or failed. */
struct transport_fault {
    const char *reason; /* in words for the log: a constant; NULL: it was no fault */
    unsigned status;    /* of HTTP, or the code of a Close; 0: none was said */
    enum metric_id metric;
    enum log_event_id event;
};

/* A handshake, up to which nobody above knows of the connection. All but `fault` and `peer` belong
 * to the I/O thread. */
struct transport_handshake {
    /* Looks at the first bytes without taking them, before there is a state. */
    enum hello (*peek)(int fd);

    /* The state. `peer`, the peer's address, is copied; NULL: the socket knows it. `forwards`: he
     * may say for whom he is. NULL without memory. */
    void *(*begin)(const struct transport_site *site, int fd, const char *peer, bool forwards);

    /* One step: enum shaken. */
    int (*shake)(const struct transport_site *site, int fd, void *state);

    /* What he says of that, appended as a list of X-Forwarded-For. 1: and he would be let in; 0: he
     * will not; or -ENOMEM. NULL: nobody can say it. */
    int (*claim)(void *state, struct buffer *list);

    /* Who he is from now on (NULL: as before), and what is against it, which he is told (NULL:
     * nothing). 0 or -ENOMEM. */
    int (*name)(const struct transport_site *site, void *state, const char *peer,
                const char *refusal, uint32_t retry_after_ms);

    /* Too late: makes an answer, for shut() to write out. False, or NULL: there is none. */
    bool (*expire)(void *state);

    /* What went wrong. */
    struct transport_fault (*fault)(void *state);

    /* The last words for one who is not let in and has not been read. 0; -ENOMEM; -ENOTSUP: in this
     * language nothing can be said so early. */
    int (*refuse)(struct buffer *out, const char *detail, uint32_t retry_after_ms);

    const char *language; /* for one who speaks another: "this port speaks ..." */
    bool costly;          /* a step is worth hundreds of messages */
    bool keeps_peer;      /* also one that the socket knows: he is spoken of when he is gone */
    enum metric_id done, failed, foreign;
    enum log_event_id event; /* of what failed */
};

/* The first byte of TLS. */
enum { TLS_FIRST_BYTE = 0x16 };

/* Of one read, what is to follow. TRANSPORT_MORE: it stopped before the socket was empty, so no
 * edge will come. TRANSPORT_WRITE_AGAIN: a write waited for what was read. TRANSPORT_SPEAK: the
 * transport has something to say by itself (`settle`). TRANSPORT_FAREWELL: the end that is given is
 * one that the peer has said; the socket has not ended. */
enum {
    TRANSPORT_MORE = 1,
    TRANSPORT_WRITE_AGAIN = 2,
    TRANSPORT_SPEAK = 4,
    TRANSPORT_FAREWELL = 8,
};

struct transport_read {
    void *to;
    size_t size;
    size_t frame_bytes_max; /* what the peer may send as one frame */
    uint64_t now_ms;
    const struct limits *limits;
    /* given back */
    unsigned next;
    size_t wire_bytes; /* taken from the peer, whatever came of them */
};

struct transport {
    const struct transport_handshake *handshake; /* NULL: none */

    /* The I/O thread. Takes up to `size` bytes: how many, 0 at the peer's end, -EAGAIN (also when
     * all that came was the transport's own), -EPROTO when he broke the rules of the transport and
     * nothing can be said to him any more, or what broke it. And of one who can be told: -EBADMSG,
     * he broke the rules; -EMSGSIZE, too large; -E2BIG, in too many pieces; -EDQUOT, too many. */
    ssize_t (*read)(int fd, void *state, struct transport_read *read);

    /* The write-side owner, from any thread, also while the I/O thread reads. `data` is whole
     * frames, or what is left of some that a call did not take. How many bytes were taken, perhaps
     * fewer than `size`; -EAGAIN, and then the next call must begin with the same bytes; or what
     * broke it. */
    ssize_t (*write)(int fd, void *state, const void *data, size_t size);

    /* The write-side owner: writes what the transport has to say by itself, unless a write is half
     * done, which says it then. 0; -EAGAIN; or what broke it. NULL: it never has anything. */
    int (*settle)(int fd, void *state);

    /* The I/O thread. Asks the peer for a sign of life, one at a time; true: by something to be
     * settled. NULL: it has no such thing. */
    bool (*rouse)(void *state);

    /* The write-side owner, before it lets go: why, for an end that the transport itself says.
     * `detail` is UTF-8. The first one counts. NULL: it says none. */
    void (*farewell)(void *state, uint32_t reason, const char *detail);

    /* Says that nothing more will be written; the write-side owner, when all is written. The state
     * may be NULL: there was no handshake. 0; -EAGAIN: once more when the socket takes bytes. May
     * be called again. */
    int (*shut)(int fd, void *state);

    /* The peer's address as text, also when it is gone; NULL, or gives NULL: ask the socket. The
     * state is not NULL. */
    const char *(*peer)(const void *state);

    /* Of a connection that goes over to another process: what its state is, borrowed from it;
     * false: it cannot go. And over there the state (peer: NULL, or the address), or NULL for what
     * cannot be, and without memory. Both NULL: it has no state that can, but for the peer's
     * address. */
    bool (*pack)(const void *state, Usher__V1__HandoverWebSocket *to);
    void *(*unpack)(const Usher__V1__HandoverWebSocket *from, const char *peer);

    /* Gives the state back; no other thread uses it any more. NULL is fine. */
    void (*destroy)(void *state);

    size_t ahead_bytes; /* what a state may have taken from the socket and not given yet */
};

#define TRANSPORT(name, by_tls, by_http) extern const struct transport transport_##name;
#include "base/listeners.def"

extern const struct transport *const transports[TRANSPORTS];

#endif
