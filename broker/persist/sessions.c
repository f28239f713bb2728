/* SPDX-License-Identifier: Apache-2.0 */
#include "persist/sessions.h"

#include <string.h>

#include "base/check.h"

/* One walk for all who list sessions, backends by the link and operators by HTTP, so that they are
 * shown the same rows and the same pages. The inbox is asked of the registry inside the store's
 * walk: a shard's lock, for some tens of nanoseconds. */

enum { SCANNED_MAX = 20000 };

struct walk {
    const struct sessions *sessions;
    sessions_each *each;
    void *context;
    struct session_page *page; /* NULL: names that were asked for */
    size_t count;
    bool ended;
};

static bool give(struct walk *walk, const char *user, const struct session_record *record)
{
    const struct session_row row = {
        .user = user,
        .record = record,
        .inbox_messages = registry_gauge(walk->sessions->registry, user, strlen(user)),
    };
    walk->ended = !walk->each(walk->context, &row);
    return !walk->ended;
}

static bool give_any(void *context, const char *user, const struct session_record *record)
{
    return give(context, user, record);
}

static bool give_of_page(void *context, const char *user, const struct session_record *record)
{
    struct walk *walk = context;
    struct session_page *page = walk->page;
    bool wanted = record != NULL && (page->state == 0 || record->state == page->state);
    CHECK(walk->count <= page->limit);
    walk->ended = walk->count == page->limit;
    if (walk->ended || (wanted && !give(walk, user, record)))
        return false;
    walk->count += wanted;
    strncpy(page->last, user, sizeof(page->last) - 1);
    return true;
}

int sessions_list(const struct sessions *sessions, struct session_page *page, sessions_each *each,
                  void *context)
{
    struct walk walk = {.sessions = sessions, .each = each, .context = context, .page = page};
    bool more = false;
    int error = store_list_sessions(sessions->store, page->prefix, page->after, SCANNED_MAX,
                                    give_of_page, &walk, &page->presence_seq, &more);
    page->more = more || walk.ended;
    return error;
}

int sessions_look_up(const struct sessions *sessions, const char *const *users, size_t count,
                     sessions_each *each, void *context, uint64_t *presence_seq, bool *more)
{
    struct walk walk = {.sessions = sessions, .each = each, .context = context};
    int error = store_look_up(sessions->store, users, count, give_any, &walk, presence_seq);
    *more = walk.ended;
    return error;
}
