/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>

#include "libusher/client.h"
#include "libusher/session.h"

/* The blocking calls: the same event loop that a program would write around the others. */

/* Sleeps until the client has something to do; false when the deadline is over. A signal only
 * makes the sleep shorter. */
static bool sleep_until(struct usher_client *client, uint64_t deadline_ms)
{
    int timeout_ms = clock_left_ms(deadline_ms);
    if (timeout_ms == 0)
        return false;
    int client_ms = session_timeout_ms(client); /* events may be queued: here they stay so */
    if (client_ms >= 0 && (timeout_ms < 0 || client_ms < timeout_ms))
        timeout_ms = client_ms;
    struct pollfd watched = {
        .fd = usher_client_fd(client),
        .events = (short)(POLLIN | (usher_client_wants_write(client) ? POLLOUT : 0)),
    };
    (void)poll(&watched, 1, timeout_ms);
    return true;
}

int usher_client_wait(struct usher_client *client, int timeout_ms, struct usher_event *event)
{
    uint64_t deadline_ms = clock_end_ms(timeout_ms);
    for (;;) {
        if (usher_client_next(client, event) == 1)
            return 1;
        int result = usher_client_process(client);
        if (usher_client_next(client, event) == 1)
            return 1;
        if (result < 0)
            return result;
        if (!sleep_until(client, deadline_ms))
            return 0;
    }
}

/* 1 online, 0 go on, negative: how the login failed. */
static int login_outcome(const struct usher_event *event)
{
    switch (event->type) {
    case USHER_WELCOME:
        return 1;
    case USHER_ERROR:
    case USHER_CLOSE:
        return -EACCES;
    case USHER_DISCONNECTED:
        return event->error;
    default:
        return 0;
    }
}

int usher_login(struct usher_client *client, int timeout_ms, struct usher_event *event)
{
    struct usher_event ignored;
    if (event == NULL)
        event = &ignored;
    *event = (struct usher_event){0};
    enum usher_state state = usher_client_state(client);
    if (state != USHER_STATE_IDLE && state != USHER_STATE_ENDED)
        return -EALREADY;
    uint64_t deadline_ms = clock_end_ms(timeout_ms);
    client->once = true;
    int outcome = usher_client_start(client);
    while (outcome == 0) {
        int result = usher_client_wait(client, clock_left_ms(deadline_ms), event);
        if (result == 1)
            outcome = login_outcome(event);
        else
            outcome = result < 0 ? result : -ETIMEDOUT;
    }
    client->once = false;
    if (outcome == 1)
        return 0;
    if (outcome == -ETIMEDOUT && client->error_text[0] == '\0')
        session_say(client, "no Welcome from %s:%u in time: check address and firewall",
                    client->options.host, (unsigned)client->options.port);
    usher_client_stop(client);
    events_fini(&client->events); /* all of it is about this one failure */
    return outcome;
}

int usher_answer_wait(struct usher_client *client, uint64_t id, int timeout_ms,
                      struct usher_event *event)
{
    if (id == 0)
        return -ENOENT;
    usher_client_leave(client);
    uint64_t deadline_ms = clock_end_ms(timeout_ms);
    for (;;) {
        int result = usher_client_process(client);
        struct event_node *node = events_pop_answer(&client->events, id);
        if (node != NULL) {
            client_give(client, node, event);
            return 0;
        }
        if (result < 0)
            return result;
        if (!requests_know(&client->requests, id))
            return -ENOENT;
        if (session_events_full(client))
            return -ENOBUFS;
        if (!sleep_until(client, deadline_ms))
            return -ETIMEDOUT;
    }
}

int usher_send_wait(struct usher_client *client, const char *to, const void *payload,
                    size_t payload_size, enum usher_until until, int timeout_ms,
                    struct usher_event *event)
{
    uint64_t id;
    int result = usher_send(client, to, payload, payload_size, until, &id);
    return result < 0 ? result : usher_answer_wait(client, id, timeout_ms, event);
}

int usher_call_wait(struct usher_client *client, const char *service, const char *method,
                    const void *payload, size_t payload_size, int timeout_ms,
                    struct usher_event *event)
{
    uint64_t id;
    uint32_t service_timeout_ms = timeout_ms > 0 ? (uint32_t)timeout_ms : 0;
    int result =
        usher_call(client, service, method, payload, payload_size, service_timeout_ms, &id);
    return result < 0 ? result : usher_answer_wait(client, id, timeout_ms, event);
}
