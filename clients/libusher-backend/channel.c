/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher-backend/backend.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/addresses.h"
#include "common/check.h"

/* One REQ socket, one request at a time.
 *
 * The library nng 1.5 that stable distributions carry can wedge a whole process, so it is used
 * in the narrow way that survived every experiment: half-duplex (the receive is posted when the
 * send has finished, the next send when the answer is here), no resending by the library, a
 * time limit on everything, and a new dialer when an answer does not come, or a request is not gone
 * after a second, because a dialer whose peer vanished during the handshake never dials again: it
 * is what happens to one that comes back to a node in the moment of its end. The reverse is as bad:
 * one peer that vanishes during the handshake ends the node's listener. So a dialer that has just
 * lost its connection, and is likely to be in the next handshake, is left alone, and a socket is
 * closed when neither a handshake nor an answer can be on its way.
 *
 * nng asks for a host's addresses by itself and takes the first, always. So a name in a tcp:// URL
 * is looked up here and nng gets an address: another one after each that did not lead to a node.
 *
 * The limit is kept by our own monotonic clock and not by nng, which counts its timers on the wall
 * clock: set back by an hour they stand still for an hour, and set ahead they are all due at once.
 * So no request has a timeout of nng's; whoever looks for the answer (channel_take) aborts what is
 * overdue. And the timer by which a dialer of nng tries again goes with the dialer, which is
 * replaced then: a new one dials at once.
 *
 * The completion runs on a thread of nng. It owns `stage`, `answer` and `error` from
 * channel_start until it stores FINISHED; whoever loads FINISHED owns them again. Resending the
 * same bytes after a failure is the caller's decision. */

enum {
    HANDSHAKE_MS = 500,
    CONNECT_MS = 1000, /* a dialer that lives has tried several times by then */
};

enum stage {
    IDLE,
    SENDING,
    RECEIVING,
    FINISHED,
};

struct channel {
    const struct urls *urls;
    size_t url;
    int wake;
    nng_socket socket;
    nng_dialer dialer;
    bool dialed;
    struct addresses found; /* of the host being dialed; none: the URL names no host */
    struct address_memory memory;
    nng_aio *aio;
    nng_msg *answer;
    int error;
    uint64_t deadline_ms; /* monotonic, as the next */
    uint64_t connect_by_ms;
    atomic_int stage;
};

static int translate(int error)
{
    switch (error) {
    case 0:
        return 0;
    case NNG_ETIMEDOUT:
        return -ETIMEDOUT;
    case NNG_ENOMEM:
        return -ENOMEM;
    case NNG_EADDRINVAL:
    case NNG_ENOTSUP:
    case NNG_EINVAL:
        return -EINVAL;
    default:
        return -ECONNRESET;
    }
}

void wake_set(int wake)
{
    const uint64_t one = 1;
    /* Fails only when it is set some 2^64 times over, and then it is set. */
    ssize_t ignored = write(wake, &one, sizeof(one));
    (void)ignored;
}

void wake_wait(int wake, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = wake, .events = POLLIN};
    uint64_t count;
    if (poll(&poll_fd, 1, timeout_ms) > 0) {
        ssize_t ignored = read(wake, &count, sizeof(count));
        (void)ignored;
    }
}

/* The last thing that a completion does with the channel. */
static void finish(struct channel *channel, int error, nng_msg *answer)
{
    int wake = channel->wake;
    channel->error = error;
    channel->answer = answer;
    /* Pairs with the load in channel_take: error and answer are visible with it. */
    atomic_store_explicit(&channel->stage, FINISHED, memory_order_release);
    wake_set(wake);
}

/* On a thread of nng. */
static void completed(void *argument)
{
    struct channel *channel = argument;
    int result = nng_aio_result(channel->aio);
    int stage = atomic_load_explicit(&channel->stage, memory_order_acquire);
    bool sending = stage == SENDING;
    CHECK(sending || stage == RECEIVING);
    if (result != 0) {
        if (sending)
            nng_msg_free(nng_aio_get_msg(channel->aio)); /* a failed send gives it back */
        finish(channel, translate(result), NULL);
    } else if (sending) {
        /* Only now: nng 1.5 crashes on a receive that is posted before the send is done. */
        atomic_store_explicit(&channel->stage, RECEIVING, memory_order_release);
        nng_recv_aio(channel->socket, channel->aio);
    } else {
        finish(channel, 0, nng_aio_get_msg(channel->aio));
    }
}

int channel_open(struct channel **out, const struct urls *urls, int wake)
{
    struct channel *channel = calloc(1, sizeof(*channel));
    int error;
    if (channel == NULL)
        return -ENOMEM;
    channel->urls = urls;
    channel->wake = wake;
    error = nng_req0_open(&channel->socket);
    if (error != 0) {
        free(channel);
        return error == NNG_ENOMEM ? -ENOMEM : -ENFILE;
    }
    error = nng_socket_set_ms(channel->socket, NNG_OPT_REQ_RESENDTIME, NNG_DURATION_INFINITE);
    if (error == 0)
        error = nng_socket_set_size(channel->socket, NNG_OPT_RECVMAXSZ, FRAME_BYTES_MAX);
    if (error == 0)
        error = nng_aio_alloc(&channel->aio, completed, channel);
    if (error != 0) {
        nng_close(channel->socket);
        free(channel);
        return -ENOMEM;
    }
    *out = channel;
    return 0;
}

static void answer_free(struct channel *channel)
{
    if (channel->answer != NULL)
        nng_msg_free(channel->answer);
    channel->answer = NULL;
}

static void wait_while(struct channel *channel, int stage, unsigned wait_ms)
{
    uint64_t end_ms = clock_ms() + wait_ms;
    while (atomic_load_explicit(&channel->stage, memory_order_acquire) == stage &&
           clock_ms() < end_ms)
        wake_wait(channel->wake, 20);
}

void channel_close(struct channel *channel, unsigned wait_ms)
{
    if (channel == NULL)
        return;
    wait_while(channel, SENDING, HANDSHAKE_MS);
    wait_while(channel, RECEIVING, wait_ms);
    nng_aio_stop(channel->aio);
    nng_close(channel->socket);
    nng_aio_free(channel->aio);
    answer_free(channel);
    free(channel);
}

const char *channel_url(const struct channel *channel)
{
    return channel->urls->text[channel->url];
}

/* Gives the host of tcp://HOST:PORT; false: it is another URL, or an address by itself. */
static bool host_of(const char *url, char host[URL_BYTES_MAX], uint16_t *port)
{
    struct in_addr address;
    const char *colon = strrchr(url, ':');
    size_t size = (size_t)(colon - url);
    if (strncmp(url, "tcp://", 6) != 0 || size <= 6 || url[6] == '[')
        return false;
    memcpy(host, url + 6, size - 6);
    host[size - 6] = '\0';
    *port = (uint16_t)strtoul(colon + 1, NULL, 10);
    return inet_pton(AF_INET, host, &address) != 1;
}

/* The URL with which nng goes where we want. */
static const char *choose_address(struct channel *channel, char url[URL_BYTES_MAX])
{
    char host[URL_BYTES_MAX];
    char text[INET6_ADDRSTRLEN];
    uint16_t port;
    channel->found.count = 0;
    if (!host_of(channel_url(channel), host, &port) ||
        addresses_of_host(host, port, &channel->found) != 0)
        return channel_url(channel); /* nng may know better */
    addresses_order(&channel->found, &channel->memory);
    const struct address *first = &channel->found.list[0];
    if (first->at.any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &first->at.v6.sin6_addr, text, sizeof(text));
        snprintf(url, URL_BYTES_MAX, "tcp://[%s]:%u", text, (unsigned)port);
    } else {
        inet_ntop(AF_INET, &first->at.v4.sin_addr, text, sizeof(text));
        snprintf(url, URL_BYTES_MAX, "tcp://%s:%u", text, (unsigned)port);
    }
    return url;
}

/* nng tries again for ever and does not say why. Nobody knocks to find out: see above. */
static bool may_not_connect(const char *url)
{
    return strncmp(url, "ipc://", 6) == 0 && faccessat(AT_FDCWD, url + 6, W_OK, AT_EACCESS) != 0 &&
           errno == EACCES;
}

/* Opens nothing by itself: nng connects when it likes, and says nothing when it cannot. */
static int dial(struct channel *channel)
{
    char url[URL_BYTES_MAX];
    int error;
    if (may_not_connect(channel_url(channel)))
        return -EPERM;
    error = nng_dialer_create(&channel->dialer, channel->socket, choose_address(channel, url));
    if (error != 0)
        return translate(error);
    nng_dialer_set_ms(channel->dialer, NNG_OPT_RECONNMINT, 10);
    nng_dialer_set_ms(channel->dialer, NNG_OPT_RECONNMAXT, 500);
    /* Only TCP knows it; a dead peer is found without it, but later. */
    nng_dialer_set_bool(channel->dialer, NNG_OPT_TCP_KEEPALIVE, true);
    error = nng_dialer_start(channel->dialer, NNG_FLAG_NONBLOCK);
    if (error != 0) {
        nng_dialer_close(channel->dialer);
        return translate(error);
    }
    channel->dialed = true;
    return 0;
}

void channel_failed(struct channel *channel, int error)
{
    CHECK(channel_idle(channel));
    if (error == -ECONNRESET)
        return; /* the dialer is at it already */
    if (channel->dialed)
        nng_dialer_close(channel->dialer);
    channel->dialed = false;
    if (channel->found.count > 0)
        address_failed(&channel->memory, &channel->found.list[0]);
    channel->url = (channel->url + 1) % channel->urls->count;
}

int channel_start(struct channel *channel, struct bytes request, unsigned timeout_ms)
{
    nng_msg *message = NULL;
    CHECK(channel_idle(channel));
    int error = channel->dialed ? 0 : dial(channel);
    if (error != 0)
        return error;
    answer_free(channel);
    if (nng_msg_alloc(&message, request.size) != 0)
        return -ENOMEM;
    memcpy(nng_msg_body(message), request.data, request.size);
    channel->connect_by_ms = clock_ms() + CONNECT_MS;
    channel->deadline_ms = clock_ms() + timeout_ms;
    nng_aio_set_timeout(channel->aio, NNG_DURATION_INFINITE);
    nng_aio_set_msg(channel->aio, message);
    /* Pairs with the load in `completed`; nng's own locks carry the rest over. */
    atomic_store_explicit(&channel->stage, SENDING, memory_order_release);
    nng_send_aio(channel->socket, channel->aio);
    return 0;
}

bool channel_idle(const struct channel *channel)
{
    return atomic_load_explicit(&channel->stage, memory_order_relaxed) == IDLE;
}

uint64_t channel_due_ms(const struct channel *channel)
{
    int stage = atomic_load_explicit(&channel->stage, memory_order_relaxed);
    if (stage == IDLE)
        return 0;
    /* A request is sent when there is a connection. */
    if (stage == SENDING && channel->connect_by_ms < channel->deadline_ms)
        return channel->connect_by_ms;
    return channel->deadline_ms;
}

/* Between the send and the receive an abort finds nothing to abort: the next look comes again. */
static void abort_overdue(struct channel *channel)
{
    uint64_t due_ms = channel_due_ms(channel);
    if (due_ms != 0 && clock_ms() >= due_ms)
        nng_aio_abort(channel->aio, NNG_ETIMEDOUT);
}

int channel_take(struct channel *channel, struct bytes *answer)
{
    /* Pairs with the store in `finish`. */
    if (atomic_load_explicit(&channel->stage, memory_order_acquire) != FINISHED) {
        abort_overdue(channel);
        return -EAGAIN;
    }
    /* FINISHED is stored at the very end of the completion; let nng see it return, so that the
     * next request finds the aio at rest. */
    nng_aio_wait(channel->aio);
    atomic_store_explicit(&channel->stage, IDLE, memory_order_relaxed);
    if (channel->error != 0)
        return channel->error;
    if (channel->found.count > 0)
        address_works(&channel->memory, &channel->found.list[0]);
    CHECK(channel->answer != NULL);
    *answer = (struct bytes){nng_msg_body(channel->answer), nng_msg_len(channel->answer)};
    return 0;
}
