/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "net/private.h"

/* How other threads reach an I/O thread: two lists (orders, adopted descriptors) and one eventfd.
 *
 * A wake-up is written only when the thread may be asleep: it announces `sleeping` and then looks
 * at the lists again before it waits, and whoever adds to a list afterwards sees the announcement.
 * Both sides use sequentially consistent operations on the list and on `sleeping`, so one of them
 * sees the other.
 *
 * Orders to the I/O thread are bits in the connection; whoever sets the first one pushes the
 * connection onto the reactor's list, so an order costs no allocation. */

static void ring(struct reactor *reactor)
{
    uint64_t one = 1;
    ssize_t written = write(reactor->wake, &one, sizeof(one));
    (void)written; /* a full counter wakes as well */
}

void wake_reactor(struct reactor *reactor)
{
    if (!atomic_load_explicit(&reactor->sleeping, memory_order_seq_cst))
        return;
    if (atomic_exchange_explicit(&reactor->sleeping, false, memory_order_seq_cst))
        ring(reactor);
}

/* Always written, asleep or not: what the caller has left for the layer above is on none of our
 * lists, so the look before the sleep would not find it. */
void net_wake(struct net *net, conn_handle handle)
{
    ring(reactor_of(net, handle));
}

void net_wake_all(struct net *net)
{
    for (unsigned i = 0; i < net->options.reactors; i++)
        ring(&net->reactors[i]);
}

void wake_order(struct net *net, conn_handle handle, struct conn *conn, uint8_t what)
{
    struct reactor *reactor = reactor_of(net, handle);
    /* Release: what the owner left in the connection is visible to the I/O thread, which takes
     * the bits with acquire. */
    if (atomic_fetch_or_explicit(&conn->orders, what, memory_order_acq_rel) != 0)
        return;
    struct conn *head = atomic_load_explicit(&reactor->orders, memory_order_relaxed);
    do {
        conn->order_next = head;
    } while (!atomic_compare_exchange_weak_explicit(&reactor->orders, &head, conn,
                                                    memory_order_seq_cst, memory_order_relaxed));
    wake_reactor(reactor);
}

bool wake_give(struct reactor *to, const struct arrival *arrival)
{
    lock_take(&to->adopt_lock);
    if (to->adopted_count == to->adopted_capacity) {
        size_t capacity = to->adopted_capacity ? to->adopted_capacity * 2 : 64;
        struct arrival *bigger = realloc(to->adopted, capacity * sizeof(*bigger));
        if (bigger == NULL) {
            lock_give(&to->adopt_lock);
            arrival_drop(arrival);
            return false;
        }
        to->adopted = bigger;
        to->adopted_capacity = capacity;
    }
    to->adopted[to->adopted_count++] = *arrival;
    lock_give(&to->adopt_lock);
    ring(to);
    return true;
}
