/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "lmdb/private.h"
#include "storage/inspect.h"

/* Whether all records of a file are sound, of a file that nobody else has: a copy that was just
 * made. The structure says where records lie and nothing of what is in them, and LMDB copies a
 * flipped bit as it is; whoever keeps such a copy learns it when he needs it. So a copy gets its
 * name when everything in it has been read as the broker reads it: a broker starts on a damaged
 * value of the log and goes on without what was in it, so it is no reason to go without the rest
 * either. */

enum { PAGE_ROWS = 256 };

struct walk {
    struct lmdb_store *store;
    size_t count;
    char users[PAGE_ROWS][STORE_NAME_BYTES_MAX + 1]; /* of the page, for their inboxes */
};

static bool on_session(void *context, const char *user, const struct session_record *record)
{
    struct walk *walk = context;
    (void)record;
    strcpy(walk->users[walk->count++], user);
    return true;
}

static bool on_message(void *context, const struct saved_message *message)
{
    (void)context;
    (void)message;
    return true;
}

static bool on_event(void *context, const struct presence_event *event)
{
    *(uint64_t *)context = event->seq;
    return true;
}

/* One who has no saved inbox has an empty one. */
static int walk_inboxes(struct walk *walk)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < walk->count; i++) {
        struct saved_inbox inbox;
        result = lmdb_read_inbox(&walk->store->base, walk->users[i], &inbox, on_message, NULL);
        result = result == -ENOENT ? 0 : result;
    }
    return result;
}

static int walk_sessions(struct walk *walk)
{
    char after[STORE_NAME_BYTES_MAX + 1] = "";
    bool more = true;
    int result = 0;
    while (more && result == 0) {
        uint64_t presence_last;
        walk->count = 0;
        result = store_list_sessions(&walk->store->base, "", after, PAGE_ROWS, on_session, walk,
                                     &presence_last, &more);
        if (result == 0 && walk->count > 0)
            strcpy(after, walk->users[walk->count - 1]);
        if (result == 0)
            result = walk_inboxes(walk);
    }
    return result;
}

static int walk_events(struct walk *walk)
{
    struct store_position position;
    uint64_t seen = 0;
    int result = store_position(&walk->store->base, &position);
    while (result == 0 && seen < position.presence_last) {
        uint64_t before = seen;
        result = store_read_events(&walk->store->base, seen, PAGE_ROWS, on_event, &seen, &position);
        if (seen == before)
            break; /* there is none behind it */
    }
    return result;
}

static bool on_history(void *context, const struct history_record *record)
{
    (void)context;
    (void)record;
    return true;
}

static int walk_history(struct walk *walk, enum history_ring ring)
{
    struct history_query query = {.ring = ring, .user = "", .limit = PAGE_ROWS};
    struct history_page page = {.next = 0};
    int result = 0;
    do {
        query.before = page.next;
        result = store_read_history(&walk->store->base, &query, on_history, NULL, &page);
    } while (result == 0 && page.next != 0);
    return result;
}

static bool on_log(void *context, uint64_t number, struct bytes value)
{
    (void)context;
    (void)number;
    (void)value;
    return true;
}

static int walk_all(struct lmdb_store *store)
{
    struct walk *walk = calloc(1, sizeof(*walk));
    if (walk == NULL)
        return -ENOMEM;
    walk->store = store;
    int result = walk_sessions(walk);
    if (result == 0)
        result = walk_events(walk);
    for (int ring = 0; result == 0 && ring < HISTORY_RINGS; ring++)
        result = walk_history(walk, ring);
    if (result == 0)
        result = store_read_log(&store->base, 0, on_log, NULL);
    free(walk);
    return result;
}

int lmdb_records_check(const char *file)
{
    struct store_about about;
    struct lmdb_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return -ENOMEM;
    store->base.ops = &lmdb_reader_ops;
    store->lock_file = -1;
    pthread_rwlock_init(&store->lock, NULL);
    int result = lmdb_env_open_private(&store->env, file);
    if (result == 0)
        result = lmdb_about_read(store, &about);
    if (result == 0)
        result = walk_all(store);
    store_close(&store->base);
    return result;
}
