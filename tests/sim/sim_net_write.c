/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "proto/frame.h"
#include "sim_net.h"

/* What the write-side owner does. It takes effect at once on the bytes; release, unbind and return
 * are orders, which the reactor carries out when it takes them (sim_net.c). After net_silence,
 * when the broker is being thrown away, and after a loss of power nothing has an effect.
 *
 * Here also is seen what the broker takes for handed out: the highest Message of each session. */

void net_silence(struct world *world)
{
    world->net->silent = true;
}

static bool is_silent(const struct net *net)
{
    return net->silent || world_is_dark(net->world);
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
    const struct limits *limits = &net->broker->limits;
    if (slot->pending.size + size > output_max(limits)) {
        net_wire(net, slot)->choked = true;
        count(net->world, COUNT_slow_closed);
        return die(slot, -ENOBUFS);
    }
    CHECK_DEBT(buffer_append(&slot->pending, data, size) == 0, "no memory for the simulation");
    if (slot->pending.size <= output_window(limits))
        slot->soft_ms = 0;
    else if (slot->soft_ms == 0)
        slot->soft_ms = net->world->now_ms;
    return 0;
}

int net_flush(struct net *net, unsigned block, conn_handle handle)
{
    if (is_silent(net))
        return 0;
    struct slot *slot = net_owned(net, handle);
    if (slot->dead)
        return -EPIPE;
    int taken = push(net, slot, slot->pending.data, slot->pending.size);
    if (taken < 0)
        return taken;
    buffer_consume(&slot->pending, (size_t)taken);
    if (slot->pending.size <= output_window(&net->broker->limits))
        slot->soft_ms = 0;
    slot->wants_write = slot->pending.size > 0;
    return 0;
}

/* A Message begins with its own tag, because it has no id. */
static void watch_frame(struct world *world, const struct wire *wire, struct bytes frame)
{
    struct user *user = &world->users[wire->user];
    const uint8_t message_tag = 3 << 3 | 2;
    if (frame.size == 0 || frame.data[0] != message_tag)
        return;
    Usher__V1__BrokerFrame *read = usher__v1__broker_frame__unpack(NULL, frame.size, frame.data);
    CHECK(read != NULL);
    if (read->message->seq != 0) {
        user->written_epoch = user->epoch;
        user->written_seq = read->message->seq;
    }
    stored_handed_out(world, wire, read->message);
    usher__v1__broker_frame__free_unpacked(read, NULL);
}

static void watch(struct net *net, const struct slot *slot, const void *data, size_t size)
{
    struct bytes left = {data, size};
    struct bytes frame;
    size_t used;
    while (slot->owner != 0 && frame_next(left, SIZE_MAX, &frame, &used) == 1) {
        watch_frame(net->world, net_wire(net, slot), frame);
        left = (struct bytes){left.data + used, left.size - used};
    }
}

int net_write(struct net *net, unsigned block, conn_handle handle, const void *data, size_t size)
{
    if (is_silent(net))
        return 0;
    struct slot *slot = net_owned(net, handle);
    watch(net, slot, data, size);
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

struct net_loss net_loss(struct net *net, conn_handle handle)
{
    return (struct net_loss){.silent_ms = 0};
}

uint32_t net_waiting(struct net *net, conn_handle handle)
{
    if (is_silent(net))
        return 0;
    const struct slot *slot = net_owned(net, handle);
    return slot->dead ? NET_DEAD : (uint32_t)slot->pending.size;
}

/* A socket that is heard of and read sends at once what it takes. */
uint32_t net_unsent(struct net *net, conn_handle handle)
{
    uint32_t size = net_waiting(net, handle);
    if (size > 0 || is_silent(net))
        return size;
    const struct wire *wire = net_wire(net, net_owned(net, handle));
    bool stuck = wire->slow || wire->lag_until_ms > net->world->now_ms;
    return stuck ? (uint32_t)wire->down.size : 0;
}

void net_welcome(struct net *net, conn_handle handle)
{
    if (!is_silent(net))
        net_owned(net, handle)->welcomed = true;
}

/* Who is sent away is told why by a Close before it, whatever speaks below. */
void net_farewell(struct net *net, conn_handle handle, uint32_t reason, const char *detail)
{
    if (!is_silent(net))
        CHECK(net_owned(net, handle) != NULL && reason != 0 && detail != NULL);
}

void net_release(struct net *net, conn_handle handle)
{
    if (is_silent(net))
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
    if (is_silent(net))
        return;
    struct slot *slot = net_owned(net, handle);
    if (slot->parting.size == 0)
        CHECK_DEBT(buffer_append(&slot->parting, last_words, size) == 0,
                   "no memory for the simulation");
    slot->orders |= ORDER_UNBIND;
}

void net_return(struct net *net, conn_handle handle, void *item)
{
    if (is_silent(net)) {
        free(item);
        return;
    }
    struct slot *slot = net_owned(net, handle);
    CHECK(slot->returned == NULL);
    slot->returned = item;
    slot->orders |= ORDER_RETURN;
    tell(net->world, "net returns wire %d", slot->wire);
}

void net_consumed(struct net *net, conn_handle handle)
{
    struct slot *slot = is_silent(net) ? NULL : net_slot(net, handle);
    if (slot != NULL)
        slot->chunks_done++;
}
