/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_USHERCTL_CTL_H
#define USHER_USHERCTL_CTL_H

/* usherctl: the parts of the program. One thread, one command per process. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "usher_backend.h"

enum ctl_exit {
    CTL_OK = 0,
    CTL_REFUSED = 1,   /* the node said no, or a user is not online */
    CTL_NO_BROKER = 2, /* nobody answers */
    CTL_USAGE = 64,
};

enum { CTL_TIMEOUT_MS = 3000, CTL_LAST_MAX = 200 };

/* What the command line says. */
struct ctl {
    const char *url;
    const char *token_file;
    void *token; /* what it holds */
    size_t token_size;
    bool json;
    const char *prefix;
    uint64_t epoch;
    bool transient;
    const char *reason;
    bool do_not_return;
    uint64_t after;
    uint64_t last;
    bool follow;
    bool restart;
    const char *user;
    uint64_t seconds, one_in;
    const char *trace_id;    /* records of that trace alone; NULL: all */
    const char *traceparent; /* of what is pushed; NULL: none */
    uint64_t keep_s, tag;    /* of what is pushed; 0: none */
    uint64_t up_to;
    char **arguments; /* behind the command */
    size_t argument_count;
};

/* --- commands.c: each blocks until its answer is printed and gives an exit code. --- */

int ctl_who(const struct ctl *ctl);
int ctl_find(const struct ctl *ctl);
int ctl_count(const struct ctl *ctl);
int ctl_stats(const struct ctl *ctl);
int ctl_snapshot(const struct ctl *ctl);
int ctl_presence(const struct ctl *ctl);

/* --- rooms.c: the same. --- */

int ctl_rooms(const struct ctl *ctl);
int ctl_room(const struct ctl *ctl);

/* --- inbox.c: the same. --- */

int ctl_inbox(const struct ctl *ctl);

/* --- upgrade.c: the same. --- */

int ctl_upgrade(const struct ctl *ctl);

/* --- why.c: the same. --- */

int ctl_why(const struct ctl *ctl);

/* --- link.c: the same for commands that need a link. --- */

int ctl_kick(const struct ctl *ctl);
int ctl_push(const struct ctl *ctl);
int ctl_push_all(const struct ctl *ctl);
int ctl_inbox_drop(const struct ctl *ctl);
int ctl_follow(const struct ctl *ctl);

/* --- operate.c: the same. --- */

int ctl_recorder(const struct ctl *ctl);
int ctl_trace(const struct ctl *ctl);
int ctl_reload(const struct ctl *ctl);
int ctl_drain(const struct ctl *ctl);

/* Becomes the program usher-store; returns only when that cannot be. */
int ctl_store(const struct ctl *ctl);

/* One query. Gives CTL_OK and *answer, to be freed; or says on stderr what is wrong, gives the exit
 * code and leaves *answer NULL. */
int ctl_ask(const struct ctl *ctl, struct usher_backend *backend,
            const struct usher_backend_query *query, struct usher_backend_answer **answer);

/* Opens a backend that only observes; to be closed. Gives CTL_OK, or says on stderr what is
 * wrong, gives the exit code and leaves *backend NULL. */
int ctl_open(const struct ctl *ctl, const struct usher_backend_callbacks *callbacks, void *context,
             struct usher_backend **backend);

/* Says on stderr what an error of the library means here; gives the exit code. */
int ctl_complain(const struct ctl *ctl, int error);

#endif
