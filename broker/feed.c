/* SPDX-License-Identifier: Apache-2.0 */
#include "link_private.h"

#include <errno.h>
#include <nng/protocol/pubsub0/pub.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A copy of the presence stream for dashboards and for people with nngcat. It may lose events by
 * design: nng drops the oldest when a subscriber lags, and nobody is told. Whoever needs each
 * event fetches it over the link.
 *
 * Nothing here knows whether anybody listens: nng's threads would have to say so, and they may
 * still be at it when the feed is closed and freed. For the same reason the watchdog of the link,
 * which looks after this listener too, goes by nng's numbers and not by its callbacks. */

struct feed {
    nng_socket socket;
    struct endpoint endpoint;
};

static int serve(struct feed *feed, char *error)
{
    int code = endpoint_claim(&feed->endpoint, error);
    feed->endpoint.socket = feed->socket;
    feed->endpoint.visitor = VISITOR_SUB;
    return code == 0 ? endpoint_listen(&feed->endpoint, error) : code;
}

int feed_open(struct feed **out, const char *url, char *error)
{
    *out = NULL;
    struct feed *feed = calloc(1, sizeof(*feed));
    if (feed == NULL) {
        snprintf(error, LINK_ERROR_BYTES, "feed: out of memory");
        return -ENOMEM;
    }
    int code = endpoint_init(&feed->endpoint, url, error);
    if (code == 0) {
        int failed = nng_pub0_open(&feed->socket);
        if (failed != 0)
            snprintf(error, LINK_ERROR_BYTES, "%s: %s", url, nng_strerror(failed));
        code = errno_of_nng(failed);
    }
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
    bool closed = close_bounded(feed->socket);
    endpoint_release(&feed->endpoint);
    if (closed)
        free(feed);
}
