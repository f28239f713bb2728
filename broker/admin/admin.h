/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_ADMIN_H
#define USHER_ADMIN_ADMIN_H

/* The admin endpoint: HTTP for operators, as docs/admin.md tells. It knows tokens, routes and
 * formats, and nothing of the broker, which it asks through the functions below.
 *
 * Two threads of its own. One speaks HTTP and answers at once what needs no patience: metrics,
 * stats, health, the console. The other one runs the functions of admin_options.answers, one after
 * the other, because they may wait for the disk; so a broker whose disk hangs still says that it
 * is alive. Whatever clients of it do, no other thread is held up. Everything is bounded:
 * connections, heads, bodies, the time in which a request has to come, and the requests that
 * wait. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/env.h"
#include "base/log.h"
#include "base/metrics.h"

enum {
    ADMIN_USER_BYTES_MAX = 255,
    ADMIN_PREFIX_BYTES_MAX = 255,
    ADMIN_CHECKS_MAX = 16,
    ADMIN_ERROR_BYTES = 256,
    ADMIN_ROWS_MAX = 1000,
    ADMIN_TOKEN_BYTES_MIN = 16
};

/* Connections that may be there for a while beside admin_options.connections_max. */
enum { ADMIN_SPARE_CONNECTIONS = 33 };

/* The rows of routes.def: ADMIN_NODE and so on. */
enum admin_route {
#define ROUTE(name, method, path, change) ADMIN_##name,
#include "admin/routes.def"
#undef ROUTE
    ADMIN_ROUTES
};

/* What a request says, checked. Borrowed for the call. */
struct admin_query {
    const char *user;   /* what stands for * in the path, a user or a room, decoded; else "" */
    const char *prefix; /* of the query string; "" when it has none */
    const char *after_name;
    const char *state;
    const char *by;
    uint64_t after;     /* the same argument as a number; 0 */
    unsigned limit;     /* 1 to ADMIN_ROWS_MAX; 0: none was given */
    const json_t *body; /* of a POST: an object, empty when there was none; else NULL */
    bool may_change;
    const char *address; /* who asks for a change; else "" */
};

/* Fills the empty object `answer` and gives the HTTP status; for one of 400 and above the answer is
 * filled by admin_fail. Runs on the second thread, and may block for some seconds. */
typedef unsigned admin_answer(void *context, const struct admin_query *query, json_t *answer);

/* {"error": error, "detail": detail}; gives the status. */
unsigned admin_fail(json_t *answer, unsigned status, const char *error, const char *detail);

/* One entry of /healthz or /readyz. */
struct admin_check {
    const char *name; /* a constant */
    bool ok;
    char detail[160];
};

struct admin_options {
    int listener; /* a listening socket; taken by a success */
    const char *node;
    const char *host; /* by which it may be addressed, beside addresses and localhost; "" */
    const char *token_file, *view_token_file; /* "": none */
    unsigned connections_max;
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
    unsigned block; /* of the metrics */

    /* The four below are called on the HTTP thread: they must not block for longer than a short
     * lock, but for `alive`, which waits for a thread that may stand still. */
    void *context;
    void (*read)(void *context, uint64_t readings[READING_COUNT]);
    const char *(*state)(void *context); /* a word for it: "serving" */
    /* Give how many checks they have filled. Alive: threads move. Ready: clients are served well.
     * */
    unsigned (*alive)(void *context, struct admin_check checks[ADMIN_CHECKS_MAX]);
    unsigned (*ready)(void *context, struct admin_check checks[ADMIN_CHECKS_MAX]);

    /* By route; NULL: that is not there (503, "unavailable"). */
    admin_answer *answers[ADMIN_ROUTES];
};

struct admin;

/* Reads the tokens, once, and begins to answer. The options are copied, their texts but for the
 * tokens borrowed until admin_stop. 0; -EINVAL for a token file that cannot be used, with a line in
 * `error` (ADMIN_ERROR_BYTES); -ENOMEM. */
int admin_start(struct admin **admin, const struct admin_options *options, char *error);

/* Answers what waits with 503 and joins both threads. Takes as long as the answer now in progress.
 * */
void admin_stop(struct admin *admin);

#endif
