/* SPDX-License-Identifier: Apache-2.0 */
#include "operate/past.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A user's history is the newest of two rings, put together by time: sessions and refusals. Each
 * ring is walked until enough was found or all of it was seen, a piece at a time, so that a walk
 * neither holds up the store's pages nor counts on its records standing still: what is dropped
 * meanwhile is old. */

enum { RECORDS_DEFAULT = 20 };

struct found {
    struct history_record *list;
    size_t count, room;
};

static bool take(void *context, const struct history_record *record)
{
    struct found *found = context;
    if (found->count == found->room)
        return false;
    found->list[found->count++] = *record;
    return true;
}

static int read_ring(const struct past *past, enum history_ring ring, const char *user,
                     struct found *found, struct past_page *page)
{
    uint64_t now_ms = env_wall_ms(past->env);
    bool aged = past->age_ms != 0 && now_ms > past->age_ms;
    struct history_query query = {.ring = ring,
                                  .user = user,
                                  .since_ms = aged ? now_ms - past->age_ms : 0,
                                  .limit = found->room};
    struct history_page state;
    do {
        int error = store_read_history(past->store, &query, take, found, &state);
        if (error != 0)
            return error;
        query.before = state.next;
    } while (state.next != 0 && found->count < found->room);
    page->kept += state.records;
    if (state.first_ms != 0 && (page->first_ms == 0 || state.first_ms < page->first_ms))
        page->first_ms = state.first_ms;
    if (page->first_ms != 0 && page->first_ms < query.since_ms)
        page->first_ms = query.since_ms;
    return 0;
}

static bool is_refusal(const struct history_record *record)
{
    return record->kind == HISTORY_LOGIN_REFUSED || record->kind == HISTORY_RESUME_REFUSED;
}

/* Each ring counts for itself. Of the same millisecond a refusal is the later one: what it was
 * refused for comes before it. */
static int by_time(const void *one, const void *other)
{
    const struct history_record *left = one;
    const struct history_record *right = other;
    if (left->time_ms != right->time_ms)
        return left->time_ms < right->time_ms ? 1 : -1;
    if (is_refusal(left) != is_refusal(right))
        return is_refusal(left) ? -1 : 1;
    return left->seq < right->seq ? 1 : left->seq > right->seq ? -1 : 0;
}

int past_read(const struct past *past, const char *user, size_t limit, struct past_page *page)
{
    limit = limit == 0 ? RECORDS_DEFAULT : limit > PAST_RECORDS_MAX ? PAST_RECORDS_MAX : limit;
    *page = (struct past_page){.list = NULL};
    /* One more than is wanted says whether there are more. */
    struct history_record *list = calloc((limit + 1) * HISTORY_RINGS, sizeof(*list));
    if (list == NULL)
        return -ENOMEM;
    size_t count = 0;
    int error = 0;
    for (int ring = 0; error == 0 && ring < HISTORY_RINGS; ring++) {
        struct found found = {.list = list + count, .room = limit + 1};
        error = read_ring(past, ring, user, &found, page);
        count += found.count;
    }
    if (error != 0) {
        free(list);
        return error;
    }
    if (count > 1)
        qsort(list, count, sizeof(*list), by_time);
    page->list = list;
    page->more = count > limit;
    page->count = page->more ? limit : count;
    return 0;
}
