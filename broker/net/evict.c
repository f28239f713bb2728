/* SPDX-License-Identifier: Apache-2.0 */
#include "base/memory.h"
#include "net/private.h"

/* The waiting output of all connections together.
 *
 * Each has a limit of its own, but many slow readers, each within it, could fill the memory. So the
 * memory of all `pending` buffers is summed, which costs something only when a buffer is made,
 * grows or goes, that is, for connections whose socket is full. Above three quarters of the limit
 * the largest are ended, one after the other, until the rest fits: who keeps most is slowest. They
 * lose what waited; their sessions go on detached. At the limit itself, which is reached only when
 * ending is slower than filling, a write that needs more memory ends its own connection.
 *
 * The same is done when all memory is short (base/memory.h), but then only to those who keep much:
 * to end many who keep little would bring little. What a connection keeps is then also what it
 * carries of a frame that is not whole yet: nobody else would ever put an end to that, as long as
 * a byte comes now and then.
 *
 * Those who carry less than that can fill it too, being many. While memory is full no carry passes
 * IN_PLACE_BYTES, so when it has been full for FRAME_MS, whoever carries so much has not brought
 * the rest of his frame for as long, and that is enough: they go, the largest first, until memory
 * is ample. (Until it is full no longer would be a moment: those who wait would fill it again.)
 *
 * A connection is ended by its own I/O thread and nobody else, so that no handle can be stale: the
 * thread that looks reads the sizes of all, and if the largest is another's, it wakes that one to
 * look. Sizes are read while they change; what is chosen is the largest of a moment. */

enum { EVICT_BATCH = 16, LOOK_MS = 100, FRAME_MS = 10000 };

/* How much a connection must keep to be ended, and for what. */
enum {
    ANY_OUTPUT = 1,             /* output, because that of all is too much */
    OLD_FRAME = IN_PLACE_BYTES, /* what is carried, because memory was full for long */
    MUCH_BYTES = 64 * 1024      /* of both, because memory is full */
};

static uint64_t begin_above(const struct net *net)
{
    return limits_output_total_bytes(net->options.limits) / 4 * 3;
}

bool evict_account(struct net *net, struct reactor *reactor, struct conn *conn, uint32_t bytes)
{
    /* Only the write-side owner changes it. */
    uint32_t before = atomic_load_explicit(&conn->output_bytes, memory_order_relaxed);
    uint64_t max = limits_output_total_bytes(net->options.limits);
    uint64_t change = (uint64_t)bytes - before; /* may be below zero, in the arithmetic of 2^64 */
    uint64_t total =
        atomic_fetch_add_explicit(&net->output_total, change, memory_order_relaxed) + change;
    CHECK((int64_t)total >= 0);
    if (max != 0 && bytes > before && total > max) {
        atomic_fetch_sub_explicit(&net->output_total, change, memory_order_relaxed);
        return false;
    }
    atomic_store_explicit(&conn->output_bytes, bytes, memory_order_relaxed);
    memory_account(MEMORY_OF_OUTPUT, (int64_t)change);
    bool much = max != 0 && total > begin_above(net);
    if (bytes <= before || (!much && memory_level() != MEMORY_FULL))
        return true;
    /* Pairs with the exchange of the I/O thread, as an order does. */
    if (!atomic_exchange_explicit(&reactor->pressed, true, memory_order_seq_cst))
        wake_reactor(reactor);
    return true;
}

static uint64_t staying(struct net *net)
{
    /* In this order, and acquire pairs with evict_done: who has left the one has left the other. */
    uint64_t leaving = atomic_load_explicit(&net->output_evicting, memory_order_acquire);
    uint64_t total = atomic_load_explicit(&net->output_total, memory_order_relaxed);
    return total > leaving ? total - leaving : 0;
}

static bool frames_are_old(struct net *net, uint64_t now_ms)
{
    uint64_t since_ms = atomic_load_explicit(&net->full_since_ms, memory_order_relaxed);
    return since_ms != 0 && now_ms >= since_ms + FRAME_MS;
}

/* How much a connection must keep to be ended now; 0: nobody is to be. */
static uint32_t worth_ending(struct reactor *reactor)
{
    struct net *net = reactor->net;
    uint64_t max = limits_output_total_bytes(net->options.limits);
    if (max != 0 && staying(net) > begin_above(net))
        return ANY_OUTPUT;
    uint64_t leaving = atomic_load_explicit(&net->output_evicting, memory_order_acquire);
    if (frames_are_old(net, reactor->now_ms) && memory_excess(MEMORY_TIGHT) > leaving)
        return OLD_FRAME;
    return memory_excess(MEMORY_FULL) > leaving ? MUCH_BYTES : 0;
}

/* What counts when at least `least` is looked for (worth_ending). */
static uint32_t kept_by(const struct reactor *reactor, const struct conn *conn, uint32_t least)
{
    uint32_t bytes = atomic_load_explicit(&conn->output_bytes, memory_order_relaxed);
    if (least == ANY_OUTPUT)
        return bytes;
    uint32_t carry = atomic_load_explicit(&conn->carry_size, memory_order_relaxed);
    uint32_t room = (uint32_t)carry_room(reactor, carry);
    return least == OLD_FRAME && bytes + room < MUCH_BYTES ? room : bytes + room;
}

/* Of those that stay and keep at least `least`; NULL: there is none. */
static struct conn *largest_of_all(struct net *net, uint32_t least, struct reactor **owner)
{
    struct conn *largest = NULL;
    uint32_t most = least - 1;
    for (unsigned i = 0; i < net->options.reactors; i++) {
        struct reactor *reactor = &net->reactors[i];
        uint32_t made = atomic_load_explicit(&reactor->slots_made, memory_order_acquire);
        for (uint32_t slot = 0; slot < made; slot++) {
            struct conn *conn = slot_conn(reactor, slot);
            uint32_t bytes = kept_by(reactor, conn, least);
            /* Acquire: pairs with evict, so that `staying` is without it from here on. */
            if (bytes <= most || atomic_load_explicit(&conn->evicting, memory_order_acquire))
                continue;
            most = bytes;
            largest = conn;
            *owner = reactor;
        }
    }
    return largest;
}

static void evict(struct reactor *reactor, struct conn *conn, uint32_t least)
{
    struct net *net = reactor->net;
    uint32_t kept = kept_by(reactor, conn, least);
    CHECK(on_io_thread(reactor) && conn->evicted_bytes == 0 && conn->state != CONN_FREE);
    conn->evicted_bytes = atomic_load_explicit(&conn->output_bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&net->output_evicting, conn->evicted_bytes, memory_order_relaxed);
    atomic_store_explicit(&conn->evicting, true, memory_order_release);
    if (conn->state != CONN_OPEN)
        return; /* ended already: it leaves as it is */
    /* Whoever reads slowly is told so; frames that cannot be kept cost their connection. */
    bool by_output = conn->evicted_bytes >= (least == ANY_OUTPUT ? least : MUCH_BYTES);
    reactor_count(reactor, by_output ? METRIC_output_evicted : METRIC_input_evicted, 1);
    LOG(net->options.log, LIMIT_HIT,
        LOG_S("limit", least == ANY_OUTPUT ? "limits.output_total_bytes" : "limits.memory_bytes"),
        LOG_U("bytes", atomic_load_explicit(&net->output_total, memory_order_relaxed)),
        LOG_U("evicted_bytes", kept));
    conn_end(reactor, conn,
             !by_output            ? CONN_STARVED
             : least == ANY_OUTPUT ? CONN_EVICTED
                                   : CONN_CROWDING);
}

void evict_done(struct reactor *reactor, struct conn *conn)
{
    /* After it left the total, so that nobody else is taken for it in between. */
    uint64_t evicting = atomic_fetch_sub_explicit(&reactor->net->output_evicting,
                                                  conn->evicted_bytes, memory_order_release);
    CHECK(on_io_thread(reactor) && evicting >= conn->evicted_bytes);
    conn->evicted_bytes = 0;
}

/* Gives whether it is full, or still to be brought down because it was for so long. */
static bool note_full(struct net *net, uint64_t now_ms)
{
    enum memory_level level = memory_level();
    uint64_t since_ms = atomic_load_explicit(&net->full_since_ms, memory_order_relaxed);
    if (level == MEMORY_FULL && since_ms == 0)
        atomic_store_explicit(&net->full_since_ms, now_ms, memory_order_relaxed);
    if (level == MEMORY_FULL || (level == MEMORY_TIGHT && frames_are_old(net, now_ms)))
        return true;
    if (since_ms != 0)
        atomic_store_explicit(&net->full_since_ms, 0, memory_order_relaxed);
    return false;
}

bool evict_is_due(struct reactor *reactor)
{
    if (reactor->now_ms < reactor->evict_due_ms)
        return false;
    if (!note_full(reactor->net, reactor->now_ms))
        return false;
    reactor->evict_due_ms = reactor->now_ms + LOOK_MS;
    return true;
}

void evict_largest(struct reactor *reactor)
{
    struct net *net = reactor->net;
    for (unsigned i = 0; i < EVICT_BATCH; i++) {
        uint32_t least = worth_ending(reactor);
        if (least == 0)
            return;
        struct reactor *owner = NULL;
        struct conn *largest = largest_of_all(net, least, &owner);
        if (largest == NULL && least == OLD_FRAME) /* they are gone: what is begun now is new */
            atomic_store_explicit(&net->full_since_ms, 0, memory_order_relaxed);
        /* Looked at again: another thread may have ended a larger one meanwhile. */
        if (largest == NULL || worth_ending(reactor) != least)
            return;
        if (owner != reactor) {
            if (!atomic_exchange_explicit(&owner->pressed, true, memory_order_seq_cst))
                wake_reactor(owner);
            return;
        }
        evict(reactor, largest, least);
    }
    atomic_store_explicit(&reactor->pressed, true, memory_order_seq_cst);
    reactor->more = true;
}
