/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_PRIVATE_H
#define USHER_LIBUSHER_BACKEND_PRIVATE_H

/* What the parts of libusher-backend share. Nothing here is installed.
 *
 * backend.c   open and close
 * link.c      the link: hello, fetch, the loop that runs
 * submit.c    commands: queue, batches, results
 * presence.c  the cursor in the presence stream, gaps, snapshots
 * query.c     blocking queries, on a connection of their own
 * channel.c   one REQ socket with one request at a time; the only one that knows nng */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.pb-c.h"
#include "common/clock.h"
#include "proto/arena.h"
#include "proto/bytes.h"
#include "usher_backend.h"

enum {
    FRAME_BYTES_DEFAULT = 16 * 1024, /* until the node says what it takes */
    FRAME_BYTES_MIN = 1024,
    FRAME_BYTES_MAX = 64 * 1024, /* beyond this nng 1.5 wedges; also what is received at most */
    ARENA_BYTES = 1024 * 1024,   /* an unpacked answer; more is refused */
    FRAME_OVERHEAD = 64,         /* of a Submit, around its commands */
    REQUEST_TIMEOUT_MS = 2000,   /* hello, submit */
    FETCH_SLACK_MS = 3000,       /* a fetch is given its park time and this */
    PARK_MS_DEFAULT = 2000,
    PARK_MS_MAX = 60000,
    QUERY_TIMEOUT_MS = 3000,
    COMMANDS_DEFAULT = 4096,
    COMMAND_BYTES_DEFAULT = 4 * 1024 * 1024,
    BATCH_COMMANDS_MAX = 256,
    SNAPSHOT_PAGES_MAX = 65536,
    BACKOFF_MS_MIN = 50,
    BACKOFF_MS_MAX = 1000,
    URL_BYTES_MAX = 256,
    ERROR_BYTES_MAX = 512,
};

/* --- channel.c --- */

struct urls {
    char text[USHER_BACKEND_URLS_MAX][URL_BYTES_MAX];
    size_t count;
};

struct channel;

/* `urls` is borrowed for the channel's life. `wake` is an eventfd that becomes readable when a
 * request ended. Opens no connection. -ENOMEM, -ENFILE. */
int channel_open(struct channel **channel, const struct urls *urls, int wake);

/* Waits at most wait_ms for the answer that is under way (and a moment for a connection), then
 * gives everything back. */
void channel_close(struct channel *channel, unsigned wait_ms);

/* Sends one request (borrowed) and waits for its answer in the background. Only when the channel
 * is idle. -EINVAL: a URL that nng does not take. -EPERM: the socket of an ipc URL may not be
 * connected to. */
int channel_start(struct channel *channel, struct bytes request, unsigned timeout_ms);
bool channel_idle(const struct channel *channel);

/* By when (monotonic) the request under way is answered or channel_take ends it; 0: it is idle. */
uint64_t channel_due_ms(const struct channel *channel);

/* -EAGAIN: still under way (or nothing was asked). 0: the answer, borrowed until the next
 * channel_start. -ETIMEDOUT, -ECONNRESET, -ENOMEM: there will be none. The channel is idle then. */
int channel_take(struct channel *channel, struct bytes *answer);

/* What a request ended with, or that its answer was useless (-EPROTO). Gives up the connection,
 * and the next request goes to the next URL, unless it was only lost and is being made again.
 * Only when idle. */
void channel_failed(struct channel *channel, int error);
const char *channel_url(const struct channel *channel);

void wake_set(int wake);
/* Waits until somebody set it, or timeout_ms are over. */
void wake_wait(int wake, int timeout_ms);

/* --- commands --- */

enum command_kind {
    COMMAND_PLAIN,
    COMMAND_REPLY,    /* only for the link whose call it answers */
    COMMAND_SNAPSHOT, /* one page, asked by presence.c */
};

struct command {
    struct command *next;
    enum command_kind kind;
    uint64_t token;
    uint64_t link_count; /* COMMAND_REPLY */
    size_t size;
    uint8_t packed[]; /* an encoded Command */
};

/* Any thread. */
struct queue {
    pthread_mutex_t mutex; /* a leaf: nothing is called under it */
    struct command *first;
    struct command **last;
    size_t commands;
    size_t bytes;
    size_t commands_max;
    size_t bytes_max;
    size_t frame_bytes_max;
};

/* The batch under way, in its order. Owned by the running thread, as all that follows. */
struct batch {
    struct command *commands[BATCH_COMMANDS_MAX];
    size_t count;
    uint64_t seq;
    uint64_t link;
    unsigned attempts;
};

struct snapshot_page {
    char *last;     /* the page is about the names up to this one, after the page before */
    uint64_t stamp; /* and contains every event up to this seq */
};

struct presence {
    bool following;
    uint64_t done; /* every event up to it is processed */
    bool snapshotting;
    bool page_wanted;
    uint64_t page_at_ms;          /* not before */
    const Usher__V1__Batch *held; /* arrived during a snapshot; lives in the fetch arena */
    struct snapshot_page *pages;  /* sorted by name; the last one is about all names behind it */
    size_t page_count;
    size_t page_capacity;
};

/* One of the two connections. */
struct side {
    struct channel *channel;
    struct arena arena; /* its last answer, unpacked */
    unsigned failures;  /* in a row */
    uint64_t retry_at_ms;
    uint64_t link; /* that the request under way is for */
};

enum pending {
    PENDING_NONE,
    PENDING_HELLO,
    PENDING_SUBMIT,
};

struct usher_backend {
    /* Set once at open. */
    struct urls urls;
    struct usher_backend_callbacks on;
    void *context;
    char *service;
    char *instance;
    uint8_t *token;
    size_t token_size;
    uint64_t incarnation;
    uint32_t wait_ms;
    int wake;

    /* Any thread. */
    atomic_bool stopping;
    atomic_bool running; /* the state below is that thread's */
    struct queue queue;

    /* The running thread. */
    struct side fetch;
    struct side submit;
    enum pending pending;
    struct buffer request; /* what `pending` says, as it goes out (again) */
    struct batch batch;
    uint64_t link;        /* 0: none. Told to nobody */
    uint64_t link_number; /* the one that is shown, and that stands in the node's log */
    uint64_t link_count;
    uint64_t linked_ms;   /* when the link was made */
    unsigned short_links; /* in a row: those that ended as soon as they were made */
    uint64_t submit_seq;
    uint64_t mail_done;
    uint32_t park_ms;
    char *node_boot;
    struct presence presence;
    bool told_linked;
    bool told_lost;
    int fatal; /* ends the run */
    char error[ERROR_BYTES_MAX];

    /* Queries: whoever holds the mutex, which may be held for the length of a query. It is taken
     * with no other lock held. */
    pthread_mutex_t query_mutex;
    struct channel *query_channel;
    struct arena query_arena;
    int query_wake;
};

/* --- submit.c --- */

int queue_init(struct queue *queue, const struct usher_backend_options *options);
void queue_fini(struct queue *queue);
bool queue_empty(struct queue *queue);
void queue_frame_bytes(struct queue *queue, size_t frame_bytes_max);

/* Fills backend->batch and backend->request from a wanted snapshot page or else the queue; false
 * when there is nothing to send. */
bool submit_build(struct usher_backend *backend, uint64_t now_ms);

/* The node answered the batch. False when the answer does not fit the batch. */
bool submit_results(struct usher_backend *backend, const Usher__V1__Results *results);

/* The link that the batch was for is gone. */
void submit_stale(struct usher_backend *backend);

/* Ends every command of the batch with `code`. */
void submit_fail(struct usher_backend *backend, unsigned code);
void batch_fini(struct usher_backend *backend);

/* --- link.c --- */

/* Packs the request into the buffer, in place of what was there. */
int request_pack(struct buffer *out, const Usher__V1__LinkRequest *request);

/* --- presence.c --- */

void presence_linked(struct usher_backend *backend, uint64_t presence_from);
void presence_batch(struct usher_backend *backend, const Usher__V1__Batch *batch);

/* True while the events of the last batch wait for a snapshot: its arena must stay. */
bool presence_holds(const struct presence *presence);
bool presence_wants_page(const struct presence *presence, uint64_t now_ms);
const char *presence_page_after(const struct presence *presence);

/* A page arrived, or (NULL) will not come. */
void presence_page(struct usher_backend *backend, const Usher__V1__Result *result);
void presence_fini(struct presence *presence);

void session_convert(struct usher_backend_session *to, const Usher__V1__SessionInfo *from);
void event_convert(struct usher_backend_event *to, const Usher__V1__PresenceEvent *from);

#endif
