/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "net/private.h"

/* One I/O thread: wait, take events, carry out orders, look at deadlines, let the layer above run
 * what the batch caused.
 *
 * First it reads, then it judges. What a peer has said in time may wait in its socket longer than
 * its deadline: the thread had much to do, or the process was stopped. So a deadline is looked at
 * as of a moment before which nothing is unread: when a wait began that gave fewer events than
 * there was room for. Where there are always more, the list of what is ready is served in its
 * order, so after as many rounds as it can be long, all that was ready at the first has been read.
 *
 * How others reach it is in wake.c. */

/* A handle is larger than any tag. */
enum { EVENTS_MAX = 128, WAKE_TAG = LISTENERS, BUSY_POLL_MS = 5, SILENCE_LOOKS = 12 };

static uint64_t next_due(struct reactor *reactor)
{
    uint64_t due = UINT64_MAX;
    for (unsigned i = 0; i < DEADLINES; i++) {
        if (reactor->queues[i].first == NO_SLOT)
            continue;
        int32_t left_ms =
            net_ms_until(slot_conn(reactor, reactor->queues[i].first)->due_ms, reactor->now_ms);
        uint64_t head = reactor->now_ms + (uint64_t)(left_ms > 0 ? left_ms : 0);
        due = head < due ? head : due;
    }
    uint64_t header_ms = anteroom_due_ms(reactor);
    due = header_ms < due ? header_ms : due;
    if (reactor->accept_resume_ms != 0 && reactor->accept_resume_ms < due)
        due = reactor->accept_resume_ms;
    if (reactor->slow.count > 0 && reactor->now_ms + 100 < due)
        due = reactor->now_ms + 100;
    if (atomic_load_explicit(&reactor->net->full_since_ms, memory_order_relaxed) != 0 &&
        reactor->evict_due_ms < due)
        due = reactor->evict_due_ms;
    if (reactor->again.count > 0 && reactor->now_ms + BUSY_POLL_MS < due)
        due = reactor->now_ms + BUSY_POLL_MS;
    return due;
}

static bool listed(struct reactor *reactor)
{
    return atomic_load_explicit(&reactor->orders, memory_order_seq_cst) != NULL ||
           atomic_load_explicit(&reactor->pressed, memory_order_seq_cst);
}

/* What came before `before_ms` is among those events, or in line behind them. */
static void note_reading(struct reactor *reactor, int count, uint64_t before_ms)
{
    if (count >= 0 && count < EVENTS_MAX) {
        reactor->read_ms = before_ms;
        reactor->rounds_left = 0;
    } else if (count == EVENTS_MAX && reactor->rounds_left == 0) {
        reactor->reading_ms = before_ms;
        reactor->rounds_left = reactor->slots_made / EVENTS_MAX + 2;
    } else if (count == EVENTS_MAX && --reactor->rounds_left == 0) {
        reactor->read_ms = reactor->reading_ms;
    }
}

static int wait_for_events(struct reactor *reactor, struct epoll_event *events, bool may_wait)
{
    struct net *net = reactor->net;
    int timeout_ms = 0;
    uint64_t now = reactor->more ? reactor->now_ms : env_monotonic_ms(net->options.env);
    if (may_wait && !reactor->more) {
        uint64_t due = next_due(reactor);
        if (due == UINT64_MAX)
            timeout_ms = -1;
        else if (due > now)
            timeout_ms = due - now > 60000 ? 60000 : (int)(due - now);
    }
    if (timeout_ms != 0) {
        atomic_store_explicit(&reactor->sleeping, true, memory_order_seq_cst);
        if (listed(reactor) || atomic_load_explicit(&net->stopping, memory_order_seq_cst))
            timeout_ms = 0;
    }
    int count = epoll_wait(reactor->epoll, events, EVENTS_MAX, timeout_ms);
    atomic_store_explicit(&reactor->sleeping, false, memory_order_seq_cst);
    if (count < 0)
        CHECK_DEBT(errno == EINTR, "epoll_wait failed");
    note_reading(reactor, count, now);
    return count < 0 ? 0 : count;
}

static void take_adopted(struct reactor *reactor)
{
    struct arrival arrivals[64];
    size_t count;
    do {
        lock_take(&reactor->adopt_lock);
        count = reactor->adopted_count < 64 ? reactor->adopted_count : 64;
        reactor->adopted_count -= count;
        if (count > 0)
            memcpy(arrivals, reactor->adopted + reactor->adopted_count,
                   count * sizeof(arrivals[0]));
        lock_give(&reactor->adopt_lock);
        for (size_t i = 0; i < count; i++)
            strangers_enter(reactor, &arrivals[i]);
    } while (count > 0);
}

/* Before the batch begins: what somebody has left for on_begin and then rings for is found by that
 * or by the next one. Read later, his ring could go with one that came before it. */
static void hear_rings(struct reactor *reactor, const struct epoll_event *events, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t rings;
        if (events[i].data.u64 == WAKE_TAG)
            (void)!read(reactor->wake, &rings, sizeof(rings));
    }
}

static void take_wake(struct reactor *reactor)
{
    take_adopted(reactor);
    if (!atomic_load_explicit(&reactor->net->accept_off, memory_order_acquire))
        return;
    if (reactor->index == 0) {
        listener_stop(reactor);
        anteroom_stop(reactor);
    }
    strangers_close(reactor);
    for (uint32_t slot = 0; slot < reactor->slots_made; slot++) {
        struct conn *conn = slot_conn(reactor, slot);
        if (conn->state == CONN_OPEN && conn->owner == 0)
            conn_end(reactor, conn, CONN_STOPPING);
        else if (conn->state == CONN_SHAKING && !answers_still(reactor->net, conn->listener))
            conn_close(reactor, conn);
    }
}

static void take_events(struct reactor *reactor, const struct epoll_event *events, int count)
{
    struct net *net = reactor->net;
    for (int i = 0; i < count; i++) {
        uint64_t tag = events[i].data.u64;
        if (tag < LISTENERS) {
            listener_accept(reactor, (enum listener_kind)tag);
        } else if (tag == WAKE_TAG) {
            take_wake(reactor);
        } else if (tag < 2 * ANTEROOM_TAG) {
            anteroom_on_event(reactor, tag, events[i].events);
        } else {
            struct conn *conn = slot_find(net, tag);
            if (conn != NULL && conn->state != CONN_FREE)
                conn_on_event(reactor, conn, events[i].events);
            else if (net->options.metrics != NULL)
                metrics_add(net->options.metrics, reactor->index, METRIC_events_stale, 1);
        }
    }
}

static void take_orders(struct reactor *reactor)
{
    struct conn *conn = atomic_exchange_explicit(&reactor->orders, NULL, memory_order_seq_cst);
    while (conn != NULL) {
        struct conn *next = conn->order_next;
        uint8_t orders = atomic_exchange_explicit(&conn->orders, 0, memory_order_acq_rel);
        conn_orders(reactor, conn, orders);
        conn = next;
    }
}

static void take_again(struct reactor *reactor)
{
    size_t count = reactor->again.count;
    for (size_t i = 0; i < count; i++) {
        conn_handle handle = reactor->again.items[i];
        struct conn *conn = slot_find(reactor->net, handle);
        if (conn == NULL)
            continue;
        CHECK(conn->again);
        conn->again = false;
        conn_read(reactor, conn);
    }
    memmove(reactor->again.items, reactor->again.items + count,
            (reactor->again.count - count) * sizeof(conn_handle));
    reactor->again.count -= count;
}

static bool is_silent(const struct reactor *reactor, const struct conn *conn)
{
    /* Heard after the moment that is looked at: below zero. What waits to be read again says
     * more. */
    int32_t silent_ms = (int32_t)net_ms_since(conn->heard_ms, reactor->read_ms);
    return !conn->again && silent_ms >= (int32_t)reactor->net->options.silence_ms;
}

/* A page that sleeps says nothing, but its browser answers. One of three heartbeats has passed. */
static void rouse_silent(struct reactor *reactor, struct conn *conn)
{
    const struct transport *transport = conn_transport(conn);
    int32_t silent_ms = (int32_t)net_ms_since(conn->heard_ms, reactor->read_ms);
    if (transport->rouse == NULL || conn->state != CONN_OPEN ||
        silent_ms < (int32_t)(reactor->net->options.silence_ms / 3) ||
        !transport->rouse(conn->wire))
        return;
    reactor_count(reactor, METRIC_ws_pings, 1);
    conn_speak(reactor, conn);
}

static void on_deadline(struct reactor *reactor, struct conn *conn)
{
    enum deadline which = conn->queue;
    deadline_leave(reactor, conn);
    bool welcomed = atomic_load_explicit(&conn->welcomed, memory_order_relaxed);
    if (which == DEADLINE_LINGER) {
        conn_close(reactor, conn);
    } else if (which == DEADLINE_HANDSHAKE && conn->shaking_listed) {
        deadline_enter(reactor, conn, DEADLINE_HANDSHAKE); /* it waits for us */
    } else if (which == DEADLINE_HANDSHAKE) {
        handshake_expire(reactor, conn);
    } else if (which == DEADLINE_LOGIN && !welcomed) {
        int32_t age_ms = (int32_t)net_ms_since(conn->opened_ms, reactor->read_ms);
        /* A login that waits for the store keeps its connection. */
        if (conn->owner != 0 ||
            age_ms < (int32_t)limits_login_deadline_ms(reactor->net->options.limits))
            deadline_enter(reactor, conn, DEADLINE_LOGIN);
        else
            conn_end(reactor, conn, CONN_LOGIN_DEADLINE);
    } else if (is_silent(reactor, conn)) {
        conn_end(reactor, conn, CONN_SILENT);
    } else {
        deadline_enter(reactor, conn, DEADLINE_SILENCE);
        rouse_silent(reactor, conn);
    }
}

static void take_deadlines(struct reactor *reactor)
{
    for (unsigned i = 0; i < DEADLINES; i++) {
        struct deadline_queue *queue = &reactor->queues[i];
        while (queue->first != NO_SLOT) {
            struct conn *conn = slot_conn(reactor, queue->first);
            CHECK(conn->queue == i);
            if (net_ms_until(conn->due_ms, reactor->read_ms) > 0)
                break;
            on_deadline(reactor, conn);
        }
    }
    if (reactor->slow.count > 0)
        deadline_check_slow(reactor);
    if (reactor->index == 0)
        anteroom_check(reactor);
    if (reactor->accept_resume_ms != 0 && reactor->now_ms >= reactor->accept_resume_ms)
        listener_resume(reactor);
}

void reactor_round(struct reactor *reactor, bool may_wait)
{
    struct net *net = reactor->net;
    struct epoll_event events[EVENTS_MAX];
    CHECK(on_io_thread(reactor));
    int count = wait_for_events(reactor, events, may_wait);
    reactor->more = false;
    reactor->now_ms = env_monotonic_ms(net->options.env);
    hear_rings(reactor, events, count);
    net->events.on_begin(net->events.context, reactor->thread, reactor->now_ms);
    /* Orders first: what a peer sends in answer to something was caused after its order. */
    take_orders(reactor);
    take_events(reactor, events, count);
    take_orders(reactor);
    if (reactor->again.count > 0)
        take_again(reactor);
    if (reactor->shaking.count > 0)
        handshake_some(reactor);
    if (reactor->door_count > 0)
        strangers_judge(reactor);
    take_deadlines(reactor);
    bool pressed = atomic_load_explicit(&reactor->pressed, memory_order_relaxed) &&
                   atomic_exchange_explicit(&reactor->pressed, false, memory_order_seq_cst);
    if (pressed || evict_is_due(reactor))
        evict_largest(reactor);
    if (net->events.on_batch_end(net->events.context, reactor->thread))
        reactor->more = true;
    take_orders(reactor);
}

bool reactor_settle(struct reactor *reactor)
{
    struct net *net = reactor->net;
    CHECK(off_thread(&reactor->mark));
    lock_take(&reactor->adopt_lock);
    bool any = reactor->adopted_count > 0;
    lock_give(&reactor->adopt_lock);
    any = any || atomic_load_explicit(&reactor->orders, memory_order_seq_cst) != NULL;
    reactor->now_ms = env_monotonic_ms(net->options.env);
    net->events.on_begin(net->events.context, reactor->thread, reactor->now_ms);
    take_adopted(reactor);
    take_orders(reactor);
    return any;
}

void *reactor_run(void *argument)
{
    struct reactor *reactor = argument;
    thread_begin(&reactor->mark);
    while (!atomic_load_explicit(&reactor->net->stopping, memory_order_acquire))
        reactor_round(reactor, true);
    thread_end(&reactor->mark);
    return NULL;
}

int reactor_open(struct net *net, unsigned index)
{
    struct reactor *reactor = &net->reactors[index];
    reactor->net = net;
    reactor->index = index;
    reactor->thread = net->options.threads[index];
    const uint32_t look_ms = net->options.silence_ms / SILENCE_LOOKS + 1;
    const uint32_t deadline_ms = limits_login_deadline_ms(net->options.limits);
    const uint32_t waits[DEADLINES] = {
        /* A short heartbeat is looked after from the start. */
        [DEADLINE_LOGIN] = deadline_ms < look_ms ? deadline_ms : look_ms,
        [DEADLINE_SILENCE] = look_ms,
        [DEADLINE_LINGER] = limits_close_linger_ms(net->options.limits),
        [DEADLINE_HANDSHAKE] = limits_handshake_deadline_ms(net->options.limits),
    };
    for (unsigned i = 0; i < DEADLINES; i++)
        reactor->queues[i] =
            (struct deadline_queue){.first = NO_SLOT, .last = NO_SLOT, .wait_ms = waits[i]};
    lock_init(&reactor->adopt_lock);
    reactor->input_bytes = conn_input_bytes(&net->options);
    reactor->input = malloc(reactor->input_bytes);
    reactor->door = malloc(DOOR_MAX * sizeof(*reactor->door));
    reactor->chunks = calloc(net->slots_max / CHUNK_CONNS + 1, sizeof(*reactor->chunks));
    reactor->epoll = epoll_create1(EPOLL_CLOEXEC);
    reactor->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (reactor->epoll < 0 || reactor->wake < 0)
        return -errno;
    if (reactor->input == NULL || reactor->door == NULL || reactor->chunks == NULL)
        return -ENOMEM;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE_TAG};
    return epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, reactor->wake, &event) == 0 ? 0 : -errno;
}

void reactor_close(struct reactor *reactor)
{
    CHECK(off_thread(&reactor->mark));
    for (uint32_t slot = 0; slot < reactor->slots_made; slot++) {
        struct conn *conn = slot_conn(reactor, slot);
        if (conn->state != CONN_FREE)
            conn_close(reactor, conn);
    }
    for (uint32_t i = 0; reactor->chunks != NULL && i <= reactor->net->slots_max / CHUNK_CONNS; i++)
        free(atomic_load(&reactor->chunks[i]));
    free(reactor->chunks);
    for (size_t i = 0; i < reactor->adopted_count; i++)
        arrival_drop(&reactor->adopted[i]);
    free(reactor->adopted);
    free(reactor->again.items);
    free(reactor->slow.items);
    free(reactor->shaking.items);
    strangers_close(reactor);
    if (reactor->index == 0)
        anteroom_close(reactor);
    free(reactor->door);
    free(reactor->input);
    if (reactor->epoll >= 0)
        close(reactor->epoll);
    if (reactor->wake >= 0)
        close(reactor->wake);
    lock_destroy(&reactor->adopt_lock);
}
