/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/conn.h"
#include "proto/broker_frame.h"
#include "client.pb-c.h"

/* The first reactor accepts and deals connections out in turn. Out of files or memory, it stops
 * listening for 10 ms, doubling to a second, so a full process does not spin; a connection over a
 * limit is told so and closed. */

enum { ACCEPT_BATCH = 256, PAUSE_MS_MIN = 10, PAUSE_MS_MAX = 1000, OVERLOAD_RETRY_MS = 1000 };

static int split_address(const char *text, char *host, size_t host_size, const char **port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0')
        return -EINVAL;
    size_t size = (size_t)(colon - text);
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size >= host_size)
        return -EINVAL;
    memcpy(host, text, size);
    host[size] = '\0';
    *port = colon + 1;
    /* getaddrinfo takes a larger number modulo 65536. */
    return strtoul(*port, NULL, 10) <= UINT16_MAX ? 0 : -EINVAL;
}

static int bind_one(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, 4096) != 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    getsockname(fd, (struct sockaddr *)&address, &size);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

static int watch(struct reactor *reactor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0};
    return epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, reactor->net->listener, &event) == 0 ? 0
                                                                                         : -errno;
}

int listener_open(struct net *net, char *error)
{
    char host[256];
    const char *port;
    const char *text = net->options.address;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info = NULL;
    if (split_address(text, host, sizeof(host), &port) != 0) {
        snprintf(error, 256, "listen.tcp: '%s' is not HOST:PORT", text);
        return -EINVAL;
    }
    int failed = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &info);
    if (failed != 0) {
        snprintf(error, 256, "listen.tcp: '%s': %s", text, gai_strerror(failed));
        return -EINVAL;
    }
    int fd = bind_one(info);
    freeaddrinfo(info);
    if (fd < 0) {
        snprintf(error, 256, "listen.tcp: cannot listen on %s: %s%s", text, strerror(-fd),
                 fd == -EADDRINUSE ? " (is another usherd running? give another port)" : "");
        return fd;
    }
    net->listener = fd;
    net->port = port_of(fd);
    return 0;
}

static void say_overloaded(int fd)
{
    struct buffer out = {0};
    if (broker_frame_close(&out, USHER__V1__CLOSE__REASON__OVERLOADED,
                           "too many connections; try again later", OVERLOAD_RETRY_MS,
                           false) == 0)
        (void)!send(fd, out.data, out.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    buffer_fini(&out);
    shutdown(fd, SHUT_WR);
    close(fd);
}

static bool over_a_limit(struct net *net)
{
    return atomic_load_explicit(&net->open, memory_order_relaxed) >=
               net->options.connections_max ||
           atomic_load_explicit(&net->unbound, memory_order_relaxed) >= net->options.unbound_max;
}

/* Takes fd. False: the reactor has no room for it. */
static bool give(struct reactor *to, int fd)
{
    pthread_mutex_lock(&to->adopt_lock);
    if (to->adopted_count == to->adopted_capacity) {
        size_t capacity = to->adopted_capacity ? to->adopted_capacity * 2 : 64;
        int *bigger = realloc(to->adopted, capacity * sizeof(*bigger));
        if (bigger == NULL) {
            pthread_mutex_unlock(&to->adopt_lock);
            close(fd);
            return false;
        }
        to->adopted = bigger;
        to->adopted_capacity = capacity;
    }
    to->adopted[to->adopted_count++] = fd;
    pthread_mutex_unlock(&to->adopt_lock);
    uint64_t one = 1;
    (void)!write(to->wake, &one, sizeof(one));
    return true;
}

static void deal(struct reactor *reactor, int fd)
{
    struct net *net = reactor->net;
    if (net->options.metrics != NULL)
        metrics_add(net->options.metrics, reactor->index, METRIC_connections_accepted, 1);
    if (over_a_limit(net)) {
        LOG(net->options.log, LIMIT_HIT, LOG_S("limit", "connections"),
            LOG_U("open", atomic_load(&net->open)));
        say_overloaded(fd);
        return;
    }
    atomic_fetch_add_explicit(&net->open, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&net->unbound, 1, memory_order_relaxed);
    struct reactor *to = &net->reactors[net->next_reactor++ % net->options.reactors];
    if (to == reactor)
        conn_adopt(to, fd);
    else if (!give(to, fd))
        conn_discount(net);
}

static void pause_accepting(struct reactor *reactor, int error)
{
    struct net *net = reactor->net;
    uint32_t pause = reactor->accept_pause_ms ? reactor->accept_pause_ms * 2 : PAUSE_MS_MIN;
    reactor->accept_pause_ms = pause > PAUSE_MS_MAX ? PAUSE_MS_MAX : pause;
    reactor->accept_resume_ms = reactor->now_ms + reactor->accept_pause_ms;
    epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, net->listener, NULL);
    if (net->options.metrics != NULL)
        metrics_add(net->options.metrics, reactor->index, METRIC_accept_paused, 1);
    LOG(net->options.log, ACCEPT_PAUSED, LOG_S("error", strerror(error)),
        LOG_U("pause_ms", reactor->accept_pause_ms));
}

void listener_accept(struct reactor *reactor)
{
    struct net *net = reactor->net;
    for (unsigned i = 0; i < ACCEPT_BATCH && net->listener >= 0; i++) {
        int fd = accept4(net->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            reactor->accept_pause_ms = 0;
            deal(reactor, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(reactor, errno);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO) {
            return;
        }
    }
}

void listener_resume(struct reactor *reactor)
{
    reactor->accept_resume_ms = 0;
    if (reactor->net->listener < 0)
        return;
    if (watch(reactor) == 0)
        LOG(reactor->net->options.log, ACCEPT_RESUMED, LOG_U("port", reactor->net->port));
    else
        reactor->accept_resume_ms = reactor->now_ms + PAUSE_MS_MAX;
}

void listener_stop(struct reactor *reactor)
{
    struct net *net = reactor->net;
    if (net->listener < 0)
        return;
    reactor->accept_resume_ms = 0;
    close(net->listener);
    net->listener = -1;
}

/* --- the whole ---------------------------------------------------------------------------------- */

int net_open(struct net **out, const struct net_options *options, const struct net_events *events,
             char *error)
{
    struct net *net = calloc(1, sizeof(*net));
    if (net == NULL)
        return -ENOMEM;
    net->options = *options;
    net->events = *events;
    net->slots_max = options->connections_max + CHUNK_CONNS;
    net->listener = -1;
    int failed = listener_open(net, error);
    unsigned opened = 0;
    while (failed == 0 && opened < options->reactors) {
        failed = reactor_open(net, opened++);
        if (failed != 0)
            snprintf(error, 256, "cannot start an I/O thread: %s", strerror(-failed));
    }
    if (failed != 0) {
        net->options.reactors = opened;
        net_close(net);
        return failed;
    }
    *out = net;
    return 0;
}

int net_start(struct net *net)
{
    int error = watch(&net->reactors[0]);
    for (unsigned i = 0; error == 0 && i < net->options.reactors; i++) {
        error = -pthread_create(&net->reactors[i].pthread, NULL, reactor_run, &net->reactors[i]);
        if (error == 0)
            net->started++;
    }
    return error;
}

uint16_t net_port(const struct net *net)
{
    return net->port;
}

uint32_t net_count(struct net *net)
{
    return atomic_load_explicit(&net->open, memory_order_relaxed);
}

static void wake_all(struct net *net)
{
    uint64_t one = 1;
    for (unsigned i = 0; i < net->options.reactors; i++)
        (void)!write(net->reactors[i].wake, &one, sizeof(one));
}

void net_stop_accepting(struct net *net)
{
    atomic_store_explicit(&net->accept_off, true, memory_order_release);
    wake_all(net);
}

void net_stop(struct net *net)
{
    atomic_store_explicit(&net->stopping, true, memory_order_seq_cst);
    wake_all(net);
    for (unsigned i = 0; i < net->started; i++)
        pthread_join(net->reactors[i].pthread, NULL);
    net->started = 0;
}

void net_close(struct net *net)
{
    for (unsigned i = 0; i < net->options.reactors; i++)
        reactor_close(&net->reactors[i]);
    if (net->listener >= 0)
        close(net->listener);
    free(net);
}
