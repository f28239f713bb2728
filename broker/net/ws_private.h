/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_WS_PRIVATE_H
#define USHER_NET_WS_PRIVATE_H

/* Private to the files of WebSocket (ws.c in service, ws_upgrade.c its handshake, ws_plain.c and
 * ws_tls.c what it stands upon): the state of a connection, and what they ask of each other. */

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/check.h"
#include "net/transport.h"
#include "net/upgrade.h"
#include "net/ws.h"
#include "net/ws_frame.h"
#include "proto/bytes.h"

enum {
    HEADER_SENT = UINT8_MAX,
    PEER_BYTES = 56, /* of an address with its port */
};

/* A control frame, header and all. */
struct words {
    uint16_t size, said;
    uint8_t bytes[];
};

enum { CLOSING = 1 }; /* beside the pointer: it goes when all is written */

/* What there is up to the end of the handshake: the head, then the answer. */
struct head {
    struct transport_fault fault;
    struct upgrade upgrade; /* how far it has been looked at */
    size_t size, said, room;
    uint8_t bytes[];
};

enum phase { PHASE_HEAD, PHASE_ACCEPTED, PHASE_REFUSED, PHASE_OPEN };

/* Why nothing more is read. */
enum end {
    END_NOT,
    END_CLOSE,
    END_PROTOCOL,
    END_TEXT,
    END_UTF8,
    END_LARGE,
    END_FRAGMENTS,
    END_FLOOD,
    END_MEMORY
};

/* What is said and given back for each of them. */
extern const struct ending {
    uint16_t code;
    int result; /* of the read */
    const char *reason;
} websocket_endings[];

struct ws {
    _Atomic uintptr_t words; /* shared: struct words, perhaps CLOSING */
    union {
        struct words *saying; /* owned by the write-side owner */
        struct head *head;    /* until PHASE_OPEN; owned by the I/O thread */
    };
    struct ws_reader reader; /* owned by the I/O thread */
    /* owned by the write-side owner */
    uint32_t announced;
    uint8_t header_sent; /* of the message in progress; HEADER_SENT: all of it */
    /* owned by the I/O thread */
    uint8_t phase : 2;
    uint8_t end : 4;
    bool pinged : 1;    /* and has not been heard since */
    bool owes_pong : 1; /* which costs him nothing: we have asked for it */
    union {
        uint8_t controls; /* so many control frames in that second */
        bool claims;      /* until PHASE_OPEN: he may say for whom he is, when there is a head */
    };
    uint8_t controls_s : 7;
    bool named : 1; /* PEER_BYTES stand behind the state: the peer's address as text */
};

static_assert(sizeof(struct ws) <= 56, "each user of a browser has one");

/* What is below: plain or TLS. */
struct under {
    const struct transport *transport;
    ssize_t (*gather)(int fd, void *lower, struct iovec parts[2]);
};

struct place {
    const struct under *under;
    int fd;
    void *lower; /* the state of what is below */
};

static inline void put_peer(void *behind, const char *peer)
{
    CHECK(strlen(peer) < PEER_BYTES);
    memcpy(behind, peer, strlen(peer) + 1);
}

/* --- ws.c: in service ------------------------------------------------------------------------- */

/* As transport.h has them; settle with `closing`: the Close too, since all is written. */
ssize_t websocket_read(const struct place *place, struct ws *ws, struct transport_read *read);
ssize_t websocket_write(const struct place *place, struct ws *ws, const void *data, size_t size);
int websocket_settle(const struct place *place, struct ws *ws, bool closing);
int websocket_shut(const struct place *place, struct ws *ws);
bool websocket_rouse(void *state);
void websocket_farewell(void *state, uint32_t reason, const char *detail);

/* To what is below; -EAGAIN when it takes nothing now. */
ssize_t websocket_write_below(const struct place *place, const uint8_t *data, size_t size);

/* Gives back what it holds, but not itself. */
void websocket_fini(struct ws *ws);

/* --- ws_moved.c: it goes over to another process; between two calls of any other */

/* As transport.h has them; the second fills what is zeroed but for `named`. */
bool websocket_pack(const struct ws *ws, Usher__V1__HandoverWebSocket *to);
bool websocket_unpack(struct ws *ws, const Usher__V1__HandoverWebSocket *from);

/* Words of that many bytes; NULL without memory. */
struct words *websocket_words(const uint8_t *bytes, size_t size);

/* --- ws_upgrade.c: the handshake, on the I/O thread ------------------------------------------- */

int websocket_shake(const struct place *place, const struct ws_site *site, struct ws *ws);
int websocket_claim(const struct ws *ws, struct buffer *list);
int websocket_go_on(const struct ws_site *site, struct ws *ws, const char *refusal,
                    uint32_t retry_after_ms);
bool websocket_expire(struct ws *ws);
struct transport_fault websocket_fault(const struct ws *ws);

/* What is left of the answer. 0; -EAGAIN; or what broke it. */
int websocket_say_answer(const struct place *place, struct head *head);
void websocket_head_free(struct head *head); /* NULL is fine */

#endif
