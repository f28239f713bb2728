/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_ADMIN_ADMIN_PRIVATE_H
#define USHER_ADMIN_ADMIN_PRIVATE_H

/* Private to broker/admin. */

#include <microhttpd.h>
#include <pthread.h>

#include "admin/access.h"
#include "admin/admin.h"
#include "base/lock.h"

enum {
    BODY_BYTES_MAX = 64 * 1024, /* of operators */
    HEAD_BYTES_MAX = 16 * 1024,
    REQUEST_MS = 4000, /* in which a request must come whole; also between two of a connection */
    ANSWER_MS = 15000, /* in which an answer must be made and read */
    JOBS_MAX = ADMIN_JOBS_MAX,
    LOOKS_MAX = 12, /* those of them that change nothing */
};

enum conn_state {
    CONN_WAITS,   /* for a request, or the rest of one */
    CONN_ANSWERS, /* its answer is made or written */
    CONN_ASKS,    /* the same, by the second thread */
    CONN_LATER,   /* the same, by an asker; or it is a stream */
    CONN_SENT_AWAY
};

/* Where connections come from; shared by all that have the address. */
struct admin_source {
    uint8_t address[16];
    unsigned count;
};

/* Requests in the order in which they came. */
struct job_line {
    struct exchange *first, *last;
    unsigned count;
};

/* One HTTP connection: MHD knows only how long it was silent, and somebody who sends a byte now and
 * then is never silent. */
struct admin_conn {
    struct admin_conn *previous, *next; /* the newest first */
    struct admin_source *source;
    int fd;
    enum conn_state state;
    uint64_t request_bytes; /* that had come when its last request was whole; 0: none was */
    uint64_t since_ms;      /* when it came into its state */
    uint64_t due_ms;
    struct exchange *exchange; /* CONN_LATER: its request */
};

enum { ADMIN_ADDRESS_BYTES = 64 };

/* One request. Owned by the HTTP thread; by the second one while it is a job. */
struct exchange {
    struct admin *admin;
    void *own;         /* of the asker */
    bool asked;        /* the asker has seen it */
    size_t held_bytes; /* of body and answer, in the book of memory */
    struct MHD_Connection *connection;
    struct exchange *next; /* of the jobs */
    unsigned route;        /* of the face's paths */
    bool judged;           /* its head */
    bool head_only;        /* HEAD: the answer has no body */
    bool starved;          /* memory is full, and its body was not kept */
    bool is_job, answered;
    enum access_right right;
    char user[ADMIN_USER_BYTES_MAX + 1];
    char prefix[ADMIN_PREFIX_BYTES_MAX + 1], after[ADMIN_PREFIX_BYTES_MAX + 1];
    char state[16], by[16];
    uint64_t after_number, wait_ms;
    unsigned limit;
    char address[ADMIN_ADDRESS_BYTES]; /* of a change, or for an asker */
    char *body;
    size_t body_size;
    /* the answer, when answered */
    unsigned status;
    char *text;
};

struct admin {
    /* set once */
    struct admin_options options;
    const struct admin_face *face;
    struct access access;
    struct MHD_Daemon *daemon;
    double process_started; /* Unix seconds; 0: not known */
    pthread_t jobs_thread, sweep_thread;
    bool jobs_started, sweep_started;
    struct lock lock;
    pthread_cond_t more;   /* for the second thread */
    pthread_cond_t closed; /* for the one that sweeps; monotonic */
    /* under lock */
    struct job_line looks, changes;
    struct admin_conn *conns;
    unsigned conn_count; /* without those that were sent away */
    bool closing;
};

/* --- reply.c: HTTP thread; each queues one response ------------------------------------------- */

/* Takes `text` (malloc), of `size` bytes. */
enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status, const char *type,
                           char *text, size_t size);
/* Takes a reference of `json`. */
enum MHD_Result reply_json(struct MHD_Connection *connection, unsigned status, json_t *json);
enum MHD_Result reply_error(struct MHD_Connection *connection, unsigned status, const char *error,
                            const char *detail);
void reply_secure(struct MHD_Response *response);

/* --- console.c -------------------------------------------------------------------------------- */

/* True: the path is one of the console's files, and *result is what became of the reply. */
bool console_reply(struct MHD_Connection *connection, const char *path, enum MHD_Result *result);

/* --- numbers.c: /metrics, /api/stats, health -------------------------------------------------- */

bool numbers_are_open(const char *path); /* to those without a token too */
bool numbers_reply(struct admin *admin, struct MHD_Connection *connection, const char *path,
                   enum MHD_Result *result);

/* --- jobs.c ----------------------------------------------------------------------------------- */

int jobs_start(struct admin *admin);

/* Suspends the connection and takes the exchange; false when too many wait. */
bool jobs_add(struct admin *admin, struct exchange *exchange);

/* Answers what waits with 503 and joins. */
void jobs_stop(struct admin *admin);

/* --- conns.c ---------------------------------------------------------------------------------- */

int conns_start(struct admin *admin);
void conns_stop(struct admin *admin);

/* For MHD_OPTION_NOTIFY_CONNECTION. */
void conns_notify(void *context, struct MHD_Connection *connection, void **socket_context,
                  enum MHD_ConnectionNotificationCode code);

/* Where the connection is from now on. The deadline of an answer begins with CONN_ANSWERS. */
void conns_set(struct admin *admin, struct MHD_Connection *connection, enum conn_state state);

/* It is CONN_LATER: what comes next is its asker's to say. `writes`: some of a stream is to be read
 * in time by who asked. */
void conns_later(struct exchange *exchange, bool writes);

/* --- later.c ---------------------------------------------------------------------------------- */

/* The next step of a request that has an asker. */
enum MHD_Result later_step(struct exchange *exchange);

/* --- request.c -------------------------------------------------------------------------------- */

/* For MHD: the handler and its end. */
enum MHD_Result request_handle(void *context, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_size, void **exchange);
/* What it says; the body is an object or not, as it came, and the caller's. */
json_t *request_body(const struct exchange *exchange);
struct admin_query request_query(const struct exchange *exchange, const json_t *body);

/* So many bytes more are held for it, until it is over. */
void request_hold(struct exchange *exchange, size_t bytes);

void request_completed(void *context, struct MHD_Connection *connection, void **exchange,
                       enum MHD_RequestTerminationCode code);

#endif
