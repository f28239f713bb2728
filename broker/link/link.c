/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend.pb-c.h"
#include "base/check.h"
#include "base/lock.h"
#include "base/wait.h"
#include "proto/link_answer.h"

/* Why one cooked REP socket with contexts: it is the pattern that survives the death of peers in
 * the nng that people have, as long as nobody has two requests outstanding on one connection and
 * answers stay small. So those two rules are enforced here, and nothing that is in use is closed.
 *
 * Each context has one aio and goes round RECEIVING -> ARRIVING -> WAITING -> SENDING. `state`
 * says who may touch the aio, so it is never started twice:
 *   RECEIVING, SENDING   nng; its callback moves the exchange on
 *   ARRIVING             the callback, until on_request has returned. An answer that comes sooner
 *                        is kept and sent by that same callback as the last thing it does with
 *                        the exchange: the next callback may start at once
 *   WAITING              the one link_answer that finds it, under the lock
 *
 * An exchange is named generation << 32 | index; the generation is never 0 and rises with each
 * request, so a second answer finds nothing.
 *
 * A peer's loss is told by removing it from `peers`. That happens once, under the lock, and tells
 * of the exchange that waits, if nobody has answered it by then, and of the one that is followed:
 * so on_gone comes at most once for each. Who is busy has no Fetch that waits, and is followed by
 * his last one. A request whose peer is not in the table any more is told as soon as its owner is
 * known: nothing waits for a report that has already been.
 *
 * A peer is a *stranger* until somebody vouches for it, because it has shown the token or knows a
 * link. What a stranger asks is heard, since it may be the Hello of a new backend, but above their
 * share of the exchanges it must not wait for anything (link_is_crowded); and when strangers who do
 * not even read their answers hold three such shares, nobody of them is heard. So whoever has a
 * link finds an exchange, and whoever asks for one is answered, however many come who want
 * something else. So it is with connections: when there are as many as can be, one more takes the
 * place of the stranger who has been there longest of those that wait for nothing. Who proves
 * himself at once finds a place and keeps it. The watchdog's knock (link/watch.c) is a connection
 * too, and takes nobody's place.
 *
 * Nobody calls up or calls nng with the lock held. `busy` counts those who are about to, and
 * link_close waits for them after it has set `closing`, which keeps new ones out. */

/* How many times their share strangers may hold before they are not heard. */
enum { STRANGERS_SHARES = 3 };

static void on_aio(void *argument);

static uint64_t exchange_id(const struct exchange *exchange)
{
    return (uint64_t)exchange->generation << 32 | exchange->index;
}

/* NULL without memory. */
static nng_msg *nng_message_of(struct bytes frame)
{
    nng_msg *message;
    if (nng_msg_alloc(&message, frame.size) != 0)
        return NULL;
    if (frame.size > 0)
        memcpy(nng_msg_body(message), frame.data, frame.size);
    return message;
}

static void leave(struct link *link)
{
    lock_take(&link->lock);
    CHECK(link->busy > 0);
    link->busy--;
    if (link->closing)
        pthread_cond_broadcast(&link->changed);
    lock_give(&link->lock);
}

/* The lock is held: it no longer counts among those of strangers. */
static void leave_strangers(struct exchange *exchange)
{
    struct link *link = exchange->link;
    CHECK(lock_held(&link->lock) && link->strangers >= exchange->stranger);
    link->strangers -= exchange->stranger;
    exchange->stranger = false;
}

static void receive(struct exchange *exchange)
{
    struct link *link = exchange->link;
    lock_take(&link->lock);
    CHECK(exchange->state == EXCHANGE_RECEIVING || exchange->state == EXCHANGE_SENDING);
    bool closing = link->closing;
    exchange->state = closing ? EXCHANGE_CLOSED : EXCHANGE_RECEIVING;
    leave_strangers(exchange);
    lock_give(&link->lock);
    if (closing)
        return;
    nng_ctx_recv(exchange->context, exchange->aio);
}

/* The lock is held. */
static void begin_sending(struct exchange *exchange)
{
    CHECK(lock_held(&exchange->link->lock));
    CHECK(exchange->state != EXCHANGE_SENDING && exchange->state != EXCHANGE_CLOSED);
    struct peer *peer = peers_find(&exchange->link->peers, exchange->pipe);
    exchange->state = EXCHANGE_SENDING;
    exchange->ticks = 0;
    if (peer == NULL)
        return;
    if (peer->waiting == exchange->index + 1)
        peer->waiting = 0;
    peer->sending++;
}

static void end_sending(struct exchange *exchange)
{
    struct link *link = exchange->link;
    lock_take(&link->lock);
    CHECK(exchange->state == EXCHANGE_SENDING);
    struct peer *peer = peers_find(&link->peers, exchange->pipe);
    CHECK(peer == NULL || peer->sending > 0);
    if (peer != NULL)
        peer->sending--;
    lock_give(&link->lock);
    receive(exchange);
}

/* Takes the message. Without one the peer gets no answer and helps itself by its timeout. */
static void send_answer(struct exchange *exchange, nng_msg *message)
{
    CHECK(!lock_held(&exchange->link->lock) && exchange->state == EXCHANGE_SENDING);
    if (message == NULL) {
        end_sending(exchange);
        return;
    }
    nng_aio_set_msg(exchange->aio, message);
    nng_ctx_send(exchange->context, exchange->aio);
}

/* The lock is held. */
static void remember(const struct exchange *exchange, uint64_t id)
{
    struct peer *peer = peers_find(&exchange->link->peers, exchange->pipe);
    CHECK(lock_held(&exchange->link->lock) && peer != NULL);
    peer->followed = id;
    peer->owner = exchange->owner;
}

/* Calls on_request, and on_gone if the peer went meanwhile. `busy` counts us. */
static void hand_up(struct exchange *exchange, struct bytes frame)
{
    struct link *link = exchange->link;
    uint64_t id = exchange_id(exchange); /* ARRIVING: ours alone */
    uint64_t owner = link->events.on_request(link->events.context, id, frame);
    lock_take(&link->lock);
    CHECK(exchange->state == EXCHANGE_ARRIVING && exchange_id(exchange) == id);
    bool answered = exchange->answered;
    nng_msg *answer = exchange->answer;
    bool gone = exchange->gone && (!answered || exchange->followed) && !link->closing;
    exchange->answer = NULL;
    exchange->owner = owner;
    if (exchange->followed && !exchange->gone)
        remember(exchange, id);
    if (answered)
        begin_sending(exchange);
    else
        exchange->state = EXCHANGE_WAITING;
    lock_give(&link->lock);
    if (answered)
        send_answer(exchange, answer);
    if (gone)
        link->events.on_gone(link->events.context, owner, id);
}

enum reception { ADMIT, REFUSE_PIPELINED, IGNORE_PIPELINED, IGNORE_CROWDED, IGNORE_CLOSING };

/* The lock is held. A peer that does not even read its refusals gets no more of them: each one
 * would hold a context. */
static enum reception admit(struct exchange *exchange, uint32_t pipe)
{
    struct link *link = exchange->link;
    CHECK(lock_held(&link->lock) && exchange->state == EXCHANGE_RECEIVING);
    struct peer *peer = peers_find(&link->peers, pipe);
    bool stranger = peer == NULL || !peer->vouched;
    if (link->closing)
        return IGNORE_CLOSING;
    if (peer != NULL && peer->sending >= LINK_PEER_SENDING_MAX)
        return IGNORE_PIPELINED;
    if (stranger && link->strangers >= STRANGERS_SHARES * link->strangers_max)
        return IGNORE_CROWDED;
    exchange->pipe = pipe;
    exchange->stranger = stranger;
    link->strangers += stranger;
    if (peer != NULL && peer->waiting != 0) {
        begin_sending(exchange);
        return REFUSE_PIPELINED;
    }
    if (peer != NULL)
        peer->waiting = (uint16_t)(exchange->index + 1);
    exchange->gone = peer == NULL;
    exchange->answered = exchange->followed = false;
    exchange->state = EXCHANGE_ARRIVING;
    if (++exchange->generation == 0)
        exchange->generation = 1;
    link->busy++;
    return ADMIT;
}

static void count_refused(struct link *link, bool crowded, uint32_t pipe)
{
    metrics_add(link->metrics, 0, crowded ? METRIC_link_crowded : METRIC_link_pipelined, 1);
    metrics_add(link->metrics, 0, METRIC_link_refused, 1);
    LOG(link->log, LINK_REFUSED, LOG_S("reason", crowded ? "crowded" : "pipelined"),
        LOG_U("pipe", pipe));
}

static void on_received(struct exchange *exchange)
{
    struct link *link = exchange->link;
    nng_msg *message = nng_aio_get_msg(exchange->aio);
    nng_aio_set_msg(exchange->aio, NULL);
    uint32_t pipe = (uint32_t)nng_pipe_id(nng_msg_get_pipe(message));
    lock_take(&link->lock);
    enum reception reception = admit(exchange, pipe);
    lock_give(&link->lock);
    if (reception != ADMIT && reception != IGNORE_CLOSING)
        count_refused(link, reception == IGNORE_CROWDED, pipe);
    if (reception == ADMIT) {
        hand_up(exchange, (struct bytes){nng_msg_body(message), nng_msg_len(message)});
        leave(link);
    } else if (reception == REFUSE_PIPELINED) {
        send_answer(exchange,
                    nng_message_of((struct bytes){link->refusal.data, link->refusal.size}));
    } else {
        receive(exchange);
    }
    nng_msg_free(message);
}

/* The callback of every aio. */
static void on_aio(void *argument)
{
    struct exchange *exchange = argument;
    struct link *link = exchange->link;
    int failed = nng_aio_result(exchange->aio);
    lock_take(&link->lock);
    bool sent = exchange->state == EXCHANGE_SENDING;
    CHECK(sent || exchange->state == EXCHANGE_RECEIVING); /* else nng has not got the aio */
    bool again = failed == NNG_ETIMEDOUT;                 /* the watchdog meant the answer before */
    if (!sent && failed != 0 && !again)
        exchange->state = EXCHANGE_CLOSED; /* a receive only fails when the link closes */
    lock_give(&link->lock);
    if (!sent) {
        if (failed == 0)
            on_received(exchange);
        else if (again)
            receive(exchange);
        return;
    }
    if (failed != 0) { /* then the message is still ours */
        nng_msg_free(nng_aio_get_msg(exchange->aio));
        nng_aio_set_msg(exchange->aio, NULL);
    }
    end_sending(exchange);
}

/* The lock is held. NULL: unknown, or answered before. */
static struct exchange *find_unanswered(struct link *link, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    CHECK(lock_held(&link->lock));
    if (index >= link->exchange_count)
        return NULL;
    struct exchange *exchange = &link->exchanges[index];
    if (exchange->generation != id >> 32)
        return NULL;
    bool open = exchange->state == EXCHANGE_WAITING ||
                (exchange->state == EXCHANGE_ARRIVING && !exchange->answered);
    return open ? exchange : NULL;
}

bool link_is_stranger(struct link *link, uint64_t id)
{
    const struct exchange *exchange = &link->exchanges[(uint32_t)id]; /* ARRIVING: ours alone */
    CHECK((uint32_t)id < link->exchange_count && exchange->state == EXCHANGE_ARRIVING);
    return exchange->stranger;
}

void link_follow(struct link *link, uint64_t id)
{
    struct exchange *exchange = &link->exchanges[(uint32_t)id]; /* ARRIVING: ours alone */
    CHECK((uint32_t)id < link->exchange_count && exchange->state == EXCHANGE_ARRIVING);
    exchange->followed = true;
}

bool link_is_crowded(struct link *link)
{
    lock_take(&link->lock);
    bool crowded = link->strangers > link->strangers_max;
    lock_give(&link->lock);
    return crowded;
}

void link_vouch(struct link *link, uint64_t id)
{
    lock_take(&link->lock);
    struct exchange *exchange = find_unanswered(link, id);
    if (exchange != NULL) {
        struct peer *peer = peers_find(&link->peers, exchange->pipe);
        leave_strangers(exchange);
        if (peer != NULL)
            peer->vouched = true;
    }
    lock_give(&link->lock);
}

void link_answer(struct link *link, uint64_t id, struct bytes frame)
{
    CHECK(frame.size <= link->frame_bytes_max);
    nng_msg *message = nng_message_of(frame);
    lock_take(&link->lock);
    struct exchange *exchange = link->closing ? NULL : find_unanswered(link, id);
    bool arriving = exchange != NULL && exchange->state == EXCHANGE_ARRIVING;
    if (arriving) {
        exchange->answered = true;
        exchange->answer = message;
    } else if (exchange != NULL) {
        begin_sending(exchange);
        link->busy++;
    }
    lock_give(&link->lock);
    if (arriving)
        return;
    if (exchange == NULL) {
        nng_msg_free(message);
        metrics_add(link->metrics, 0, METRIC_events_stale, 1);
        return;
    }
    send_answer(exchange, message);
    leave(link);
}

static bool same_address(const nng_sockaddr *one, const nng_sockaddr *other)
{
    if (one->s_family != other->s_family)
        return false;
    if (one->s_family == NNG_AF_INET)
        return one->s_in.sa_port == other->s_in.sa_port && one->s_in.sa_addr == other->s_in.sa_addr;
    return one->s_in6.sa_port == other->s_in6.sa_port &&
           memcmp(one->s_in6.sa_addr, other->s_in6.sa_addr, sizeof(one->s_in6.sa_addr)) == 0;
}

/* No one else of this process connects to it. On tcp the address of a knock that was closed stays
 * taken (TIME_WAIT) for longer than until the next one. nng counts a pipe before it shows it here,
 * so by now the knock may be closed, and reset: it has no address any more. The same holds of
 * anybody who is gone already: for him nobody has to go. */
static bool takes_no_place(struct link *link, nng_pipe pipe)
{
    nng_sockaddr at, from;
    uint64_t process;
    lock_take(&link->lock);
    nng_sockaddr knock = link->knock;
    lock_give(&link->lock);
    if (nng_pipe_get_addr(pipe, NNG_OPT_LOCADDR, &at) != 0)
        return false;
    if (at.s_family == NNG_AF_IPC)
        return knock.s_family == NNG_AF_IPC &&
               nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &process) == 0 &&
               process == (uint64_t)getpid();
    return nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &from) != 0 || same_address(&from, &knock);
}

/* The lock is held. Gives who has to go for the newcomer: somebody else, nobody (0), or itself. */
static uint32_t make_room(struct link *link, uint32_t newcomer, bool placeless)
{
    struct peers *peers = &link->peers;
    CHECK(lock_held(&link->lock));
    if (peers_add(peers, newcomer) != 0)
        return newcomer;
    if (placeless)
        peers_let_go(peers, newcomer);
    if (peers->count - peers->leaving <= link->peers_max)
        return 0;
    uint32_t idle = link->closing ? 0 : peers_displace(peers, newcomer);
    if (idle != 0)
        return idle;
    peers_remove(peers, newcomer);
    return newcomer;
}

/* Before the first byte of a connection is read. Here a pipe may be closed, and that of a peer with
 * nothing outstanding: to nng it is as if the peer had gone. Nowhere else. */
static void on_pipe_added(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct link *link = argument;
    uint32_t newcomer = (uint32_t)nng_pipe_id(pipe);
    bool placeless = takes_no_place(link, pipe);
    lock_take(&link->lock);
    uint32_t goes = make_room(link, newcomer, placeless);
    bool closing = link->closing;
    lock_give(&link->lock);
    if (goes == 0)
        return;
    nng_pipe_close((nng_pipe){goes});
    if (goes != newcomer)
        metrics_add(link->metrics, 0, METRIC_link_displaced, 1);
    if (!closing)
        LOG(link->log, LIMIT_HIT, LOG_S("limit", "link connections"),
            LOG_U("max", link->peers_max));
}

/* What there is to tell of a peer that is gone. */
struct farewell {
    uint64_t exchange, owner; /* that waits; 0: none does */
    uint64_t followed, follower;
};

/* The lock is held. */
static struct farewell farewell_of(struct link *link, const struct peer *peer)
{
    struct farewell farewell = {.followed = peer->followed, .follower = peer->owner};
    CHECK(lock_held(&link->lock) && peer->waiting <= link->exchange_count);
    if (peer->waiting == 0)
        return farewell;
    struct exchange *exchange = &link->exchanges[peer->waiting - 1];
    if (exchange->state == EXCHANGE_ARRIVING) {
        exchange->gone = true; /* hand_up tells it, when it knows the owner */
        return farewell;
    }
    CHECK(exchange->state == EXCHANGE_WAITING && exchange->pipe == peer->pipe);
    farewell.exchange = exchange_id(exchange);
    farewell.owner = exchange->owner;
    if (farewell.followed == farewell.exchange)
        farewell.followed = 0;
    return farewell;
}

/* On nng's one reaper thread: whoever blocks here blocks nng. */
static void on_pipe_removed(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct link *link = argument;
    uint32_t id = (uint32_t)nng_pipe_id(pipe);
    struct farewell farewell = {0};
    lock_take(&link->lock);
    const struct peer *peer = peers_find(&link->peers, id);
    if (peer != NULL && !link->closing)
        farewell = farewell_of(link, peer);
    bool tells = farewell.exchange != 0 || farewell.followed != 0;
    link->busy += tells;
    peers_remove(&link->peers, id);
    pthread_cond_broadcast(&link->changed);
    lock_give(&link->lock);
    if (farewell.exchange != 0)
        link->events.on_gone(link->events.context, farewell.owner, farewell.exchange);
    if (farewell.followed != 0)
        link->events.on_gone(link->events.context, farewell.follower, farewell.followed);
    if (tells)
        leave(link);
}

bool link_wait(struct link *link, uint64_t until_ms)
{
    CHECK(lock_held(&link->lock));
    struct timespec until = wait_time(until_ms);
    return lock_wait_until(&link->lock, &link->changed, &until);
}

/* Of those the first that works. */
static int listen_tcp(struct link *link, char *error)
{
    int code = 0;
    for (size_t i = 0; i < link->endpoint_count; i++) {
        struct endpoint *endpoint = &link->endpoints[i];
        if (endpoint->path == NULL && (code = endpoint_listen(endpoint, error)) == 0)
            break;
    }
    return code;
}

/* Of those all. */
static int listen_ipc(struct link *link, char *error)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < link->endpoint_count; i++)
        if (link->endpoints[i].path != NULL)
            code = endpoint_listen(&link->endpoints[i], error);
    return code;
}

/* A tcp address may not be there yet, and the caller tries again, so they come first: then no
 * backend is linked already. Paths were claimed before. */
static int listen_all(struct link *link, char *error)
{
    for (size_t i = 0; i < link->endpoint_count; i++) {
        link->endpoints[i].socket = link->socket;
        link->endpoints[i].visitor = VISITOR_REQ;
    }
    int code = listen_tcp(link, error);
    return code == 0 ? listen_ipc(link, error) : code;
}

static int prepare_endpoints(struct link *link, const struct link_options *options, char *error)
{
    gid_t group;
    int code = endpoint_group(options->socket_group, &group, error);
    for (size_t i = 0; code == 0 && i < options->url_count; i++) {
        struct endpoint *endpoint = &link->endpoints[i];
        code = endpoint_init(endpoint, options->urls[i], error);
        if (code != 0)
            return code;
        endpoint->group = group;
        endpoint->mode = options->socket_mode != 0 ? options->socket_mode : 0600;
        link->endpoint_count = i + 1;
        link->watched[link->watched_count++] = endpoint;
        code = endpoint_claim(endpoint, error);
    }
    return code;
}

static int open_socket(struct link *link)
{
    int failed = nng_rep0_open(&link->socket);
    if (failed != 0)
        return link_errno(failed);
    link->socket_open = true;
    failed = nng_socket_set_size(link->socket, NNG_OPT_RECVMAXSZ, LINK_RECEIVE_BYTES_MAX);
    if (failed == 0)
        failed = nng_pipe_notify(link->socket, NNG_PIPE_EV_ADD_PRE, on_pipe_added, link);
    if (failed == 0)
        failed = nng_pipe_notify(link->socket, NNG_PIPE_EV_REM_POST, on_pipe_removed, link);
    return link_errno(failed);
}

static int open_exchanges(struct link *link, unsigned count)
{
    link->exchanges = calloc(count, sizeof(*link->exchanges));
    if (link->exchanges == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct exchange *exchange = &link->exchanges[i];
        exchange->link = link;
        exchange->index = i;
        int failed = nng_aio_alloc(&exchange->aio, on_aio, exchange);
        if (failed != 0)
            return link_errno(failed);
        nng_aio_set_timeout(exchange->aio, NNG_DURATION_INFINITE); /* link/watch.c says why */
        link->exchange_count = i + 1;
        failed = nng_ctx_open(&exchange->context, link->socket);
        if (failed != 0)
            return link_errno(failed);
    }
    for (uint32_t i = 0; i < count; i++)
        receive(&link->exchanges[i]);
    return 0;
}

static struct link *create(const struct link_options *options, const struct link_events *events)
{
    struct link *link = calloc(1, sizeof(*link));
    if (link == NULL)
        return NULL;
    link->log = options->log;
    link->metrics = options->metrics;
    link->events = *events;
    link->frame_bytes_max = options->frame_bytes_max;
    link->knock_ticks = options->knock_seconds != 0 ? options->knock_seconds : LINK_KNOCK_TICKS;
    unsigned files = options->files != 0 ? options->files : LINK_FILES_MAX;
    link->peers_max = files / 5 * LINK_PEERS_FIFTHS;
    gate_limit(files / LINK_FILES_PART);
    link->strangers_max = options->strangers != 0 ? options->strangers : options->contexts;
    lock_init(&link->lock);
    wait_condition_init(&link->changed);
    return link;
}

/* In an order that any step may fail: link_close undoes what there is. */
static int set_up(struct link *link, const struct link_options *options, char *error)
{
    int code = prepare_endpoints(link, options, error);
    if (code != 0)
        return code;
    snprintf(error, LINK_ERROR_BYTES, "backend link: out of memory, files or threads");
    code = peers_init(&link->peers, link->peers_max + link->peers_max / LINK_PEERS_LEAVING);
    if (code == 0)
        code = link_answer_refused(&link->refusal, USHER__V1__REFUSED__CODE__PIPELINED,
                                   "one request at a time on a connection");
    if (code == 0)
        code = open_socket(link);
    if (code == 0)
        code = open_exchanges(link, options->contexts);
    if (code == 0)
        code = listen_all(link, error);
    if (options->feed != NULL)
        link->watched[link->watched_count++] = feed_endpoint(options->feed);
    return code == 0 ? watch_start(link) : code;
}

int link_open(struct link **out, const struct link_options *options,
              const struct link_events *events, char *error)
{
    *out = NULL;
    if (options->url_count == 0 || options->url_count > LINK_URLS_MAX || options->contexts == 0 ||
        options->contexts >= LINK_CONTEXTS_MAX) {
        snprintf(error, LINK_ERROR_BYTES, "backend link: needs 1 to %d URLs, 1 to %d contexts",
                 LINK_URLS_MAX, LINK_CONTEXTS_MAX - 1);
        return -EINVAL;
    }
    struct link *link = create(options, events);
    if (link == NULL) {
        snprintf(error, LINK_ERROR_BYTES, "backend link: out of memory");
        return -ENOMEM;
    }
    *out = link; /* before the first request can come */
    int code = set_up(link, options, error);
    if (code != 0) {
        link_close(link);
        *out = NULL;
    }
    return code;
}

struct link_health link_health(struct link *link)
{
    struct link_health health = {0};
    lock_take(&link->lock);
    for (size_t i = 0; i < link->endpoint_count; i++)
        health.listening =
            health.listening || atomic_load(&link->endpoints[i].state) == ENDPOINT_SERVING;
    health.feed_listening = true;
    for (size_t i = link->endpoint_count; i < link->watched_count; i++)
        health.feed_listening = atomic_load(&link->watched[i]->state) == ENDPOINT_SERVING;
    health.reaper_stuck = link->reaper_stuck;
    lock_give(&link->lock);
    return health;
}

/* Whether nng can close without anybody being connected: gives the last ones a moment to go. */
static bool wait_alone(struct link *link)
{
    uint64_t until_ms = env_monotonic_ms(env_system()) + LINK_CLOSE_MS / 4;
    lock_take(&link->lock);
    while (link->peers.count > 0 && link_wait(link, until_ms)) {
    }
    bool alone = link->peers.count == 0 && !link->reaper_stuck;
    lock_give(&link->lock);
    return alone;
}

static void destroy(struct link *link)
{
    CHECK(link->closing && link->busy == 0);
    for (uint32_t i = 0; i < link->exchange_count; i++)
        nng_aio_free(link->exchanges[i].aio);
    free(link->exchanges);
    buffer_fini(&link->refusal);
    peers_fini(&link->peers);
    pthread_cond_destroy(&link->changed);
    lock_destroy(&link->lock);
    free(link);
}

static void stop_exchanges(void *argument)
{
    struct link *link = argument;
    for (uint32_t i = 0; i < link->exchange_count; i++)
        nng_aio_stop(link->exchanges[i].aio);
}

void link_hide(struct link *link)
{
    lock_take(&link->lock);
    link->hidden = true;
    lock_give(&link->lock);
    for (size_t i = 0; i < link->watched_count; i++)
        endpoint_unlink(link->watched[i]);
}

void link_close(struct link *link)
{
    lock_take(&link->lock);
    CHECK(!link->closing);
    link->closing = true;
    pthread_cond_broadcast(&link->changed);
    while (link->busy > 0)
        lock_wait(&link->lock, &link->changed);
    lock_give(&link->lock);
    watch_stop(link);
    bool safe = bounded_run(stop_exchanges, link);
    for (size_t i = 0; i < link->endpoint_count; i++)
        endpoint_unlink(&link->endpoints[i]); /* nobody new comes to a socket without a reader */
    safe = safe && wait_alone(link);
    if (safe && link->canary.open)
        safe = bounded_close(link->canary.subscriber) && bounded_close(link->canary.publisher);
    if (safe && link->socket_open)
        safe = bounded_close(link->socket);
    for (size_t i = 0; i < link->endpoint_count; i++)
        endpoint_release(&link->endpoints[i]);
    if (safe)
        destroy(link); /* else nng still refers to it, until the process ends */
}
