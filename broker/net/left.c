/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>

#include "net/private.h"

/* What is done for the connections that did not go over to another process, when all others have:
 * each is told to come back, and written to its end.
 *
 * The others are not ours any more. Their sockets are still in our epolls, and their deadlines in
 * our queues, so neither of these is looked at here: those that are left are polled by themselves.
 * They close as any connection does that was released, and nothing of it is told to the layer
 * above, which has nobody left for it. */

enum { POLL_MS_MAX = 1000 };

/* Of all that are closing: their handles, and what to poll. */
struct leaving {
    conn_handle *handles;
    struct pollfd *polled;
    nfds_t count, capacity;
};

static void dismiss(struct reactor *reactor, struct conn *conn, const struct net_dismissal *how)
{
    struct net *net = reactor->net;
    struct buffer words = {0};
    uint32_t chance;
    conn_handle handle = conn_handle_of(reactor, conn);
    env_random(net->options.env, &chance, sizeof(chance));
    uint32_t after_ms = how->spread_ms != 0 ? chance % how->spread_ms : 0;
    if (conn_codec(conn)->close(&words, USHER__V1__CLOSE__REASON__SHUTDOWN, how->detail,
                                after_ms) == 0)
        (void)net_write(net, reactor->index, handle, words.data, words.size);
    buffer_fini(&words);
    net_farewell(net, handle, USHER__V1__CLOSE__REASON__SHUTDOWN, how->detail);
    conn->kept = NULL;
    conn_part(reactor, conn);
}

/* Gives how many were told. */
static size_t dismiss_all(struct net *net, const struct net_dismissal *how)
{
    size_t told = 0;
    for (unsigned i = 0; i < net->options.reactors; i++) {
        struct reactor *reactor = &net->reactors[i];
        reactor->now_ms = env_monotonic_ms(net->options.env);
        for (uint32_t slot = 0; slot < reactor->slots_made; slot++) {
            struct conn *conn = slot_conn(reactor, slot);
            if (conn->state != CONN_OPEN || conn_can_move(conn))
                continue;
            dismiss(reactor, conn, how);
            told++;
        }
    }
    return told;
}

/* False without memory. */
static bool add(struct leaving *leaving, struct reactor *reactor, const struct conn *conn)
{
    bool writes = atomic_load_explicit(&conn->wants_write, memory_order_relaxed);
    if (leaving->count == leaving->capacity) {
        nfds_t capacity = leaving->capacity != 0 ? leaving->capacity * 2 : 256;
        conn_handle *handles = realloc(leaving->handles, capacity * sizeof(*handles));
        leaving->handles = handles != NULL ? handles : leaving->handles;
        struct pollfd *polled = realloc(leaving->polled, capacity * sizeof(*polled));
        leaving->polled = polled != NULL ? polled : leaving->polled;
        if (handles == NULL || polled == NULL)
            return false;
        leaving->capacity = capacity;
    }
    leaving->handles[leaving->count] = conn_handle_of(reactor, conn);
    leaving->polled[leaving->count++] =
        (struct pollfd){.fd = conn->fd, .events = (short)(POLLIN | (writes ? POLLOUT : 0))};
    return true;
}

static bool gather(struct net *net, struct leaving *leaving)
{
    bool fits = true;
    leaving->count = 0;
    for (unsigned i = 0; i < net->options.reactors; i++) {
        struct reactor *reactor = &net->reactors[i];
        for (uint32_t slot = 0; slot < reactor->slots_made && fits; slot++) {
            struct conn *conn = slot_conn(reactor, slot);
            if (conn->state == CONN_CLOSING)
                fits = add(leaving, reactor, conn);
        }
    }
    return fits && leaving->count > 0;
}

static void take(struct net *net, conn_handle handle, short events)
{
    struct conn *conn = slot_find(net, handle);
    struct reactor *reactor = reactor_of(net, handle);
    if (events & POLLERR)
        conn->dead = true;
    if (events & (POLLOUT | POLLERR))
        conn_finish(reactor, conn);
    if ((events & (POLLIN | POLLHUP)) && slot_find(net, handle) != NULL)
        conn_drain(reactor, conn);
}

size_t net_dismiss_left(struct net *net, const struct net_dismissal *how)
{
    const uint64_t until_ms = env_monotonic_ms(net->options.env) + how->linger_ms;
    struct leaving leaving = {0};
    CHECK(net->started == 0);
    size_t told = dismiss_all(net, how);
    while (gather(net, &leaving)) {
        const uint64_t now_ms = env_monotonic_ms(net->options.env);
        const uint64_t left_ms = now_ms < until_ms ? until_ms - now_ms : 0;
        int ready = poll(leaving.polled, leaving.count,
                         (int)(left_ms < POLL_MS_MAX ? left_ms : POLL_MS_MAX));
        if (left_ms == 0 || (ready < 0 && errno != EINTR))
            break;
        for (nfds_t i = 0; ready > 0 && i < leaving.count; i++)
            take(net, leaving.handles[i], leaving.polled[i].revents);
    }
    free(leaving.handles);
    free(leaving.polled);
    return told;
}
