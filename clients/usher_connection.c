/* SPDX-License-Identifier: Apache-2.0 */

/* All that touches a plain socket; over TLS the bytes go through usher_tls.c. A descriptor is
 * non-blocking and close-on-exec from birth, and no write raises SIGPIPE. Nagle is off: the session
 * writes whole batches itself. */

#include "clients/usher_connection.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

void connection_init(struct connection *connection)
{
    *connection = (struct connection){.fd = -1};
}

static void close_socket(struct connection *connection)
{
    tls_link_destroy(connection->tls);
    connection->tls = NULL;
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    connection->connected = false;
}

/* The TCP connection stands. */
static int secure(struct connection *connection)
{
    if (connection->security != NULL && connection->tls == NULL) {
        connection->tls = tls_link_create(connection->security, connection->fd);
        if (connection->tls == NULL)
            return -ENOMEM;
    }
    int result = connection->tls != NULL ? tls_link_handshake(connection->tls) : 1;
    connection->connected = result == 1;
    return result;
}

/* Begins with connection->address and goes on to the next ones: 1, 0, or the last error. */
static int connect_any(struct connection *connection, int last_error)
{
    for (; connection->address != NULL; connection->address = connection->address->ai_next) {
        const struct addrinfo *address = connection->address;
        connection->fd =
            socket(address->ai_family, address->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connection->fd < 0) {
            last_error = -errno;
            continue;
        }
        int on = 1; /* only speed depends on it, so a refusal does not matter */
        (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(connection->fd, address->ai_addr, address->ai_addrlen) == 0)
            return secure(connection);
        if (errno == EINPROGRESS || errno == EINTR)
            return 0;
        last_error = -errno;
        close_socket(connection);
    }
    return last_error;
}

int connection_open(struct connection *connection, struct tls_client *security, const char *host,
                    uint16_t port)
{
    connection->security = security;
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int failure = getaddrinfo(host, service, &hints, &connection->addresses);
    if (failure != 0) {
        connection->addresses = NULL;
        if (failure == EAI_MEMORY)
            return -ENOMEM;
        return failure == EAI_SYSTEM && errno != 0 ? -errno : -EHOSTUNREACH;
    }
    connection->address = connection->addresses;
    return connect_any(connection, -EHOSTUNREACH);
}

int connection_continue(struct connection *connection)
{
    if (connection->tls != NULL)
        return secure(connection);
    struct pollfd watched = {.fd = connection->fd, .events = POLLOUT};
    int ready = poll(&watched, 1, 0);
    if (ready == 0 || (ready < 0 && errno == EINTR))
        return 0;
    int error = 0;
    socklen_t size = sizeof error;
    if (ready < 0 || getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    if (error == 0)
        return secure(connection);
    close_socket(connection);
    connection->address = connection->address->ai_next;
    return connect_any(connection, -error);
}

int connection_read(struct connection *connection, size_t bytes_max)
{
    uint8_t *place = buffer_reserve(&connection->input, bytes_max);
    if (place == NULL)
        return -ENOMEM;
    if (connection->tls != NULL) {
        ssize_t got = tls_link_read(connection->tls, place, bytes_max);
        connection->input.size += got > 0 ? (size_t)got : 0;
        return (int)got;
    }
    ssize_t count = recv(connection->fd, place, bytes_max, 0);
    if (count > 0) {
        connection->input.size += (size_t)count;
        return (int)count;
    }
    if (count == 0)
        return -ESHUTDOWN;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
}

/* How many bytes were taken; 0: none now. */
static ssize_t transmit(struct connection *connection, const struct buffer *output)
{
    if (connection->tls != NULL)
        return tls_link_write(connection->tls, output->data, output->size);
    ssize_t count;
    do {
        count = send(connection->fd, output->data, output->size, MSG_NOSIGNAL);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    return count;
}

int connection_write(struct connection *connection)
{
    struct buffer *output = &connection->output;
    while (output->size > 0) {
        ssize_t count = transmit(connection, output);
        if (count <= 0)
            return (int)count;
        connection->wire_written += (uint64_t)count;
        buffer_consume(output, (size_t)count);
    }
    return 0;
}

bool connection_connects_by_writing(const struct connection *connection)
{
    return connection->tls == NULL || tls_link_wants_write(connection->tls);
}

const char *connection_fault(const struct connection *connection)
{
    return connection->tls != NULL ? tls_link_fault(connection->tls) : "";
}

void connection_close(struct connection *connection)
{
    close_socket(connection);
    if (connection->addresses != NULL)
        freeaddrinfo(connection->addresses);
    buffer_fini(&connection->input);
    buffer_fini(&connection->output);
    connection_init(connection);
}
