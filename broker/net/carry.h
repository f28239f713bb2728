/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_NET_CARRY_H
#define USHER_NET_CARRY_H

/* Private to net/: the beginning of a frame whose rest has not come, which a connection carries
 * from one read to the next. Everything here belongs to its I/O thread, but for its size, which
 * whoever looks for the largest may read. Counts as held (base/memory.h). */

#include "net/conn.h"
#include "proto/bytes.h"

/* What was carried over, where the next bytes are read behind it. */
struct carry_place {
    uint8_t *data;
    size_t have, room;
};

static inline uint32_t carry_size(const struct conn *conn)
{
    return atomic_load_explicit(&conn->carry_size, memory_order_relaxed);
}

/* So much that what is read next is read behind it. */
bool carry_in_place(const struct reactor *reactor, const struct conn *conn);

struct carry_place carry_place(struct reactor *reactor, struct conn *conn);

/* While memory is full: no more than that place bears, or the little that is carried by copying,
 * unless the frame is all there. False: it is taken. */
bool carry_keep_within(const struct conn *conn, struct carry_place *place, bool carried);

/* The rest of what was read, which may be where it is carried already. Without memory the
 * connection is ended. */
void carry_keep(struct reactor *reactor, struct conn *conn, struct bytes rest);

void carry_drop(struct reactor *reactor, struct conn *conn);

#endif
