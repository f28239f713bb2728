/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "sim_net.h"

/* What the write-side owner does. It takes effect at once on the bytes; release, unbind and rebind
 * are orders, which the reactor carries out when it takes them (sim_net.c). After net_silence,
 * when the broker is being thrown away, nothing has an effect. */

void net_silence(struct world *world)
{
    world->net->silent = true;
}

static int die(struct slot *slot, int error)
{
    slot->dead = true;
    buffer_fini(&slot->pending);
    return error;
}

/* How many bytes the way down took; -EPIPE when nobody is there. */
static int push(struct net *net, struct slot *slot, const uint8_t *data, size_t size)
{
    struct wire *wire = net_wire(net, slot);
    if (wire->reset && wire->end_visible_ms <= net->world->now_ms)
        return die(slot, -EPIPE);
    size_t room = wire->down_room > wire->down.size ? wire->down_room - wire->down.size : 0;
    size_t taken = size < room ? size : room;
    CHECK_DEBT(buffer_append(&wire->down, data, taken) == 0, "no memory for the simulation");
    return (int)taken;
}

static int keep(struct net *net, struct slot *slot, const uint8_t *data, size_t size)
{
    const struct options *options = net->broker->options;
    if (slot->pending.size + size > options->limits_output_bytes) {
        net_wire(net, slot)->choked = true;
        return die(slot, -ENOBUFS);
    }
    CHECK_DEBT(buffer_append(&slot->pending, data, size) == 0, "no memory for the simulation");
    if (slot->pending.size <= options->limits_output_soft_bytes)
        slot->soft_ms = 0;
    else if (slot->soft_ms == 0)
        slot->soft_ms = net->world->now_ms;
    return 0;
}

int net_flush(struct net *net, unsigned block, conn_handle handle)
{
    if (net->silent)
        return 0;
    struct slot *slot = net_owned(net, handle);
    if (slot->dead)
        return -EPIPE;
    int taken = push(net, slot, slot->pending.data, slot->pending.size);
    if (taken < 0)
        return taken;
    buffer_consume(&slot->pending, (size_t)taken);
    if (slot->pending.size <= net->broker->options->limits_output_soft_bytes)
        slot->soft_ms = 0;
    slot->wants_write = slot->pending.size > 0;
    return 0;
}

int net_write(struct net *net, unsigned block, conn_handle handle, const void *data, size_t size)
{
    if (net->silent)
        return 0;
    struct slot *slot = net_owned(net, handle);
    if (slot->dead)
        return -EPIPE;
    if (net->world->options.bug == BUG_LOST_WRITE && slot->welcomed && one_in(net->world, 40))
        return 0;
    if (slot->pending.size > 0)
        return keep(net, slot, data, size);
    int taken = push(net, slot, data, size);
    if (taken < 0 || (size_t)taken == size)
        return taken < 0 ? taken : 0;
    int error = keep(net, slot, (const uint8_t *)data + taken, size - (size_t)taken);
    if (error == 0)
        slot->wants_write = true;
    return error;
}

void net_welcome(struct net *net, conn_handle handle)
{
    if (!net->silent)
        net_owned(net, handle)->welcomed = true;
}

void net_release(struct net *net, conn_handle handle)
{
    if (net->silent)
        return;
    struct slot *slot = net_slot(net, handle);
    if (slot == NULL)
        return; /* released before */
    bool kept = net->world->options.bug == BUG_KEEP_OPEN && slot->state == SLOT_OPEN &&
                one_in(net->world, 4);
    if (!kept)
        slot->orders |= ORDER_RELEASE;
}

void net_unbind(struct net *net, conn_handle handle, const void *last_words, size_t size)
{
    if (net->silent)
        return;
    struct slot *slot = net_owned(net, handle);
    if (slot->parting.size == 0)
        CHECK_DEBT(buffer_append(&slot->parting, last_words, size) == 0,
                   "no memory for the simulation");
    slot->orders |= ORDER_UNBIND;
}

void net_rebind(struct net *net, conn_handle handle, uint64_t owner)
{
    if (net->silent)
        return;
    struct slot *slot = net_owned(net, handle);
    slot->next_owner = owner;
    slot->orders |= ORDER_REBIND;
    tell(net->world, "net rebinds wire %d", slot->wire);
}

void net_consumed(struct net *net, conn_handle handle)
{
    struct slot *slot = net->silent ? NULL : net_slot(net, handle);
    if (slot != NULL)
        slot->chunks_done++;
}
