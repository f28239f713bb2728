/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "actors/kinds.h"
#include "base/check.h"
#include "operate/http_private.h"

/* Who is slowest: whose connection has the most output waiting, and whose inbox is fullest.
 *
 * Both are numbers that others show anyway: the sizes of output buffers are there for eviction
 * (net/evict.c), the inbox counts for session pages (docs/decisions/0010). So this reads atomics of
 * all connections and all actors, on this thread, and stops nobody; each number is right for some
 * moment of the scan. Names are copied a few at a time, each few under one shard's lock. */

enum { SLOWEST_DEFAULT = 20, SLOWEST_MAX = 100 };

struct slow_user {
    char name[REGISTRY_NAME_BYTES_MAX + 1];
    uint32_t output_bytes, inbox_messages;
};

struct slowest {
    struct net_waiting fullest[SLOWEST_MAX];
    size_t fullest_count;
    unsigned limit;
    size_t count;
    struct slow_user users[SLOWEST_MAX + 1];
};

static bool is_slower(const struct slow_user *one, const struct slow_user *other)
{
    return one->output_bytes != other->output_bytes ? one->output_bytes > other->output_bytes
                                                    : one->inbox_messages > other->inbox_messages;
}

static void insert(struct slowest *slowest, const struct slow_user *user)
{
    size_t at = slowest->count;
    CHECK(slowest->count <= slowest->limit && slowest->limit <= SLOWEST_MAX);
    while (at > 0 && is_slower(user, &slowest->users[at - 1]))
        at--;
    if (at == slowest->limit)
        return;
    memmove(&slowest->users[at + 1], &slowest->users[at], (slowest->count - at) * sizeof(*user));
    slowest->users[at] = *user;
    if (slowest->count < slowest->limit)
        slowest->count++;
}

static uint32_t output_of(const struct slowest *slowest, actor_handle handle)
{
    for (size_t i = 0; i < slowest->fullest_count; i++)
        if (slowest->fullest[i].owner == handle)
            return slowest->fullest[i].bytes;
    return 0;
}

static void scan(struct registry *registry, struct slowest *slowest)
{
    struct registry_row rows[REGISTRY_SCAN_ROWS];
    uint64_t cursor = 0;
    size_t count;
    while ((count = registry_scan(registry, &cursor, rows)) > 0)
        for (size_t i = 0; i < count; i++) {
            struct slow_user user = {.output_bytes = output_of(slowest, rows[i].handle),
                                     .inbox_messages = rows[i].gauge};
            if (rows[i].behaviour->kind != KIND_USER ||
                (user.output_bytes == 0 && user.inbox_messages == 0))
                continue;
            memcpy(user.name, rows[i].name, sizeof(user.name));
            insert(slowest, &user);
        }
}

unsigned slowest_users(void *context, const struct admin_query *query, json_t *answer)
{
    const struct http_options *options = &http_of(context)->options;
    struct slowest *slowest = calloc(1, sizeof(*slowest));
    if (slowest == NULL)
        return admin_fail(answer, 503, "unavailable", "no memory");
    slowest->limit = query->limit == 0            ? SLOWEST_DEFAULT
                     : query->limit < SLOWEST_MAX ? query->limit
                                                  : SLOWEST_MAX;
    slowest->fullest_count = net_fullest(options->net, slowest->fullest, SLOWEST_MAX);
    scan(options->registry, slowest);
    json_t *users = json_array();
    for (size_t i = 0; i < slowest->count; i++) {
        const struct slow_user *user = &slowest->users[i];
        struct session_record record;
        uint64_t since_ms =
            store_get_session(options->store, user->name, &record) == 0 ? record.since_ms : 0;
        json_array_append_new(users, json_pack("{s:s, s:I, s:I, s:I}", "user", user->name,
                                               "output_bytes", (json_int_t)user->output_bytes,
                                               "inbox_messages", (json_int_t)user->inbox_messages,
                                               "since_ms", (json_int_t)since_ms));
    }
    free(slowest);
    json_object_set_new(answer, "users", users);
    return 200;
}
