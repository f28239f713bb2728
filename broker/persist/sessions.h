/* SPDX-License-Identifier: Apache-2.0 */
#ifndef USHER_PERSIST_SESSIONS_H
#define USHER_PERSIST_SESSIONS_H

/* Who has a session, as others are shown it: what is stored of it, and how many messages wait in
 * the inbox, as the user's actor shows it at this moment. Any thread; blocks on the disk. */

#include "runtime/registry.h"
#include "storage/store.h"

/* Both outlive it. */
struct sessions {
    struct store *store;
    struct registry *registry;
};

struct session_row {
    const char *user;
    const struct session_record *record; /* NULL: he has no session */
    uint32_t inbox_messages;
};

/* The row is borrowed for the call, which must not call the store. False: there is no room for it,
 * and the walk ends before it. */
typedef bool sessions_each(void *context, const struct session_row *row);

struct session_page {
    /* what is asked for */
    const char *prefix, *after; /* "": from the first, of all */
    enum session_state state;   /* 0: any */
    size_t limit;               /* so many rows */
    /* what is found */
    uint64_t presence_seq; /* of which state of the store it is */
    bool more;             /* behind `last` */
    char last[STORE_NAME_BYTES_MAX + 1];
};

/* A page of those who have one, in the order of their names. A state is looked for in so many
 * sessions at once, so there may be more without a row. 0, or as store_list_sessions. */
int sessions_list(const struct sessions *sessions, struct session_page *page, sessions_each *each,
                  void *context);

/* Those names in their order, whether they have one or not; *more: one was not taken. 0, or as
 * store_look_up. */
int sessions_look_up(const struct sessions *sessions, const char *const *users, size_t count,
                     sessions_each *each, void *context, uint64_t *presence_seq, bool *more);

#endif
