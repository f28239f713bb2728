/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/memory.h"
#include "base/source.h"
#include "net/conn.h"
#include "proto/frame.h"
#include "proto/varint.h"

/* The read side and the life of a connection: everything here runs on its I/O thread.
 *
 * Life: open -> ended (on_end called once; nothing is read any more) -> closing (released by the
 * write-side owner) -> free. A slot's memory is never freed and its generation rises when it is
 * given back, so an event or an order for an earlier life finds nothing.
 *
 * Descriptors are edge-triggered. A read that gives less than was asked for has emptied the
 * socket; what comes later is a new edge. A connection that filled the buffer, or whose receiver
 * still holds CHUNKS_MAX batches of frames, goes on the list `again`: that bounds what one client
 * can have in flight inside the broker without losing a byte.
 *
 * What is carried over stands in front of what is read next. A little is copied there; more than
 * IN_PLACE_BYTES is not: the bytes are read behind it where it is, in memory that doubles. So the end
 * of a large frame costs what its bytes are worth, in however small pieces it comes. While memory is
 * full nothing more is carried than there is a place for: what is larger waits in its socket until all of
 * it is there, and those who keep the most already are ended (evict.c).
 *
 * Before the welcome the layer above gets one frame at a time, and none while a request of the
 * connection is being judged: by somebody whom it remembers (net_keep), or by the owner to whom it
 * was bound. What comes meanwhile waits in `carry`, within the limits of before the login, and is
 * `delayed`; when the judgment is known it goes on from there. A refused request so leaves nothing
 * behind it unread, whoever refused it and how long that took. */

static_assert(sizeof(struct conn) <= 152, "each user has one; docs/performance.md has the sum");

enum {
    CHUNKS_MAX = 8,
    UNBOUND_EXTRA_BYTES = 64,
    TLS_RECORD_BYTES = 16 * 1024,
};

struct conn *conn_at(struct reactor *reactor, uint32_t slot)
{
    struct conn *chunk =
        atomic_load_explicit(&reactor->chunks[slot / CHUNK_CONNS], memory_order_acquire);
    return chunk + slot % CHUNK_CONNS;
}

struct conn *conn_find(struct net *net, conn_handle handle)
{
    struct conn *conn = conn_at(reactor_of(net, handle), (uint32_t)handle & 0xffffff);
    uint32_t generation = atomic_load_explicit(&conn->generation, memory_order_acquire);
    return generation == (uint32_t)(handle >> 32) ? conn : NULL;
}

bool handle_list_add(struct handle_list *list, conn_handle handle)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        conn_handle *items = realloc(list->items, capacity * sizeof(*items));
        if (items == NULL)
            return false;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = handle;
    return true;
}

/* --- deadlines ------------------------------------------------------------------------------ */

void deadline_enter(struct reactor *reactor, struct conn *conn, enum deadline which)
{
    struct deadline_queue *queue = &reactor->queues[which];
    conn->queue = (uint8_t)which;
    conn->due_ms = (uint32_t)reactor->now_ms + queue->wait_ms;
    conn->previous = queue->last;
    conn->next = NO_SLOT;
    if (queue->last != NO_SLOT)
        conn_at(reactor, queue->last)->next = conn->slot;
    else
        queue->first = conn->slot;
    queue->last = conn->slot;
}

void deadline_leave(struct reactor *reactor, struct conn *conn)
{
    if (conn->queue == DEADLINES)
        return;
    struct deadline_queue *queue = &reactor->queues[conn->queue];
    if (conn->previous != NO_SLOT)
        conn_at(reactor, conn->previous)->next = conn->next;
    else
        queue->first = conn->next;
    if (conn->next != NO_SLOT)
        conn_at(reactor, conn->next)->previous = conn->previous;
    else
        queue->last = conn->previous;
    conn->queue = DEADLINES;
}

/* --- slots ----------------------------------------------------------------------------------- */

static struct conn *take_slot(struct reactor *reactor)
{
    if (reactor->first_free != 0) {
        struct conn *conn = conn_at(reactor, reactor->first_free - 1);
        reactor->first_free = conn->next;
        return conn;
    }
    uint32_t slot = atomic_load_explicit(&reactor->slots_made, memory_order_relaxed);
    if (slot >= reactor->net->slots_max)
        return NULL;
    if (slot % CHUNK_CONNS == 0) {
        struct conn *chunk = calloc(CHUNK_CONNS, sizeof(*chunk));
        if (chunk == NULL)
            return NULL;
        atomic_store_explicit(&reactor->chunks[slot / CHUNK_CONNS], chunk, memory_order_release);
    }
    /* Release: who looks for the largest output of all finds the chunk. */
    atomic_store_explicit(&reactor->slots_made, slot + 1, memory_order_release);
    struct conn *conn = conn_at(reactor, slot);
    conn->slot = slot;
    atomic_store_explicit(&conn->generation, 1, memory_order_release);
    return conn;
}

static void enter_room(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    if (conn->stranger)
        return;
    conn->stranger = true;
    atomic_fetch_add_explicit(&net->unbound, 1, memory_order_relaxed);
    conn->source = sources_take_peer(net->sources, conn->fd);
}

void conn_leaves_room(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    if (!conn->stranger)
        return;
    conn->stranger = false;
    atomic_fetch_sub_explicit(&net->unbound, 1, memory_order_relaxed);
    sources_give(net->sources, conn->source);
    conn->source = SOURCE_NONE;
}

static void count_unbound(struct reactor *reactor, struct conn *conn, uint64_t owner)
{
    if (owner != 0)
        conn_leaves_room(reactor, conn);
    else
        enter_room(reactor, conn);
    conn->owner = owner;
}

static void reset(struct reactor *reactor, struct conn *conn, const struct arrival *arrival)
{
    conn->fd = arrival->fd;
    conn->source = arrival->source;
    conn->speaks_tls = arrival->tls;
    conn->stranger = true;
    conn->state = arrival->tls ? CONN_SHAKING : CONN_OPEN;
    conn->end = 0;
    conn->owner = 0;
    conn->kept = NULL;
    conn->unbound_bytes = conn->early_bytes = 0;
    conn->hung_up = conn->input_over = conn->reset = conn->dead = conn->gone = false;
    conn->again = conn->slow_listed = conn->shaking_listed = false;
    conn->chunks_given = atomic_load_explicit(&conn->chunks_done, memory_order_relaxed);
    atomic_store_explicit(&conn->evicting, false, memory_order_relaxed);
    atomic_store_explicit(&conn->wants_write, false, memory_order_relaxed);
    atomic_store_explicit(&conn->welcomed, false, memory_order_relaxed);
    atomic_store_explicit(&conn->delayed, false, memory_order_relaxed);
    atomic_store_explicit(&conn->soft_since, 0, memory_order_relaxed);
    conn->heard_ms = conn->opened_ms = (uint32_t)reactor->now_ms;
}

void conn_adopt(struct reactor *reactor, const struct arrival *arrival)
{
    struct conn *conn = take_slot(reactor);
    if (conn == NULL) {
        close(arrival->fd);
        conn_discount(reactor->net, arrival);
        return;
    }
    reset(reactor, conn, arrival);
    int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    deadline_enter(reactor, conn, arrival->tls ? DEADLINE_HANDSHAKE : DEADLINE_LOGIN);
    reactor_count(reactor, METRIC_connections_open, 1);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.u64 = conn_handle_of(reactor, conn)};
    if (epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, conn->fd, &event) != 0) {
        conn->dead = true;
        conn_close(reactor, conn);
    }
}

/* The memory of a carry of that size: always more than that, when it is read in place. */
size_t conn_carry_room(const struct reactor *reactor, size_t size)
{
    size_t most = reactor->input_bytes - READ_BYTES + 1;
    size_t room = IN_PLACE_BYTES;
    if (size < IN_PLACE_BYTES)
        return size;
    while (room <= size)
        room *= 2;
    return room < most ? room : most;
}

static uint32_t carry_size(const struct conn *conn)
{
    return atomic_load_explicit(&conn->carry_size, memory_order_relaxed);
}

static void set_carry_size(struct conn *conn, uint32_t size)
{
    atomic_store_explicit(&conn->carry_size, size, memory_order_relaxed);
}

static void drop_carry(struct reactor *reactor, struct conn *conn)
{
    memory_account(-(int64_t)conn_carry_room(reactor, carry_size(conn)));
    free(conn->carry);
    conn->carry = NULL;
    set_carry_size(conn, 0);
}

void conn_close(struct reactor *reactor, struct conn *conn)
{
    free(conn->errand);
    conn->errand = NULL;
    deadline_leave(reactor, conn);
    if (conn->state == CONN_SHAKING)
        atomic_fetch_sub_explicit(&reactor->net->handshakes, 1, memory_order_relaxed);
    tls_destroy(conn->tls);
    conn->tls = NULL;
    close(conn->fd);
    conn->fd = -1;
    drop_carry(reactor, conn);
    conn_drop_pending(reactor->net, conn);
    evict_done(reactor, conn);
    conn_leaves_room(reactor, conn);
    conn->state = CONN_FREE;
    conn->owner = 0;
    atomic_fetch_add_explicit(&conn->generation, 1, memory_order_release);
    conn->next = reactor->first_free;
    reactor->first_free = conn->slot + 1;
    atomic_fetch_sub_explicit(&reactor->net->open, 1, memory_order_relaxed);
    reactor_count(reactor, METRIC_connections_open, (uint64_t)-1);
}

/* --- ending ----------------------------------------------------------------------------------- */

/* Whoever has given it back wants to hear no more of it, though that is not carried out yet. */
bool conn_is_heard(struct conn *conn)
{
    return conn->state == CONN_OPEN &&
           !(atomic_load_explicit(&conn->orders, memory_order_acquire) & ORDER_RELEASE);
}

void conn_end(struct reactor *reactor, struct conn *conn, enum conn_end end)
{
    if (!conn_is_heard(conn))
        return;
    conn->state = CONN_ENDED;
    conn->end = (uint8_t)end;
    deadline_leave(reactor, conn);
    drop_carry(reactor, conn);
    struct net *net = reactor->net;
    net->events.on_end(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                       conn->owner, end);
}

/* The I/O thread owns the write side: writes what waits, then closes its half. */
static void finish_closing(struct reactor *reactor, struct conn *conn)
{
    conn->dead = conn->dead || conn->reset;
    if (!conn->dead && conn->pending_size > 0) {
        net_flush(reactor->net, reactor->index, conn_handle_of(reactor, conn));
        if (conn->pending_size > 0)
            return;
    }
    if (conn->dead || conn->input_over) {
        conn_close(reactor, conn);
        return;
    }
    if (conn->tls != NULL)
        tls_shut(conn->tls);
    shutdown(conn->fd, SHUT_WR);
}

/* Reads and drops until the peer ends too, so that our last frame is not lost to a reset. What is
 * dropped need not be decrypted. */
static void drain(struct reactor *reactor, struct conn *conn)
{
    ssize_t got = recv(conn->fd, reactor->input, READ_BYTES, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        conn->input_over = true;
    else if ((got == READ_BYTES || (got > 0 && conn->hung_up)) && !conn->again)
        conn->again = handle_list_add(&reactor->again, conn_handle_of(reactor, conn));
    if (conn->input_over)
        finish_closing(reactor, conn);
}

void conn_part(struct reactor *reactor, struct conn *conn)
{
    if (conn->state == CONN_CLOSING || conn->state == CONN_FREE)
        return;
    /* Its memory is what was wanted. */
    conn->dead = conn->dead || conn->end == CONN_EVICTED;
    deadline_leave(reactor, conn);
    conn->state = CONN_CLOSING;
    deadline_enter(reactor, conn, DEADLINE_LINGER);
    conn_handle handle = conn_handle_of(reactor, conn);
    finish_closing(reactor, conn);
    if (conn_find(reactor->net, handle) != NULL)
        drain(reactor, conn);
    /* One who was silent is not waited for: others are to have the room. */
    if (conn->end == CONN_DISPLACED && conn_find(reactor->net, handle) != NULL)
        conn_close(reactor, conn);
}

/* Of one that is unbound and cannot be written to. Nothing was too much for who is gone. */
static enum conn_end end_of_dead(const struct conn *conn)
{
    return conn->gone ? CONN_LOST : CONN_PRELOGIN_BYTES;
}

/* The others that are unbound were ended when accepting stopped. */
static void end_if_stopping(struct reactor *reactor, struct conn *conn)
{
    if (conn->owner == 0 &&
        atomic_load_explicit(&reactor->net->accept_off, memory_order_acquire))
        conn_end(reactor, conn, CONN_STOPPING);
}

static void read_again(struct reactor *reactor, struct conn *conn);

/* What it waited for may be known: what has been delayed need not wait any longer. */
static void go_on(struct reactor *reactor, struct conn *conn)
{
    if (conn->state != CONN_OPEN || !atomic_load_explicit(&conn->delayed, memory_order_relaxed))
        return;
    read_again(reactor, conn);
    reactor->more = true;
}

static void unbind(struct reactor *reactor, struct conn *conn)
{
    count_unbound(reactor, conn, 0);
    atomic_store_explicit(&conn->welcomed, false, memory_order_relaxed);
    struct net *net = reactor->net;
    struct parting *parting = conn->errand;
    conn->errand = NULL;
    if (parting != NULL)
        net_write(net, reactor->index, conn_handle_of(reactor, conn), parting->bytes,
                  parting->size);
    free(parting);
    if (conn->state == CONN_ENDED)
        net->events.on_end(net->events.context, reactor->thread, conn_handle_of(reactor, conn), 0,
                           conn->end);
    else if (conn->dead)
        conn_end(reactor, conn, end_of_dead(conn)); /* perhaps its last words were too many */
    else
        end_if_stopping(reactor, conn);
    go_on(reactor, conn);
}

static void give_returned(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    void *item = conn->errand;
    conn->errand = NULL;
    count_unbound(reactor, conn, 0);
    net->events.on_returned(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                            item);
    /* The end was told to the owner before, who is gone. */
    if (conn->state == CONN_ENDED)
        net->events.on_end(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                           conn->owner, conn->end);
    else
        end_if_stopping(reactor, conn);
    go_on(reactor, conn);
}

void conn_orders(struct reactor *reactor, struct conn *conn, uint8_t orders)
{
    if (conn->state == CONN_FREE)
        return;
    if ((orders & ORDER_SLOW) && !conn->slow_listed)
        conn->slow_listed = handle_list_add(&reactor->slow, conn_handle_of(reactor, conn));
    if (orders & ORDER_RELEASE)
        conn_part(reactor, conn);
    else if (orders & ORDER_UNBIND)
        unbind(reactor, conn);
    else if (orders & ORDER_RETURN)
        give_returned(reactor, conn);
    else if (orders & ORDER_GO_ON)
        go_on(reactor, conn);
}

void conn_check_slow(struct reactor *reactor)
{
    uint32_t limit = reactor->net->options.output_soft_ms;
    size_t kept = 0;
    for (size_t i = 0; i < reactor->slow.count; i++) {
        struct conn *conn = conn_find(reactor->net, reactor->slow.items[i]);
        if (conn == NULL)
            continue;
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

/* --- reading ---------------------------------------------------------------------------------- */

/* The length of the whole frames at the front, at most `frames` of them; an end other than 0 says
 * what is wrong behind them. */
static size_t whole_frames(const struct reactor *reactor, const struct conn *conn,
                           struct bytes input, size_t frames, enum conn_end *end)
{
    const struct net_options *options = &reactor->net->options;
    size_t max = conn->owner != 0 ? options->frame_bytes_max : options->unbound_bytes_max;
    size_t at = 0;
    *end = 0;
    for (size_t i = 0; i < frames; i++) {
        struct bytes frame;
        size_t used;
        int result = frame_next((struct bytes){input.data + at, input.size - at}, max, &frame,
                                &used);
        if (result == -EMSGSIZE)
            *end = conn->owner != 0 ? CONN_FRAME_TOO_LARGE : CONN_PRELOGIN_BYTES;
        else if (result < 0)
            *end = CONN_BROKEN_FRAME;
        if (result != 1)
            return at;
        at += used;
    }
    return at;
}

/* So much that what is read next is read behind it. */
static bool is_carried(const struct reactor *reactor, const struct conn *conn)
{
    return conn_carry_room(reactor, carry_size(conn)) > carry_size(conn);
}

static void keep_rest(struct reactor *reactor, struct conn *conn, struct bytes rest)
{
    if (rest.size == 0) {
        drop_carry(reactor, conn);
        return;
    }
    size_t before = conn_carry_room(reactor, carry_size(conn));
    size_t room = conn_carry_room(reactor, rest.size);
    bool in_place = is_carried(reactor, conn);
    if (in_place && rest.data != conn->carry)
        memmove(conn->carry, rest.data, rest.size);
    uint8_t *carry = room != before ? realloc(conn->carry, room) : conn->carry;
    if (carry == NULL) {
        memory_refused();
        conn_end(reactor, conn, CONN_LOST);
        return;
    }
    memory_account((int64_t)room - (int64_t)before);
    if (!in_place)
        memcpy(carry, rest.data, rest.size);
    conn->carry = carry;
    set_carry_size(conn, (uint32_t)rest.size);
}

/* A ClientHello is no frame of ours: 22 bytes that begin with the tag of a field number 0. */
static bool is_tls(const struct conn *conn, struct bytes input)
{
    return !conn->speaks_tls && input.size > 1 && input.data[0] == 0x16 && input.data[1] == 0x03;
}

/* One frame of the largest size, and a refused Resume before it. */
static uint32_t early_bytes_max(const struct net_options *options)
{
    return 2 * options->unbound_bytes_max + UNBOUND_EXTRA_BYTES;
}

size_t conn_input_bytes(const struct net_options *options)
{
    size_t frame = (size_t)options->frame_bytes_max + FRAME_PREFIX_BYTES_MAX;
    size_t early = early_bytes_max(options);
    return (frame > early ? frame : early) + READ_BYTES;
}

/* False: it was ended, or is none of ours. */
static bool count_early(struct reactor *reactor, struct conn *conn, struct bytes input,
                        size_t fresh)
{
    if (conn->owner == 0 && conn->unbound_bytes == 0 && is_tls(conn, input)) {
        shake_meets_tls(reactor, conn);
        return false;
    }
    conn->unbound_bytes += (uint32_t)fresh;
    bool fits = conn->unbound_bytes <= early_bytes_max(&reactor->net->options);
    if (!fits)
        conn_end(reactor, conn, CONN_PRELOGIN_BYTES);
    return fits;
}

static void hand_up(struct reactor *reactor, struct conn *conn, struct bytes frames, bool welcomed)
{
    struct net *net = reactor->net;
    conn->chunks_given++;
    net->events.on_frames(net->events.context, reactor->thread, conn_handle_of(reactor, conn),
                          conn->owner, frames, welcomed);
}

/* Gives how many bytes were handed up, until a request is being judged. Who cannot be answered any more
 * is not listened to either: he would be let in and hear nothing of it. */
static size_t hand_up_early(struct reactor *reactor, struct conn *conn, struct bytes input,
                            enum conn_end *end)
{
    size_t at = 0;
    *end = 0;
    while (conn_is_heard(conn) && !conn->dead && conn->owner == 0 && conn->kept == NULL) {
        struct bytes left = {input.data + at, input.size - at};
        size_t whole = whole_frames(reactor, conn, left, 1, end);
        if (whole == 0)
            return at;
        hand_up(reactor, conn, (struct bytes){left.data, whole}, false);
        at += whole;
    }
    return at;
}

/* Behind a request that is being judged. The welcome may come from another thread meanwhile: either
 * it finds the mark (net_welcome), or it is found here. */
static void delay(struct reactor *reactor, struct conn *conn)
{
    atomic_store_explicit(&conn->delayed, true, memory_order_seq_cst);
    if (atomic_load_explicit(&conn->welcomed, memory_order_seq_cst))
        go_on(reactor, conn);
}

static bool is_judged(const struct conn *conn, bool welcomed)
{
    return conn->kept != NULL || (conn->owner != 0 && !welcomed);
}

static void take_input(struct reactor *reactor, struct conn *conn, struct bytes input, size_t fresh)
{
    bool welcomed = atomic_load_explicit(&conn->welcomed, memory_order_acquire);
    if (!welcomed && !count_early(reactor, conn, input, fresh))
        return;
    size_t done = 0;
    enum conn_end end = 0;
    if (conn->owner == 0) {
        done = hand_up_early(reactor, conn, input, &end);
    } else if (welcomed) {
        bool early = atomic_exchange_explicit(&conn->delayed, false, memory_order_relaxed);
        done = whole_frames(reactor, conn, input, SIZE_MAX, &end);
        if (done > 0)
            hand_up(reactor, conn, (struct bytes){input.data, done}, !early);
    }
    if (conn->state != CONN_OPEN)
        return;
    /* Answers that nobody asked for, before the login: the I/O thread has written them itself. */
    if (end == 0 && conn->owner == 0 && conn->dead)
        end = end_of_dead(conn);
    if (end != 0) {
        conn_end(reactor, conn, end);
        return;
    }
    keep_rest(reactor, conn, (struct bytes){input.data + done, input.size - done});
    if (done < input.size && is_judged(conn, welcomed))
        delay(reactor, conn);
}

static bool receiver_is_busy(struct conn *conn)
{
    /* Below zero when a count for the slot's life before came late (net_consumed). */
    uint32_t done = atomic_load_explicit(&conn->chunks_done, memory_order_acquire);
    int32_t max = memory_level() == MEMORY_FULL ? 1 : CHUNKS_MAX;
    return (int32_t)(conn->chunks_given - done) >= max;
}

static void read_again(struct reactor *reactor, struct conn *conn)
{
    if (conn->again)
        return;
    conn->again = handle_list_add(&reactor->again, conn_handle_of(reactor, conn));
    if (!conn->again) { /* no memory: nothing would ever read it again */
        memory_refused();
        conn_end(reactor, conn, CONN_LOST);
    }
}

static void conn_writable(struct reactor *reactor, struct conn *conn)
{
    struct net *net = reactor->net;
    conn_handle handle = conn_handle_of(reactor, conn);
    if (!atomic_load_explicit(&conn->wants_write, memory_order_seq_cst))
        return;
    if (conn->state == CONN_CLOSING)
        finish_closing(reactor, conn);
    else if (conn->owner != 0)
        net->events.on_writable(net->events.context, reactor->thread, handle, conn->owner);
    else
        net_flush(net, reactor->index, handle);
}

/* What was carried over, where the next bytes are read behind it. */
struct place {
    uint8_t *data;
    size_t have, room;
};

static struct place place_of(struct reactor *reactor, struct conn *conn)
{
    size_t have = carry_size(conn);
    if (is_carried(reactor, conn))
        return (struct place){conn->carry, have, conn_carry_room(reactor, have)};
    if (have > 0)
        memcpy(reactor->input, conn->carry, have);
    return (struct place){reactor->input, have, reactor->input_bytes};
}

/* The size of the frame whose beginning is carried, if the rest of it waits in the socket: it is taken
 * and gone at once. What TLS has taken from there already is a record at most. 0: it has not come. */
static size_t arrived_frame(const struct conn *conn, const struct place *place)
{
    uint64_t size;
    int waiting;
    int used = varint_read((struct bytes){place->data, place->have}, &size);
    if (used <= 0 || ioctl(conn->fd, FIONREAD, &waiting) != 0)
        return 0;
    size_t whole = (size_t)used + (size_t)size;
    size_t there = place->have + (size_t)waiting + (conn->tls != NULL ? TLS_RECORD_BYTES : 0);
    return whole <= there && whole <= place->room ? whole : 0;
}

/* No more than that place bears, or the little that is carried by copying, unless the frame is all
 * there. False: it is taken. */
static bool keep_within(const struct conn *conn, struct place *place, bool carried)
{
    size_t most = (carried ? place->room : IN_PLACE_BYTES) - 1;
    size_t whole = carried ? 0 : arrived_frame(conn, place);
    place->room = whole > most ? whole : most;
    return place->have < place->room;
}

/* Bytes; 0 at the end; -EAGAIN or what broke it. *more: an edge for what is left will not come. */
static ssize_t receive(struct reactor *reactor, struct conn *conn, const struct place *place,
                       bool *more)
{
    uint8_t *to = place->data + place->have;
    /* Of the buffer as it is, and not as the limits say that it must be. */
    size_t left = place->room - place->have;
    size_t room = left < READ_BYTES ? left : READ_BYTES;
    if (conn->tls == NULL) {
        ssize_t got = recv(conn->fd, to, room, MSG_DONTWAIT);
        *more = got == (ssize_t)room;
        return got >= 0 ? got : -errno;
    }
    unsigned next = 0;
    ssize_t got = tls_read(conn->tls, to, room, &next);
    *more = (next & TLS_MORE) != 0;
    if (got == -EPROTO) {
        reactor_count(reactor, METRIC_tls_failed, 1);
        shake_log(reactor, conn, tls_fault(conn->tls));
    }
    if (next & TLS_WRITE_AGAIN)
        conn_writable(reactor, conn);
    return got;
}

/* Goes on with what was delayed; true: it did, and what came behind that is read in its turn. */
static bool take_delayed(struct reactor *reactor, struct conn *conn, const struct place *place)
{
    bool welcomed = atomic_load_explicit(&conn->welcomed, memory_order_acquire);
    if (!atomic_load_explicit(&conn->delayed, memory_order_relaxed) || is_judged(conn, welcomed))
        return false;
    if (!welcomed)
        atomic_store_explicit(&conn->delayed, false, memory_order_relaxed);
    take_input(reactor, conn, (struct bytes){place->data, place->have}, 0);
    if (conn->state == CONN_OPEN)
        read_again(reactor, conn);
    return true;
}

void conn_read(struct reactor *reactor, struct conn *conn)
{
    if (conn->state == CONN_CLOSING) {
        drain(reactor, conn);
        return;
    }
    if (conn->state != CONN_OPEN)
        return;
    if (receiver_is_busy(conn)) {
        read_again(reactor, conn);
        return;
    }
    struct place place = place_of(reactor, conn);
    if (take_delayed(reactor, conn, &place))
        return;
    if (memory_level() == MEMORY_FULL && !keep_within(conn, &place, is_carried(reactor, conn))) {
        read_again(reactor, conn);
        return;
    }
    bool more;
    ssize_t got = receive(reactor, conn, &place, &more);
    if (got == -EAGAIN || got == -EINTR) {
        /* Records without data: the rest when others had their turn. A part of a record, and the
         * peer's end behind it. */
        if (more || conn->hung_up)
            read_again(reactor, conn);
        return;
    }
    if (got <= 0) {
        conn->input_over = true;
        conn->reset = got < 0;
        conn_end(reactor, conn, CONN_LOST);
        return;
    }
    conn->heard_ms = (uint32_t)reactor->now_ms;
    reactor_count(reactor, METRIC_bytes_in, (uint64_t)got);
    take_input(reactor, conn, (struct bytes){place.data, place.have + (size_t)got}, (size_t)got);
    /* The peer's end is reported once, perhaps together with its last bytes. */
    if ((more || conn->hung_up) && conn->state == CONN_OPEN) {
        read_again(reactor, conn);
        reactor->more = true;
    }
}

void conn_on_event(struct reactor *reactor, struct conn *conn, uint32_t events)
{
    struct net *net = reactor->net;
    conn_handle handle = conn_handle_of(reactor, conn);
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->hung_up = true;
    if (conn->state == CONN_SHAKING) {
        shake_list(reactor, conn);
        return;
    }
    if (events & EPOLLOUT)
        conn_writable(reactor, conn);
    if ((events & EPOLLOUT) && conn_find(net, handle) != NULL && conn->tls != NULL &&
        tls_read_waits_to_write(conn->tls))
        events |= EPOLLIN;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && conn_find(net, handle) != NULL)
        conn_read(reactor, conn);
    /* A reset that a read did not report, because nothing is read any more. */
    if ((events & (EPOLLHUP | EPOLLERR)) && conn_find(net, handle) != NULL &&
        conn->state == CONN_CLOSING) {
        conn->dead = true;
        finish_closing(reactor, conn);
    }
}

/* --- for the layer above ---------------------------------------------------------------------- */

void net_bind(struct net *net, conn_handle handle, uint64_t owner)
{
    struct reactor *reactor = reactor_of(net, handle);
    struct conn *conn = conn_find(net, handle);
    CHECK(conn != NULL);
    count_unbound(reactor, conn, owner);
}

uint64_t net_owner(struct net *net, conn_handle handle)
{
    struct conn *conn = conn_find(net, handle);
    return conn != NULL ? conn->owner : 0;
}

void net_keep(struct net *net, conn_handle handle, void *item)
{
    struct conn *conn = conn_find(net, handle);
    CHECK(conn != NULL && conn->owner == 0);
    conn->kept = item;
    if (item == NULL)
        go_on(reactor_of(net, handle), conn);
}

void *net_kept(struct net *net, conn_handle handle)
{
    struct conn *conn = conn_find(net, handle);
    return conn != NULL ? conn->kept : NULL;
}

void address_text(const struct sockaddr_storage *address, char text[NET_ADDRESS_BYTES_MAX])
{
    char host[SOURCE_HOST_BYTES];
    source_host((const struct sockaddr *)address, host);
    uint16_t port = address->ss_family == AF_INET6
                        ? ((const struct sockaddr_in6 *)address)->sin6_port
                        : ((const struct sockaddr_in *)address)->sin_port;
    text[0] = '\0';
    if (host[0] != '\0')
        snprintf(text, NET_ADDRESS_BYTES_MAX, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host,
                 ntohs(port));
}

bool net_address(struct net *net, conn_handle handle, char text[NET_ADDRESS_BYTES_MAX])
{
    struct conn *conn = conn_find(net, handle);
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    text[0] = '\0';
    if (conn == NULL)
        return false;
    if (conn->tls != NULL) {
        snprintf(text, NET_ADDRESS_BYTES_MAX, "%s", tls_peer(conn->tls));
        return true;
    }
    if (getpeername(conn->fd, (struct sockaddr *)&address, &size) != 0)
        return false;
    address_text(&address, text);
    return true;
}
