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

#include "base/address.h"
#include "net/private.h"

/* The first reactor accepts, from all listeners, and deals connections out in turn. Out of files or
 * memory, it stops listening for 10 ms, doubling to a second, so a full process does not spin. Who
 * may come in is the question of strangers.c; from a proxy, when it is known who that is
 * (anteroom.c). */

const struct transport *const transports[TRANSPORTS] = {
#define TRANSPORT(name, by_tls, by_http) [TRANSPORT_##name] = &transport_##name,
#include "base/listeners.def"
};

const struct codec *const codecs[CODECS] = {
#define CODEC(name) [CODEC_##name] = &codec_##name,
#include "base/listeners.def"
};

size_t codec_overhead_bytes(void)
{
    size_t most = 0;
    for (unsigned kind = 0; kind < CODECS; kind++)
        most = codecs[kind]->overhead_bytes > most ? codecs[kind]->overhead_bytes : most;
    return most;
}

enum { ACCEPT_BATCH = 256, PAUSE_MS_MIN = 10, PAUSE_MS_MAX = 1000 };

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

static struct sockaddr_storage bound_to(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    getsockname(fd, (struct sockaddr *)&address, &size);
    return address;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage address = bound_to(fd);
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

int listener_watch(struct reactor *reactor)
{
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        int fd = reactor->net->listeners[kind].fd;
        struct epoll_event event = {.events = EPOLLIN, .data.u64 = kind};
        if (fd >= 0 && epoll_ctl(reactor->epoll, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

int net_listen(const char *option, const char *text, uint16_t *port_out, char *error)
{
    struct address address;
    char port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *info = NULL;
    if (!address_split(&address, text, strlen(text))) {
        snprintf(error, 256, "%s: '%s' is not HOST:PORT", option, text);
        return -EINVAL;
    }
    snprintf(port, sizeof(port), "%u", address.port);
    int failed = getaddrinfo(address.host, port, &hints, &info);
    if (failed != 0) {
        snprintf(error, 256, "%s: '%s': %s", option, text, gai_strerror(failed));
        return failed == EAI_AGAIN ? -EADDRNOTAVAIL : -EINVAL; /* no server for names, yet */
    }
    int fd = bind_one(info);
    freeaddrinfo(info);
    if (fd < 0) {
        snprintf(error, 256, "%s: cannot listen on %s: %s%s", option, text, strerror(-fd),
                 fd == -EADDRINUSE ? " (is another usherd running? give another port)" : "");
        return fd;
    }
    *port_out = port_of(fd);
    return fd;
}

/* A socket that listens: ours, or one that whoever started us has opened. */
static void take_over(struct listener *listener, int fd)
{
    struct sockaddr_storage address = bound_to(fd);
    listener->fd = fd;
    listener->port = port_of(fd);
    net_address_text(&address, listener->address);
}

static int open_one(struct listener *listener, const char *option, const char *text, char *error)
{
    uint16_t port;
    int fd = net_listen(option, text, &port, error);
    if (fd < 0)
        return fd;
    take_over(listener, fd);
    return 0;
}

static bool is_wanted(const struct net_listen *listen)
{
    return listen->fd != 0 || (listen->address != NULL && listen->address[0] != '\0');
}

/* The certificates, when a listener that is wanted shows them. */
static int open_domain(struct net *net, char *error)
{
    const struct net_options *options = &net->options;
    const struct tls_files files = {.certificate = options->tls_certificate_file,
                                    .key = options->tls_key_file,
                                    .client_ca = options->tls_client_ca_file};
    bool needed = false;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        needed = needed || (listener_rows[kind].by_tls && is_wanted(&options->listen[kind]));
    return needed ? tls_domain_open(&net->site.tls, &files, error) : 0;
}

int listener_open(struct net *net, char *error)
{
    const struct net_listen *listen = net->options.listen;
    int failed = open_domain(net, error);
    unsigned wanted = 0;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        wanted += is_wanted(&listen[kind]);
    bool nowhere = wanted == 0 && listen[0].address != NULL; /* what is wrong with it is said */
    for (unsigned kind = 0; kind < LISTENERS && failed == 0; kind++)
        if (listen[kind].fd == 0 && (is_wanted(&listen[kind]) || (kind == 0 && nowhere)))
            failed = open_one(&net->listeners[kind], listener_rows[kind].option,
                              listen[kind].address, error);
    if (failed != 0)
        return failed; /* who tries again needs those that were passed */
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        if (listen[kind].fd != 0)
            take_over(&net->listeners[kind], listen[kind].fd);
    return 0;
}

void listener_deal(struct reactor *reactor, struct arrival *arrival,
                   const struct sockaddr_storage *from)
{
    struct net *net = reactor->net;
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    arrival->forwards =
        listener_rows[arrival->listener].by_http && net_trusts(net, &net->trust.forwarders, from);
    if (!strangers_admit(reactor, arrival, from))
        return;
    struct reactor *to = &net->reactors[net->next_reactor++ % net->options.reactors];
    if (to == reactor)
        strangers_enter(to, arrival);
    else if (!wake_give(to, arrival))
        conn_discount(net, arrival);
}

static void pause_accepting(struct reactor *reactor, int error)
{
    struct net *net = reactor->net;
    uint32_t pause = reactor->accept_pause_ms ? reactor->accept_pause_ms * 2 : PAUSE_MS_MIN;
    reactor->accept_pause_ms = pause > PAUSE_MS_MAX ? PAUSE_MS_MAX : pause;
    reactor->accept_resume_ms = reactor->now_ms + reactor->accept_pause_ms;
    for (unsigned kind = 0; kind < LISTENERS; kind++)
        if (net->listeners[kind].fd >= 0)
            epoll_ctl(reactor->epoll, EPOLL_CTL_DEL, net->listeners[kind].fd, NULL);
    reactor_count(reactor, METRIC_accept_paused, 1);
    LOG(net->options.log, ACCEPT_PAUSED, LOG_S("error", strerror(error)),
        LOG_U("pause_ms", reactor->accept_pause_ms));
}

void listener_accept(struct reactor *reactor, enum listener_kind kind)
{
    CHECK(on_io_thread(reactor) && reactor->index == 0 && kind < LISTENERS);
    struct net *net = reactor->net;
    int listener = net->listeners[kind].fd;
    for (unsigned i = 0; i < ACCEPT_BATCH && listener >= 0; i++) {
        struct sockaddr_storage from = {0};
        socklen_t size = sizeof(from);
        int fd = accept4(listener, (struct sockaddr *)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            struct arrival arrival = {.fd = fd, .source = SOURCE_NONE, .listener = (uint8_t)kind};
            reactor->accept_pause_ms = 0;
            reactor_count(reactor, METRIC_connections_accepted, 1);
            reactor_count(reactor, listener_rows[kind].accepted, 1);
            if (net_trusts(net, &net->trust.proxies, &from))
                anteroom_enter(reactor, &arrival);
            else
                listener_deal(reactor, &arrival, &from);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(reactor, errno);
            return;
        } else if (errno != EINTR && errno != ECONNABORTED && errno != EPROTO) {
            return;
        }
    }
}

/* Of the listeners that there are. */
static uint16_t first_port(const struct net *net)
{
    uint16_t port = 0;
    for (unsigned kind = 0; kind < LISTENERS && port == 0; kind++)
        port = net->listeners[kind].port;
    return port;
}

void listener_resume(struct reactor *reactor)
{
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    reactor->accept_resume_ms = 0;
    if (atomic_load_explicit(&reactor->net->answers_off, memory_order_relaxed))
        return;
    if (listener_watch(reactor) == 0)
        LOG(reactor->net->options.log, ACCEPT_RESUMED, LOG_U("port", first_port(reactor->net)));
    else
        reactor->accept_resume_ms = reactor->now_ms + PAUSE_MS_MAX;
}

void listener_stop(struct reactor *reactor)
{
    CHECK(on_io_thread(reactor) && reactor->index == 0);
    for (unsigned kind = 0; kind < LISTENERS; kind++) {
        struct listener *listener = &reactor->net->listeners[kind];
        if (listener->fd < 0 || answers_still(reactor->net, kind))
            continue;
        close(listener->fd);
        listener->fd = -1;
    }
}
