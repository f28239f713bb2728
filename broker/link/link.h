/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_LINK_LINK_H
#define USHER_LINK_LINK_H

/* The edge towards the backends: one cooked nng REP socket, used half-duplex, with contexts.
 *
 * It moves whole messages and knows nothing of what is in them, but for Refused(PIPELINED), which
 * it answers itself. Every request becomes an *exchange*: it is handed up once by on_request and
 * waits for exactly one link_answer. docs/decisions and nng's known faults explain the rules:
 * never close a pipe or a listener that is in use, never two requests on one connection, answers
 * of at most frame_bytes_max.
 *
 * A watchdog thread looks each second after a listener that died (and repairs it where it was; a
 * tcp one that cannot be, on the next URL of the list) and after connections that such a one left
 * behind, and every five seconds after nng's reaper (metric, log, health). Errors are negative
 * errno. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "base/metrics.h"
#include "proto/bytes.h"

enum {
    LINK_URLS_MAX = 8,
    LINK_STRANGERS_PART = 4, /* of the contexts: what peers without a link may hold */
    LINK_FILES_MAX = 5120,   /* what connections of the link and of the feed can take at most */
    LINK_FILES_PART = 20,    /* of those: what may wait for its handshake, and the feed */
};

struct link;

struct link_events {
    /* A request arrived. Runs on an nng thread: decode, post, return; must not block. `frame` is
     * borrowed for the call. Gives the owner, any number of the caller's, for on_gone. */
    uint64_t (*on_request)(void *context, uint64_t exchange, struct bytes frame);

    /* The peer of an exchange is gone that still waits, or was followed (link_follow). Runs on an
     * nng thread; must not block. At most once per exchange, after its on_request, and only for
     * one that is followed when it was answered by then; it may run beside the link_answer of
     * another thread. The exchange still wants its link_answer (nng throws it away). */
    void (*on_gone)(void *context, uint64_t owner, uint64_t exchange);
    void *context;
};

/* Whether nobody has vouched for the connection of this exchange. Only in its own on_request. */
bool link_is_stranger(struct link *link, uint64_t exchange);

/* The end of this exchange's connection is told also when it has been answered, until a later one
 * of the same connection is followed. Only in its own on_request. */
void link_follow(struct link *link, uint64_t exchange);

/* Whether strangers hold more exchanges than is their share, that of a stranger who asks included:
 * then what could make them wait is to be refused. Any thread. */
bool link_is_crowded(struct link *link);

/* The peer of an exchange that is not answered yet has shown that it may be here: its requests no
 * longer count among those of strangers. Any thread; never blocks; an unknown exchange is ignored.
 */
void link_vouch(struct link *link, uint64_t exchange);

struct link_options {
    const char *urls[LINK_URLS_MAX]; /* ipc://PATH or tcp://HOST:PORT */
    size_t url_count;
    unsigned socket_mode;     /* of ipc paths; 0: 0600 */
    const char *socket_group; /* a name or a number; NULL or empty: that of the process */
    size_t frame_bytes_max;
    unsigned contexts;
    unsigned strangers;      /* the share of strangers, at most a third of them; 0: all */
    unsigned knock_seconds;  /* how often a listener is looked at without any suspicion; 0: 30 */
    unsigned files;          /* what connections may take of the process's; 0: LINK_FILES_MAX */
    struct feed *feed;       /* may be NULL; its listener is watched too, until link_close */
    struct log *log;         /* may be NULL */
    struct metrics *metrics; /* may be NULL; block 0 is used */
};

/* Whether there is such a group, by name or number; "" is fine. 0, or -EINVAL with one line for a
 * person in `error`, of at least 256 bytes. Blocks on the files of the system. */
int link_check_group(const char *name, char *error);

/* To be called before anything of nng is: whether the system lets this process have the threads
 * that nng starts, which does not survive it when one is missing. 0, or -EAGAIN and the like with
 * one line in `error`, of at least 256 bytes. */
int link_check_threads(char *error);

/* Opens the socket and listens: on every ipc URL and on the first tcp URL that works (the others
 * are spares). An ipc path that is not a socket is refused (-EEXIST), as is one that another
 * process serves (-EADDRINUSE); its folder is made when it is missing, one level, mode 0700.
 * -EADDRNOTAVAIL: a tcp address that is not of this machine, or not yet. `error` takes one line of
 * at least 256 bytes for a person. The options are borrowed for the
 * call, log and metrics until link_close. *link is set before the first on_request, which may
 * come before link_open returns; it is NULL after an error. */
int link_open(struct link **link, const struct link_options *options,
              const struct link_events *events, char *error);

/* Answers an exchange; any thread, on_request included; never blocks. An unknown or already
 * answered exchange is ignored and counted (events_stale). `frame` is borrowed and may be empty,
 * but never longer than frame_bytes_max. Not after link_close. */
void link_answer(struct link *link, uint64_t exchange, struct bytes frame);

struct link_health {
    bool listening;      /* at least one listener works */
    bool feed_listening; /* true also without a feed */
    bool reaper_stuck;   /* nng no longer reports lost peers: rely on fetch timing alone */
};
struct link_health link_health(struct link *link);

/* Takes the socket files away, that of the feed too, so that nobody new comes; who is connected
 * stays. For a process that ends at once: the end of its connections is seen before that of its
 * listener, and who came back to this one would be thrown out in the middle of the handshake, from
 * which a dialer of nng 1.5 never returns. */
void link_hide(struct link *link);

/* No more on_request or on_gone after it returns; it waits for those that run, so it is not called
 * from one of them. Takes at most a few seconds. What nng cannot close safely (a socket that still
 * has peers, after a short wait for them) is left to the end of the process; the socket files are
 * removed and the paths are free in any case. */
void link_close(struct link *link);

/* The lossy copy of the presence stream: one PUB socket. */
struct feed;

/* The same rules for the URL, the errors and `error` as link_open. Its listener is watched by the
 * link that it is given to. One more subscriber than `subscribers` is turned away (feed_refused).
 * `metrics` may be NULL; it is used until feed_close. */
int feed_open(struct feed **feed, const char *url, unsigned subscribers, struct metrics *metrics,
              char *error);

/* Never blocks; drops silently when a subscriber lags. Any one thread at a time. Does nothing
 * while nobody subscribes. The message is `topic`, one NUL byte, `body`. */
void feed_publish(struct feed *feed, struct bytes topic, struct bytes body);

/* Takes at most a second; nobody publishes any more, and the link that watches it is closed. */
void feed_close(struct feed *feed);

#endif
