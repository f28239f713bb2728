/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEBHOOK_WEBHOOK_H
#define USHER_WEBHOOK_WEBHOOK_H

/* Posts the presence stream to the receiver that webhook.* names, in order and from where it is,
 * and beside it news of rooms: see docs/webhooks.md. A thread of its own, which waits for that
 * receiver; nobody waits for it. */

#include <jansson.h>

#include "actors/presence.h"
#include "base/env.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/metrics.h"
#include "handover.pb-c.h"
#include "proto/bytes.h"
#include "storage/store.h"
#include "web/target.h"

/* The name under which the store keeps how far it has come. */
#define WEBHOOK_READER "webhook"

struct webhook;
struct message;
struct settings;

/* All that it points to outlives it. */
struct webhook_options {
    struct store *store;
    const struct env *env;
    const struct limits *limits; /* webhook.* */
    struct log *log;
    struct metrics *metrics;
    unsigned block;
    const struct settings *settings;       /* node, node_boot, and the classes of rooms in use */
    const char *agent;                     /* as web/client.h has it */
    const _Atomic uint64_t *presence_last; /* of the stream */
    json_t *(*event)(const struct event_fields *event); /* a new object, for whoever is told */
    void (*keep)(void *context, uint64_t seq);          /* how far it has come, to be stored soon */
    void *context;
};

/* 0 or -ENOMEM. */
int webhook_open(struct webhook **webhook, const struct webhook_options *options);

/* Begins, once the store says how far it had come. The thread is made when there is a target. 0 or
 * -errno. */
int webhook_start(struct webhook *webhook);

/* The receiver from now on; NULL: none. Takes it. Any thread, one at a time. 0 or -errno, without
 * the thread that it needs. */
int webhook_aim(struct webhook *webhook, struct web_target *target);

/* The stream has grown. Any thread; blocks on nothing. NULL is fine. */
void webhook_tell(struct webhook *webhook);

/* News of a room, one of room_news_create; takes it. NULL: there was something that could not be
 * made, and the receiver will be told that it is missing. What is lost by that is counted in that
 * block of the metrics. Any thread; holds a lock for some pointers. Without a webhook it is
 * dropped. */
void webhook_take_news(struct webhook *webhook, unsigned block, struct message *message);

/* How it is doing; any thread. */
struct webhook_look {
    bool on;
    uint64_t behind;       /* events that the receiver has not got */
    uint64_t oldest_ms;    /* Unix: when the first of them happened; 0: it is not looked at yet */
    uint64_t news_waiting; /* of rooms */
    bool failing;          /* the last request, of presence or of rooms, was not taken */
};
struct webhook_look webhook_look(struct webhook *webhook);

/* Sends what is left, for at most `ms`, if the receiver takes it, and ends the thread. */
void webhook_stop(struct webhook *webhook, uint64_t ms);

/* --- one process after another ---------------------------------------------------------------- */

/* Begins no request, waits for those under way for at most `ms`, and ends the thread; and goes on
 * with what is left: 0 or -errno, without the thread that it needs. */
void webhook_pause(struct webhook *webhook, uint64_t ms);
int webhook_go_on(struct webhook *webhook);

/* While it is paused: appends the HandoverNews. False: there is no memory. */
bool webhook_move_out(struct webhook *webhook, struct buffer *out);

/* Before webhook_start. How far it is in the presence stream stands in the store. */
void webhook_move_in(struct webhook *webhook, const Usher__V1__HandoverNews *news);

/* It is stopped, or was never started. NULL is fine. */
void webhook_close(struct webhook *webhook);

#endif
