/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LIBUSHER_BACKEND_BACKEND_H
#define USHER_LIBUSHER_BACKEND_BACKEND_H

/* One instance: what its parts share, by whom. Nothing here is installed.
 *
 * backend.c   open and close
 * link.c      the link: hello, fetch, the loop that runs
 * queue.c     commands that wait
 * submit.c    commands under way: batches, results
 * presence.c  the cursor in the presence stream, gaps, snapshots
 * rooms.c     rooms: their mail and commands
 * friends.c   the same of friends
 * stored.c    the same of stored messages
 * query.c     blocking queries, on a connection of their own
 * channel.c   one REQ socket with one request at a time; the only one that knows nng */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.pb-c.h"
#include "common/clock.h"
#include "libusher-backend/channel.h"
#include "libusher-backend/presence.h"
#include "libusher-backend/submit.h"
#include "proto/arena.h"
#include "proto/bytes.h"
#include "usher_backend.h"

enum {
    ARENA_BYTES = 1024 * 1024, /* an unpacked answer; more is refused */
    REQUEST_TIMEOUT_MS = 2000, /* hello, submit */
    FETCH_SLACK_MS = 3000,     /* a fetch is given its park time and this */
    PARK_MS_DEFAULT = 2000,
    PARK_MS_MAX = 60000,
    QUERY_TIMEOUT_MS = 3000,
    BACKOFF_MS_MIN = 50,
    BACKOFF_MS_MAX = 1000,
    ERROR_BYTES_MAX = 512,
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

/* Packs the request into the buffer, in place of what was there. */
int request_pack(struct buffer *out, const Usher__V1__LinkRequest *request);

#endif
