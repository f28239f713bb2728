/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "sim_net.h"

/* The contract of net/net.h over wires instead of sockets.
 *
 * A slot is what the broker calls a connection: it has a generation and is used again at once, so
 * that a stale handle would do harm. Slots belong to reactors, and a reactor's batch (begin,
 * orders, some events, orders, deadlines, end) is cut into steps, so that turns of other threads
 * come between any two of them, as they do with the real one. Reads and writes take any number of
 * bytes. What the write-side owner does takes effect at once on the bytes and, for release, unbind
 * and return, when the reactor takes its orders.
 *
 * The planted bugs (sim.h) sit here, each at one place. */

void net_make(struct world *world)
{
    struct net *net = calloc(1, sizeof(*net));
    CHECK_DEBT(net != NULL, "no memory for the simulation");
    net->world = world;
    net->broker = world->broker;
    net->events = ingress_net_events(&world->broker->ingress);
    net->reactor_count = world->broker->counts.io;
    for (unsigned i = 0; i < net->reactor_count; i++)
        net->reactors[i].thread = &world->broker->threads[i];
    for (unsigned i = 0; i < SLOTS; i++)
        net->slots[i].generation = 1;
    world->net = net;
    broker_join_net(world->broker, net);
}

static struct reactor *reactor_of(struct net *net, const struct slot *slot)
{
    return &net->reactors[(slot - net->slots) % net->reactor_count];
}

static conn_handle handle_of(struct net *net, const struct slot *slot)
{
    uint32_t index = (uint32_t)(slot - net->slots);
    return (uint64_t)slot->generation << 32 | (uint64_t)(index % net->reactor_count) << 24 | index;
}

uint32_t net_slots_used(struct world *world)
{
    uint32_t used = 0;
    for (unsigned i = 0; world->net != NULL && i < SLOTS; i++)
        used += world->net->slots[i].state != SLOT_FREE;
    return used;
}

static void clear_slot(struct slot *slot)
{
    buffer_fini(&slot->carry);
    buffer_fini(&slot->pending);
    buffer_fini(&slot->parting);
    buffer_fini(&slot->held);
    free(slot->returned);
    *slot = (struct slot){.generation = slot->generation + 1};
}

static void close_slot(struct net *net, struct slot *slot)
{
    struct wire *wire = net_wire(net, slot);
    wire->broker_closed = true;
    wire->choked = wire->choked || slot->pending.size > 0; /* too slow for its last frames */
    tell(net->world, "net closes wire %d", slot->wire);
    clear_slot(slot);
}

/* The kernel closes what the process had open; any part of what was written may still arrive. */
void net_forget(struct world *world)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &world->net->slots[i];
        if (slot->state == SLOT_FREE)
            continue;
        struct wire *wire = net_wire(world->net, slot);
        wire->crashed = wire->broker_closed = true;
        if (wire->down.size > 0)
            wire->down.size = below(world, (uint32_t)wire->down.size + 1);
        clear_slot(slot);
    }
    for (uint32_t i = 0; i < world->wire_count; i++)
        if (!world->wires[i].accepted)
            world->wires[i].accepted = world->wires[i].crashed = world->wires[i].broker_closed =
                true;
    free(world->net);
    world->net = NULL;
}

/* --- inside the events ------------------------------------------------------------------------ */

void net_bind(struct net *net, conn_handle handle, uint64_t owner)
{
    struct slot *slot = net_owned(net, handle);
    slot->owner = owner;
    slot->bound_order = ++net->bound_order;
}

uint64_t net_owner(struct net *net, conn_handle handle)
{
    struct slot *slot = net_slot(net, handle);
    return slot != NULL ? slot->owner : 0;
}

void net_keep(struct net *net, conn_handle handle, void *item)
{
    struct slot *slot = net_owned(net, handle);
    CHECK(slot->owner == 0);
    slot->kept = item;
}

void *net_kept(struct net *net, conn_handle handle)
{
    struct slot *slot = net_slot(net, handle);
    return slot != NULL ? slot->kept : NULL;
}

/* Batches come anyway, at any time. */
void net_wake(struct net *net, conn_handle handle)
{
}

bool net_address(struct net *net, conn_handle handle, char text[NET_ADDRESS_BYTES_MAX])
{
    struct slot *slot = net_slot(net, handle);
    int host = slot != NULL ? net_wire(net, slot)->device % DEVICES_PER_USER : 0;
    snprintf(text, NET_ADDRESS_BYTES_MAX, "10.0.0.%d:%d", host + 1, slot != NULL ? slot->wire : -1);
    return true;
}

enum listener_kind net_listener(struct net *net, conn_handle handle)
{
    return net_wire(net, net_owned(net, handle))->device % LISTENERS;
}

/* Another connection of the same user that came later; NULL: none. For planted bugs. */
static struct slot *successor(struct net *net, const struct slot *old)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &net->slots[i];
        if (slot != old && slot->state == SLOT_OPEN && slot->owner == old->owner &&
            slot->owner != 0 && slot->bound_order > old->bound_order && slot->welcomed)
            return slot;
    }
    return NULL;
}

static void report_end(struct net *net, struct slot *slot)
{
    enum sim_bug bug = net->world->options.bug;
    if (bug == BUG_LOST_END && slot->owner != 0 && one_in(net->world, 4))
        return;
    tell(net->world, "net ends wire %d: %d%s", slot->wire, slot->end,
         slot->owner == 0 ? " (unbound)" : "");
    net->events.on_end(net->events.context, reactor_of(net, slot)->thread, handle_of(net, slot),
                       slot->owner, slot->end);
}

static void end(struct net *net, struct slot *slot, enum conn_end why)
{
    if (slot->state != SLOT_OPEN || (slot->orders & ORDER_RELEASE))
        return;
    slot->state = SLOT_ENDED;
    slot->end = why;
    buffer_fini(&slot->carry);
    report_end(net, slot);
}

static void hand_up(struct net *net, struct slot *slot, struct bytes frames)
{
    struct slot *about = slot;
    if (net->world->options.bug == BUG_ZOMBIE && successor(net, slot) != NULL)
        about = successor(net, slot);
    about->chunks_given++;
    net->events.on_frames(net->events.context, reactor_of(net, slot)->thread, handle_of(net, about),
                          about->owner, frames, about->welcomed && !slot->delayed);
}

/* The planted bugs of the way up; true: the frames were dealt with. */
static bool mistreat(struct net *net, struct slot *slot, struct bytes frames)
{
    enum sim_bug bug = net->world->options.bug;
    if (!slot->welcomed || slot->owner == 0)
        return false;
    if (bug == BUG_TWICE && one_in(net->world, 12))
        hand_up(net, slot, frames);
    if (bug != BUG_REORDER)
        return false;
    if (slot->held.size == 0 && one_in(net->world, 4)) {
        CHECK_DEBT(buffer_append(&slot->held, frames.data, frames.size) == 0, "no memory");
        return true;
    }
    hand_up(net, slot, frames);
    if (slot->held.size > 0)
        hand_up(net, slot, (struct bytes){slot->held.data, slot->held.size});
    slot->held.size = 0;
    return true;
}

/* --- reading ---------------------------------------------------------------------------------- */

static size_t whole_frames(struct net *net, const struct slot *slot, size_t frames,
                           enum conn_end *why)
{
    const struct options *options = net->broker->options;
    size_t max = slot->owner != 0 ? options->limits_frame_bytes : options->limits_prelogin_bytes;
    size_t at = 0;
    *why = 0;
    for (size_t i = 0; i < frames; i++) {
        struct bytes frame;
        size_t used;
        int result = frame_next((struct bytes){slot->carry.data + at, slot->carry.size - at}, max,
                                &frame, &used);
        if (result == -EMSGSIZE)
            *why = slot->owner != 0 ? CONN_FRAME_TOO_LARGE : CONN_PRELOGIN_BYTES;
        else if (result < 0)
            *why = CONN_BROKEN_FRAME;
        if (result != 1)
            return at;
        at += used;
    }
    return at;
}

static bool is_judged(const struct slot *slot)
{
    return slot->kept != NULL || (slot->owner != 0 && !slot->welcomed);
}

/* Before the welcome: frame by frame, until one is being judged. */
static void hand_up_early(struct net *net, struct slot *slot, enum conn_end *why)
{
    size_t whole = 1;
    *why = 0;
    while (whole > 0 && slot->state == SLOT_OPEN && !(slot->orders & ORDER_RELEASE) &&
           slot->owner == 0 && slot->kept == NULL) {
        whole = whole_frames(net, slot, 1, why);
        if (whole == 0)
            return;
        struct buffer frame = {0};
        CHECK_DEBT(buffer_append(&frame, slot->carry.data, whole) == 0, "no memory");
        buffer_consume(&slot->carry, whole);
        hand_up(net, slot, (struct bytes){frame.data, frame.size});
        buffer_fini(&frame);
    }
}

/* What the slot carries, as far as it may be looked at now. */
static void take_carry(struct net *net, struct slot *slot)
{
    enum conn_end why = 0;
    if (slot->owner == 0) {
        hand_up_early(net, slot, &why);
    } else if (slot->welcomed) {
        size_t whole = whole_frames(net, slot, SIZE_MAX, &why);
        struct bytes frames = {slot->carry.data, whole};
        if (whole > 0 && !mistreat(net, slot, frames))
            hand_up(net, slot, frames);
        slot->delayed = false;
        if (slot->state == SLOT_OPEN && why == 0)
            buffer_consume(&slot->carry, whole);
    }
    if (slot->state == SLOT_OPEN && why != 0)
        end(net, slot, why);
    else if (slot->state == SLOT_OPEN)
        slot->delayed = slot->carry.size > 0 && is_judged(slot);
}

static void take_input(struct net *net, struct slot *slot, size_t fresh)
{
    slot->heard_ms = reactor_of(net, slot)->now_ms;
    if (!slot->welcomed) {
        slot->unbound_bytes += (uint32_t)fresh;
        if (slot->unbound_bytes > 2 * net->broker->options->limits_prelogin_bytes + 64) {
            end(net, slot, CONN_PRELOGIN_BYTES);
            return;
        }
    }
    take_carry(net, slot);
}

static bool end_is_visible(struct net *net, const struct wire *wire)
{
    return (wire->client_closed || wire->reset) && wire->end_visible_ms <= net->world->now_ms;
}

static void finish_closing(struct net *net, struct slot *slot)
{
    if (!slot->dead && slot->pending.size > 0) {
        net_flush(net, 0, handle_of(net, slot));
        if (!slot->dead && slot->pending.size > 0)
            return;
    }
    if (slot->dead || slot->input_over)
        close_slot(net, slot);
    else
        net_wire(net, slot)->broker_closed = true;
}

/* A released connection reads on, for nothing, until the peer ends too. */
static void drain(struct net *net, struct slot *slot)
{
    struct wire *wire = net_wire(net, slot);
    wire->up.size = 0;
    if (end_is_visible(net, wire))
        slot->input_over = true;
    finish_closing(net, slot);
}

static bool is_busy(const struct slot *slot)
{
    return slot->chunks_given - slot->chunks_done >= BUSY_CHUNKS;
}

static void read_slot(struct net *net, struct slot *slot)
{
    struct wire *wire = net_wire(net, slot);
    if (slot->state == SLOT_CLOSING) {
        drain(net, slot);
        return;
    }
    bool reset_seen = wire->reset && end_is_visible(net, wire);
    if (wire->up.size > 0 && !reset_seen) {
        size_t most = wire->up.size < READ_BYTES ? wire->up.size : READ_BYTES;
        size_t size = one_in(net->world, 3) ? 1 + below(net->world, (uint32_t)most) : most;
        CHECK_DEBT(buffer_append(&slot->carry, wire->up.data, size) == 0, "no memory");
        buffer_consume(&wire->up, size);
        take_input(net, slot, size);
        return;
    }
    slot->input_over = true;
    slot->reset = wire->reset;
    end(net, slot, CONN_LOST);
}

static bool is_readable(struct net *net, const struct slot *slot)
{
    const struct wire *wire = net_wire(net, slot);
    if (slot->state == SLOT_CLOSING)
        return wire->up.size > 0 || (end_is_visible(net, wire) && !slot->input_over);
    return slot->state == SLOT_OPEN && !is_busy(slot) && wire->lag_until_ms <= net->world->now_ms &&
           (wire->up.size > 0 || end_is_visible(net, wire));
}

static bool can_go_on(const struct slot *slot)
{
    return slot->state == SLOT_OPEN && slot->delayed && !is_judged(slot);
}

static bool is_writable(struct net *net, const struct slot *slot)
{
    const struct wire *wire = net_wire(net, slot);
    return slot->state != SLOT_FREE && slot->wants_write && !slot->dead &&
           (wire->down.size < wire->down_room || (wire->reset && end_is_visible(net, wire)));
}

static void write_slot(struct net *net, struct slot *slot)
{
    if (slot->state == SLOT_CLOSING) {
        finish_closing(net, slot);
    } else if (slot->owner != 0) {
        /* An edge: it is told once, and again when the socket was filled again. */
        slot->wants_write = false;
        net->events.on_writable(net->events.context, reactor_of(net, slot)->thread,
                                handle_of(net, slot), slot->owner);
    } else {
        net_flush(net, 0, handle_of(net, slot));
    }
}

/* --- orders and deadlines --------------------------------------------------------------------- */

/* BUG_LATE_END: looks the user up to say that his old connection is gone, and finds the new one. */
static void tell_successor(struct net *net, const struct slot *old)
{
    struct slot *slot = successor(net, old);
    if (net->world->options.bug == BUG_LATE_END && slot != NULL)
        net->events.on_end(net->events.context, reactor_of(net, slot)->thread, handle_of(net, slot),
                           slot->owner, CONN_LOST);
}

static void release(struct net *net, struct slot *slot)
{
    if (slot->state == SLOT_CLOSING)
        return;
    tell_successor(net, slot);
    slot->state = SLOT_CLOSING;
    slot->dead = slot->dead || slot->reset;
    slot->linger_ms = reactor_of(net, slot)->now_ms + net->broker->options->limits_close_linger_ms;
    uint32_t generation = slot->generation;
    finish_closing(net, slot);
    if (slot->generation == generation)
        drain(net, slot);
}

static void unbind(struct net *net, struct slot *slot)
{
    slot->owner = 0;
    slot->welcomed = false;
    if (slot->parting.size > 0)
        net_write(net, 0, handle_of(net, slot), slot->parting.data, slot->parting.size);
    buffer_fini(&slot->parting);
    if (slot->state == SLOT_ENDED)
        report_end(net, slot);
}

static void give_returned(struct net *net, struct slot *slot)
{
    void *item = slot->returned;
    slot->returned = NULL;
    slot->owner = 0;
    net->events.on_returned(net->events.context, reactor_of(net, slot)->thread,
                            handle_of(net, slot), item);
    /* The end was told to the owner before, who is gone. */
    if (slot->state == SLOT_ENDED)
        report_end(net, slot);
}

static bool take_orders(struct net *net, struct reactor *reactor)
{
    bool any = false;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &net->slots[i];
        if (reactor_of(net, slot) != reactor)
            continue;
        slot->served = false;
        if (slot->orders == 0)
            continue;
        any = true;
        unsigned orders = slot->orders;
        slot->orders = 0;
        if (orders & ORDER_RELEASE)
            release(net, slot);
        else if (orders & ORDER_UNBIND)
            unbind(net, slot);
        else if (orders & ORDER_RETURN)
            give_returned(net, slot);
    }
    return any;
}

static void look_at_deadlines(struct net *net, struct slot *slot, uint64_t now_ms)
{
    const struct options *options = net->broker->options;
    if (slot->state == SLOT_CLOSING && now_ms >= slot->linger_ms) {
        close_slot(net, slot);
    } else if (slot->state == SLOT_OPEN) {
        if (slot->owner == 0 && net->world->stopping) {
            end(net, slot, CONN_STOPPING);
        } else if (slot->soft_ms != 0 && now_ms - slot->soft_ms >= options->limits_output_soft_ms) {
            net_wire(net, slot)->choked = true;
            count(net->world, COUNT_slow_closed);
            end(net, slot, CONN_SLOW);
        } else if (slot->owner == 0 && !slot->welcomed &&
                   now_ms - slot->opened_ms >= options->limits_login_deadline_ms) {
            end(net, slot, CONN_LOGIN_DEADLINE);
        } else if (slot->welcomed && now_ms - slot->heard_ms >= ingress_silence_ms(options)) {
            end(net, slot, CONN_SILENT);
        }
    }
}

static bool take_deadlines(struct net *net, struct reactor *reactor)
{
    bool any = false;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &net->slots[i];
        enum slot_state before = slot->state;
        if (before != SLOT_FREE && reactor_of(net, slot) == reactor)
            look_at_deadlines(net, slot, reactor->now_ms);
        any = any || slot->state != before;
    }
    return any;
}

/* --- batches ---------------------------------------------------------------------------------- */

static bool adopt(struct net *net, struct reactor *reactor)
{
    struct world *world = net->world;
    uint32_t first = 0;
    while (first < world->wire_count && world->wires[first].accepted)
        first++;
    if (first == world->wire_count || world->stopping)
        return false;
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &net->slots[i];
        if (slot->state != SLOT_FREE || reactor_of(net, slot) != reactor)
            continue;
        world->wires[first].accepted = true;
        slot->state = SLOT_OPEN;
        slot->wire = (int)first;
        slot->heard_ms = slot->opened_ms = reactor->now_ms;
        return true;
    }
    return false;
}

static bool serve_slot(struct net *net, struct slot *slot)
{
    if (is_writable(net, slot) && (one_in(net->world, 2) || !is_readable(net, slot))) {
        write_slot(net, slot);
        return true;
    }
    if (can_go_on(slot)) {
        take_carry(net, slot);
        return true;
    }
    if (!is_readable(net, slot))
        return false;
    read_slot(net, slot);
    return true;
}

static bool one_event(struct net *net, struct reactor *reactor)
{
    if (one_in(net->world, 3) && adopt(net, reactor))
        return true;
    unsigned start = below(net->world, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct slot *slot = &net->slots[(start + i) % SLOTS];
        /* Once between two takings of orders: what the reactor itself has ordered in an event is
         * done before the connection's next. */
        if (slot->state != SLOT_FREE && reactor_of(net, slot) == reactor && !slot->served &&
            serve_slot(net, slot)) {
            slot->served = true;
            return true;
        }
    }
    return adopt(net, reactor);
}

static bool begin(struct net *net, struct reactor *reactor)
{
    reactor->now_ms = net->world->now_ms;
    net->events.on_begin(net->events.context, reactor->thread, reactor->now_ms);
    return take_orders(net, reactor);
}

static bool finish(struct net *net, struct reactor *reactor)
{
    bool any = take_deadlines(net, reactor);
    if (one_in(net->world, 4) && !net->world->healing)
        net->events.on_batch_end(net->events.context, reactor->thread);
    return take_orders(net, reactor) || any;
}

bool net_step_random(struct world *world)
{
    struct net *net = world->net;
    struct reactor *reactor = &net->reactors[below(world, net->reactor_count)];
    if (!reactor->in_batch) {
        reactor->in_batch = true;
        reactor->events_left = 1 + below(world, 4);
        return begin(net, reactor);
    }
    if (reactor->events_left > 0) {
        reactor->events_left--;
        return one_event(net, reactor);
    }
    reactor->in_batch = false;
    return finish(net, reactor);
}

bool net_step_all(struct world *world)
{
    struct net *net = world->net;
    bool any = false;
    for (unsigned i = 0; i < net->reactor_count; i++) {
        any = begin(net, &net->reactors[i]) || any;
        while (one_event(net, &net->reactors[i]))
            any = true;
        any = finish(net, &net->reactors[i]) || any;
    }
    return any;
}
