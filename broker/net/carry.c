/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/memory.h"
#include "net/carry.h"
#include "net/private.h"

/* What is carried over stands in front of what is read next. A little is copied there; more than
 * IN_PLACE_BYTES is not: the bytes are read behind it where it is, in memory that doubles. So the
 * end of a large frame costs what its bytes are worth, in however small pieces it comes. While
 * memory is full nothing more is carried than there is a place for: what is larger waits in its
 * socket until all of it is there, and those who keep the most already are ended (evict.c). */

/* The memory of a carry of that size: always more than that, when it is read in place. */
size_t carry_room(const struct reactor *reactor, size_t size)
{
    size_t most = reactor->input_bytes - READ_BYTES + 1;
    size_t room = IN_PLACE_BYTES;
    if (size < IN_PLACE_BYTES)
        return size;
    while (room <= size)
        room *= 2;
    return room < most ? room : most;
}

static void set_carry_size(struct conn *conn, uint32_t size)
{
    atomic_store_explicit(&conn->carry_size, size, memory_order_relaxed);
}

void carry_drop(struct reactor *reactor, struct conn *conn)
{
    CHECK(on_io_thread(reactor) && (conn->carry != NULL) == (carry_size(conn) > 0));
    memory_account(MEMORY_OF_INPUT, -(int64_t)carry_room(reactor, carry_size(conn)));
    free(conn->carry);
    conn->carry = NULL;
    set_carry_size(conn, 0);
}

bool carry_in_place(const struct reactor *reactor, const struct conn *conn)
{
    return carry_room(reactor, carry_size(conn)) > carry_size(conn);
}

void carry_keep(struct reactor *reactor, struct conn *conn, struct bytes rest)
{
    if (rest.size == 0) {
        carry_drop(reactor, conn);
        return;
    }
    CHECK(rest.size <= reactor->input_bytes);
    size_t before = carry_room(reactor, carry_size(conn));
    size_t room = carry_room(reactor, rest.size);
    bool in_place = carry_in_place(reactor, conn);
    if (in_place && rest.data != conn->carry)
        memmove(conn->carry, rest.data, rest.size);
    uint8_t *carry = room != before ? realloc(conn->carry, room) : conn->carry;
    if (carry == NULL) {
        memory_refused();
        conn_end(reactor, conn, CONN_STARVED);
        return;
    }
    memory_account(MEMORY_OF_INPUT, (int64_t)room - (int64_t)before);
    if (!in_place)
        memcpy(carry, rest.data, rest.size);
    conn->carry = carry;
    set_carry_size(conn, (uint32_t)rest.size);
}

struct carry_place carry_place(struct reactor *reactor, struct conn *conn)
{
    size_t have = carry_size(conn);
    if (carry_in_place(reactor, conn))
        return (struct carry_place){conn->carry, have, carry_room(reactor, have)};
    CHECK(have < reactor->input_bytes);
    if (have > 0)
        memcpy(reactor->input, conn->carry, have);
    return (struct carry_place){reactor->input, have, reactor->input_bytes};
}

/* The size of the frame whose beginning is carried, if the rest of it waits in the socket: it is
 * taken and gone at once. The transport may have taken some of it from there already. 0: it has not
 * come. */
static size_t arrived_frame(const struct conn *conn, const struct carry_place *place)
{
    int waiting;
    size_t whole = conn_codec(conn)->arriving((struct bytes){place->data, place->have});
    if (whole == 0 || ioctl(conn->fd, FIONREAD, &waiting) != 0)
        return 0;
    size_t there = place->have + (size_t)waiting + conn_transport(conn)->ahead_bytes;
    return whole <= there && whole <= place->room ? whole : 0;
}

bool carry_keep_within(const struct conn *conn, struct carry_place *place, bool carried)
{
    size_t most = (carried ? place->room : IN_PLACE_BYTES) - 1;
    size_t whole = carried ? 0 : arrived_frame(conn, place);
    place->room = whole > most ? whole : most;
    return place->have < place->room;
}
