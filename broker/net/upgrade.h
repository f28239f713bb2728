/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_UPGRADE_H
#define USHER_NET_UPGRADE_H

/* Private to net/: the head of the HTTP request with which a WebSocket begins, what it asks for,
 * and what is answered (RFC 9112, RFC 6455 4.2; docs/protocol.md). Pure, but for the memory of
 * answers. Any thread; never blocks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/bytes.h"

/* All are borrowed for the call. */
struct upgrade_rules {
    const char *path;           /* of WebSocket; what is not /health beside it is 404 */
    const char *const *origins; /* as ws.origins has them; none: any, */
    size_t origins_count;
    bool open;     /* but while auth.mode is open only those of the same machine */
    bool draining; /* what /health says */
    size_t head_bytes;
};

enum upgrade_verdict {
    UPGRADE_AWAITED, /* the end of the head has not come */
    UPGRADE_ACCEPTED,
    UPGRADE_HEALTH, /* somebody looked whether we are well: an answer, and no fault of his */
    UPGRADE_REFUSED,
};

/* Lines of X-Forwarded-For that are kept: the last ones, since who reads them begins there. */
enum { UPGRADE_FORWARDED_MAX = 8 };

/* Texts are borrowed from the input; but for the reason all are empty where there was none. */
struct upgrade {
    enum upgrade_verdict verdict;
    unsigned status;    /* of the answer; 0: awaited */
    const char *reason; /* of a refusal, for the answer and the log: a constant */
    size_t size;        /* of the head; awaited: of what has been looked at */
    struct bytes key;
    struct bytes origin;
    struct bytes forwarded[UPGRADE_FORWARDED_MAX]; /* in their order */
    size_t forwarded_count;
    bool protocol; /* usher.v1 was offered */
    bool head;     /* the answer has no body */
    bool health;
};

/* Judges the head at the front of all that has come so far. `upgrade` is zeroed for the first call
 * for a head, and what the last one left for the next; then only new bytes are looked at, until all
 * are there. A head is judged when it is whole, or larger than head_bytes, or has a line feed
 * without a carriage return. */
void upgrade_judge(struct bytes input, const struct upgrade_rules *rules, struct upgrade *upgrade);

/* Appends the whole answer to a head that is not awaited any more. 0 or -ENOMEM. */
int upgrade_answer(struct buffer *out, const struct upgrade *upgrade);

/* Appends all values of X-Forwarded-For as one list. 0 or -ENOMEM. */
int upgrade_forwarded(struct buffer *out, const struct upgrade *upgrade);

/* Appends the answer to somebody who is refused unread: 503. `detail` is a line for the body.
 * 0 or -ENOMEM. */
int upgrade_overloaded(struct buffer *out, uint32_t retry_after_ms, const char *detail);

/* Appends the answer to HTTP where none is spoken: 426 with a line that says what is, and by which
 * option WebSocket is, where (NULL: nowhere, that is not set). 0 or -ENOMEM. */
int upgrade_wrong_port(struct buffer *out, const char *spoken, const char *option,
                       const char *where);

/* Whether these first bytes begin a request of HTTP, by its method. *awaited: they are too few to
 * tell. */
bool upgrade_is_http(struct bytes input, bool *awaited);

#endif
