/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_WEB_CLIENT_H
#define USHER_WEB_CLIENT_H

/* POSTs JSON by HTTP to one place, over connections that are kept. What it asks may be anybody: it
 * follows no redirect, reads no more than WEB_ANSWER_BYTES_MAX of an answer, waits no longer than
 * it is told, uses no proxy of the environment, and believes no certificate that does not hold.
 *
 * One thread at a time owns it, which is the only one that calls anything but web_client_wake, and
 * which hears of answers inside of web_client_run. It blocks nowhere but there: names are looked up
 * elsewhere, connections are made while others are served. */

#include "web/target.h"

enum {
    WEB_ANSWER_BYTES_MAX = 64 * 1024,
    WEB_ERROR_BYTES = 256,
};

struct env;
struct web_client;

struct web_client_options {
    const char *agent;    /* "usher/1.2"; borrowed */
    unsigned connections; /* so many requests at a time, on as many connections */
    const struct env *env;
};

/* How a request ended. */
struct web_answer {
    const char *error;       /* NULL: an answer came whole; else why not, for the log */
    unsigned status;         /* of that answer */
    uint64_t retry_after_ms; /* as it asks for; 0: it does not */
    struct bytes body;
};

/* Borrowed for the call, in which requests may be made. */
typedef void web_done(void *context, const struct web_answer *answer);

/* 0 or -ENOMEM. It has no target yet. */
int web_client_open(struct web_client **client, const struct web_client_options *options);

/* Requests go there from now on; what is under way stays. Takes it; NULL: nowhere. */
void web_client_aim(struct web_client *client, struct web_target *target);

/* One request, signed as of now, which has `timeout_ms` for all of it; `done` is called for it
 * once. 0; -EBUSY: so many are under way already; -EDESTADDRREQ: there is no target; -ENOMEM. */
int web_client_post(struct web_client *client, struct bytes body, uint64_t timeout_ms,
                    web_done *done, void *context);

/* How many are under way. */
unsigned web_client_busy(const struct web_client *client);

/* Does what there is to do; if nothing has ended by that, also what comes within `wait_ms`, or
 * until web_client_wake. */
void web_client_run(struct web_client *client, uint64_t wait_ms);

/* Lets web_client_run end soon. Any thread; blocks on nothing. */
void web_client_wake(struct web_client *client);

/* What is under way is given up, each with an error. NULL is fine. */
void web_client_close(struct web_client *client);

#endif
