/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/lock.h"
#include "base/memory.h"

#include "admin/admin_private.h"

/* Places and deadlines of HTTP connections. Who waits for an asker, or reads a stream, has a place
 * as long as the asker lets him; of those MHD does not look at while they are suspended, the thread
 * below tells the asker when their peer has gone.
 *
 * MHD ends a connection that was silent; one that sends a byte now and then would hold its place
 * for ever. So each has a point in time by which its request must be there, or its answer read,
 * and a thread that looks each half second shuts down the socket of whoever is late; MHD then
 * finds the end and cleans up. MHD tells of the end before it closes the descriptor, and both
 * happen to the list under the lock, so the descriptor is never another's.
 *
 * Four seconds of 32 who say nothing are four seconds without health, again and again. So places
 * are not held by being there: when one more comes than there are places, somebody is sent away
 * who waits for nothing of ours, of the address that has the most connections, the oldest one
 * first. A probe that asks at once finds a place however many are silent, or do not read what they
 * asked for, and from wherever it comes. Nobody is sent away while the second thread is to answer
 * him, because MHD does not look at his connection then; these are fewer than it takes (JOBS_MAX).
 * So there may be more than places for a while, and nobody need come after them: whoever looks for
 * late ones sends away who is too many and sits there. Otherwise JOBS_MAX of them, answered and
 * still there, would be all that MHD takes, and nobody could come for whom they would have to go.
 * Who has just come or asked does not sit: a probe is not to go for those who wait for the second
 * thread.
 *
 * A connection that is quiet after an answer and is closed for it was kept open by custom and did
 * no harm: admin_late does not count it. One that has begun a request is late. */

enum { LOOK_MS = 500, SIT_MS = 2000 };

static uint64_t now_ms(const struct admin *admin)
{
    return env_monotonic_ms(admin->options.env);
}

/* Without the port; of IPv4 as IPv6 writes it. */
static void address_of(struct MHD_Connection *connection, uint8_t address[16])
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *from = info != NULL ? info->client_addr : NULL;
    memset(address, 0, 16);
    if (from != NULL && from->sa_family == AF_INET6) {
        memcpy(address, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
    } else if (from != NULL) {
        address[10] = address[11] = 0xff;
        memcpy(address + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
    }
}

/* Under the lock. That of another connection, or a new one; NULL without memory. */
static struct admin_source *source_of(struct admin *admin, const uint8_t address[16])
{
    CHECK(lock_held(&admin->lock));
    for (struct admin_conn *conn = admin->conns; conn != NULL; conn = conn->next)
        if (memcmp(conn->source->address, address, 16) == 0)
            return conn->source;
    struct admin_source *source = calloc(1, sizeof(*source));
    if (source != NULL)
        memcpy(source->address, address, 16);
    return source;
}

/* Under the lock. */
static void send_away(struct admin *admin, struct admin_conn *conn, enum metric_id metric)
{
    CHECK(lock_held(&admin->lock) && conn->state != CONN_SENT_AWAY && admin->conn_count > 0);
    shutdown(conn->fd, SHUT_RDWR);
    conn->state = CONN_SENT_AWAY;
    conn->due_ms = UINT64_MAX;
    admin->conn_count--;
    metrics_add(admin->options.metrics, admin->options.block, metric, 1);
}

static bool goes_before(const struct admin_conn *one, const struct admin_conn *other)
{
    if (one->state != other->state)
        return one->state == CONN_WAITS;
    return one->source->count >= other->source->count; /* and among equals the later in the list */
}

/* Under the lock. Of those who are not newer than that; NULL: there is nobody who may go. */
static struct admin_conn *first_to_go(const struct admin *admin, const struct admin_conn *newcomer,
                                      uint64_t since_ms)
{
    CHECK(lock_held(&admin->lock));
    struct admin_conn *first = NULL;
    for (struct admin_conn *conn = admin->conns; conn != NULL; conn = conn->next)
        if (conn != newcomer && conn->state <= CONN_ANSWERS && conn->since_ms <= since_ms &&
            (first == NULL || goes_before(conn, first)))
            first = conn;
    return first;
}

/* Under the lock: somebody comes, and one goes for him. */
static void make_room(struct admin *admin, const struct admin_conn *newcomer)
{
    struct admin_conn *first = first_to_go(admin, newcomer, UINT64_MAX);
    if (first != NULL)
        send_away(admin, first, admin->face->displaced);
}

/* Under the lock: nobody comes, so only those go who sit there. */
static void clear_places(struct admin *admin)
{
    struct admin_conn *first = NULL;
    while (admin->conn_count > admin->options.connections_max &&
           (first = first_to_go(admin, NULL, now_ms(admin) - SIT_MS)) != NULL)
        send_away(admin, first, admin->face->displaced);
}

static void enter(struct admin *admin, struct admin_conn *conn, const uint8_t address[16])
{
    conn->source = source_of(admin, address);
    if (conn->source == NULL)
        return;
    conn->source->count++;
    conn->next = admin->conns;
    if (conn->next != NULL)
        conn->next->previous = conn;
    admin->conns = conn;
    if (++admin->conn_count > admin->options.connections_max)
        make_room(admin, conn);
}

static void begin(struct admin *admin, struct MHD_Connection *connection, void **socket_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct admin_conn *conn = calloc(1, sizeof(*conn));
    uint8_t address[16];
    *socket_context = conn;
    if (conn == NULL)
        return; /* only without a deadline */
    memory_account(MEMORY_OF_HTTP, HEAD_BYTES_MAX);
    if (info == NULL)
        return;
    conn->fd = info->connect_fd;
    conn->since_ms = now_ms(admin);
    conn->due_ms = conn->since_ms + REQUEST_MS;
    address_of(connection, address);
    lock_take(&admin->lock);
    enter(admin, conn, address);
    lock_give(&admin->lock);
}

/* Under the lock. */
static void leave(struct admin *admin, struct admin_conn *conn)
{
    CHECK(lock_held(&admin->lock) && conn->source->count > 0);
    CHECK((conn->previous != NULL ? conn->previous->next : admin->conns) == conn);
    CHECK(conn->state == CONN_SENT_AWAY || admin->conn_count > 0);
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        admin->conns = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    admin->conn_count -= conn->state != CONN_SENT_AWAY;
    if (--conn->source->count == 0)
        free(conn->source);
}

static void end(struct admin *admin, struct admin_conn *conn)
{
    lock_take(&admin->lock);
    if (conn->source != NULL)
        leave(admin, conn);
    lock_give(&admin->lock);
    memory_account(MEMORY_OF_HTTP, -HEAD_BYTES_MAX);
    free(conn);
}

void conns_notify(void *context, struct MHD_Connection *connection, void **socket_context,
                  enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        begin(context, connection, socket_context);
    else if (*socket_context != NULL)
        end(context, *socket_context);
}

/* How many have come on it, read or not. */
static uint64_t bytes_come(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_bytes_received : 0;
}

static struct admin_conn *conn_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

void conns_later(struct exchange *exchange, bool writes)
{
    struct admin *admin = exchange->admin;
    struct admin_conn *conn = conn_of(exchange->connection);
    if (conn == NULL)
        return;
    lock_take(&admin->lock);
    if (conn->state != CONN_SENT_AWAY) {
        conn->state = CONN_LATER;
        conn->due_ms = writes ? now_ms(admin) + ANSWER_MS : UINT64_MAX;
        conn->exchange = exchange;
    }
    lock_give(&admin->lock);
}

void conns_set(struct admin *admin, struct MHD_Connection *connection, enum conn_state state)
{
    struct admin_conn *conn = conn_of(connection);
    if (conn == NULL)
        return;
    lock_take(&admin->lock);
    conn->exchange = NULL;
    if (conn->state != CONN_SENT_AWAY)
        conn->since_ms = now_ms(admin);
    if (conn->state == CONN_ASKS && state == CONN_ANSWERS) {
        conn->state = state; /* of one that had its deadline when it came */
    } else if (conn->state != CONN_SENT_AWAY) {
        conn->state = state;
        if (state != CONN_ASKS)
            conn->due_ms = now_ms(admin) + (state == CONN_WAITS ? REQUEST_MS : ANSWER_MS);
        if (state == CONN_ANSWERS)
            conn->request_bytes = bytes_come(conn->fd);
    }
    lock_give(&admin->lock);
}

static bool is_quiet(const struct admin_conn *conn)
{
    return conn->state == CONN_WAITS && conn->request_bytes > 0 &&
           bytes_come(conn->fd) == conn->request_bytes;
}

/* Whether its peer has said that nothing more comes. Who closes only his side in the middle of what
 * he asked for is taken for one who has gone. */
static bool is_gone(const struct admin_conn *conn)
{
    struct pollfd look = {.fd = conn->fd, .events = POLLRDHUP};
    return poll(&look, 1, 0) == 1;
}

/* Under the lock, and so no exchange ends meanwhile. */
static void tell_of_gone_ones(struct admin *admin)
{
    CHECK(lock_held(&admin->lock));
    for (struct admin_conn *conn = admin->conns; conn != NULL; conn = conn->next)
        if (conn->state == CONN_LATER && conn->due_ms == UINT64_MAX && is_gone(conn))
            admin->face->asker.gone(admin->options.context, conn->exchange->own);
}

/* Under the lock. */
static void end_late_ones(struct admin *admin)
{
    uint64_t now = now_ms(admin);
    tell_of_gone_ones(admin);
    for (struct admin_conn *conn = admin->conns; conn != NULL; conn = conn->next)
        if (conn->due_ms <= now)
            send_away(admin, conn, is_quiet(conn) ? admin->face->quiet : admin->face->late);
    clear_places(admin);
}

static void *sweep(void *argument)
{
    struct admin *admin = argument;
    lock_take(&admin->lock);
    while (!admin->closing) {
        uint64_t next_ms = now_ms(admin) + LOOK_MS;
        struct timespec until = env_until(admin->options.env, next_ms);
        lock_wait_until(&admin->lock, &admin->closed, &until);
        end_late_ones(admin);
    }
    lock_give(&admin->lock);
    return NULL;
}

int conns_start(struct admin *admin)
{
    int error = pthread_create(&admin->sweep_thread, NULL, sweep, admin);
    admin->sweep_started = error == 0;
    return -error;
}

void conns_stop(struct admin *admin)
{
    if (admin->sweep_started)
        pthread_join(admin->sweep_thread, NULL);
    admin->sweep_started = false;
}
