/* SPDX-License-Identifier: Apache-2.0 */
#include "libusher/connection.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"

/* All that touches a plain socket; over TLS the bytes go through tls.c. A descriptor is
 * non-blocking and close-on-exec from birth (dial.c), and no write raises SIGPIPE. Nagle is off:
 * the session writes whole batches itself.
 *
 * The owner sees frames, whatever they travel in: with WebSocket the output is wrapped before a
 * write and the input unwrapped behind a read, both in place, and wire_written counts the bytes of
 * frames alone. */

void connection_init(struct connection *connection)
{
    *connection = (struct connection){.fd = -1};
    dial_init(&connection->dial);
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* How many bytes were taken; 0: none now. */
static ssize_t transmit(struct connection *connection, const void *data, size_t size)
{
    if (connection->tls != NULL)
        return tls_link_write(connection->tls, data, size);
    ssize_t count;
    do {
        count = send(connection->fd, data, size, MSG_NOSIGNAL);
    } while (count < 0 && errno == EINTR);
    if (count < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
    return count;
}

/* Appends to the input what comes: as connection_read. */
static ssize_t receive(struct connection *connection, size_t bytes_max)
{
    uint8_t *place = buffer_reserve(&connection->input, bytes_max);
    if (place == NULL)
        return -ENOMEM;
    if (connection->tls != NULL) {
        ssize_t got = tls_link_read(connection->tls, place, bytes_max);
        connection->input.size += got > 0 ? (size_t)got : 0;
        return got;
    }
    ssize_t count = recv(connection->fd, place, bytes_max, 0);
    if (count > 0) {
        connection->input.size += (size_t)count;
        return count;
    }
    if (count == 0)
        return -ESHUTDOWN;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -errno;
}

/* The first `count` bytes of the output are in the socket. */
static void sent(struct connection *connection, size_t count)
{
    struct buffer *output = &connection->output;
    size_t frames = connection->websocket != NULL
                        ? websocket_sent(connection->websocket, output, count)
                        : count;
    connection->wire_written += frames;
    buffer_consume(output, count);
}

static int write_output(struct connection *connection)
{
    struct buffer *output = &connection->output;
    while (output->size > 0) {
        ssize_t count = transmit(connection, output->data, output->size);
        if (count <= 0)
            return (int)count;
        sent(connection, (size_t)count);
    }
    return 0;
}

/* What came behind the first `before` bytes of the input is raw: leaves the frames of it. */
static int unwrap(struct connection *connection, size_t before)
{
    struct buffer *input = &connection->input;
    size_t payload = 0;
    if (input->size == before)
        return 0;
    int result =
        websocket_take(connection->websocket, input->data + before, input->size - before, &payload);
    input->size = before + payload;
    return result;
}

/* --- beginning and end ------------------------------------------------------------------------ */

/* The code of RFC 6455 for how it ends. */
static unsigned close_code(int end)
{
    switch (end) {
    case -EPROTO:
        return 1002;
    case -ENOTSUP:
        return 1003;
    case -EILSEQ:
        return 1007;
    default:
        return 1000;
    }
}

/* Tells the server, and a proxy between, that this is meant: if that is possible at once. */
static void say_goodbye(struct connection *connection)
{
    uint8_t frame[WEBSOCKET_GOODBYE_BYTES_MAX];
    size_t size = websocket_goodbye(connection->websocket, frame, close_code(connection->end));
    if (size > 0)
        (void)transmit(connection, frame, size);
}

static void close_socket(struct connection *connection)
{
    if (connection->websocket != NULL)
        say_goodbye(connection);
    free(connection->websocket);
    connection->websocket = NULL;
    connection->end = 0;
    tls_link_destroy(connection->tls);
    connection->tls = NULL;
    if (connection->fd >= 0)
        close(connection->fd);
    connection->fd = -1;
    connection->connected = false;
}

/* TLS stands, or there is none: 1, 0 or negative. */
static int secure(struct connection *connection)
{
    if (connection->ways.security == NULL || connection->secured)
        return 1;
    if (connection->tls == NULL)
        connection->tls = tls_link_create(connection->ways.security, connection->fd);
    if (connection->tls == NULL)
        return -ENOMEM;
    int result = tls_link_handshake(connection->tls);
    connection->secured = result == 1;
    return result;
}

static int begin_upgrade(struct connection *connection)
{
    connection->websocket = malloc(sizeof(*connection->websocket));
    if (connection->websocket == NULL)
        return -ENOMEM;
    return websocket_begin(connection->websocket, connection->ways.websocket, &connection->masks,
                           &connection->output);
}

/* The answer may bring the first frames with it. */
static int end_upgrade(struct connection *connection)
{
    struct buffer *input = &connection->input;
    size_t used = 0;
    int result =
        websocket_open(connection->websocket, (struct bytes){input->data, input->size}, &used);
    if (result != 1)
        return result;
    buffer_consume(input, used);
    connection->end = unwrap(connection, 0);
    return 1;
}

/* The request goes, the answer comes: 1, 0 or negative. */
static int upgrade(struct connection *connection)
{
    if (connection->ways.websocket == NULL)
        return 1;
    int result = connection->websocket == NULL ? begin_upgrade(connection) : 0;
    if (result == 0)
        result = write_output(connection);
    while (result == 0) {
        ssize_t got = receive(connection, TLS_RECORD_BYTES_MAX);
        if (got <= 0)
            return (int)got;
        result = end_upgrade(connection);
    }
    return result;
}

/* The TCP connection stands. */
static int establish(struct connection *connection)
{
    int result = secure(connection);
    if (result == 1)
        result = upgrade(connection);
    connection->connected = result == 1;
    return result;
}

int connection_open(struct connection *connection, const struct connection_ways *ways,
                    const struct addresses *found, struct address_memory *memory, uint64_t now_ms,
                    uint64_t end_ms)
{
    CHECK(connection->fd < 0);
    connection->ways = *ways;
    dial_begin(&connection->dial, found, memory, now_ms, end_ms);
    return connection_continue(connection, now_ms);
}

int connection_continue(struct connection *connection, uint64_t now_ms)
{
    if (connection->fd >= 0)
        return establish(connection);
    int result = dial_step(&connection->dial, now_ms, &connection->fd);
    return result == 1 ? establish(connection) : result;
}

bool connection_again(struct connection *connection, uint64_t now_ms, uint64_t end_ms)
{
    if (!dial_again(&connection->dial, now_ms, end_ms))
        return false;
    close_socket(connection);
    connection->secured = false;
    connection->input.size = 0;
    connection->output.size = 0;
    connection->wire_total = 0;
    connection->wire_written = 0;
    connection->message_bytes_max = 0;
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

/* --- once it stands --------------------------------------------------------------------------- */

int connection_read(struct connection *connection, size_t bytes_max)
{
    size_t before = connection->input.size;
    CHECK(connection->connected);
    if (connection->end != 0)
        return connection->end;
    ssize_t got = receive(connection, bytes_max);
    if (got > 0 && connection->websocket != NULL)
        connection->end = unwrap(connection, before);
    return (int)got;
}

/* What the broker takes in one message, and no more than is of use. */
static struct websocket_batch batch_of(const struct connection *connection)
{
    size_t bytes_max = connection->message_bytes_max;
    return (struct websocket_batch){
        .bytes_max = bytes_max < WEBSOCKET_BATCH_BYTES_MAX ? bytes_max : WEBSOCKET_BATCH_BYTES_MAX};
}

int connection_write(struct connection *connection)
{
    size_t framing = 0;
    CHECK(connection->connected);
    if (connection->websocket != NULL) {
        const struct websocket_batch batch = batch_of(connection);
        int result = websocket_wrap(connection->websocket, &connection->output, &batch);
        if (result < 0)
            return result;
        framing = connection->websocket->framing;
    }
    /* Which requests the broker cannot have seen is told by these sums. */
    CHECK(connection->wire_total - connection->wire_written == connection->output.size - framing);
    return write_output(connection);
}

bool connection_is_behind(const struct connection *connection)
{
    int bytes = 0;
    return connection->output.size > 0 ||
           (ioctl(connection->fd, SIOCOUTQNSD, &bytes) == 0 && bytes > 0);
}

bool connection_connects_by_writing(const struct connection *connection)
{
    return (connection->tls != NULL && tls_link_wants_write(connection->tls)) ||
           connection->output.size > 0;
}

const char *connection_fault(const struct connection *connection)
{
    return connection->tls != NULL ? tls_link_fault(connection->tls) : "";
}

const struct websocket_answer *connection_answer(const struct connection *connection)
{
    return connection->websocket != NULL ? &connection->websocket->answer : NULL;
}

unsigned connection_close_code(const struct connection *connection, const char **text)
{
    if (connection->websocket == NULL)
        return 0;
    *text = connection->websocket->close_text;
    return connection->websocket->close_code;
}

void connection_close(struct connection *connection)
{
    close_socket(connection);
    dial_close(&connection->dial);
    buffer_fini(&connection->input);
    buffer_fini(&connection->output);
    connection_init(connection);
}
