/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "admin/admin_private.h"

/* Deadlines of HTTP connections. MHD ends a connection that was silent; one that sends a byte now
 * and then would hold its place for ever. So each has a point in time by which its request must be
 * there, or its answer read, and a thread that looks each half second shuts down the socket of
 * whoever is late; MHD then finds the end and cleans up. MHD tells of the end before it closes the
 * descriptor, and both happen to the list under the lock, so the descriptor is never another's. */

enum { LOOK_MS = 500 };

static uint64_t now_ms(const struct admin *admin)
{
    return env_monotonic_ms(admin->options.env);
}

static void begin(struct admin *admin, struct MHD_Connection *connection, void **socket_context)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct admin_conn *conn = calloc(1, sizeof(*conn));
    *socket_context = conn;
    if (conn == NULL || info == NULL)
        return; /* only without a deadline */
    conn->fd = info->connect_fd;
    conn->due_ms = now_ms(admin) + REQUEST_MS;
    pthread_mutex_lock(&admin->lock);
    conn->next = admin->conns;
    if (conn->next != NULL)
        conn->next->previous = conn;
    admin->conns = conn;
    pthread_mutex_unlock(&admin->lock);
}

static void end(struct admin *admin, struct admin_conn *conn)
{
    pthread_mutex_lock(&admin->lock);
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else if (admin->conns == conn)
        admin->conns = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    pthread_mutex_unlock(&admin->lock);
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

void conns_allow(struct admin *admin, struct MHD_Connection *connection, unsigned ms)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct admin_conn *conn = info != NULL ? info->socket_context : NULL;
    if (conn == NULL)
        return;
    pthread_mutex_lock(&admin->lock);
    conn->due_ms = now_ms(admin) + ms;
    pthread_mutex_unlock(&admin->lock);
}

/* Under the lock. */
static void end_late_ones(struct admin *admin)
{
    uint64_t now = now_ms(admin);
    for (struct admin_conn *conn = admin->conns; conn != NULL; conn = conn->next)
        if (conn->due_ms <= now) {
            shutdown(conn->fd, SHUT_RDWR);
            conn->due_ms = UINT64_MAX;
            metrics_add(admin->options.metrics, admin->options.block, METRIC_admin_late, 1);
        }
}

static void *sweep(void *argument)
{
    struct admin *admin = argument;
    pthread_mutex_lock(&admin->lock);
    while (!admin->closing) {
        uint64_t next_ms = now_ms(admin) + LOOK_MS;
        struct timespec until = {.tv_sec = (time_t)(next_ms / 1000),
                                 .tv_nsec = (long)(next_ms % 1000) * 1000000};
        pthread_cond_timedwait(&admin->closed, &admin->lock, &until);
        end_late_ones(admin);
    }
    pthread_mutex_unlock(&admin->lock);
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
