/* SPDX-License-Identifier: Apache-2.0 */
#include "user/requests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/table.h"

/* A table as in base/table.h. The ids come from the client, so the hash is keyed: with `max`
 * colliding ids in flight each of his frames would cost a walk over all of them, and whoever shares
 * his I/O thread would wait.
 *
 * Looking for calls whose time is over goes on where it found the last one, and so does taking all
 * out: so many that come due together cost one look at the table, and not one each. What others
 * take out before that place may bring a call there that was not looked at, so the look begins
 * anew. */

struct requests {
    uint32_t size; /* power of two */
    uint32_t count;
    uint32_t calls;
    uint64_t key[2];
    uint64_t due_ms;      /* no call's deadline is earlier */
    uint32_t look_at;     /* places before it have no call that was due at the last look... */
    uint64_t look_due_ms; /* ...and none earlier than this */
    uint32_t take_at;
    struct request slots[];
};

TABLE_ROW(struct request, id);

enum { SIZE_MIN = 8 };

static uint32_t hash(uint64_t id, const uint64_t *key)
{
    return (uint32_t)hash_keyed(key, &id, sizeof(id));
}

static struct table table_of(struct requests *requests)
{
    return (struct table){requests->slots, requests->size, sizeof(requests->slots[0]), hash,
                          requests->key};
}

static struct request *probe(struct requests *requests, uint64_t id)
{
    const struct table table = table_of(requests);
    return &requests->slots[table_find(&table, id)];
}

static size_t bytes_of(uint32_t size)
{
    return sizeof(struct requests) + size * sizeof(struct request);
}

static struct requests *with_size(uint32_t size, const uint64_t key[2])
{
    struct requests *requests = calloc(1, bytes_of(size));
    if (requests != NULL) {
        memory_account(MEMORY_OF_REQUESTS, (int64_t)bytes_of(size));
        requests->size = size;
        requests->key[0] = key[0];
        requests->key[1] = key[1];
        requests->due_ms = UINT64_MAX;
    }
    return requests;
}

static void put(struct requests *requests, const struct request *request)
{
    CHECK(request->id != 0 && requests->count + 1 < requests->size);
    *probe(requests, request->id) = *request;
    requests->count++;
    if (request->call != 0) {
        requests->calls++;
        if (request->deadline_ms < requests->due_ms)
            requests->due_ms = request->deadline_ms;
        if (request->deadline_ms < requests->look_due_ms)
            requests->look_due_ms = request->deadline_ms;
    }
}

static int grow(struct requests **requests, const uint64_t key[2])
{
    struct requests *old = *requests;
    if (old != NULL && !table_is_full(old->count, old->size))
        return 0;
    struct requests *bigger = with_size(old ? old->size * 2 : SIZE_MIN, key);
    if (bigger == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; old != NULL && i < old->size; i++)
        if (old->slots[i].id != 0)
            put(bigger, &old->slots[i]);
    requests_destroy(old);
    *requests = bigger;
    return 0;
}

int requests_add(struct requests **requests, const struct request *request, uint32_t max,
                 const uint64_t key[2])
{
    if (*requests != NULL) {
        if (probe(*requests, request->id)->id != 0)
            return -EEXIST;
        if ((*requests)->count >= max)
            return -ENOSPC;
    }
    int error = grow(requests, key);
    if (error == 0)
        put(*requests, request);
    return error;
}

const struct request *requests_find(const struct requests *requests, uint64_t id)
{
    if (requests == NULL || id == 0)
        return NULL;
    const struct request *found = probe((struct requests *)requests, id);
    return found->id != 0 ? found : NULL;
}

void requests_remove(struct requests **out, uint64_t id)
{
    struct requests *requests = *out;
    if (requests == NULL)
        return;
    struct request *gone = probe(requests, id);
    if (gone->id == 0)
        return;
    CHECK(requests->count > 0 && requests->calls >= (gone->call != 0));
    requests->calls -= gone->call != 0;
    if (--requests->count == 0) {
        requests_destroy(requests);
        *out = NULL;
        return;
    }
    uint32_t at = (uint32_t)(gone - requests->slots);
    if (at < requests->look_at)
        requests->look_at = 0;
    const struct table table = table_of(requests);
    table_free(&table, at);
}

uint32_t requests_count(const struct requests *requests)
{
    return requests != NULL ? requests->count : 0;
}

uint32_t requests_calls(const struct requests *requests)
{
    return requests != NULL ? requests->calls : 0;
}

uint64_t requests_due_ms(const struct requests *requests)
{
    return requests != NULL && requests->calls > 0 ? requests->due_ms : UINT64_MAX;
}

bool requests_expire(struct requests **out, uint64_t now_ms, struct request *expired)
{
    struct requests *requests = *out;
    if (requests == NULL || requests_due_ms(requests) > now_ms)
        return false;
    if (requests->look_at == 0)
        requests->look_due_ms = UINT64_MAX;
    for (; requests->look_at < requests->size; requests->look_at++) {
        const struct request *request = &requests->slots[requests->look_at];
        if (request->id == 0 || request->call == 0)
            continue;
        if (request->deadline_ms <= now_ms) {
            *expired = *request;
            requests_remove(out, expired->id); /* brings another to this place */
            return true;
        }
        if (request->deadline_ms < requests->look_due_ms)
            requests->look_due_ms = request->deadline_ms;
    }
    requests->due_ms = requests->look_due_ms;
    requests->look_at = 0;
    return false;
}

const struct request *requests_next(const struct requests *requests, uint32_t *place)
{
    while (requests != NULL && *place < requests->size) {
        const struct request *request = &requests->slots[(*place)++];
        if (request->id != 0)
            return request;
    }
    return NULL;
}

bool requests_take(struct requests **out, struct request *taken)
{
    struct requests *requests = *out;
    if (requests == NULL)
        return false;
    CHECK(requests->count > 0); /* or the search would not end */
    while (requests->slots[requests->take_at].id == 0)
        requests->take_at = (requests->take_at + 1) & (requests->size - 1);
    *taken = requests->slots[requests->take_at];
    requests_remove(out, taken->id);
    return true;
}

void requests_destroy(struct requests *requests)
{
    if (requests != NULL)
        memory_account(MEMORY_OF_REQUESTS, -(int64_t)bytes_of(requests->size));
    free(requests);
}
