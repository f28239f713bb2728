/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "net/transport.h"

/* Bytes as they are: each call is one of the socket's. A read that gives less than was asked for
 * has emptied it. Relayed is the same with somebody else behind the socket, and a state that is the
 * text of his address; plain has none. */

static ssize_t plain_read(int fd, void *state, struct transport_read *read)
{
    ssize_t got = recv(fd, read->to, read->size, MSG_DONTWAIT);
    read->next = got == (ssize_t)read->size ? TRANSPORT_MORE : 0;
    read->wire_bytes = got > 0 ? (size_t)got : 0;
    return got >= 0 ? got : -errno;
}

static ssize_t plain_write(int fd, void *state, const void *data, size_t size)
{
    ssize_t sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent >= 0 ? sent : -errno;
}

static int plain_shut(int fd, void *state)
{
    shutdown(fd, SHUT_WR);
    return 0;
}

static void plain_destroy(void *state)
{
    free(state);
}

static const char *relayed_peer(const void *state)
{
    return state;
}

const struct transport transport_plain = {
    .read = plain_read,
    .write = plain_write,
    .shut = plain_shut,
    .destroy = plain_destroy,
};

const struct transport transport_relayed = {
    .peer = relayed_peer,
    .read = plain_read,
    .write = plain_write,
    .shut = plain_shut,
    .destroy = plain_destroy,
};
