/* SPDX-License-Identifier: Apache-2.0 */
#include "link/private.h"

#include <errno.h>
#include <nng/protocol/pubsub0/pub.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A copy of the presence stream for dashboards and for people with nngcat. It may lose events by
 * design: nng drops the oldest when a subscriber lags, and nobody is told. Whoever needs each
 * event fetches it over the link.
 *
 * Subscribers are counted by nng's callbacks and turned away above a limit, because each holds a
 * file and takes some of the committer's time for each event. nng_close returns when the last of
 * them has been reported, so the feed outlives its callbacks; when it does not return, nothing is
 * freed. */

struct feed {
    nng_socket socket;
    struct endpoint endpoint;
    unsigned max;
    struct metrics *metrics; /* may be NULL */
    atomic_uint count;       /* those who are being turned away too */
};

/* Before the first byte, where a pipe may be closed (link.c). */
static void on_subscriber(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct feed *feed = argument;
    if (event != NNG_PIPE_EV_ADD_PRE) {
        atomic_fetch_sub_explicit(&feed->count, 1, memory_order_relaxed);
        return;
    }
    if (atomic_fetch_add_explicit(&feed->count, 1, memory_order_relaxed) < feed->max)
        return;
    if (feed->metrics != NULL)
        metrics_add(feed->metrics, 0, METRIC_feed_refused, 1);
    nng_pipe_close(pipe);
}

static int open_socket(struct feed *feed, char *error)
{
    int failed = nng_pub0_open(&feed->socket);
    bool open = failed == 0;
    if (failed == 0)
        failed = nng_pipe_notify(feed->socket, NNG_PIPE_EV_ADD_PRE, on_subscriber, feed);
    if (failed == 0)
        failed = nng_pipe_notify(feed->socket, NNG_PIPE_EV_REM_POST, on_subscriber, feed);
    if (failed != 0 && open)
        nng_close(feed->socket);
    if (failed != 0)
        snprintf(error, LINK_ERROR_BYTES, "%s: %s", feed->endpoint.url, nng_strerror(failed));
    return link_errno(failed);
}

static int serve(struct feed *feed, char *error)
{
    int code = endpoint_claim(&feed->endpoint, error);
    feed->endpoint.socket = feed->socket;
    feed->endpoint.visitor = VISITOR_SUB;
    return code == 0 ? endpoint_listen(&feed->endpoint, error) : code;
}

int feed_open(struct feed **out, const char *url, unsigned subscribers, struct metrics *metrics,
              char *error)
{
    *out = NULL;
    struct feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        snprintf(error, LINK_ERROR_BYTES, "feed: out of memory");
        return -ENOMEM;
    }
    feed->max = subscribers;
    feed->metrics = metrics;
    int code = endpoint_init(&feed->endpoint, url, error);
    if (code == 0)
        code = open_socket(feed, error);
    if (code != 0) {
        free(feed);
        return code;
    }
    code = serve(feed, error);
    if (code != 0)
        feed_close(feed);
    else
        *out = feed;
    return code;
}

struct endpoint *feed_endpoint(struct feed *feed)
{
    return &feed->endpoint;
}

void feed_publish(struct feed *feed, struct bytes topic, struct bytes body)
{
    nng_msg *message;
    if (nng_msg_alloc(&message, topic.size + 1 + body.size) != 0)
        return;
    uint8_t *to = nng_msg_body(message);
    if (topic.size > 0)
        memcpy(to, topic.data, topic.size);
    to[topic.size] = '\0';
    if (body.size > 0)
        memcpy(to + topic.size + 1, body.data, body.size);
    if (nng_sendmsg(feed->socket, message, NNG_FLAG_NONBLOCK) != 0)
        nng_msg_free(message);
}

void feed_close(struct feed *feed)
{
    endpoint_unlink(&feed->endpoint);
    bool closed = bounded_close(feed->socket);
    endpoint_release(&feed->endpoint);
    if (closed)
        free(feed);
}
