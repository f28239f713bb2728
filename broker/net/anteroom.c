/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/private.h"
#include "net/proxy_header.h"

/* Where connections of a proxy wait until it has said for whom they are.
 *
 * A connection from an address in proxy.from begins with a PROXY header, before TLS and before
 * everything else; without it nobody can tell whose limits it counts for, so it is no stranger yet,
 * nor its proxy's. It waits here, on the accepting thread, and when its header has come it is
 * accepted as if it had come from there just now. So all that goes by an address goes by the real
 * one, and nothing behind this file knows of proxies.
 *
 * The header is looked at in the socket and then taken, that and no byte more: what is behind it
 * belongs to whoever reads next. Most have it when they are accepted, and never wait. Events are
 * edges, so a header that comes byte by byte costs a look for each byte, and is looked at no
 * further than it may be long.
 *
 * Only whoever may connect from there can fill the room, which a proxy that works does not: it
 * sends its header with the connect. So there is no choice of who goes: one above
 * limits.handshakes is refused. They stand in a list in order of time. */

/* Places are counted from 1, so that a zeroed room is an empty one. */
struct waiting {
    int fd; /* -1: free */
    uint32_t came_ms;
    uint32_t previous, next; /* in order of time; of a free one: the next free one */
    uint8_t life;
    uint8_t listener; /* enum listener_kind */
};

static uint32_t place_of(const struct anteroom *room, const struct waiting *waiting)
{
    return (uint32_t)(waiting - room->places) + 1;
}

static struct waiting *at(struct anteroom *room, uint32_t place)
{
    CHECK(place > 0 && place <= room->made);
    return &room->places[place - 1];
}

/* Of its events. The life tells apart who had the place before, of whom one may be under way in the
 * same batch. */
static uint64_t tag_of(const struct anteroom *room, const struct waiting *waiting)
{
    return ANTEROOM_TAG | (uint64_t)(waiting->life & 0x7f) << 24 | place_of(room, waiting);
}

/* NULL: he is gone. */
static struct waiting *find(struct anteroom *room, uint64_t tag)
{
    struct waiting *waiting = at(room, (uint32_t)tag & 0xffffff);
    return waiting->fd >= 0 && tag_of(room, waiting) == tag ? waiting : NULL;
}

/* NULL without memory. */
static struct waiting *take_free(struct anteroom *room)
{
    if (room->free != 0) {
        struct waiting *waiting = at(room, room->free);
        room->free = waiting->next;
        return waiting;
    }
    if (room->made == room->capacity) {
        uint32_t capacity = room->capacity ? room->capacity * 2 : 64;
        struct waiting *places = realloc(room->places, capacity * sizeof(*places));
        if (places == NULL)
            return NULL;
        room->places = places;
        room->capacity = capacity;
    }
    room->places[room->made++] = (struct waiting){.fd = -1};
    return at(room, room->made);
}

/* Behind all others; NULL without memory. */
static struct waiting *enter(struct anteroom *room, const struct arrival *arrival)
{
    struct waiting *waiting = take_free(room);
    if (waiting == NULL)
        return NULL;
    uint32_t place = place_of(room, waiting);
    *waiting = (struct waiting){.fd = arrival->fd,
                                .came_ms = arrival->came_ms,
                                .previous = room->last,
                                .life = (uint8_t)(waiting->life + 1),
                                .listener = arrival->listener};
    if (room->last != 0)
        at(room, room->last)->next = place;
    else
        room->first = place;
    room->last = place;
    room->count++;
    return waiting;
}

/* Its descriptor is the caller's. */
static void leave(struct anteroom *room, struct waiting *waiting)
{
    CHECK(waiting->fd >= 0 && room->count > 0);
    uint32_t *to_it = waiting->previous ? &at(room, waiting->previous)->next : &room->first;
    uint32_t *back_to_it = waiting->next ? &at(room, waiting->next)->previous : &room->last;
    CHECK(*to_it == place_of(room, waiting) && *back_to_it == place_of(room, waiting));
    *to_it = waiting->next;
    *back_to_it = waiting->previous;
    waiting->fd = -1;
    waiting->next = room->free;
    room->free = place_of(room, waiting);
    room->count--;
}

/* --- the header ------------------------------------------------------------------------------- */

/* Its size, when it was there and was taken from the socket; 0: it may still come; -EPROTO: what
 * came is none; -ENODATA: the end came and nothing before it; -ECONNRESET. */
static int take_header(int fd, struct proxy_header *header)
{
    uint8_t bytes[PROXY_HEADER_BYTES_MAX];
    ssize_t got = recv(fd, bytes, sizeof(bytes), MSG_PEEK | MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -ECONNRESET;
    if (got == 0)
        return -ENODATA;
    int size = proxy_header_read((struct bytes){bytes, (size_t)got}, header);
    if (size > 0 && recv(fd, bytes, (size_t)size, MSG_DONTWAIT) != size)
        return -ECONNRESET;
    return size;
}

static bool address_of_peer(int fd, struct sockaddr_storage *address)
{
    socklen_t size = sizeof(*address);
    *address = (struct sockaddr_storage){.ss_family = AF_UNSPEC};
    return getpeername(fd, (struct sockaddr *)address, &size) == 0;
}

/* A connection without its header; who reads the log is to see which option makes it so. */
static void fail(struct reactor *reactor, const struct arrival *arrival, enum metric_id metric,
                 const char *reason)
{
    struct sockaddr_storage proxy;
    char address[NET_ADDRESS_BYTES_MAX];
    (void)address_of_peer(arrival->fd, &proxy);
    net_address_text(&proxy, address);
    reactor_count(reactor, metric, 1);
    LOG(reactor->net->options.log, PROXY_FAILED, LOG_S("address", address),
        LOG_S("listener", listener_rows[arrival->listener].option), LOG_S("reason", reason));
    arrival_dismiss(reactor, arrival, USHER__V1__CLOSE__REASON__PROTOCOL_ERROR,
                    "this address is in proxy.from, and no PROXY header came", 0);
}

/* Accepted now, as who its header says, or as the proxy itself. */
static void pass_on(struct reactor *reactor, struct arrival *arrival,
                    const struct proxy_header *header)
{
    struct sockaddr_storage from = header->address;
    char text[NET_ADDRESS_BYTES_MAX] = "";
    if (header->has_address)
        net_address_text(&from, text);
    else
        (void)address_of_peer(arrival->fd, &from);
    arrival->peer = text[0] != '\0' ? strdup(text) : NULL;
    if (arrival->peer == NULL && header->has_address) {
        memory_refused();
        arrival_drop(arrival);
        return;
    }
    reactor_count(reactor, header->has_address ? METRIC_proxied : METRIC_proxied_local, 1);
    listener_deal(reactor, arrival, &from);
}

/* What take_header gave, of one that waits no longer. */
static void settle(struct reactor *reactor, struct arrival *arrival, int result,
                   const struct proxy_header *header)
{
    if (result > 0)
        pass_on(reactor, arrival, header);
    else if (result == -ENODATA || result == -ECONNRESET)
        arrival_drop(arrival); /* somebody looked whether anybody listens */
    else
        fail(reactor, arrival, METRIC_proxy_refused,
             result == 0 ? "it ended within its PROXY header" : "no PROXY header");
}

/* --- the accepting thread --------------------------------------------------------------------- */

static bool has_room(const struct net *net)
{
    return net->anteroom.count < limits_handshakes(net->options.limits) &&
           atomic_load_explicit(&net->open, memory_order_relaxed) < net->options.connections_max;
}

/* False: it cannot be watched. */
static bool seat(struct reactor *reactor, struct waiting *waiting)
{
    struct net *net = reactor->net;
    struct anteroom *room = &net->anteroom;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                .data.u64 = tag_of(room, waiting)};
    atomic_fetch_add_explicit(&net->open, 1, memory_order_relaxed);
    if (epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, waiting->fd, &event) == 0)
        return true;
    count_down(&net->open);
    leave(room, waiting);
    return false;
}

static void wait_for_header(struct reactor *reactor, const struct arrival *arrival)
{
    struct net *net = reactor->net;
    struct waiting *waiting = has_room(net) ? enter(&net->anteroom, arrival) : NULL;
    if (waiting == NULL)
        strangers_refuse_header(reactor, arrival);
    else if (!seat(reactor, waiting))
        arrival_drop(arrival);
}

void anteroom_move_out(struct reactor *reactor, net_move_each *each, void *context)
{
    struct anteroom *room = &reactor->net->anteroom;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    for (uint32_t place = room->first; place != 0; place = at(room, place)->next) {
        const struct waiting *waiting = at(room, place);
        const struct net_moved moved = {
            .fd = waiting->fd, .listener = waiting->listener, .opened_ms = waiting->came_ms};
        each(context, &moved);
    }
}

int anteroom_move_in(struct reactor *reactor, const struct net_moved *moved)
{
    const struct arrival arrival = {
        .fd = moved->fd, .listener = moved->listener, .came_ms = moved->opened_ms};
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    struct waiting *waiting = enter(&reactor->net->anteroom, &arrival);
    return waiting != NULL && seat(reactor, waiting) ? 0 : -ENOMEM;
}

void anteroom_enter(struct reactor *reactor, struct arrival *arrival)
{
    struct proxy_header header;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    int result = take_header(arrival->fd, &header);
    if (result != 0) {
        settle(reactor, arrival, result, &header);
        return;
    }
    arrival->came_ms = (uint32_t)reactor->now_ms;
    wait_for_header(reactor, arrival);
}

/* An arrival again, and counted nowhere. */
static struct arrival take_out(struct reactor *reactor, struct waiting *waiting)
{
    struct net *net = reactor->net;
    struct arrival arrival = {
        .fd = waiting->fd, .source = SOURCE_NONE, .listener = waiting->listener};
    epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, waiting->fd, NULL);
    leave(&net->anteroom, waiting);
    count_down(&net->open);
    return arrival;
}

void anteroom_on_event(struct reactor *reactor, uint64_t tag, uint32_t events)
{
    struct waiting *waiting = find(&reactor->net->anteroom, tag);
    struct proxy_header header;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    if (waiting == NULL) {
        reactor_count(reactor, METRIC_events_stale, 1);
        return;
    }
    int result = take_header(waiting->fd, &header);
    if (result == 0 && (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) == 0)
        return;
    struct arrival arrival = take_out(reactor, waiting);
    settle(reactor, &arrival, result, &header);
}

/* Of the one that came first. */
static uint32_t due_ms(const struct net *net)
{
    const struct anteroom *room = &net->anteroom;
    return room->places[room->first - 1].came_ms +
           (uint32_t)limits_handshake_deadline_ms(net->options.limits);
}

uint64_t anteroom_due_ms(const struct reactor *reactor)
{
    if (reactor->index != 0 || reactor->net->anteroom.first == 0)
        return UINT64_MAX;
    int32_t left_ms = net_ms_until(due_ms(reactor->net), reactor->now_ms);
    return reactor->now_ms + (uint64_t)(left_ms > 0 ? left_ms : 0);
}

void anteroom_check(struct reactor *reactor)
{
    struct net *net = reactor->net;
    struct anteroom *room = &net->anteroom;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    while (room->first != 0 && net_ms_until(due_ms(net), reactor->read_ms) <= 0) {
        struct arrival arrival = take_out(reactor, at(room, room->first));
        fail(reactor, &arrival, METRIC_proxy_late, "limits.handshake_deadline_ms");
    }
}

void anteroom_stop(struct reactor *reactor)
{
    struct anteroom *room = &reactor->net->anteroom;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    for (uint32_t place = room->first; place != 0;) {
        struct waiting *waiting = at(room, place);
        place = waiting->next;
        if (answers_still(reactor->net, waiting->listener))
            continue;
        struct arrival arrival = take_out(reactor, waiting);
        arrival_drop(&arrival);
    }
}

void anteroom_close(struct reactor *reactor)
{
    struct anteroom *room = &reactor->net->anteroom;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    while (room->first != 0) {
        struct arrival arrival = take_out(reactor, at(room, room->first));
        arrival_drop(&arrival);
    }
    CHECK(room->count == 0);
    free(room->places);
    *room = (struct anteroom){.count = 0};
}
