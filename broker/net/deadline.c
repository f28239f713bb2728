/* SPDX-License-Identifier: Apache-2.0 */
#include "net/private.h"

/* The deadlines of connections. Those of one kind wait equally long, so each kind is a list in
 * order of entry; who has too much output for too long is looked at one by one. When they are due
 * is the reactor's. */

void deadline_enter(struct reactor *reactor, struct conn *conn, enum deadline which)
{
    struct deadline_queue *queue = &reactor->queues[which];
    CHECK(on_io_thread(reactor) && conn->queue == DEADLINES);
    conn->queue = (uint8_t)which;
    conn->due_ms = (uint32_t)reactor->now_ms + queue->wait_ms;
    conn->previous = queue->last;
    conn->next = NO_SLOT;
    if (queue->last != NO_SLOT)
        slot_conn(reactor, queue->last)->next = conn->slot;
    else
        queue->first = conn->slot;
    queue->last = conn->slot;
}

void deadline_leave(struct reactor *reactor, struct conn *conn)
{
    if (conn->queue == DEADLINES)
        return;
    struct deadline_queue *queue = &reactor->queues[conn->queue];
    uint32_t *to_it =
        conn->previous != NO_SLOT ? &slot_conn(reactor, conn->previous)->next : &queue->first;
    uint32_t *back_to_it =
        conn->next != NO_SLOT ? &slot_conn(reactor, conn->next)->previous : &queue->last;
    CHECK(on_io_thread(reactor) && *to_it == conn->slot && *back_to_it == conn->slot);
    *to_it = conn->next;
    *back_to_it = conn->previous;
    conn->queue = DEADLINES;
}

void deadline_check_slow(struct reactor *reactor)
{
    uint32_t limit = limits_output_soft_ms(reactor->net->options.limits);
    size_t kept = 0;
    for (size_t i = 0; i < reactor->slow.count; i++) {
        struct conn *conn = slot_find(reactor->net, reactor->slow.items[i]);
        if (conn == NULL)
            continue;
        CHECK(conn->slow_listed);
        uint32_t since = atomic_load_explicit(&conn->soft_since, memory_order_relaxed);
        if (since == 0) {
            conn->slow_listed = false;
        } else if ((int32_t)((uint32_t)reactor->read_ms - since) >= (int32_t)limit) {
            conn->slow_listed = false;
            conn_end(reactor, conn, CONN_SLOW);
        } else {
            reactor->slow.items[kept++] = reactor->slow.items[i];
        }
    }
    reactor->slow.count = kept;
}
