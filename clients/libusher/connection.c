/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/connection.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"

/* All that touches a plain socket; over TLS the bytes go through tls.c. A descriptor is
 * non-blocking and close-on-exec from birth (dial.c), and no write raises SIGPIPE. Nagle is off:
 * the session writes whole batches itself. */

void connection_init(struct connection *connection)
{
    *connection = (struct connection){.fd = -1};
    dial_init(&connection->dial);
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

int connection_open(struct connection *connection, struct tls_client *security,
                    const struct addresses *found, struct address_memory *memory, uint64_t now_ms,
                    uint64_t end_ms)
{
    CHECK(connection->fd < 0);
    connection->security = security;
    dial_begin(&connection->dial, found, memory, now_ms, end_ms);
    return connection_continue(connection, now_ms);
}

int connection_continue(struct connection *connection, uint64_t now_ms)
{
    if (connection->fd >= 0)
        return secure(connection);
    int result = dial_step(&connection->dial, now_ms, &connection->fd);
    return result == 1 ? secure(connection) : result;
}

bool connection_again(struct connection *connection, uint64_t now_ms, uint64_t end_ms)
{
    if (!dial_again(&connection->dial, now_ms, end_ms))
        return false;
    close_socket(connection);
    connection->input.size = 0;
    connection->output.size = 0;
    connection->wire_total = 0;
    connection->wire_written = 0;
    return true;
}

int connection_descriptor(const struct connection *connection)
{
    return connection->fd >= 0 ? connection->fd : connection->dial.epoll;
}

uint64_t connection_due_ms(const struct connection *connection)
{
    return connection->fd >= 0 ? UINT64_MAX : dial_due_ms(&connection->dial);
}

int connection_read(struct connection *connection, size_t bytes_max)
{
    CHECK(connection->connected);
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
    CHECK(connection->connected);
    /* Which requests the broker cannot have seen is told by these sums. */
    CHECK(connection->wire_total - connection->wire_written == output->size);
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
    return connection->tls != NULL && tls_link_wants_write(connection->tls);
}

const char *connection_fault(const struct connection *connection)
{
    return connection->tls != NULL ? tls_link_fault(connection->tls) : "";
}

void connection_close(struct connection *connection)
{
    close_socket(connection);
    dial_close(&connection->dial);
    buffer_fini(&connection->input);
    buffer_fini(&connection->output);
    connection_init(connection);
}
