/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_SIM_SIM_NET_H
#define USHER_SIM_SIM_NET_H

/* Private to sim_net.c (the reactors and the read side) and sim_net_write.c (the write side). */

#include "base/check.h"
#include "sim.h"

enum slot_state { SLOT_FREE, SLOT_OPEN, SLOT_ENDED, SLOT_CLOSING };

enum {
    SLOTS = 64,
    REACTORS_MAX = 2,
    BUSY_CHUNKS = 8,
    READ_BYTES = 700,
    ORDER_RELEASE = 1,
    ORDER_UNBIND = 2,
    ORDER_RETURN = 4
};

struct slot {
    enum slot_state state;
    uint32_t generation;
    int wire;
    uint64_t owner;
    void *returned; /* of ORDER_RETURN */
    void *kept;
    struct buffer carry, pending, parting;
    enum conn_end end;
    unsigned orders;
    bool dead, wants_write, welcomed, input_over, reset, served;
    bool delayed; /* behind a request that is being judged */
    uint32_t unbound_bytes, chunks_given, chunks_done;
    uint64_t heard_ms, opened_ms, linger_ms, soft_ms; /* soft: over the limit since; 0: is not */
    /* BUG_REORDER: a batch that was held back */
    struct buffer held;
    uint64_t bound_order;
};

struct reactor {
    struct thread *thread;
    uint64_t now_ms;
    unsigned events_left;
    bool in_batch;
};

struct net {
    struct world *world;
    struct broker *broker;
    struct net_events events; /* its */
    bool silent;
    unsigned reactor_count;
    struct reactor reactors[REACTORS_MAX];
    struct slot slots[SLOTS];
    uint64_t bound_order;
};

static inline struct wire *net_wire(struct net *net, const struct slot *slot)
{
    return &net->world->wires[slot->wire];
}

static inline struct slot *net_slot(struct net *net, conn_handle handle)
{
    struct slot *slot = &net->slots[handle & 0xffffff];
    return slot->generation == (uint32_t)(handle >> 32) ? slot : NULL;
}

static inline struct slot *net_owned(struct net *net, conn_handle handle)
{
    struct slot *slot = net_slot(net, handle);
    CHECK(slot != NULL && slot->state != SLOT_FREE);
    return slot;
}

#endif
