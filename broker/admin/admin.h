/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_ADMIN_H
#define USHER_ADMIN_ADMIN_H

/* The admin endpoint: HTTP for operators, as docs/admin.md tells. It knows tokens, routes and
 * formats, and nothing of the broker, which it asks through the functions below. With another face
 * it is the endpoint of backends, beside it and without anything in common but this code.
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
#include <sys/types.h>

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

/* Connections that may be there for a while beside admin_options.connections_max, of which so many
 * may wait for an answer of others than the first thread. */
#define ADMIN_SPARE_CONNECTIONS(waiting) ((waiting) + 17)
enum { ADMIN_JOBS_MAX = 16 }; /* that wait for the second thread */

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
    uint64_t wait_ms;   /* 0 */
    const json_t *body; /* of a POST: an object, empty when there was none; else NULL */
    bool may_change;
    const char *address;     /* who asks, for a change or of another face; else "" */
    const char *event_id;    /* Last-Event-ID, of another face; else "" */
    const char *traceparent; /* the header of that name, as it came, of another face; else "" */
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

/* A path: one * in it stands for a name. */
struct admin_path {
    const char *method, *path;
    bool change; /* only with the token that may change */
};

/* --- another face ----------------------------------------------------------------------------- */

/* One request, from its head to its answer. Of the HTTP thread, but for admin_resume. */
struct exchange;

enum {
    ADMIN_LATER = 0, /* no answer yet: admin_suspend was called */
    ADMIN_STREAM = 1 /* the answer is a stream of events, which `read` gives */
};

struct admin_asker {
    /* When the request is whole, and again after each admin_resume: fills `answer` and gives the
     * status, as an admin_answer, or one of the two above. The body is there the first time. */
    unsigned (*step)(void *context, struct exchange *exchange, unsigned route,
                     const struct admin_query *query, json_t *answer);
    /* The next bytes of a stream, at most `room`; 0: none yet, and admin_suspend was called; -1: it
     * is over. */
    ssize_t (*read)(void *context, void *own, struct exchange *exchange, char *to, size_t room);
    /* Its peer has gone, or half of him: he may be answered, though nobody might read it. On the
     * thread that looks after connections, under a lock: admin_resume, and nothing else of this. */
    void (*gone)(void *context, void *own);
    /* Answered or not, it is over. For those with something of their own. */
    void (*over)(void *context, void *own);
};

/* Makes it another endpoint than that of operators: paths, metrics and answers of its own, and
 * neither console nor numbers nor health. */
struct admin_face {
    const char *name;         /* in the log */
    const char *token_option; /* by which admin_options.token_file is called */
    const char *host_option;
    const char *page; /* what somebody is told whose path there is not */
    const struct admin_path *paths;
    unsigned path_count;
    const char *const *arguments; /* that a query string may have, up to a NULL */
    size_t body_bytes_max;
    unsigned waiting_max; /* requests that wait for an answer, at most */
    enum metric_id requests, refused, late, quiet, displaced;
    struct admin_asker asker;
};

/* What an exchange has of its asker; NULL at first. */
void *admin_own(const struct exchange *exchange);
void admin_set_own(struct exchange *exchange, void *own);

/* Before anybody can resume it: nothing more of the exchange is looked at until then. */
void admin_suspend(struct exchange *exchange);

/* Once for each admin_suspend; any thread, never blocks for longer than a short lock. */
void admin_resume(struct exchange *exchange);

/* ---------------------------------------------------------------------------------------------- */

struct admin_options {
    const struct admin_face *face; /* outlives it; NULL: that of operators */
    int listener;                  /* a listening socket; taken by a success */
    const char *node;
    const char *host; /* by which it may be addressed, beside addresses and localhost; "" */
    const char *token_file, *view_token_file; /* "": none */
    unsigned connections_max;
    const struct env *env;
    struct log *log;
    struct metrics *metrics;
    unsigned block; /* of the metrics */

    void *context;

    /* The four below are called on the HTTP thread: they must not block for longer than a short
     * lock, but for `alive`, which waits for a thread that may stand still. Another face has none
     * of what follows. */
    void (*read)(void *context, uint64_t readings[READING_COUNT]);
    const char *(*state)(void *context); /* a word for it: "serving" */
    /* Give how many checks they have filled. Alive: threads move. Ready: clients are served well.
     * */
    unsigned (*alive)(void *context, struct admin_check checks[ADMIN_CHECKS_MAX]);
    unsigned (*ready)(void *context, struct admin_check checks[ADMIN_CHECKS_MAX]);

    /* Called on the second thread every so many ms, or later when an answer takes long. NULL:
     * nothing is to be done. */
    void (*tick)(void *context);
    unsigned tick_ms;

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
