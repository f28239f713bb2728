/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "net/private.h"

/* Who comes in, and who goes for him.
 *
 * The number of those who have not logged in is small on purpose, and it costs nothing to be silent
 * there. So one who finds all places taken is not simply refused: of those who only sit there, one
 * goes for him (sources_choose says who), unless all of them have just come. Whose login is being
 * judged is never asked, nor one whose handshake waits for us. One in a handshake sits as well as
 * another: limits.handshakes is judged as the other two.
 *
 * The accepting thread counts a newcomer and sends him to his I/O thread, which judges among its
 * own strangers: nobody else may end them. That is done when all has been read that had come by
 * then, as with deadlines: the login of one who seems silent may wait in his socket. Meanwhile
 * those at the door are more than the limits allow, DOOR_MAX at most; above that they are refused
 * at once.
 *
 * The look at who is there is a walk over queues in order of time, once for all who are judged in a
 * batch and LOOK_MAX steps of each queue at most. Who has logged in stands in the login's queue
 * until its time is up; the walk moves him on where he goes then, so that he is met once. */

enum { LOOK_MAX = 1024, OVERLOAD_RETRY_MS = 1000 };

/* In the order of enum refused. */
enum refused {
    REFUSED_OPEN,
    REFUSED_UNBOUND,
    REFUSED_SOURCE,
    REFUSED_HANDSHAKES,
    REFUSED_MEMORY,
    REFUSED_NOT
};

static const struct refusal {
    const char *limit;
    enum metric_id metric;
    const char *detail;
} refusals[] = {
    {"limits.connections", METRIC_refused_connections,
     "too many connections (limits.connections); try again later"},
    {"limits.prelogin_connections", METRIC_refused_prelogin,
     "too many connections that have not logged in (limits.prelogin_connections); try again later"},
    {"limits.prelogin_per_source", METRIC_refused_source,
     "too many connections from your address that have not logged in "
     "(limits.prelogin_per_source); try again later"},
    {"limits.handshakes", METRIC_refused_handshakes,
     "too many handshakes at a time (limits.handshakes); try again later"},
    {"limits.memory_bytes", METRIC_refused_memory,
     "memory is short (limits.memory_bytes); try again later"},
};

void arrival_drop(const struct arrival *arrival)
{
    close(arrival->fd);
    free(arrival->peer);
}

/* In the language of his port, as far as that has words for one who has said nothing. */
void arrival_dismiss(struct reactor *reactor, const struct arrival *arrival,
                     Usher__V1__Close__Reason why, const char *detail, uint32_t retry_after_ms)
{
    const struct transport_handshake *handshake = arrival_transport(arrival)->handshake;
    const struct codec *codec = codecs[listener_rows[arrival->listener].codec];
    struct buffer out = {0};
    int failed = handshake != NULL ? handshake->refuse(&out, detail, retry_after_ms)
                                   : codec->close(&out, why, detail, retry_after_ms);
    if (failed == 0)
        (void)!send(arrival->fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    buffer_fini(&out);
    shutdown(arrival->fd, SHUT_WR);
    arrival_drop(arrival);
}

static const struct refusal *note(struct reactor *reactor, enum refused why)
{
    const struct refusal *refusal = &refusals[why];
    struct net *net = reactor->net;
    reactor_count(reactor, refusal->metric, 1);
    LOG(net->options.log, LIMIT_HIT, LOG_S("limit", refusal->limit),
        LOG_U("open", atomic_load(&net->open)), LOG_U("prelogin", atomic_load(&net->unbound)));
    return refusal;
}

static void refuse(struct reactor *reactor, const struct arrival *arrival, enum refused why)
{
    const struct refusal *refusal = note(reactor, why);
    arrival_dismiss(reactor, arrival, USHER__V1__CLOSE__REASON__OVERLOADED, refusal->detail,
                    env_spread_ms(reactor->net->options.env, OVERLOAD_RETRY_MS));
}

const char *strangers_count(struct reactor *reactor, struct conn *conn, const char *peer)
{
    CHECK(on_io_thread(reactor) && conn->stranger && conn->source == SOURCE_NONE);
    if (sources_take_text(reactor->net->sources, peer, &conn->source))
        return NULL;
    return note(reactor, REFUSED_SOURCE)->detail;
}

void strangers_refuse_header(struct reactor *reactor, const struct arrival *arrival)
{
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    refuse(reactor, arrival, REFUSED_HANDSHAKES);
}

/* --- the accepting thread --------------------------------------------------------------------- */

static bool is_full(const struct arrival *arrival, enum refused limit)
{
    return (arrival->full & 1U << limit) != 0;
}

/* The limits for which somebody may go. */
static void find_full(struct net *net, struct arrival *arrival, const struct sockaddr_storage *from)
{
    if (!arrival->forwards &&
        !sources_take(net->sources, (const struct sockaddr *)from, &arrival->source)) {
        arrival->full |= 1U << REFUSED_SOURCE;
        arrival->source = sources_take_beyond(net->sources, (const struct sockaddr *)from);
    }
    if (arrival_transport(arrival)->handshake != NULL &&
        atomic_load_explicit(&net->handshakes, memory_order_relaxed) >=
            limits_handshakes(net->options.limits))
        arrival->full |= 1U << REFUSED_HANDSHAKES;
    if (atomic_load_explicit(&net->unbound, memory_order_relaxed) >=
        limits_prelogin_connections(net->options.limits))
        arrival->full |= 1U << REFUSED_UNBOUND;
}

/* The one that is said of several. */
static enum refused first_full(const struct arrival *arrival)
{
    enum refused limit = REFUSED_UNBOUND;
    while (!is_full(arrival, limit))
        limit++;
    return limit;
}

/* Counts it when it may come in, or to the door. */
static enum refused admit(struct net *net, struct arrival *arrival,
                          const struct sockaddr_storage *from)
{
    if (atomic_load_explicit(&net->open, memory_order_relaxed) >= net->options.connections_max)
        return REFUSED_OPEN;
    if (memory_level() == MEMORY_FULL)
        return REFUSED_MEMORY;
    find_full(net, arrival, from);
    if (arrival->full != 0 &&
        atomic_load_explicit(&net->at_door, memory_order_relaxed) >= DOOR_MAX) {
        sources_give(net->sources, arrival->source);
        return first_full(arrival);
    }
    if (arrival->full != 0)
        atomic_fetch_add_explicit(&net->at_door, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&net->open, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&net->unbound, 1, memory_order_relaxed);
    if (arrival_transport(arrival)->handshake != NULL)
        atomic_fetch_add_explicit(&net->handshakes, 1, memory_order_relaxed);
    return REFUSED_NOT;
}

bool strangers_admit(struct reactor *reactor, struct arrival *arrival,
                     const struct sockaddr_storage *from)
{
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    enum refused refused = admit(reactor->net, arrival, from);
    if (refused != REFUSED_NOT)
        refuse(reactor, arrival, refused);
    return refused == REFUSED_NOT;
}

/* --- who is there ----------------------------------------------------------------------------- */

/* Those who could go; the ones in a handshake stand first. */
struct crowd {
    size_t count, shaking;
    struct stranger strangers[LOOK_MAX];
    uint32_t slots[LOOK_MAX];
};

static bool only_sits(struct conn *conn)
{
    if (!conn->stranger || conn->again || conn->hung_up)
        return false;
    switch (conn->state) {
    case CONN_SHAKING:
        return !conn->shaking_listed;
    case CONN_OPEN:
        return conn->owner == 0 && conn->kept == NULL && conn_is_heard(conn);
    default:
        return conn->state == CONN_CLOSING; /* told, and does not go */
    }
}

/* Of one who came after the moment that is looked at: below zero. */
static uint32_t age_ms(const struct reactor *reactor, const struct conn *conn)
{
    int32_t age = (int32_t)net_ms_since(conn->opened_ms, reactor->read_ms);
    return age > 0 ? (uint32_t)age : 0;
}

static void look_at_queue(struct reactor *reactor, enum deadline which, struct crowd *crowd)
{
    uint32_t slot = reactor->queues[which].first;
    for (unsigned i = 0; i < LOOK_MAX && slot != NO_SLOT && crowd->count < LOOK_MAX; i++) {
        struct conn *conn = slot_conn(reactor, slot);
        CHECK(conn->queue == which);
        slot = conn->next;
        if (only_sits(conn)) {
            crowd->strangers[crowd->count] =
                (struct stranger){.source = conn->source, .age_ms = age_ms(reactor, conn)};
            crowd->slots[crowd->count++] = conn->slot;
        } else if (which == DEADLINE_LOGIN &&
                   atomic_load_explicit(&conn->welcomed, memory_order_relaxed)) {
            deadline_leave(reactor, conn);
            deadline_enter(reactor, conn, DEADLINE_SILENCE);
        }
    }
}

static void look_around(struct reactor *reactor, struct crowd *crowd)
{
    crowd->count = 0;
    look_at_queue(reactor, DEADLINE_HANDSHAKE, crowd);
    crowd->shaking = crowd->count;
    look_at_queue(reactor, DEADLINE_LOGIN, crowd);
    look_at_queue(reactor, DEADLINE_LINGER, crowd);
}

static void forget(struct crowd *crowd, size_t place)
{
    CHECK(place < crowd->count && crowd->shaking <= crowd->count);
    size_t behind = --crowd->count - place;
    crowd->shaking -= place < crowd->shaking;
    memmove(&crowd->strangers[place], &crowd->strangers[place + 1],
            behind * sizeof(crowd->strangers[0]));
    memmove(&crowd->slots[place], &crowd->slots[place + 1], behind * sizeof(crowd->slots[0]));
}

/* --- its own thread --------------------------------------------------------------------------- */

static void wait_at_door(struct reactor *reactor, const struct arrival *arrival)
{
    CHECK(reactor->door_count < DOOR_MAX); /* at_door of all */
    struct arrival *place = &reactor->door[reactor->door_count++];
    *place = *arrival;
    place->came_ms = (uint32_t)reactor->now_ms;
    reactor->more = true;
}

void strangers_enter(struct reactor *reactor, const struct arrival *arrival)
{
    CHECK(on_io_thread(reactor));
    if (arrival->full == 0)
        conn_adopt(reactor, arrival);
    else
        wait_at_door(reactor, arrival);
}

/* Others may have gone since it came. */
static bool is_over(struct net *net, const struct arrival *arrival, enum refused limit)
{
    switch (limit) {
    case REFUSED_SOURCE:
        return sources_is_over(net->sources, arrival->source);
    case REFUSED_HANDSHAKES:
        return atomic_load_explicit(&net->handshakes, memory_order_relaxed) >
               limits_handshakes(net->options.limits);
    default:
        return atomic_load_explicit(&net->unbound, memory_order_relaxed) >
               limits_prelogin_connections(net->options.limits);
    }
}

static void displace(struct reactor *reactor, struct conn *conn, enum refused limit)
{
    char address[NET_ADDRESS_BYTES_MAX];
    CHECK(conn->stranger);
    net_address(reactor->net, conn_handle_of(reactor, conn), address);
    reactor_count(reactor, METRIC_strangers_displaced, 1);
    LOG(reactor->net->options.log, STRANGER_DISPLACED, LOG_S("address", address),
        LOG_S("limit", refusals[limit].limit), LOG_U("age_ms", age_ms(reactor, conn)));
    if (conn->state == CONN_OPEN) {
        conn_leaves_strangers(reactor,
                              conn); /* the layer above may need a while for its last words */
        conn_end(reactor, conn, CONN_DISPLACED);
    } else {
        conn_close(reactor, conn);
    }
}

/* False: nobody may go. */
static bool make_way(struct reactor *reactor, const struct arrival *arrival, enum refused limit,
                     struct crowd *crowd)
{
    struct net *net = reactor->net;
    size_t count = limit == REFUSED_HANDSHAKES ? crowd->shaking : crowd->count;
    size_t place = sources_choose(net->sources, arrival->source, limit == REFUSED_SOURCE,
                                  crowd->strangers, count, net->options.unbound_age_ms);
    if (place == count)
        return false;
    struct conn *conn = slot_conn(reactor, crowd->slots[place]);
    forget(crowd, place);
    displace(reactor, conn, limit);
    return true;
}

/* The narrowest first: who goes for that one makes way for the others too. */
static enum refused judge(struct reactor *reactor, const struct arrival *arrival,
                          struct crowd *crowd)
{
    static const enum refused limits[] = {REFUSED_SOURCE, REFUSED_HANDSHAKES, REFUSED_UNBOUND};
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
        if (is_full(arrival, limits[i]) && is_over(reactor->net, arrival, limits[i]) &&
            !make_way(reactor, arrival, limits[i], crowd))
            return limits[i];
    return REFUSED_NOT;
}

static void let_in(struct reactor *reactor, struct arrival *arrival)
{
    CHECK(arrival->full != 0);
    count_down(&reactor->net->at_door);
    arrival->full = 0;
    conn_adopt(reactor, arrival);
}

static void judge_first(struct reactor *reactor, unsigned count)
{
    struct crowd crowd;
    look_around(reactor, &crowd);
    for (unsigned i = 0; i < count; i++) {
        struct arrival *arrival = &reactor->door[i];
        enum refused refused = judge(reactor, arrival, &crowd);
        if (refused == REFUSED_NOT) {
            let_in(reactor, arrival);
        } else {
            conn_discount(reactor->net, arrival);
            refuse(reactor, arrival, refused);
        }
    }
}

void strangers_judge(struct reactor *reactor)
{
    unsigned count = 0;
    while (count < reactor->door_count &&
           net_ms_until(reactor->door[count].came_ms, reactor->read_ms) <= 0)
        count++;
    if (count > 0)
        judge_first(reactor, count);
    reactor->door_count -= count;
    memmove(reactor->door, reactor->door + count, reactor->door_count * sizeof(*reactor->door));
    if (reactor->door_count > 0)
        reactor->more = true; /* soon */
}

void strangers_close(struct reactor *reactor)
{
    CHECK(on_io_thread(reactor));
    for (unsigned i = 0; i < reactor->door_count; i++) {
        arrival_drop(&reactor->door[i]);
        conn_discount(reactor->net, &reactor->door[i]);
    }
    reactor->door_count = 0;
}
